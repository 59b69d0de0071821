"""Registries: found by importing a package, built from settings, refused with a suggestion."""

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from pydantic import TypeAdapter, ValidationError

from wsss.registry import (
    CAM_METHODS,
    CLUSTERINGS,
    DATASETS,
    METHODS,
    NETWORKS,
    PIXEL_LOSSES,
    REFINERS,
    TAG_FORMS,
    Registry,
)
from wsss.settings import Settings


class BlurSettings(Settings):
    name: Literal["blur"] = "blur"
    sigma: float = 1


class SharpenSettings(Settings):
    name: Literal["sharpen"] = "sharpen"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty importable package."""
    name = "registered_filters"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    for module in [item for item in sys.modules if item.partition(".")[0] == name]:
        del sys.modules[module]


def filters(package: str) -> Registry:
    registry = Registry("filter", package)

    @registry.register(BlurSettings)
    class Blur:
        def __init__(self, settings: BlurSettings, gain: int = 1) -> None:
            self.sigma, self.gain = settings.sigma, gain

    @registry.register(SharpenSettings)
    class Sharpen:
        def __init__(self, settings: SharpenSettings) -> None:
            pass

    return registry


def test_an_entry_is_built_from_its_settings(package: str) -> None:
    blur = filters(package).build(BlurSettings(sigma=3), gain=2)
    assert (type(blur).__name__, blur.sigma, blur.gain) == ("Blur", 3, 2)


def test_a_choice_takes_each_entry_by_name_and_no_other(package: str) -> None:
    choice = TypeAdapter(filters(package).choice())
    assert choice.validate_python({"name": "blur", "sigma": 2}) == BlurSettings(sigma=2)
    assert choice.validate_python({"name": "sharpen"}) == SharpenSettings()
    for wrong in ({"name": "sharpen", "sigma": 2}, {"name": "median"}, {"sigma": 2}):
        with pytest.raises(ValidationError):
            choice.validate_python(wrong)


def test_names_are_sorted_and_an_unknown_one_is_answered_with_a_near_one(package: str) -> None:
    registry = filters(package)
    assert registry.names() == ["blur", "sharpen"]
    with pytest.raises(ValueError, match=r"no filter is named 'blurr'; did you mean 'blur'\?"):
        registry.settings("blurr")


def test_two_entries_of_one_name_are_refused(package: str) -> None:
    registry = filters(package)
    with pytest.raises(ValueError, match="two entries of registered_filters are named 'blur'"):
        registry.register(BlurSettings)(lambda settings: None)


def test_a_new_file_in_the_package_is_found(package: str, tmp_path: Path) -> None:
    """Nothing but the file is added; the registry must import it by itself."""
    module = """
        from typing import Literal
        from wsss.settings import Settings
        from registered_filters import FILTERS

        class MedianSettings(Settings):
            name: Literal["median"] = "median"

        @FILTERS.register(MedianSettings)
        class Median:
            def __init__(self, settings): ...
    """
    (tmp_path / package / "median.py").write_text(textwrap.dedent(module))
    (tmp_path / package / "__init__.py").write_text(
        "from wsss.registry import Registry\nFILTERS = Registry('filter', 'registered_filters')\n"
    )
    import registered_filters  # type: ignore[import-not-found]

    assert registered_filters.FILTERS.names() == ["median"]
    assert registered_filters.FILTERS.choice()().name == "median"


@pytest.mark.parametrize(
    "registry",
    [DATASETS, METHODS, CLUSTERINGS, CAM_METHODS, REFINERS, NETWORKS, PIXEL_LOSSES, TAG_FORMS],
)
def test_every_registered_settings_model_fits_its_name(registry: Registry) -> None:
    assert registry.names()
    for name in registry.names():
        settings = registry.settings(name)
        assert settings.model_fields["name"].annotation == Literal[name]
        with pytest.raises(ValidationError, match="no_such_key"):
            settings.model_validate({"no_such_key": 1})
