"""Forms hold what settings are, and give them back."""

from typing import Any

import pytest

from wsss.checks import ConfigError
from wsss.config.segmentation import PseudoMaskSettings
from wsss.demo.form import Field, fields_of, settings_with
from wsss.registry import REFINERS
from wsss.settings import Settings

MODELS = [PseudoMaskSettings(), *(REFINERS.default(name) for name in REFINERS.names())]


@pytest.mark.parametrize("settings", MODELS, ids=lambda item: getattr(item, "name", "masks"))
def test_every_setting_has_a_field_that_gives_its_value_back(settings: Settings) -> None:
    fields = fields_of(settings)
    assert {item.key for item in fields} | {"name"} >= set(settings.model_dump())
    assert all(item.about for item in fields)
    same = settings_with(settings, {item.key: item.value for item in fields}, "x")
    assert same == settings


def ends(item: Field) -> list[Any]:
    if item.kind in ("number", "whole"):
        return [item.low, item.high, item.low + item.step, item.high - item.step]
    return {"switch": [True, False], "choice": item.words}.get(item.kind, [])  # type: ignore


@pytest.mark.parametrize("settings", MODELS, ids=lambda item: getattr(item, "name", "masks"))
def test_wherever_a_field_is_moved_the_settings_take_it(settings: Settings) -> None:
    for item in fields_of(settings):
        for value in ends(item):
            if value == "object":  # which needs a source beside it
                continue
            found = settings_with(settings, {item.key: value}, "x")
            assert getattr(found, item.key) == pytest.approx(value)
        if item.kind in ("number", "whole"):
            assert item.low <= item.value <= item.high and item.low < item.high
        if item.kind == "number":
            assert (item.high - item.low) / item.step <= 250, "a slider of too many steps"


def test_numbers_of_a_slider_may_be_floats() -> None:
    """A page gives 10.0 where a whole number is meant, and 5 where any is."""
    crf = REFINERS.default("dense_crf")
    found = settings_with(crf, {"n_iters": 4.0, "sigma_xy": 20}, "crf")
    assert (found.n_iters, found.sigma_xy) == (4, 20.0) and isinstance(found.n_iters, int)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"n_iters": 2.5}, "crf: n_iters must be a whole number"),
        ({"sigma_xy": 0}, "crf: sigma_xy must be greater than 0, but is 0"),
        ({"background": "object"}, "object_source"),
    ],
)
def test_what_does_not_fit_is_told_as_of_params_yaml(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        settings_with(REFINERS.default("dense_crf"), values, "crf")


def test_texts_are_yaml() -> None:
    pamr = REFINERS.default("pamr")
    assert fields_of(pamr)[0].value == "[1, 2, 4, 8, 12, 24]"
    assert settings_with(pamr, {"dilations": "[1, 3]"}, "x").dilations == (1, 3)
    with pytest.raises(ConfigError, match="x: dilations"):
        settings_with(pamr, {"dilations": "[1, -3]"}, "x")
