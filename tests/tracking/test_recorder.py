"""The helper process: same runs, without MLflow in the stage's own process."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from wsss.config.params import Params
from wsss.tracking import open_tracker, tracking_uri
from wsss.tracking.provenance import RunStart, run_start
from wsss.tracking.recorder import Recorder

STAGE = """
import sys, time
from pathlib import Path
from wsss.config.params import Params
from wsss.tracking import open_tracker

root, params = Path(sys.argv[1]), Params.model_validate_json(sys.argv[2])
with open_tracker("train_classifier", params, root) as tracker:
    tracker.metrics({"loss": 2.0}, 0)
    assert "mlflow" not in sys.modules
    print("open", flush=True)
    time.sleep(60)
"""


def start(params: Params, root: Path) -> RunStart:
    return run_start("train_classifier", params, root, (), {}, tracking_uri(root))


def test_recorded_values_come_back_as_sent(client: Any, params: Params, tmp_path: Path) -> None:
    panel = tmp_path / "panel.png"
    panel.write_bytes(b"png")
    began = time.monotonic()
    recorder = Recorder(start(params, tmp_path))
    assert time.monotonic() - began < 1  # the stage does not wait for MLflow
    for step in range(2000):  # more than a pipe holds while nobody reads
        recorder.metrics({"loss": step / 7, "nan": float("nan")}, step)
    recorder.artifact(panel)
    recorder.tags({"weights": "große Katze\n2"})
    recorder.end("FAILED", "ValueError: no")
    experiment = client.get_experiment_by_name(params.machine.experiment)
    (run,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(one.step, one.value) for one in history] == [(i, i / 7) for i in range(2000)]
    assert (run.info.status, run.data.tags["error"]) == ("FAILED", "ValueError: no")
    assert run.data.tags["weights"] == "große Katze\n2"
    assert [item.path for item in client.list_artifacts(run.info.run_id)] == ["panel.png"]


def test_a_stage_killed_at_once_leaves_a_run_that_goes_on(
    client: Any, params: Params, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", STAGE, str(tmp_path), params.model_dump_json()]
    source = str(Path(sys.modules["wsss"].__file__ or "").parent.parent)
    environment = {**os.environ, "PYTHONPATH": source}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as stage:
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
    with open_tracker("train_classifier", params, tmp_path) as tracker:
        tracker.metrics({"loss": 1.0}, 1)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run_id, "loss")
    assert [(one.step, one.value) for one in history] == [(0, 2.0), (1, 1.0)]


def stand_in(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """Put a shell script in the helper's place."""
    path = folder / "helper"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


def test_a_server_that_is_away_stops_the_stage_before_it_begins(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, tmp_path, "sleep 0.3; echo '\"no server at X\"'")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match="no server at X"):
        Recorder(start(params, tmp_path))


@pytest.mark.parametrize(
    ("script", "text"), [("echo '\"schema is old\"'", "schema is old"), ("true", "ended before")]
)
def test_a_database_that_fails_stops_the_stage_at_its_next_word(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, text: str
) -> None:
    stand_in(monkeypatch, tmp_path, f"read line; {script}")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////tmp/nowhere.db")
    recorder = Recorder(start(params, tmp_path))
    recorder._process.wait()
    with pytest.raises(ConnectionError, match=text):
        recorder.metrics({"loss": 1.0})
    recorder.end("FAILED")  # and the stage's own end stays quiet
    stand_in(monkeypatch, tmp_path, f"cat > /dev/null; {script}")
    with pytest.raises(ConnectionError, match=text):
        Recorder(start(params, tmp_path)).end("FINISHED")


def test_a_stage_outlives_its_helper(
    params: Params,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stand_in(monkeypatch, tmp_path, "read line; echo '\"ready\"'")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    recorder = Recorder(start(params, tmp_path))
    recorder._process.wait()
    for step in range(3):
        recorder.metrics({"loss": 1.0}, step)
        recorder.flush()
    recorder.end("FINISHED")
    assert caplog.text.count("is gone") == 1
