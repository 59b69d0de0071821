"""A stage of a study runs once for all rows that share its settings, and again for new code."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wsss.artifacts import Manifest, Paths, Sample
from wsss.config.params import Params, parse_params
from wsss.study import run
from wsss.tracking import Tracker

VALUES = {
    "prepare_data": {"dataset": {"name": "synthetic", "num_train": 30}},
    "refine": {"chains": {run.CHAIN: []}},
    "make_pseudo_masks": {"chain": run.CHAIN},
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[str]]:
    """A project whose stages note that they ran, and write empty outs."""
    ran: list[str] = []

    def stub(stage: run.Stage) -> Callable[[Params, Paths, Tracker], None]:
        def stub_run(params: Params, paths: Paths, tracker: Tracker) -> None:
            ran.append(stage.name)
            for out in stage.takes:
                assert (paths.root / out).exists(), f"{stage.name} misses {out}"
            for out in stage.makes:
                (paths.root / out).mkdir(parents=True)
            if "data/splits" in stage.makes:
                one = Sample("a", "a.png", (2, 2), (1,))
                splits = {"train": (one,), "selection": (), "val": (one,)}
                Manifest(("cat",), splits).write(paths.splits)
            elif stage.images(params) == "scored":
                assert not Manifest.read(paths.splits).splits["train"]
            tracker.metrics({"seed": params.base.rng_seed, "curve/x": 1.0})

        return stub_run

    stages = tuple(
        run.Stage(one.name, stub(one), one.reads, one.takes, one.makes, one.images)
        for one in run.STAGES
    )
    monkeypatch.setattr(run, "STAGES", stages)
    (tmp_path / "src").mkdir()
    (tmp_path / "src/code.py").write_text("1")
    bodies = {one.name: {"deps": ["src/code.py"]} for one in stages}
    bodies["train_classifier"] = {"deps": ["src/code.py", "src/training.py"]}
    (tmp_path / "src/training.py").write_text("1")
    (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": bodies}))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path, ran


def go(root: Path, seed: int = 0, *, ignore_code: bool = False, **values: Any) -> dict[str, float]:
    params = parse_params(VALUES | values | {"base": {"rng_seed": 7}})
    tags = {"study": "s", "size": "tiny", "row": "cam"}
    code = run.code_hashes(root)
    return run.run_row(root, params, tags, code, seed=seed, ignore_code=ignore_code)


NAMES = [one.name for one in run.STAGES]
AFTER_TRAINING = [  # all that needs a classifier
    name for name in NAMES[NAMES.index("train_classifier") :] if name != "make_proposals"
]


def test_a_second_run_does_nothing_and_says_the_same(project: tuple[Path, list[str]]) -> None:
    root, ran = project
    first = go(root)
    assert ran == NAMES
    assert go(root) == first
    assert ran == NAMES
    assert first["train_classifier/seed"] == 7
    assert not any("curve" in key for key in first)


def test_rows_share_what_they_have_in_common(project: tuple[Path, list[str]]) -> None:
    root, ran = project
    go(root)
    ran.clear()
    go(root, generate_cams={"method": {"name": "grad_cam"}})
    assert ran == [
        "generate_cams", "evaluate_cams", "train_affinities", "refine_cams", "evaluate_refined"
    ]  # fmt: skip
    ran.clear()
    go(root, train_classifier={"epochs": 9})
    assert ran == AFTER_TRAINING


def test_seeds_train_anew_on_the_same_data(project: tuple[Path, list[str]]) -> None:
    root, ran = project
    go(root)
    ran.clear()
    found = go(root, seed=2)
    assert "prepare_data" not in ran
    assert "train_classifier" in ran
    assert found["prepare_data/seed"] == 7
    assert found["train_classifier/seed"] == 9


def test_changed_code_runs_again_with_all_that_follows(project: tuple[Path, list[str]]) -> None:
    root, ran = project
    go(root)
    ran.clear()
    (root / "src/training.py").write_text("2")
    go(root, ignore_code=True)
    assert ran == []
    go(root)
    assert ran == AFTER_TRAINING


def test_a_stage_that_stops_is_run_again(
    project: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, ran = project
    stages = list(run.STAGES)
    at = NAMES.index("generate_cams")

    def broken(params: Params, paths: Paths, tracker: Tracker) -> None:
        raise ValueError("no")

    monkeypatch.setattr(
        run, "STAGES", (*stages[:at], replace(stages[at], run=broken), *stages[at + 1 :])
    )
    with pytest.raises(ValueError, match="no"):
        go(root)
    monkeypatch.setattr(run, "STAGES", tuple(stages))
    ran.clear()
    go(root)
    assert ran == NAMES[at:]
