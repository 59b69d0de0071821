"""Stages of a toy pipeline: their order, what depends on what, and dvc.yaml."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from wsss.artifacts import write_json
from wsss.config.params import Params, parse_params
from wsss.pipeline import Curve, Job, Pipeline, Stage
from wsss.pipeline.dvc import dvc_text
from wsss.pipeline.execute import check_inputs
from wsss.pipeline.stage import setting_at
from wsss.stages import find_stages


def work(job: Job) -> None:
    """Do nothing."""


SCORE = Stage("score", work, ("evaluate",), reads=("data/fine/{entry}",), foreach="refine.chains")
REFINE = Stage(
    "refine",
    work,
    ("refine.chains.{entry}", "refine.window"),
    reads=("data/raw", "data/extra"),
    makes=("data/fine/{entry}",),
    code=("refine", "densecrf"),
    foreach="refine.chains",
)
PREPARE = Stage("prepare", work, ("base.rng_seed", "prepare_data"), makes=("data/raw",))
EXTRA = Stage(
    "extra", work, ("make_proposals",), ("data/raw",), ("data/extra",), entries="make_proposals"
)
CHOOSE = Stage(
    "choose",
    work,
    ("make_pseudo_masks",),
    reads=("data/fine/{make_pseudo_masks.chain}", "reports/score_{make_pseudo_masks.chain}.json"),
    makes=("data/chosen",),
    curve=Curve("a", "b"),
)
TOY = Pipeline([CHOOSE, SCORE, REFINE, PREPARE, EXTRA])
PARAMS = parse_params(
    {"refine": {"chains": {"a": [], "b": []}}, "make_pseudo_masks": {"chain": "b"}}
)


def test_each_stage_comes_after_those_that_it_reads() -> None:
    assert [stage.name for stage in TOY] == ["prepare", "extra", "refine", "score", "choose"]
    names = [target.name for target in TOY.targets(PARAMS)]
    assert names == ["prepare", "extra", "refine@a", "refine@b", "score@a", "score@b", "choose"]


def test_upstream_is_of_the_entry_alone() -> None:
    found = TOY.upstream(TOY.target("choose", PARAMS), PARAMS)
    assert [target.name for target in found] == [
        "prepare",
        "extra",
        "refine@b",
        "score@b",
        "choose",
    ]
    tree = TOY.settings(TOY.target("score@a", PARAMS), PARAMS)
    assert set(tree) == {"base", "prepare_data", "make_proposals", "refine", "evaluate"}
    assert tree["refine"] == {"chains": {"a": []}, "window": 0}
    assert tree["base"] == {"rng_seed": 2024}


def test_unknown_stages_and_entries() -> None:
    with pytest.raises(ValueError, match="no stage is named 'refin'; did you mean 'refine'"):
        TOY.target("refin", PARAMS)
    with pytest.raises(ValueError, match="refine does not run as 'refine@c'"):
        TOY.target("refine@c", PARAMS)


def test_circles_and_equal_names_are_refused() -> None:
    first = Stage("one", work, reads=("data/b",), makes=("data/a",))
    other = Stage("other", work, reads=("data/a",), makes=("data/b",))
    with pytest.raises(ValueError, match="in a circle"):
        Pipeline([first, other])
    with pytest.raises(ValueError, match="same name"):
        Pipeline([first, first])


def test_a_missing_input_names_the_stage_that_makes_it(tmp_path: Path) -> None:
    target = TOY.target("refine@a", PARAMS)
    missing = "data/raw is not there, and refine@a reads it; `wsss run p"
    with pytest.raises(ValueError, match=missing):
        check_inputs(TOY, target, PARAMS, tmp_path)
    (tmp_path / "data/raw/.begun.partial").mkdir(parents=True)
    with pytest.raises(ValueError, match=missing):
        check_inputs(TOY, target, PARAMS, tmp_path)
    (tmp_path / "data/raw/.begun.partial").rmdir()
    check_inputs(TOY, target, PARAMS, tmp_path)  # nothing is named that data/extra would hold
    named = parse_params({"make_proposals": {"s": {"name": "superpixels"}}})
    with pytest.raises(ValueError, match="`wsss run extra`"):
        check_inputs(TOY, TOY.target("refine@crf", named), named, tmp_path)


def test_settings_are_held_against_the_classes_that_are_there(tmp_path: Path) -> None:
    """Also after prepare_data, which does not run again when they change."""
    reader = Stage("score", work, ("evaluate",), reads=("data/splits",), makes=("data/scores",))
    pipeline = Pipeline([reader])
    params = parse_params({"evaluate": {"class_groups": {"pets": ["cat", "dgo"]}}})
    (tmp_path / "data/splits").mkdir(parents=True)
    write_json(tmp_path / "data/splits/classes.json", ["cat", "dog"])
    with pytest.raises(ValueError, match=r"class_groups\.pets names 'dgo'.* 'dog'\?"):
        check_inputs(pipeline, pipeline.target("score", params), params, tmp_path)
    known = parse_params({"evaluate": {"class_groups": {"pets": ["cat", "dog"]}}})
    check_inputs(pipeline, pipeline.target("score", known), known, tmp_path)


def test_dvc_yaml_has_what_is_declared() -> None:
    stages = yaml.safe_load(dvc_text(TOY))["stages"]
    assert list(stages) == ["list_sources", *(stage.name for stage in TOY), "record_runs"]
    refine = stages["refine"]
    assert refine["foreach"] == "${refine.chains}"
    assert refine["do"]["outs"] == ["data/fine/${key}"]
    assert refine["do"]["params"] == ["refine.chains.${key}", "refine.window"]
    assert {"csrc", "src/wsss/refine", "data/raw", "data/extra"} <= set(refine["do"]["deps"])
    assert stages["extra"]["outs"] == [{"data/extra": {"persist": True}}]
    assert "data/fine/${make_pseudo_masks.chain}" in stages["choose"]["deps"]
    assert stages["choose"]["plots"] == [
        {"reports/choose_curve.csv": {"cache": False, "x": "a", "y": "b"}}
    ]
    assert "csrc" not in stages["choose"]["deps"]


def test_what_completes_entries_is_a_param_of_their_stage() -> None:
    stages = yaml.safe_load(dvc_text(find_stages()))["stages"]
    assert "train_classifier" in stages["train_teachers"]["params"]
    assert "generate_cams" in stages["generate_further_cams"]["params"]


@pytest.mark.parametrize("name", [target.name for target in find_stages().targets(Params())])
def test_recorded_settings_are_all_that_a_stage_depends_on(name: str) -> None:
    """A change of any setting before a stage shows in the settings of its run."""
    pipeline, params = find_stages(), Params()
    target = pipeline.target(name, params)
    tree: Any = pipeline.settings(target, params)
    for part in pipeline.upstream(target, params):
        for key in part.settings(params):
            place = tree
            for section in key.split("."):
                place = place[section]
            value = setting_at(params, key)
            assert place == (
                value.model_dump(mode="json") if hasattr(value, "model_dump") else place
            )
    if name.startswith("evaluate_refined"):
        assert {"prepare_data", "train_classifier", "generate_cams", "refine", "evaluate"} <= set(
            tree
        )


def test_one_stage_reads_what_is_made_for_each_entry() -> None:
    """Also of a folder that its own out lies in, which DVC does not let it depend on."""
    tell = Stage(
        "tell",
        work,
        reads=("data/fine/{entry}",),
        makes=("data/told/{entry}",),
        foreach="refine.chains",
    )
    best = Stage(
        "zz_best",
        work,
        reads=("data/fine/{*refine.chains}", "data/told/{*refine.chains}"),
        makes=("data/fine/best",),
        unwanted=lambda params: params.base.rng_seed == 0,
    )
    toy = Pipeline([CHOOSE, best, tell, REFINE, PREPARE, EXTRA])
    assert best.inputs(PARAMS) == ("data/fine/a", "data/fine/b", "data/told/a", "data/told/b")
    order = [stage.name for stage in toy]
    assert order.index("tell") < order.index("zz_best") < order.index("choose")
    needed = [target.name for target in toy.upstream(toy.target("zz_best", PARAMS), PARAMS)]
    assert needed[-5:] == ["refine@a", "refine@b", "tell@a", "tell@b", "zz_best"]
    written = yaml.safe_load(dvc_text(toy))["stages"]["zz_best"]
    assert [path for path in written["deps"] if path.startswith("data")] == ["data/told"]
    assert best.is_idle(parse_params({"base": {"rng_seed": 0}}))
    assert not best.is_idle(PARAMS)
