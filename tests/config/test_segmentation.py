"""Settings of the segmenter: what is refused, and which classes they may name."""

from typing import Any

import pytest

from wsss.config.params import parse_params
from wsss.settings import ConfigError

NAMES = ("car", "tree")


@pytest.mark.parametrize(
    ("section", "key"),
    [
        (
            {"losses": [{"name": "dice"}, {"name": "cross_entropy", "class_weights": {"cra": 2}}]},
            "losses.1.class_weights",
        ),
        (
            {"tags_only": {"name": "self_training", "class_confidence": {"cra": 0.7}}},
            "tags_only.class_confidence",
        ),
        (
            {"tags_only": {"name": "consistency", "class_confidence": {"cra": 0.7}}},
            "tags_only.class_confidence",
        ),
        ({"augment": {"class_crops": {"classes": ["cra"]}}}, "augment.class_crops.classes"),
    ],
)
def test_a_class_that_the_data_does_not_have_is_named_before_any_work(
    section: dict[str, Any], key: str
) -> None:
    params = parse_params({"train_segmenter": section})
    with pytest.raises(
        ConfigError, match=rf"^train_segmenter.{key} names 'cra'.*did you mean 'car"
    ):
        params.check_classes(NAMES)
    params.check_classes(("cra", *NAMES))


@pytest.mark.parametrize("weights", ["none", "median_frequency"])
def test_a_choice_of_weights_names_no_class(weights: str) -> None:
    losses = [{"name": "cross_entropy", "class_weights": weights}]
    parse_params({"train_segmenter": {"losses": losses}}).check_classes(NAMES)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"losses": []}, "losses must have at least 1 item, but has 0"),
        ({"losses": [{"name": "dice"}] * 2}, "'dice' is there twice; give it once, with the sum"),
        ({"losses": [{"name": "dise"}]}, "losses.0.name is 'dise'; did you mean 'dice'?"),
        ({"tags_only": {"name": "ignore"}}, "tags_only.name is 'ignore'; did you mean 'ignored'?"),
        ({"given_share": 1}, "given_share must be less than 1, but is 1"),
        ({"ema_decay": 1}, "ema_decay must be less than 1, but is 1"),
        (
            {"tags_only": {"name": "consistency", "class_confidence": {"car": 1.5}}},
            "class_confidence.car must be less than 1, but is 1.5",
        ),
    ],
)
def test_what_can_not_be_is_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_params({"train_segmenter": section})
    assert message in str(caught.value)
