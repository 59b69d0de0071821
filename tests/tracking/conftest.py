"""One MLflow database for all tests here: making one takes seconds."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsss.config.params import Params
from wsss.tracking import prepare_mlflow


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
def params(tmp_path: Path) -> Params:
    """Settings whose experiment is this test's own."""
    return Params.model_validate({"machine": {"experiment": f"{tmp_path.name} {os.getpid()}"}})
