"""What sections have in common: entries are completed, and names stand for something."""

from typing import Any

import pytest

from wsss.config.params import COMPLETED, parse_params
from wsss.config.recipes import Recipe, recipe_params
from wsss.settings import ConfigError

SHARED: dict[str, Any] = {
    "train_classifier": {
        "optimizer": {"algorithm": "adamw", "head_lr_factor": 3, "lr": 0.5},
        "augment": {"crop_size": 96, "long_side": [96, 128]},
        "backbone": {"model_name": "resnet50", "timm_kwargs": {"a": 1, "b": 2}},
        "head": {"dropout": 0.5},
        "epochs": 7,
    },
    "generate_cams": {"scales": [1.0], "window": 64, "method": {"name": "grad_cam"}},
}


def test_what_an_entry_does_not_name_is_as_in_its_model_at_every_depth() -> None:
    teacher = {
        "optimizer": {"lr": 0.125},
        "augment": {"crop_size": 32},
        "backbone": {"timm_kwargs": {"b": 3}},
    }
    found = parse_params(SHARED | {"train_teachers": {"t": teacher}}).train_teachers["t"]
    assert (found.optimizer.lr, found.optimizer.algorithm) == (0.125, "adamw")
    assert found.optimizer.head_lr_factor == 3
    assert (found.augment.crop_size, found.augment.long_side) == (32, (96, 128))
    assert found.backbone.model_name == "resnet50"
    assert found.backbone.timm_kwargs == {"a": 1, "b": 3}
    assert (found.head.dropout, found.epochs) == (0.5, 7)
    assert found.method.name == "cam"


def test_affinities_and_further_maps_are_completed_too() -> None:
    entries = {
        "train_affinities": {"a": {"optimizer": {"lr": 0.25}, "backbone": {"output_stride": 8}}},
        "further_cams": {"f": {"window": 32}, "g": {"method": {"name": "layer_cam"}}},
    }
    params = parse_params(SHARED | entries)
    affinity, further = params.train_affinities["a"], params.further_cams
    assert (affinity.optimizer.lr, affinity.optimizer.algorithm) == (0.25, "adamw")
    assert (affinity.backbone.output_stride, affinity.backbone.model_name) == (8, "resnet50")
    assert (further["f"].window, further["f"].scales) == (32, (1.0,))
    assert (further["f"].method.name, further["g"].method.name) == ("cam", "layer_cam")


@pytest.mark.parametrize("section", COMPLETED)
def test_an_entry_that_names_all_of_its_model_equals_it(section: str) -> None:
    """For each section that is completed, whatever is shared."""
    params = parse_params(SHARED | {section: {"entry": {}}})
    entry = getattr(params, section)["entry"].model_dump(mode="json")
    model = getattr(params, COMPLETED[section].source).model_dump(mode="json")
    for key in entry.keys() & model.keys() - set(COMPLETED[section].own):
        assert entry[key] == model[key], key


def test_another_implementation_takes_nothing_of_the_one_that_is_replaced() -> None:
    shared = {"generate_cams": {"method": {"name": "grad_cam", "layers": ["stage2"]}}}
    further = {"further_cams": {"f": {"method": {"name": "cam"}}}}
    assert parse_params(shared | further).further_cams["f"].method.name == "cam"


def test_completed_entries_can_be_read_again() -> None:
    params = parse_params(SHARED | {"train_teachers": {"t": {"optimizer": {"lr": 1}}}})
    assert parse_params(params.model_dump(mode="json")) == params


def test_a_mistake_in_an_entry_is_named_there() -> None:
    with pytest.raises(ConfigError, match=r"train_teachers\.t\.optimizer has no key 'lrr'"):
        parse_params(SHARED | {"train_teachers": {"t": {"optimizer": {"lrr": 1}}}})


def test_a_dotted_key_changes_one_value_of_a_recipe_and_leaves_the_rest() -> None:
    recipe = Recipe("r", "", {"train_classifier": SHARED["train_classifier"]})
    base = Recipe("b", "", {})
    params = recipe_params({}, recipe, base, {"train_classifier.optimizer.lr": 0.75})
    assert params.train_classifier.optimizer.lr == 0.75
    assert params.train_classifier.optimizer.algorithm == "adamw"


@pytest.mark.parametrize("section", ["train_teachers", "further_cams", "train_affinities"])
def test_no_entry_takes_the_name_of_a_key_of_reports(section: str) -> None:
    with pytest.raises(ConfigError, match=f"{section}.warnings: reports have that key"):
        parse_params({section: {"warnings": {}}})
