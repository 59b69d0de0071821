"""Forms of a whole page give back the settings that they were made of, and what was moved."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from wsss.checks import ConfigError
from wsss.config.params import parse_params
from wsss.demo.moves import Forms, pictures_of
from wsss.demo.session import Session
from wsss.demo.sources import Sources, open_sources


@pytest.fixture(scope="module")
def sources(project: Path) -> Sources:
    return open_sources(str(project))


def values_of(forms: Forms) -> list[object]:
    of_chains = [item.value for chain in forms.chains.values() for part in chain for item in part]
    return [*(item.value for item in forms.masks), *of_chains]


def test_forms_give_what_they_were_made_of(sources: Sources) -> None:
    forms = Forms(sources)
    for name, chain in sources.chains.items():
        refiners, masks = forms.settings(name, 0.25, values_of(forms))
        assert refiners == chain
        wanted = sources.masks.model_copy(update={"threshold": 0.25, "chain": name})
        assert masks == wanted
        line, text = forms.texts(name, refiners, masks)
        assert "make_pseudo_masks.threshold=0.25" in line and f"chain: {name}" in text


def test_a_method_that_the_page_has_not_stays_in_the_settings_found(
    project: Path, tmp_path: Path
) -> None:
    params = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    masks = {"chain": "crf", "background": "object", "object_source": "other"}
    params["make_pseudo_masks"] = masks
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    shutil.copytree(project / "models/classifier", tmp_path / "models/classifier")
    sources = open_sources(str(tmp_path))
    forms = Forms(sources)
    values = values_of(forms)
    line, text = forms.texts("crf", *forms.settings("crf", sources.threshold("crf"), values))
    assert line == "# params.yaml has these settings"
    found = parse_params(params | yaml.safe_load(text))
    assert found.make_pseudo_masks == parse_params(params).make_pseudo_masks
    at = next(i for i, item in enumerate(forms.masks) if item.key == "background")
    values[at] = "power"  # which is wanted
    line, _ = forms.texts("crf", *forms.settings("crf", 0.4, values))
    assert "make_pseudo_masks.background=power" in line


def test_a_value_moves_its_own_setting(sources: Sources) -> None:
    forms = Forms(sources)
    values = values_of(forms)
    place = len(forms.masks) + len(forms.chains["crf"][0])
    at = next(i for i, item in enumerate(forms.chains["crf"][1]) if item.key == "sigma_rgb")
    values[place + at] = 11
    refiners, masks = forms.settings("crf", 0.4, values)
    assert refiners[1] == sources.chains["crf"][1].model_copy(update={"sigma_rgb": 11})
    line, _ = forms.texts("crf", refiners, masks)
    assert line == "wsss set refine.chains.crf.1.sigma_rgb=11"
    values[place + at] = -1
    with pytest.raises(ConfigError, match=r"crf\.1: sigma_rgb must be greater than 0, but is -1"):
        forms.settings("crf", 0.4, values)
    forms.settings("regions", 0.4, values)  # whose settings fit


def test_what_did_not_change_is_not_drawn(project: Path, sources: Sources) -> None:
    session = Session(sources, project / "data/images/first.png")
    masks = sources.masks
    first = session.show(("boat",), sources.chains["crf"], masks)
    drawn = pictures_of(first, None)
    assert None not in (drawn.mask, drawn.refined, drawn.maps)
    lower = session.show(
        ("boat",), sources.chains["crf"], masks.model_copy(update={"threshold": 0.1})
    )
    moved = pictures_of(lower, first)
    assert moved.refined is moved.maps is None and moved.mask is not None
    assert np.any(np.asarray(moved.mask) != np.asarray(drawn.mask))
    again = pictures_of(lower, lower)
    assert again.mask is again.refined is again.maps is None
