"""A stage of a study runs once for all rows that share its settings, and again for new code."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wsss.artifacts import Manifest, Sample, contents, fingerprint
from wsss.config.params import parse_params
from wsss.pipeline import Job, Pipeline, Stage, Target, exclusive
from wsss.stages import find_stages
from wsss.study import run
from wsss.study.plan import CHAIN, Plan
from wsss.tracking import NullTracker

VALUES = {
    "prepare_data": {"dataset": {"name": "synthetic", "num_train": 30}},
    "refine": {"chains": {CHAIN: []}},
    "make_pseudo_masks": {"chain": CHAIN},
}


CODE = {stage.name: "1" for stage in find_stages()}
WORK = dict(CODE)
"""By stage, what its code makes."""


def make(job: Job, text: str) -> None:
    """Write what a stage makes."""
    for out in job.target.outs(job.params):
        (job.paths.root / out).mkdir(parents=True, exist_ok=True)
        (job.paths.root / out / "made").write_text(text)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[str]]:
    """A project whose stages note that they ran, and write empty outs."""
    ran: list[str] = []

    def work(job: Job) -> None:
        stage, root = job.target.stage, job.paths.root
        ran.append(stage.name)
        inputs = job.target.inputs(job.params)
        read = [contents(root / path) for path in inputs if not path.startswith("reports/")]
        assert "missing" not in read, stage.name
        told = fingerprint(
            job.params.base.rng_seed, WORK[stage.name], job.target.settings(job.params), read
        )
        make(job, told)
        if stage.name == "prepare_data":
            sample = Sample("a", "a.png", (2, 2), (1,))
            splits = {"train": (sample,), "selection": (), "val": (sample,)}
            Manifest(("cat",), splits).write(job.paths.splits)
        job.tracker.metrics({"seed": job.params.base.rng_seed})

    def use(**runs: Any) -> None:
        stages = (replace(stage, run=runs.get(stage.name, work)) for stage in find_stages())
        pipeline = Pipeline(stages)
        monkeypatch.setattr(run, "find_stages", lambda: pipeline)

    use()
    monkeypatch.setattr(run, "use", use, raising=False)
    for name in CODE:
        CODE[name] = WORK[name] = "1"
    monkeypatch.setattr(Stage, "code_fingerprint", lambda stage: CODE[stage.name])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path, ran


def go(root: Path, seed: int = 0, *, ignore_code: bool = False, **values: Any) -> dict[str, float]:
    params = parse_params(VALUES | values | {"base": {"rng_seed": 7}})
    tags = {"study": "s", "size": "tiny", "row": "cam"}
    return run.run_row(root, params, tags, seed=seed, ignore_code=ignore_code)


NAMES = [target.stage.name for target in run.row_targets(find_stages(), parse_params(VALUES))]
AFTER_TRAINING = NAMES[NAMES.index("train_classifier") :]
"""All that needs a classifier."""


def test_a_second_run_does_nothing_and_says_the_same(project: tuple[Path, list[str]]) -> None:
    root, ran = project
    first = go(root)
    assert ran == NAMES
    assert go(root) == first
    assert ran == NAMES
    assert first["train_classifier/seed"] == 7


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


def test_changed_code_runs_again_with_all_that_follows_where_it_makes_something_else(
    project: tuple[Path, list[str]],
) -> None:
    root, ran = project
    go(root)
    ran.clear()
    CODE["train_classifier"] = "2"
    go(root, ignore_code=True)
    assert ran == []
    go(root)
    assert ran == ["train_classifier"]
    ran.clear()
    CODE["train_classifier"] = WORK["train_classifier"] = "3"
    go(root)
    assert ran == AFTER_TRAINING


def test_all_is_made_anew_where_that_is_asked_for_and_once_for_all_rows(
    project: tuple[Path, list[str]],
) -> None:
    root, ran = project
    go(root)
    ran.clear()
    anew: set[Path] = set()
    for row in ("cam", "same"):
        params = parse_params(VALUES | {"base": {"rng_seed": 7}})
        tags = {"study": "s", "size": "tiny", "row": row}
        run.run_row(root, params, tags, anew=anew)
    assert ran == NAMES


def test_a_folder_that_has_grown_is_prepared_again(
    project: tuple[Path, list[str]], tmp_path: Path
) -> None:
    root, ran = project
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_text("1")
    data = {"dataset": {"name": "folder", "root": str(tmp_path / "photos")}}
    go(root, prepare_data=data)
    ran.clear()
    go(root, prepare_data=data)
    assert ran == []
    (tmp_path / "photos/b.jpg").write_text("2")
    go(root, prepare_data=data)
    assert ran == NAMES


def test_a_stage_that_stops_is_run_again(
    project: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, ran = project
    at = NAMES.index("generate_cams")

    def broken(job: Job) -> None:
        raise ValueError("no")

    run.use(generate_cams=broken)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="no"):
        go(root)
    run.use()  # type: ignore[attr-defined]
    ran.clear()
    go(root)
    assert ran == NAMES[at:]


def test_rows_are_recorded_with_the_settings_of_all_their_stages(
    project: tuple[Path, list[str]],
) -> None:
    root, _ = project
    go(root)
    go(root, generate_cams={"scales": [3.0]})
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    experiments = [found.experiment_id for found in client.search_experiments()]
    first, second = client.search_runs(experiments, "tags.study = 's'")
    assert first.data.params != second.data.params
    scales = {run.data.params["generate_cams.scales"] for run in (first, second)}
    assert len(scales) == 2
    assert {run.data.tags["stage"] for run in (first, second)} == {"study"}


def test_rows_are_recorded_in_the_mlflow_that_is_set(
    project: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which may be another one than that of an earlier run, or may have been deleted."""
    root, ran = project
    found, number = go(root), len(ran)
    for name in ("other.db", "mlflow.db"):
        (root / name).unlink(missing_ok=True)
        uri = f"sqlite:///{root}/{name}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        for _ in range(2):
            assert go(root) == found and len(ran) == number
        from mlflow.tracking import MlflowClient

        experiments = [one.experiment_id for one in MlflowClient(uri).search_experiments()]
        assert len(MlflowClient(uri).search_runs(experiments, "tags.study = 's'")) == 1


def test_entries_of_a_stage_that_are_wanted_have_scores_of_their_own(
    project: tuple[Path, list[str]],
) -> None:
    root, _ = project
    values = {**VALUES, "refine": {"chains": {CHAIN: [], "crf": [{"name": "dense_crf"}]}}}
    params = parse_params(values | {"base": {"rng_seed": 7}})
    targets = [f"evaluate_refined@{CHAIN}", "evaluate_refined@crf", "evaluate_cams"]
    tags = {"study": "s", "size": "tiny", "row": "both"}
    found = run.run_row(root, params, tags, targets=targets)
    scored = {key.partition("/")[0] for key in found if key.startswith("evaluate")}
    assert scored == {f"evaluate_refined_{CHAIN}", "evaluate_refined_crf", "evaluate_cams"}


def test_a_row_has_the_warnings_of_all_its_stages(
    project: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = project
    told: dict[str, str] = {}
    run_stage = run.run_apart

    def warned(pipeline: Pipeline, target: Target, *args: Any, **kwargs: Any) -> dict[str, Any]:
        done = run_stage(pipeline, target, *args, **kwargs)
        text = f"{target.stage.name} is bad\nand worse"
        return done | {"tags": {"warnings": text} if target.stage.name in NAMES[1:3] else {}}

    @contextmanager
    def noted(*args: Any, tags: dict[str, str], **kwargs: Any) -> Iterator[NullTracker]:
        told.update(tags)
        yield NullTracker()

    monkeypatch.setattr(run, "run_apart", warned)
    monkeypatch.setattr(run, "open_tracker", noted)
    go(root)
    first, second = NAMES[1:3]
    assert told["warnings"].splitlines() == [
        f"{name}: {text}" for name in (first, second) for text in (f"{name} is bad", "and worse")
    ]


def test_a_study_that_runs_already_is_refused_before_any_work(
    project: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, ran = project
    row = run.row_folder(root, "table", "small", "cam", 0)
    code = (
        "import sys; from pathlib import Path; from wsss.pipeline.exclusive import hold\n"
        "with hold(Path(sys.argv[1])): print('held', flush=True); sys.stdin.readline()"
    )
    plan = Plan.model_validate(
        {
            "title": "",
            "sizes": {"small": {}},
            "columns": {"a": {"metric": "a"}},
            "compared": "a",
            "baseline": "other",
            "rows": {"other": {"recipe": "x"}, "cam": {"recipe": "x"}},
        }
    )
    monkeypatch.setattr(run, "row_params", lambda *_: parse_params(VALUES))
    monkeypatch.setattr(run, "ground_of", lambda *_: "")
    monkeypatch.setattr(exclusive, "PATIENCE", 0.2)
    command = [sys.executable, "-c", code, str(row)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        with pytest.raises(
            exclusive.BusyError, match=rf"row 'cam' of the study table.*{holder.pid}"
        ):
            run.run_study(root, "table", plan, "small")
        assert not ran, "other rows come before it, and were not begun"
        holder.kill()
    run.run_study(root, "table", plan, "small", rows=["cam"])
    assert ran
    assert not list((root / run.RESULTS).rglob("*.lock"))


def test_a_row_that_trains_on_maps_has_them_of_all_images(project: tuple[Path, list[str]]) -> None:
    root, ran = project
    seen: dict[str, int] = {}

    def look(job: Job) -> None:
        seen[job.target.stage.name] = len(Manifest.read(job.paths.splits).splits["train"])
        make(job, "")

    run.use(generate_cams=look, refine_cams=look)  # type: ignore[attr-defined]
    params = parse_params(VALUES | {"base": {"rng_seed": 7}})
    tags = {"study": "s", "size": "tiny", "row": "cam"}
    found = run.run_row(root, params, tags, targets=("evaluate_segmenter",))
    assert seen == {"generate_cams": 1, "refine_cams": 1}
    assert ran[-1] == "evaluate_segmenter"
    assert found["row/minutes"] > 0
    assert found["row/cpu_minutes"] > 0
    run.run_row(root, params, tags)
    assert seen == {"generate_cams": 0, "refine_cams": 0}


def test_rows_whose_annotators_gave_more_share_what_tags_alone_decide(
    project: tuple[Path, list[str]],
) -> None:
    root, ran = project

    def prepared(job: Job) -> None:
        ran.append("prepare_data")
        make(job, "the same images")
        sample = Sample("a", "a.png", (2, 2), (1,))
        splits = {"train": (sample,), "selection": (), "val": (sample,)}
        Manifest(("cat",), splits).write(job.paths.splits)

    run.use(prepare_data=prepared)  # type: ignore[attr-defined]
    go(root)
    ran.clear()
    go(root, prepare_data=VALUES["prepare_data"] | {"selection_max": 999})
    assert ran == ["prepare_data"]


def test_work_of_a_later_stage_is_begun_where_that_will_run(
    project: tuple[Path, list[str]],
) -> None:
    root, _ = project
    begun: list[Path | None] = []
    found: list[tuple[str, bool]] = []

    def cams(job: Job) -> None:
        with job.to_begin("generate_further_cams", "layer") or nullcontext() as folder:
            begun.append(folder)
            if folder is not None:
                (folder / "a").write_text("begun")
        make(job, str(job.params.generate_cams.scales))

    def further(job: Job) -> None:
        def fill(name: str, _: object, folder: Path) -> dict[str, Any]:
            found.append((name, (folder / "a").exists()))
            (folder / "a").write_text("made")
            return {}

        job.make_entries(fill)

    run.use(generate_cams=cams, generate_further_cams=further)  # type: ignore[attr-defined]
    chain = {CHAIN: [{"name": "fusion", "sources": {"layer": 1}}]}
    values = {"refine": {"chains": chain}, "further_cams": {"layer": {"scales": [1.0]}}}
    go(root, **values)
    (place,) = (root / run.RESULTS).glob("generate_further_cams-*")
    assert begun == [place / "data/further_cams/.layer.partial"]
    assert found == [("layer", True)]
    # what is finished is not begun again, nor what other code makes
    go(root, **values, generate_cams={"scales": [1.0]})
    CODE["generate_further_cams"] = "2"
    go(root, **values, generate_cams={"scales": [2.0]}, ignore_code=True)
    assert begun[1:] == [None, None] and found == [("layer", True)]
