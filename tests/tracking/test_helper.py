"""The helper process: same runs, without MLflow in the stage's own process."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wsss.tracking import helper, open_run, was_lost
from wsss.tracking.database import finished_runs
from wsss.tracking.helper import HelperTracker
from wsss.tracking.unsent import KeepingTracker, Unsent

STAGE = """
import sys, time
from pathlib import Path
from wsss.tracking import open_tracker

root, experiment = Path(sys.argv[1]), sys.argv[2]
with open_tracker("train_classifier", root, experiment, {}, key="same") as tracker:
    tracker.metrics({"loss": 2.0}, 0)
    assert "mlflow" not in sys.modules
    print("open", flush=True)
    time.sleep(float(sys.argv[3]))
"""


def helpers() -> set[int]:
    """The helper processes that this test, or a stage of its, has started.

    Those of tests that run beside it in other processes have another test in their environment.
    """
    test = os.fsencode(f"PYTEST_CURRENT_TEST={os.environ['PYTEST_CURRENT_TEST']}")
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            environment = (process / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"from %b import main" % helper.__name__.encode() in command and test in environment:
            found.add(int(process.name))
    return found


def run_stage(root: Path, experiment: str, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", STAGE, str(root), experiment, str(seconds)]
    source = str(Path(sys.modules["wsss"].__file__ or "").parent.parent)
    environment = {**os.environ, "PYTHONPATH": source}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_recorded_values_come_back_as_sent(
    client: Any, experiment: str, start: Any, tmp_path: Path
) -> None:
    panel = tmp_path / "panel.png"
    panel.write_bytes(b"png")
    began = time.monotonic()
    tracker = HelperTracker(start())
    assert time.monotonic() - began < 5  # the stage does not wait for MLflow
    for step in range(2000):  # more than a socket holds while nobody reads
        tracker.metrics({"loss": step / 7, "nan": float("nan")}, step)
    tracker.artifact(panel)
    tracker.tags({"weights": "große Katze\n2"})
    tracker.table("t.json", {"image": ["a"]})
    tracker.end("FAILED", "ValueError: no")
    found = client.get_experiment_by_name(experiment)
    (run,) = client.search_runs([found.experiment_id])
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(value.step, value.value) for value in history] == [(i, i / 7) for i in range(2000)]
    assert (run.info.status, run.data.tags["error"]) == ("FAILED", "ValueError: no")
    assert run.data.tags["weights"] == "große Katze\n2"
    artifacts = [item.path for item in client.list_artifacts(run.info.run_id)]
    assert artifacts == ["panel.png", "t.json"]


def test_stages_of_a_database_share_a_helper_which_leaves_when_none_comes(
    new_database: Callable[[Path], Any],
    start: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    new_database(tmp_path)
    monkeypatch.setattr(helper, "IDLE_SECONDS", 1.0)
    first, second = HelperTracker(start("a")), HelperTracker(start("b"))
    (process,) = helpers()
    first.end("FINISHED")
    second.end("FINISHED")
    HelperTracker(start("c")).end("FINISHED")
    assert helpers() == {process}
    (tmp_path / "mlflow.db").unlink()  # what it holds open is no longer the project's
    new_database(tmp_path)
    HelperTracker(start("d", key="new")).end("FINISHED")
    assert finished_runs(tmp_path / "mlflow.db", start().experiment).keys() == {"new"}
    deadline = time.monotonic() + 30
    while helpers():
        assert time.monotonic() < deadline, "a helper stays although no stage comes"
        time.sleep(0.05)


def test_whoever_reads_what_a_stage_prints_does_not_wait_for_the_helper(
    client: Any, experiment: str, tmp_path: Path
) -> None:
    stage = run_stage(tmp_path, experiment, 0)
    assert stage.communicate(timeout=helper.IDLE_SECONDS)[0] == "open\n"  # until it is closed
    assert stage.returncode == 0


def test_a_stage_killed_at_once_leaves_a_run_that_goes_on(
    client: Any, experiment: str, start: Any, tmp_path: Path
) -> None:
    with run_stage(tmp_path, experiment, 60) as stage:
        assert stage.stdout is not None
        assert stage.stdout.readline() == "open\n"
        stage.send_signal(signal.SIGKILL)
    record = tmp_path / "reports/train_classifier.run.json"
    deadline = time.monotonic() + 30
    while not record.exists() or json.loads(record.read_text())["status"] != "killed":
        assert time.monotonic() < deadline, "the helper process did not end the run"
        time.sleep(0.05)
    run_id = json.loads(record.read_text())["run_id"]
    assert client.get_run(run_id).info.status == "KILLED"
    with open_run(start()) as tracker:
        tracker.metrics({"loss": 1.0}, 1)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run_id, "loss")
    assert [(value.step, value.value) for value in history] == [(0, 2.0), (1, 1.0)]


@pytest.mark.parametrize("has_short_place", [True, False])
def test_a_long_temporary_folder_does_not_stop_a_stage(
    client: Any,
    start: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    has_short_place: bool,
) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setenv("XDG_RUNTIME_DIR", short)
        if not has_short_place:
            monkeypatch.setattr(helper, "_LONGEST", 40)
        tracker = HelperTracker(start())
        assert bool(list(Path(short).glob("*/*.sock"))) == has_short_place
        tracker.end("FINISHED")
    assert client.get_run(tracker.run_id).info.status == "FINISHED"


def test_a_server_that_is_away_stops_the_stage_before_it_begins(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:9"):
        HelperTracker(start())


def test_a_database_that_fails_later_does_not_cost_the_stage(
    start: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its work is done, and would be done again; the run is recorded another time."""

    def serve(channel: socket.socket) -> None:
        channel.recv(65536)
        channel.sendall(json.dumps(["error", "MLflow cannot record in x: full"]).encode() + b"\n")

    stand_in(monkeypatch, serve)
    tracker = HelperTracker(start())
    for _ in range(20):
        tracker.metrics({"loss": 1.0})
        time.sleep(0.01)
    tracker.end("FINISHED")
    assert caplog.text.count("MLflow cannot record in x: full") == 1
    assert "its results are kept; `wsss runs sync` records them" in caplog.text
    assert was_lost(tracker)


@pytest.mark.parametrize("place", ["no folder", "nobody's"])
def test_a_place_that_cannot_hold_a_database_is_named(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "file").touch()
    folder = "/proc/x" if place == "nobody's" else f"{tmp_path}/file"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    with pytest.raises(ConnectionError, match=rf"cannot record in {folder}/mlflow.db"):
        HelperTracker(start())


def stand_in(monkeypatch: pytest.MonkeyPatch, serve: Callable[[socket.socket], None]) -> None:
    """Put a function in the helper's place."""

    def connect(*_: Any) -> socket.socket:
        ours, theirs = socket.socketpair()
        threading.Thread(target=serve, args=(theirs,), daemon=True).start()
        return ours

    monkeypatch.setattr(helper, "_shared_helper", connect)


def test_a_helper_that_ends_at_once_does_not_cost_the_stage(
    client: Any, start: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stand_in(monkeypatch, lambda channel: channel.close())
    HelperTracker(start()).end("FINISHED")
    assert caplog.text.count("The process that talks to MLflow is gone") == 1


def test_a_stage_outlives_its_helper_and_hears_what_it_logs(
    client: Any, start: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gone = threading.Event()

    def serve(channel: socket.socket) -> None:
        channel.recv(65536)
        channel.sendall(b'["exists", "0"]\n["log", 30, "MLflow is sl')
        channel.sendall(b'ow today"]\n')
        channel.close()
        gone.set()

    stand_in(monkeypatch, serve)
    tracker = HelperTracker(start())
    gone.wait(10)
    for step in range(3):
        tracker.metrics({"loss": 1.0}, step)
        tracker.flush()
    tracker.end("FINISHED")
    assert "MLflow is slow today" in caplog.text
    assert caplog.text.count("is gone") == 1


def test_what_an_epoch_costs_the_stage(client: Any, start: Any) -> None:
    """At most 2 % of 200 steps, of which the shortest take 5 ms; CPU time does not heed others."""
    unsent = Unsent.of(start())
    assert unsent is not None
    tracker = KeepingTracker(HelperTracker(start()), unsent, "same")
    values = {f"value_{i}": i / 7 for i in range(10)}
    used = time.thread_time()
    for epoch in range(200):
        tracker.metrics(values, epoch)
        tracker.flush()
    used = time.thread_time() - used
    tracker.end("FINISHED")
    assert used / 200 < 0.02 * 200 * 0.005
