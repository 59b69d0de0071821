"""One MLflow database for all tests here: making one takes seconds."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from wsss.tracking import RunStart, prepare_mlflow, tracking_uri
from wsss.tracking.provenance import run_start


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def client(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A client of the shared database, which open_tracker uses too."""
    for name in ("DVC_ROOT", "DVC_EXP_NAME", "RANK", "LOCAL_RANK", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    prepare_mlflow()
    from mlflow.tracking import MlflowClient

    return MlflowClient(database)


@pytest.fixture
def new_database(
    client: Any, database: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Path], Any]:
    """Makes a project's own, empty database, which open_tracker uses; gives a client of it."""
    client.search_experiments()  # makes the tables

    def make(root: Path) -> Any:
        from mlflow.tracking import MlflowClient

        root.mkdir(parents=True, exist_ok=True)
        source = sqlite3.connect(database.removeprefix("sqlite:///"))
        target = sqlite3.connect(root / "mlflow.db")
        with closing(source), closing(target):
            source.backup(target)
            for table in ("tags", "params", "metrics", "latest_metrics", "runs"):
                target.execute(f"DELETE FROM {table}")
            target.execute("DELETE FROM experiment_tags")
            target.execute("DELETE FROM experiments WHERE experiment_id != 0")
            target.commit()
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        monkeypatch.delenv("DVC_ROOT", raising=False)
        return MlflowClient(tracking_uri(root))

    return make


@pytest.fixture
def experiment(tmp_path: Path) -> str:
    """This test's own."""
    return f"{tmp_path.name} {os.getpid()}"


Start = Callable[..., RunStart]


@pytest.fixture
def start(tmp_path: Path, experiment: str) -> Start:
    """A run of a stage in this test's experiment; settings and key can be given."""

    def make(stage: str = "train_classifier", root: Path = tmp_path, **given: Any) -> RunStart:
        settings = given.pop("settings", {"base": {"rng_seed": 1}})
        key = given.pop("key", "same")
        uri = tracking_uri(root)
        return run_start(stage, root, uri, experiment, settings, key=key, **given)

    return make
