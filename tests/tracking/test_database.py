"""The project's own database: a project may be moved, copied, and have any name."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wsss.tracking import open_run, tracking_uri
from wsss.tracking.database import (
    database_file,
    database_uri,
    experiment_ids,
    finished_runs,
    settle,
)
from wsss.tracking.helper import HelperTracker

NewDatabase = Callable[[Path], Any]


def record(start: Any, root: Path, stage: str, text: str) -> str:
    """Record a run with one artifact; its id."""
    (root / "note.txt").write_text(text)
    with open_run(start(stage, root)) as tracker:
        tracker.artifact(root / "note.txt")
    return str(tracker.run_id)  # type: ignore[attr-defined]


def artifact(root: Path, run_id: str) -> str:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri(root))
    return Path(client.download_artifacts(run_id, "note.txt")).read_text()


def files(root: Path) -> list[Path]:
    return sorted(path.relative_to(root) for path in (root / "mlartifacts").rglob("*.txt"))


@pytest.mark.parametrize("moved", [True, False])
def test_a_project_that_is_moved_or_copied_has_its_artifacts_where_it_is(
    new_database: NewDatabase, start: Any, tmp_path: Path, moved: bool
) -> None:
    old, new = tmp_path / "old", tmp_path / "a b" / "new"
    new_database(old)
    first = record(start, old, "refine_cams@crf", "first")
    before = files(old)
    shutil.copytree(old, new)
    if moved:
        shutil.rmtree(old)
    else:  # what the copy shows is its own
        next((old / "mlartifacts").rglob("note.txt")).write_text("changed later")
    second = record(start, new, "refine_cams@crf", "second")
    assert artifact(new, first) == "first"
    assert artifact(new, second) == "second"
    assert len(files(new)) == 2
    if not moved:
        assert files(old) == before, "a copy wrote into the original's folder"
        assert artifact(old, first) == "changed later"


def test_artifacts_that_are_kept_elsewhere_stay_there(
    new_database: NewDatabase, start: Any, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "large disk/mlartifacts"
    client = new_database(tmp_path / "old")
    client.create_experiment(start().experiment, elsewhere.as_uri())
    first = record(start, tmp_path / "old", "a", "first")
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    second = record(start, tmp_path / "new", "b", "second")
    assert [artifact(tmp_path / "new", run) for run in (first, second)] == ["first", "second"]
    assert len(list(elsewhere.rglob("*.txt"))) == 2


@pytest.mark.parametrize("name", ["50% off", "a%20b", "what?x=1", "c#", "große Katze", "a+b&c;d"])
def test_a_project_may_have_any_name(
    new_database: NewDatabase, start: Any, tmp_path: Path, name: str
) -> None:
    root = tmp_path / name
    client = new_database(root)
    assert database_file(database_uri(root / "mlflow.db")) == root / "mlflow.db"
    run_id = record(start, root, "a", name)
    assert client.get_run(run_id).info.status == "FINISHED"
    assert artifact(root, run_id) == name
    assert finished_runs(root / "mlflow.db", start().experiment) == {"same": run_id}
    assert list(tmp_path.rglob("mlflow.db")) == [root / "mlflow.db"]


def test_what_is_not_there_has_neither_experiments_nor_runs(
    new_database: NewDatabase, start: Any, tmp_path: Path
) -> None:
    assert experiment_ids(tmp_path / "mlflow.db") == {}
    assert not (tmp_path / "mlflow.db").exists(), "looking made a database"
    (tmp_path / "mlflow.db").touch()
    with settle(tmp_path / "mlflow.db"):
        assert experiment_ids(tmp_path / "mlflow.db") == {}
        assert finished_runs(tmp_path / "mlflow.db", "wsss") == {}
    client = new_database(tmp_path / "a")
    record(start, tmp_path / "a", "x", "")
    experiment = start().experiment
    known = experiment_ids(tmp_path / "a/mlflow.db")
    assert known[experiment] == client.get_experiment_by_name(experiment).experiment_id
    client.delete_experiment(known[experiment])
    assert experiment not in experiment_ids(tmp_path / "a/mlflow.db")


def test_runs_of_queued_experiments_go_to_the_real_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("DVC_ROOT", "/real/project")
    assert tracking_uri(tmp_path) == "sqlite:////real/project/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert tracking_uri(tmp_path) == "http://host:5000"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("sqlite:///mlflow.db", "sqlite:///{quoted}/mlflow.db"),
        ("sqlite+pysqlite:///runs/50%25.db?a=b", "sqlite+pysqlite:///{quoted}/runs/50%25.db?a=b"),
        ("mlruns", "{root}/mlruns"),
        ("file:./mlruns", "file:{quoted}/./mlruns"),
        *((uri, uri) for uri in ("sqlite:////runs/mlflow.db", "/runs", "file:///runs", "file:/a")),
        *((uri, uri) for uri in ("databricks", "databricks://me", "http://host:5000", "uc:me")),
        *((uri, uri) for uri in ("postgresql+psycopg://me:a@host/runs", "sqlite:///:memory:")),
    ],
)
def test_a_relative_place_is_one_in_the_project_wherever_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, meant: str
) -> None:
    """Helpers work in "/", and queued DVC experiments in temporary copies."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    root = tmp_path / "50% done"
    expected = meant.format(root=root, quoted=f"{tmp_path}/50%25 done")
    assert tracking_uri(root) == expected
    monkeypatch.setenv("DVC_ROOT", str(root))
    assert tracking_uri(tmp_path / ".dvc/tmp/exps/1") == expected
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", root.name)
    assert tracking_uri(Path()) == expected


def test_a_helper_records_in_the_database_that_was_looked_at(
    new_database: NewDatabase, start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_database(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    tracker = HelperTracker(start(root=Path()))
    tracker.end("FINISHED")
    assert finished_runs(tmp_path / "mlflow.db", start().experiment) == {"same": tracker.run_id}
