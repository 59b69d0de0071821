"""A tracking server that dies, hangs or is full: the stage goes on, and nothing it said is lost."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wsss.tracking.unsent import FOLDER

from .mlflow_server import ROOT, MlflowServer

pytestmark = pytest.mark.cluster

STAGE = """
import sys
from pathlib import Path
from wsss.progress import show_log
from wsss.tracking import open_tracker

show_log()
root, experiment, panel = Path.cwd(), sys.argv[1], Path("panel.png")
with open_tracker("train_classifier", root, experiment, {"epochs": 6}, key="same") as tracker:
    for epoch in range(6):
        tracker.metrics({"loss": 1 / (epoch + 1), "rate": epoch / 7}, epoch)
        tracker.flush()
        print("epoch", flush=True)
        sys.stdin.readline()
    tracker.tags({"weights": "none"})
    panel.write_text("as it was")
    tracker.artifact(panel)
    tracker.table("panel.json", {"image": ["a"]})
    panel.write_text("of another stage")
print("done", flush=True)
"""


class Training:
    """A stage of six epochs, each of which begins when a test says so."""

    def __init__(self, server: MlflowServer, root: Path, experiment: str) -> None:
        self.root, self.experiment = root, experiment
        environment = {**os.environ, **server.login(), "PYTHONPATH": str(ROOT / "src")}
        environment |= {"MLFLOW_HTTP_REQUEST_TIMEOUT": "3"}
        environment.pop("DVC_ROOT", None)
        self.process = subprocess.Popen(
            [sys.executable, "-c", STAGE, experiment],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=root,
            env=environment,
        )

    def epochs(self, count: int) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        for _ in range(count):
            assert self.process.stdout.readline() == "epoch\n", self.process.communicate()[1]
            self.process.stdin.write("\n")
            self.process.stdin.flush()

    def end(self) -> str:
        out, said = self.process.communicate(timeout=120)
        assert out.endswith("done\n"), said
        assert self.process.returncode == 0, said
        return said


@pytest.fixture
def server(mlflow_server: MlflowServer) -> Iterator[MlflowServer]:
    """The server, which is up again when a test is done with it."""
    yield mlflow_server
    if not mlflow_server.answers():
        mlflow_server.kill()
        mlflow_server.start()


@pytest.fixture
def training(server: MlflowServer, tmp_path: Path) -> Iterator[Training]:
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    made = Training(server, tmp_path, f"{tmp_path.name} {os.getpid()}")
    yield made
    made.process.kill()
    made.process.communicate()


def sync(server: MlflowServer, root: Path) -> str:
    """`wsss runs sync` in a project of which nothing else is up to date."""
    (root / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    if not (root / ".dvc").exists():
        subprocess.run(["dvc", "init", "--no-scm", "--quiet"], cwd=root, check=True)
    done = subprocess.run(
        [sys.executable, "-c", "from wsss.cli import main; main()", "runs", "sync"],
        cwd=root,
        env={**os.environ, **server.login(), "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


def check_whole(client: Any, training: Training, before: float, after: float) -> None:
    """The run is finished, and has every value with its step and the time it was said."""
    found = client.get_experiment_by_name(training.experiment)
    (run,) = client.search_runs([found.experiment_id])
    assert run.info.status == "FINISHED"
    for key, values in {
        "loss": [1 / (epoch + 1) for epoch in range(6)],
        "rate": [epoch / 7 for epoch in range(6)],
    }.items():
        history = client.get_metric_history(run.info.run_id, key)
        assert [(value.step, value.value) for value in history] == list(enumerate(values))
        assert all(before * 1e3 - 1 <= value.timestamp <= after * 1e3 + 1 for value in history)
    assert before * 1e3 - 1 <= run.info.start_time <= run.info.end_time <= after * 1e3 + 1
    assert run.data.params == {"epochs": "6"}
    assert run.data.tags["weights"] == "none"
    files = [item.path for item in client.list_artifacts(run.info.run_id)]
    assert files == ["panel.json", "panel.png"]
    panel = client.download_artifacts(run.info.run_id, "panel.png")
    assert Path(panel).read_text() == "as it was"
    assert not (training.root / FOLDER).exists()


def test_a_server_killed_and_started_again_has_the_whole_run(
    server: MlflowServer, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = time.time()
    training.epochs(2)
    server.kill()
    training.epochs(3)
    server.start()
    training.epochs(1)
    said = training.end()
    assert said.count("cannot be reached") == 1, said
    assert "MLflow is back; nothing was lost" in said
    check_whole(server.client(monkeypatch), training, before, time.time())


def test_a_server_that_does_not_come_back_gets_the_run_by_sync(
    server: MlflowServer, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = time.time()
    training.epochs(2)
    server.kill()
    training.epochs(4)
    said = training.end()
    after = time.time()
    assert said.count("cannot be reached") == 1, said
    assert said.count("`wsss runs sync` sends them") == 1, said
    assert "cannot record at" in sync(server, training.root)  # still away
    server.start()
    assert "told MLflow what it had missed of: train_classifier" in sync(server, training.root)
    check_whole(server.client(monkeypatch), training, before, after)
    assert "what it had missed" not in sync(server, training.root)


def test_another_database_gets_the_run_of_a_server_that_is_gone(
    server: MlflowServer, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way out of whoever gives up on a server."""
    before = time.time()
    training.epochs(2)
    server.kill()
    training.epochs(4)
    training.end()
    after = time.time()
    from wsss.tracking import prepare_mlflow, send_unsent, tracking_uri

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    prepare_mlflow()
    from mlflow.tracking import MlflowClient

    uri = tracking_uri(training.root)
    assert send_unsent(training.root, uri) == ["train_classifier"]
    check_whole(MlflowClient(uri), training, before, after)


def test_a_killed_helper_loses_nothing(
    server: MlflowServer, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = time.time()
    training.epochs(2)
    children = subprocess.run(
        ["ps", "--ppid", str(training.process.pid), "-o", "pid="], capture_output=True, text=True
    )
    (helper,) = children.stdout.split()
    os.kill(int(helper), signal.SIGKILL)
    training.epochs(4)
    assert training.end().count("is gone") == 1
    after = time.time()
    sync(server, training.root)
    check_whole(server.client(monkeypatch), training, before, after)


def test_a_stage_killed_while_the_server_is_away_goes_on_with_its_run(
    server: MlflowServer, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had said is sent before what it says when it starts again."""
    training.epochs(2)
    server.kill()
    training.epochs(2)
    assert training.process.stdout is not None
    training.process.stdout.readline()  # it has said its fifth value
    training.process.kill()
    training.process.communicate()
    server.start()
    again = Training(server, training.root, training.experiment)
    again.epochs(6)
    again.end()
    client = server.client(monkeypatch)
    found = client.get_experiment_by_name(training.experiment)
    (run,) = client.search_runs([found.experiment_id])
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [value.step for value in history] == [*range(5), *range(6)]
    assert not (training.root / FOLDER).exists()


def test_a_server_that_hangs_does_not_hold_the_stage(
    server: MlflowServer, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = time.time()
    training.epochs(2)
    server.signal(signal.SIGSTOP)  # its address still accepts connections
    try:
        began = time.monotonic()
        training.epochs(4)
        assert time.monotonic() - began < 2, "epochs wait for the server"
        said = training.end()
        assert time.monotonic() - began < 40
    finally:
        server.signal(signal.SIGCONT)
    after = time.time()
    assert said.count("cannot be reached") == 1, said
    sync(server, training.root)
    check_whole(server.client(monkeypatch), training, before, after)


@pytest.mark.parametrize("full", ["database", "artifacts"])
def test_a_server_that_cannot_store_does_not_cost_the_stage(
    server: MlflowServer, training: Training, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    before = time.time()
    training.epochs(2)
    limits = {}
    try:
        if full == "database":
            server.postgres.stop()
        else:
            for process in group(server):
                limits[process] = resource.prlimit(process, resource.RLIMIT_FSIZE)
                resource.prlimit(process, resource.RLIMIT_FSIZE, (0, limits[process][1]))
        training.epochs(4)
        said = training.end()
    finally:
        for process, limit in limits.items():
            resource.prlimit(process, resource.RLIMIT_FSIZE, limit)
        if full == "database":
            server.postgres.start()
    after = time.time()
    assert said.count("cannot be reached") == 1, said
    sync(server, training.root)
    check_whole(server.client(monkeypatch), training, before, after)


def group(server: MlflowServer) -> list[int]:
    """The processes of a server."""
    assert server.process is not None
    listed = subprocess.run(
        ["ps", "-e", "-o", "pid=,pgid="], capture_output=True, text=True, check=True
    )
    rows = [line.split() for line in listed.stdout.splitlines()]
    return [int(pid) for pid, leader in rows if int(leader) == server.process.pid]
