"""What is copied from the page is taken as it stands."""

import shlex
from pathlib import Path

import pytest
import yaml

from wsss.config.params import Params, parse_params
from wsss.config.recipes import parse_setting, set_values
from wsss.demo.writing import command_of, yaml_of
from wsss.registry import PROPOSALS, REFINERS
from wsss.settings import Named

TEXT = """\
# of mine
refine:
  window: 300
  chains:
    none: []
    crf:
      - {name: pamr, dilations: [1, 2]}
      - name: dense_crf
        preset: irn
        sigma_xy: 30  # pixels
make_pseudo_masks: {chain: none}
"""
PARAMS = parse_params(yaml.safe_load(TEXT))
CRF = PARAMS.refine.chains["crf"]
LEVEL = PARAMS.make_pseudo_masks.model_copy(update={"threshold": 0.42})
CASES = [
    ("crf", CRF),
    ("crf", (CRF[0].model_copy(update={"dilations": (3,)}), CRF[1])),
    ("crf", (CRF[0], CRF[1].model_copy(update={"sigma_rgb": 7.5, "unary": "soft"}))),
    ("none", ()),
    ("new", (REFINERS.default("pamr"), REFINERS.default("regions"))),
]


def wanted(chain: str, refiners: tuple[Named, ...]) -> Params:
    refine = PARAMS.refine.model_copy(update={"chains": {**PARAMS.refine.chains, chain: refiners}})
    masks = LEVEL.model_copy(update={"chain": chain})
    proposals = {"superpixels": PROPOSALS.default("superpixels")} if chain == "new" else {}
    update = {"refine": refine, "make_pseudo_masks": masks, "make_proposals": proposals}
    return PARAMS.model_copy(update=update)


@pytest.mark.parametrize(("chain", "refiners"), CASES)
def test_wsss_set_takes_the_line(chain: str, refiners: tuple[Named, ...]) -> None:
    line = command_of(PARAMS.refine, PARAMS.make_pseudo_masks, chain, refiners, LEVEL)
    assert line.startswith("wsss set ")
    text, _ = set_values(TEXT, dict(map(parse_setting, shlex.split(line)[2:])))
    found = parse_params(yaml.safe_load(text))
    assert found.model_dump() == wanted(chain, refiners).model_dump()
    assert "# of mine" in text and "# pixels" in text


@pytest.mark.parametrize(("chain", "refiners"), CASES)
def test_params_yaml_takes_the_sections(chain: str, refiners: tuple[Named, ...]) -> None:
    text = yaml_of(PARAMS.refine, chain, refiners, LEVEL)
    found = parse_params(yaml.safe_load(text))
    assert found.model_dump() == wanted(chain, refiners).model_dump()


def test_the_line_names_what_changed_and_no_more() -> None:
    crf = (CRF[0], CRF[1].model_copy(update={"sigma_rgb": 7.5}))
    known = PARAMS.make_pseudo_masks.model_copy(update={"chain": "crf"})
    line = command_of(PARAMS.refine, known, "crf", crf, known)
    assert line == "wsss set refine.chains.crf.1.sigma_rgb=7.5"
    assert command_of(PARAMS.refine, known, "crf", CRF, known) == ""


def test_a_recipe_may_be_made_of_the_sections(tmp_path: Path) -> None:
    from wsss.config.recipes import Recipe, recipe_params

    (tmp_path / "mine.yaml").write_text(
        "# Mine\n" + yaml_of(PARAMS.refine, *CASES[2], LEVEL), encoding="utf-8"
    )
    recipe = Recipe.read(tmp_path, str(tmp_path / "mine.yaml"))
    base = Recipe("synthetic_cam", "", {})
    found = recipe_params({}, recipe, base).refine
    assert found.model_dump() == wanted(*CASES[2]).refine.model_dump()
