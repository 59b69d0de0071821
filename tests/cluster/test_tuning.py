"""A search on PostgreSQL: workers join and leave, and one that is killed loses no trial."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from wsss.artifacts import Paths
from wsss.config.yaml_text import load_yaml
from wsss.tuning import storage as storage_module
from wsss.tuning.plan import read_search
from wsss.tuning.search import prepare
from wsss.tuning.storage import complete_trials, open_storage

pytestmark = pytest.mark.cluster

TRIALS = 10
PATIENCE = 300.0  # seconds, of a machine that is busy


def _tiny() -> ModuleType:
    path = Path(__file__).parents[1] / "tuning" / "conftest.py"
    spec = importlib.util.spec_from_file_location("tiny_project", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def worker(root: Path, url: str) -> "subprocess.Popen[str]":
    """Start `wsss tune worker` as another machine would, with a heartbeat of a second."""
    code = "from wsss.cli import main; main()"
    arguments = ["tune", "worker", "crf", "--storage", url, "--heartbeat", "1"]
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=root,
        env=os.environ | {"RANK": "1", "OMP_NUM_THREADS": "1"},  # records nothing in MLflow
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def kill_within_a_trial(study: Any, pids: set[int]) -> int:
    """Kill one of the workers while it runs a trial; the number of that trial."""
    from optuna.trial import TrialState

    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for trial in study.get_trials(states=(TrialState.RUNNING,)):
            pid = int(trial.user_attrs.get("worker", "::").split(":")[1] or 0)
            if pid not in pids or "folder" not in trial.user_attrs:
                continue
            os.kill(pid, signal.SIGSTOP)  # now it cannot finish between the look and the kill
            if study.trials[trial.number].state == TrialState.RUNNING:
                os.kill(pid, signal.SIGKILL)
                return int(trial.number)
            os.kill(pid, signal.SIGCONT)
        time.sleep(0.05)
    raise AssertionError("no trial was seen running")


def test_no_trial_is_lost_or_doubled(
    postgres: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from optuna.trial import TrialState

    tiny = _tiny()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///unused.db")
    paths = tiny.make_project(tmp_path / "project")
    file = paths.root / "params.yaml"
    file.write_text(file.read_text().replace("n_iters: 3", "n_iters: 4000"))
    values = load_yaml(file.read_text(), "params.yaml")
    url = postgres.url("optuna")
    _, settings = read_search(paths.root, "crf", {"max_images": 2})
    found = prepare("crf", settings, values, paths, trials=TRIALS, storage=url, heartbeat=1)
    study = found.study
    assert found.wanted == TRIALS
    workers = [worker(paths.root, url) for _ in range(4)]
    try:
        killed = kill_within_a_trial(study, {process.pid for process in workers})
        said = [process.communicate(timeout=PATIENCE)[0] for process in workers]
    finally:
        for process in workers:
            process.kill()
    codes = sorted(process.returncode for process in workers)
    assert codes == [-signal.SIGKILL, 0, 0, 0], said
    trials = study.trials
    states = [trial.state for trial in trials]
    assert states.count(TrialState.COMPLETE) == TRIALS
    assert states.count(TrialState.FAIL) == 1 and len(states) == TRIALS + 1
    assert states[killed] == TrialState.FAIL
    (again,) = [item for item in trials if item.system_attrs.get("failed_trial") == killed]
    assert again.state == TrialState.COMPLETE
    assert again.params == trials[killed].params
    assert again.user_attrs["settings"] == trials[killed].user_attrs["settings"]
    assert again.user_attrs["worker"] != trials[killed].user_attrs["worker"]
    assert len(complete_trials(study)) == TRIALS
    assert len({trial.user_attrs["worker"] for trial in trials}) >= 2
    assert not (paths.root / ".tuning/trials").exists(), "nothing is left of any trial"


def test_a_server_that_does_not_answer_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("psycopg")
    monkeypatch.setattr(storage_module, "_ANSWER", 2)
    with socket.socket() as nobody, socket.socket() as silent:
        for sock in (nobody, silent):
            sock.bind(("127.0.0.1", 0))
        silent.listen()
        for sock in (nobody, silent):
            port = sock.getsockname()[1]
            url = f"postgresql+psycopg://me:secret@127.0.0.1:{port}/optuna"
            started = time.monotonic()
            with pytest.raises(ConnectionError, match=r"(?s)kept in .*whose server runs") as e:
                open_storage("crf", Paths(tmp_path), url)
            assert "secret" not in str(e.value)
            assert time.monotonic() - started < 30
