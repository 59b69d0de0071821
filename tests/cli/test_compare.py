"""`wsss compare` on a small repository."""

import hashlib
import json
import re
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from wsss.cli.compare import compare
from wsss.cli.side_by_side import best_columns, print_side_by_side
from wsss.config.params import load_params
from wsss.pipeline import in_order
from wsss.stages import find_stages

SCORES = {"crf": (0.41, 0.47), "tuned": (0.41, 0.52)}  # CAMs, refined


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def write(root: Path, cams: float, refined: float) -> None:
    (root / "reports").mkdir(exist_ok=True)
    for name, value in (("cams", cams), ("refined_crf", refined)):
        report = {
            "protocol": {"tags": "ground truth"},
            "threshold": 0.3,
            "val": {
                "mean_iou": value,
                "iou": {"große Katze": value / 2},
                "mean_fp_share": 1 - value,
            },
            "oracle": {"val": {"mean_iou": 0.9, "threshold": 0.5}},
        }
        (root / f"reports/evaluate_{name}.json").write_text(json.dumps(report), "utf-8")
    (root / "reports/train_classifier.json").write_text('{"selection_map": 0.8, "epoch": 3}')
    (root / "reports/evaluate_cams.run.json").write_text('{"run_id": "a", "x": 1}')
    (root / "params.yaml").write_text("{}")
    lock = {}
    for name in ("evaluate_cams", "evaluate_refined_crf", "train_classifier"):
        path = f"reports/{name}.json"
        md5 = hashlib.md5((root / path).read_bytes()).hexdigest()
        lock[name] = {"outs": [{"path": path, "md5": md5}]}
    (root / "dvc.yaml").write_text(json.dumps({"stages": lock}))
    (root / "dvc.lock").write_text(json.dumps({"stages": lock}))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """HEAD, the DVC experiment puny-bait and the workspace, in a sub-folder of a repository."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    root = tmp_path / "sub folder"
    root.mkdir()
    git(tmp_path, "init", "-b", "main")
    write(root, *SCORES["crf"])
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "one")
    base = git(tmp_path, "rev-parse", "HEAD")
    write(root, *SCORES["tuned"])
    git(tmp_path, "commit", "-am", "two")
    experiment = git(tmp_path, "rev-parse", "HEAD")
    git(tmp_path, "update-ref", f"refs/exps/{base[:2]}/{base[2:]}/puny-bait", experiment)
    git(tmp_path, "reset", "--hard", base)
    write(root, 0.3, 0.6)
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def run() -> Callable[..., Any]:
    app = typer.Typer()
    app.command()(compare)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_commits_experiments_and_the_workspace_side_by_side(project: Path, run: Any) -> None:
    result = json.loads(run("HEAD", "puny-bait", "workspace", "--json").stdout)
    assert result["columns"] == ["HEAD", "puny-bait", "workspace"]
    assert result["metrics"] == {
        "evaluate_cams/threshold": [0.3, 0.3, 0.3],
        "evaluate_cams/val/mean_iou": [0.41, 0.41, 0.3],
        "evaluate_refined_crf/threshold": [0.3, 0.3, 0.3],
        "evaluate_refined_crf/val/mean_iou": [0.47, 0.52, 0.6],
    }
    assert json.loads(run("--json").stdout)["columns"] == ["HEAD", "workspace"]


def test_metrics_are_chosen_by_their_beginning(project: Path, run: Any) -> None:
    def shown(*arguments: str) -> list[str]:
        return list(json.loads(run("HEAD", "--json", *arguments).stdout)["metrics"])

    both = ["evaluate_cams/oracle/val/threshold", "evaluate_refined_crf/oracle/val/threshold"]
    assert shown("--metric", "oracle/val/thr") == both
    assert shown("--metric", "train_") == [
        "train_classifier/epoch",
        "train_classifier/selection_map",
    ]
    everything = shown("--all")
    assert "evaluate_cams/val/iou/große Katze" in everything
    assert not any(".run" in key or "protocol" in key for key in everything)
    nothing = run("HEAD", "--metric", "evaluate_cmas/val/mean_iou")
    assert "did you mean 'evaluate_cams/val/mean_iou'?" in str(nothing.exception)


def test_the_best_is_bold_where_an_order_is_known(project: Path, run: Any) -> None:
    lines = run("HEAD", "puny-bait", "--markdown").stdout.splitlines()
    assert lines[0] == "| metric | HEAD | puny-bait |"
    assert "| evaluate_refined_crf/val/mean_iou | 0.4700 | **0.5200** |" in lines
    assert "| evaluate_cams/val/mean_iou | 0.4100 | 0.4100 |" in lines
    table = run("HEAD", "puny-bait").stdout
    assert "0.5200" in table
    assert best_columns("evaluate_cams/val/mean_fp_share", [0.2, 0.1, None]) == {1}
    assert best_columns("train_classifier/epoch", [1, 2]) == set()
    assert best_columns("evaluate_cams/val/mean_iou", [0.2, 0.3, 0.3]) == {1, 2}


def test_an_unknown_revision_says_what_was_tried(project: Path, run: Any) -> None:
    message = str(run("puny-biat").exception)
    assert "no git revision and no DVC experiment" in message
    assert "did you mean 'puny-bait'?" in message
    assert "main" in message
    assert "mlflow:" in message
    git(project, "rm", "-r", "--cached", "reports")
    git(project, "commit", "-m", "none")
    assert "HEAD has no metrics" in str(run("HEAD").exception)
    assert json.loads(run("--json").stdout)["columns"] == ["workspace"]


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Reports in no repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    write(tmp_path, 0.3, 0.6)
    return tmp_path


@pytest.mark.usefixtures("outside")
def test_without_a_repository_the_workspace_is_shown(run: Any) -> None:
    assert json.loads(run("--json").stdout)["columns"] == ["workspace"]
    assert "no git repository" in str(run("main").exception)
    assert "no MLflow database" in str(run("mlflow:evaluate").exception)


def test_mlflow_runs_by_id_name_and_filter(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Any
) -> None:
    from wsss.tracking import open_tracker, prepare_mlflow

    prepare_mlflow()
    import mlflow  # noqa: F401 - so that runs are recorded here

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    for stage, value in (("evaluate_refined@none", 0.4), ("evaluate_refined@crf", 0.5)):
        with open_tracker(stage, tmp_path / "trials", "wsss", {}, key="k") as tracker:
            tracker.metrics({"val/mean_iou": value, "val/iou/x": float("nan")})
    record = json.loads((tmp_path / "trials/reports/evaluate_refined_crf.run.json").read_text())
    run_id = record["run_id"]

    runs = json.loads(run("mlflow:evaluate_refined", "--all", "--json").stdout)
    assert sorted(runs["metrics"]["val/mean_iou"]) == [0.4, 0.5]  # two stages, one row
    assert "val/iou/x" not in runs["metrics"]
    alone = json.loads(run('mlflow:metrics."val/mean_iou" > 0.45', "--json").stdout)
    assert alone["columns"] == [f"evaluate_refined@crf {run_id[:8]}"]
    beside = json.loads(run("HEAD", run_id, "--json").stdout)
    assert beside["metrics"]["evaluate_refined_crf/val/mean_iou"] == [0.47, 0.5]
    assert "evaluate_refined@crf" in str(run("mlflow:evaluate_unknown").exception)
    assert "f" * 32 in str(run("f" * 32).exception)


def test_runs_of_different_data_are_told_apart(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Any
) -> None:
    from wsss.tracking import Dataset, open_tracker

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    for name, digest in (("scored a", "aaaa"), ("scored b", "bbbb")):
        data = [Dataset("folder", digest, "evaluation")]
        root = tmp_path / name
        with open_tracker("s", root, "wsss", {}, key=name, name=name, datasets=data) as tracker:
            tracker.metrics({"val/mean_iou": 0.5})
    found = run("mlflow:scored", "--all")
    assert "different data" in found.stderr
    assert "folder aaaa: scored a" in found.stderr
    assert "different data" not in run("mlflow:scored a", "--all").stderr


def test_rows_of_a_study_of_different_data_are_told_apart(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Any
) -> None:
    from wsss.tracking import open_tracker

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    for name, ground in (("rows a=1", "aaaa"), ("rows b", "bbbb")):
        tags = {"study": "s", "row": name, "ground": ground}
        root = tmp_path / name
        with open_tracker("study", root, "wsss", {}, key=name, name=name, tags=tags) as tracker:
            tracker.metrics({"val/mean_iou": 0.5})
    found = run("mlflow:rows", "--all")
    assert "different data" in found.stderr and "settings aaaa: rows a=1" in found.stderr
    # what an experiment is named after has a sign that filters have, too
    assert "different data" not in run("mlflow:rows a=1", "--all").stderr


def test_a_project_without_dvc_knows_its_results_by_the_notes_of_run(
    outside: Path, run: Any
) -> None:
    (outside / "dvc.lock").unlink()
    said = str(run("workspace").exception)
    assert "`wsss run` would make it anew" in said and "dvc repro" not in said
    params, pipeline = load_params(outside / "params.yaml"), find_stages()
    for target in pipeline.targets(params):
        key = in_order._key(pipeline, target, params, outside)
        state = in_order._state(key, target, params, outside)
        in_order.write_json(in_order._note(outside, target), state)
    assert json.loads(run("workspace", "--json").stdout)["columns"] == ["workspace"]


def test_revisions_of_different_data_are_told_apart(project: Path, run: Any) -> None:
    def read(digest: str, **settings: object) -> None:
        lock = json.loads((project / "dvc.lock").read_text())
        lock["stages"]["prepare_data"] = {
            "deps": [{"path": "data/sources/prepare_data.json", "md5": digest}],
            "params": {"params.yaml": {"base.rng_seed": 1, "prepare_data": settings}},
        }
        (project / "dvc.lock").write_text(json.dumps(lock))

    read("aaaa", dataset={"name": "folder"}, pixel_labels="none")
    git(project, "add", ".")
    git(project, "commit", "-qm", "data")
    # what annotators give to learn from changes no image
    read("aaaa", dataset={"name": "folder"}, pixel_labels=0.1)
    assert "different data" not in run("HEAD", "workspace").stderr
    for changed in (("bbbb", "folder"), ("aaaa", "coco")):
        read(changed[0], dataset={"name": changed[1]})
        assert "These revisions are of different data; do not compare" in (
            run("HEAD", "workspace").stderr
        )


def test_reports_of_other_settings_are_named_and_not_shown(project: Path, run: Any) -> None:
    lock = json.loads((project / "dvc.lock").read_text())
    for stage in ("evaluate_cams", "evaluate_refined_crf"):
        lock["stages"][stage]["params"] = {"params.yaml": {"prepare_data": {"root": "/shipped"}}}
    (project / "dvc.lock").write_text(json.dumps(lock))
    (project / "params.yaml").write_text("prepare_data: {root: /my/own}")
    found = run("workspace")
    assert found.exit_code == 0
    assert "mean_iou" not in found.stdout
    assert "train_classifier/selection_map" in found.stdout
    assert (
        "evaluate_cams, evaluate_refined_crf: prepare_data.root of params.yaml is" in found.stderr
    )
    both = run("HEAD", "workspace", "--json")  # of HEAD they are its own
    assert json.loads(both.stdout)["metrics"]["evaluate_cams/val/mean_iou"] == [0.41, None]
    lock["stages"]["train_classifier"]["params"] = {"params.yaml": {"base": 1}}
    (project / "dvc.lock").write_text(json.dumps(lock))
    (project / ".dvc").mkdir()
    assert "`dvc repro` makes them anew" in str(run("workspace").exception)


def test_data_without_masks_show_what_there_is(project: Path, run: Any) -> None:
    for name in ("cams", "refined_crf"):
        (project / f"reports/evaluate_{name}.json").unlink()
    found = run("workspace")
    assert found.exit_code == 0
    assert "train_classifier/selection_map" in found.stdout
    assert "no mean IoU" in found.stderr


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("count", [2, 5, 20])
def test_no_heading_is_broken_on_a_narrow_terminal(
    width: int, count: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    columns = [f"evaluate_refined@crf {at:08x}" for at in range(count)]
    rows = {"threshold": [0.5] * count, "val/mean_iou": [at / 100 for at in range(count)]}
    print_side_by_side(columns, rows)
    printed = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    assert max(map(len, printed.splitlines())) <= max(width, 45)
    assert all(f"{at:08x}" in printed for at in range(count))
    assert printed.count("evaluate_refined@crf") == count
    assert f"{(count - 1) / 100:.4f}" in printed


def test_false_alarms_stand_beside_the_mean_iou_and_alone_without_masks(
    project: Path, run: Any
) -> None:
    report = {"val": {"false_alarms": {"images": 0.25, "area": 0.5, "untagged": 4}}}
    path = "reports/evaluate_segmenter.json"
    (project / path).write_text(json.dumps(report))
    stages = json.loads((project / "dvc.lock").read_text())["stages"]
    md5 = hashlib.md5((project / path).read_bytes()).hexdigest()
    stages["evaluate_segmenter"] = {"outs": [{"path": path, "md5": md5}]}
    for file in ("dvc.lock", "dvc.yaml"):
        (project / file).write_text(json.dumps({"stages": stages}))
    found = json.loads(run("workspace", "--json").stdout)["metrics"]
    assert found["evaluate_segmenter/val/false_alarms/images"] == [0.25]
    assert found["evaluate_segmenter/val/false_alarms/area"] == [0.5]
    assert "evaluate_segmenter/val/false_alarms/untagged" not in found
    assert "evaluate_cams/val/mean_iou" in found
    assert "train_classifier/selection_map" not in found
    assert best_columns("evaluate_segmenter/val/false_alarms/images", [0.2, 0.1]) == {1}
    for name in ("cams", "refined_crf"):
        (project / f"reports/evaluate_{name}.json").unlink()
    found = json.loads(run("workspace", "--json").stdout)["metrics"]
    assert {"evaluate_segmenter/val/false_alarms/area", "train_classifier/selection_map"} <= set(
        found
    )


def test_a_page_has_the_scores_by_the_names_of_mlflow(
    project: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wsss.cli import compared_page

    recorded: list[str] = []
    monkeypatch.setattr(compared_page, "has_mlflow", lambda: recorded.append("asked") or False)
    curve = "threshold,val_mean_iou\n0.2,0.1\n0.3,0.6\n"
    (project / "reports/evaluate_refined_crf_curve.csv").write_text(curve)
    assert run("HEAD", "puny-bait", "workspace", "--html", "out/page.html").exit_code == 0
    page = (project / "out/page.html").read_text("utf-8")
    assert recorded == ["asked"]
    for name, values in (("cam", ("0.410", "0.300")), ("crf", ("0.470", "0.520", "0.600"))):
        assert f"<code>{name}.val_mean_iou</code>" in page
        assert all(f">{value}</td>" in page for value in values)
    assert "große Katze" in page
    assert "<b>workspace</b> with 0.600, 0.080 above puny-bait" in page


def test_rows_of_a_study_are_one_with_their_seeds(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Any
) -> None:
    from wsss.tracking import known_runs, open_tracker, prepare_mlflow, tracking_uri

    prepare_mlflow()
    import mlflow  # noqa: F401 - so that runs are recorded here

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    for row, values in (("cam", (0.4, 0.5)), ("puzzle", (0.6,))):
        for seed, value in enumerate(values):
            tags = {"study": "small", "size": "s", "row": row, "seed": str(seed)}
            root = tmp_path / f"{row}{seed}"
            settings = {"base": {"rng_seed": seed}, "method": row}
            with open_tracker(
                "study", root, "wsss studies", settings, key=row + str(seed),
                tags=tags | {"mlflow.runName": f"small s {row} {seed}"},
            ) as tracker:  # fmt: skip
                tracker.metrics({"evaluate_refined/val/mean_iou": value, "row/minutes": 2})
    assert run("study:small", "--html", "page.html").exit_code == 0
    page = (project / "page.html").read_text("utf-8")
    assert "0.450 ± 0.071" in page and ">0.600</td>" in page
    assert "refined.val_mean_iou" in page and "2.0 min" in page
    alone = json.loads(run("study:small/puzzle", "--json").stdout)
    assert alone["metrics"]["evaluate_refined/val/mean_iou"] == [0.6]
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        names = {name for (name,) in database.execute("SELECT name FROM experiments")}
    assert "wsss comparisons" in names
    assert not known_runs(tracking_uri(project), "wsss comparisons", ["another"])
