"""Runs in MLflow, read back through its own client."""

import json
import logging
import math
import multiprocessing
import os
import re
import threading
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image

from wsss.tracking import Dataset, RunStart, open_run, open_tracker
from wsss.tracking.unsent import FOLDER


def only_run(client: Any, experiment: str) -> Any:
    (run,) = all_runs(client, experiment)
    return run


def all_runs(client: Any, experiment: str) -> list[Any]:
    """Oldest first."""
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id], order_by=["start_time ASC"]))


def record(root: Path, stage: str) -> dict[str, str]:
    return json.loads((root / "reports" / f"{stage}.run.json").read_text())


def curve(client: Any, run_id: str, key: str) -> list[tuple[int, float]]:
    return [(value.step, value.value) for value in client.get_metric_history(run_id, key)]


def test_a_run_holds_tags_settings_data_and_artifacts(
    client: Any, experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "puny-bait")
    panel = tmp_path / "reports/panel.png"
    panel.parent.mkdir()
    panel.write_bytes(b"png")
    with open_tracker(
        "refine_cams@crf",
        tmp_path,
        experiment,
        {"base": {"rng_seed": 7}, "refine": {"chains": {"crf": [{"n_iters": 3}]}}},
        key="a key",
        name="refine_cams@crf n_iters=3",
        inputs={"data/splits": "abc"},
        tags={"study": "crf"},
        datasets=[Dataset("synthetic", "0123" * 16, "training")],
        description="Refined maps.",
    ) as tracker:
        tracker.artifact(panel)
        tracker.tags({"weights": "none"})
    run = only_run(client, experiment)
    assert run.info.run_name == "refine_cams@crf n_iters=3"
    assert run.info.status == "FINISHED"
    expected = {
        "stage": "refine_cams@crf",
        "dvc.exp": "puny-bait",
        "upstream.data/splits": "abc",
        "study": "crf",
        "weights": "none",
        "key": "a key",
        "mlflow.note.content": "Refined maps.",
    }
    assert expected.items() <= run.data.tags.items()
    assert {"params.sha", "python", "torch"} <= run.data.tags.keys()
    assert run.data.params == {"base.rng_seed": "7", "refine.chains.crf.0.n_iters": "3"}
    (given,) = run.inputs.dataset_inputs
    assert given.dataset.name == "synthetic"
    assert [(tag.key, tag.value) for tag in given.tags] == [("mlflow.data.context", "training")]
    assert [item.path for item in client.list_artifacts(run.info.run_id)] == ["panel.png"]
    held = record(tmp_path, "refine_cams_crf")
    assert held == {"run_id": run.info.run_id, "status": "finished", "key": "a key"}


def test_a_table_shows_pictures_and_an_experiment_says_its_scores(
    client: Any, experiment: str, start: Any, tmp_path: Path
) -> None:
    picture = tmp_path / "a.png"
    Image.new("RGB", (4, 3), "red").save(picture)
    for score in (0.5, 0.25):
        with open_run(start("", name="sigma_rgb=13")) as tracker:
            tracker.metrics({"cam.val_mean_iou": score})
            tracker.table("panel.json", {"image": ["a|b"], "mask": [picture]})
    names = [run.info.run_name for run in all_runs(client, experiment)]
    assert names == ["sigma_rgb=13", "sigma_rgb=13 #2"]  # two results, two names
    run = all_runs(client, experiment)[0]
    assert json.loads(run.data.tags["mlflow.loggedArtifacts"]) == [
        {"path": "panel.json", "type": "table"}
    ]
    table = json.loads(
        Path(client.download_artifacts(run.info.run_id, "panel.json")).read_text(encoding="utf-8")
    )
    assert table["columns"] == ["image", "mask"]
    ((name, cell),) = table["data"]
    assert name == "a|b"
    shown = Image.open(client.download_artifacts(run.info.run_id, cell["filepath"]))
    assert (shown.size, shown.getpixel((0, 0))) == ((4, 3), (255, 0, 0))
    note = client.get_experiment_by_name(experiment).tags["mlflow.note.content"]
    assert "| sigma_rgb=13 #2 | 0.2500 |" in note
    assert "| sigma_rgb=13 | 0.5000 |" in note


def test_curves_come_back_as_sent_in_few_batches(
    client: Any, experiment: str, start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    sizes = []
    send = MlflowClient.log_batch

    def counted(self: Any, run_id: str, **batch: Any) -> None:
        sizes.append(len(batch.get("metrics", ())))
        send(self, run_id, **batch)

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    losses = [math.sin(step) for step in range(2500)]
    with open_run(start("train_classifier")) as tracker:
        for step, loss in enumerate(losses):
            tracker.metrics({"loss": loss}, step)
    run_id = only_run(client, experiment).info.run_id
    assert curve(client, run_id, "loss") == list(enumerate(losses))
    assert sum(sizes) == 2500
    assert len([size for size in sizes if size]) <= 6
    assert max(sizes) <= 1000


def test_values_and_names_that_mlflow_refuses_are_made_to_fit(
    client: Any, experiment: str, start: Any, tmp_path: Path
) -> None:
    settings = {"model": {"arch_kwargs": {"note": "x" * 9000, "k" * 400: 1}}}
    with open_run(start("train_segmenter", settings=settings)) as tracker:
        tracker.metrics({"a": math.inf, "b": -math.inf, "c": math.nan, "d": 1.0})
        tracker.metrics({"iou/c++": 0.5, "iou//große Katze": 0.25, "../x": 0.125, "": 2.0})
        tracker.tags({"big": "y" * 9000, "name": os.fsdecode(b"k\xe4tzchen")})
    run = only_run(client, experiment)
    metrics = run.data.metrics
    assert all(math.isnan(metrics[key]) for key in "abc")
    found = {
        re.sub(" ?[0-9a-f]{6}$", "", key): value  # the hash of a name that was changed
        for key, value in metrics.items()
        if key not in "abc"
    }
    assert found == {"d": 1.0, "iou/c__": 0.5, "iou/große Katze": 0.25, "x": 0.125, "": 2.0}
    note = run.data.params["model.arch_kwargs.note"]
    assert note.startswith("xxx")
    assert note.endswith("...")
    assert run.data.tags["big"].endswith("...")
    assert run.data.tags["name"] == "k\\xe4tzchen"


def test_no_two_names_become_one_metric(
    client: Any, experiment: str, start: Any, tmp_path: Path
) -> None:
    """Classes that MLflow's alphabet does not tell apart, in symbols or beyond its longest name."""
    long = "k" * 300
    names = ["a+b", "a*b", "a_b", "a b", "a/b", "a//b", "../a", "./a", "a", f"{long}1", f"{long}2"]
    values = {f"classes/val/iou/{name}": float(at) for at, name in enumerate(names)}
    with open_run(start("evaluate_cams")) as tracker:
        tracker.metrics(values)
    assert sorted(only_run(client, experiment).data.metrics.values()) == sorted(values.values())


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("no masks"), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_a_failed_run_says_why_and_keeps_its_values(
    client: Any, experiment: str, start: Any, tmp_path: Path, error: BaseException, status: str
) -> None:
    with pytest.raises(type(error)), open_run(start("evaluate_cams")) as tracker:
        tracker.metrics({"loss": 0.5})
        raise error
    run = only_run(client, experiment)
    assert run.info.status == status
    assert run.data.metrics == {"loss": 0.5}
    assert record(tmp_path, "evaluate_cams")["status"] == status.lower()
    assert run.data.tags.get("error") == ("ValueError: no masks" if status == "FAILED" else None)


def leave_running(start: RunStart) -> str:
    """What kill -9 leaves behind: a run and a record that nobody ended."""
    from wsss.tracking.mlflow_tracker import MlflowTracker

    tracker = MlflowTracker(start)
    tracker.metrics({"loss": 3.0}, 0)
    tracker.metrics({"loss": 2.0}, 1)
    tracker.flush()
    return str(tracker.run_id)


def test_a_killed_run_goes_on_under_its_id(
    client: Any, experiment: str, start: Any, tmp_path: Path
) -> None:
    run_id = leave_running(start())
    assert client.get_run(run_id).info.status == "RUNNING"
    with open_run(start("train_classifier")) as tracker:
        assert client.get_run(run_id).info.status == "RUNNING"
        tracker.metrics({"loss": 1.0}, 2)
    run = only_run(client, experiment)
    assert (run.info.run_id, run.info.status) == (run_id, "FINISHED")
    assert curve(client, run_id, "loss") == [(0, 3.0), (1, 2.0), (2, 1.0)]
    with open_run(start("train_classifier")):
        pass  # finished is finished: the next one is new
    assert len(all_runs(client, experiment)) == 2


def test_a_run_that_ended_when_its_stage_was_killed_is_not_doubled(
    client: Any, experiment: str, start: Any
) -> None:
    """Another process records it, and may do so while the stage that waits for it is killed."""
    from wsss.tracking.mlflow_tracker import MlflowTracker

    tracker = MlflowTracker(start())
    tracker.metrics({"loss": 1.0}, 0)
    tracker.end("FINISHED")
    with open_run(start()):
        pass
    run = only_run(client, experiment)
    assert (run.info.run_id, run.info.status) == (tracker.run_id, "FINISHED")


def test_an_interrupted_run_goes_on_and_a_failed_one_does_not(
    client: Any, experiment: str, start: Any, tmp_path: Path
) -> None:
    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error), open_run(start("train_classifier")):
            raise error
    with open_run(start("train_classifier")):
        pass
    assert [run.info.status for run in all_runs(client, experiment)] == ["FAILED", "FINISHED"]


def test_a_killed_run_of_other_settings_is_closed(
    client: Any, experiment: str, start: Any, tmp_path: Path
) -> None:
    stale = leave_running(start())
    with open_run(start(key="of other settings")):
        pass
    status = {run.info.run_id: run.info.status for run in all_runs(client, experiment)}
    assert status.pop(stale) == "KILLED"
    assert list(status.values()) == ["FINISHED"]


@pytest.mark.parametrize("damage", ["run deleted", "unknown run", "not JSON", "not ours"])
def test_a_useless_record_means_a_new_run(
    client: Any, experiment: str, start: Any, tmp_path: Path, damage: str
) -> None:
    run_id = leave_running(start())
    path = tmp_path / "reports/train_classifier.run.json"
    if damage == "run deleted":
        client.delete_run(run_id)
    elif damage == "unknown run":
        path.write_text(path.read_text().replace(run_id, "0" * 32))
    else:
        path.write_text("{" if damage == "not JSON" else "[]")
    with open_run(start("train_classifier")):
        pass
    assert record(tmp_path, "train_classifier")["run_id"] not in (run_id, "0" * 32)


def test_other_processes_of_one_training_record_nothing(
    client: Any, experiment: str, start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    with open_tracker("train_classifier", tmp_path, experiment, {}, key="a") as tracker:
        tracker.metrics({"loss": 1.0})
    assert client.get_experiment_by_name(experiment) is None
    assert not (tmp_path / "reports").exists()


def test_without_mlflow_nothing_is_recorded_and_the_log_says_how(
    experiment: str,
    start: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    with (
        caplog.at_level(logging.INFO, "wsss"),
        open_tracker("train_classifier", tmp_path, experiment, {}, key="a") as tracker,
    ):
        tracker.metrics({"loss": 1.0})
        tracker.artifact(tmp_path / "x")
    assert "pip install mlflow" in caplog.text
    assert list(tmp_path.iterdir()) == []


def _open_once(root: Path, experiment: str, gate: Any) -> None:
    gate.wait()
    place = root / multiprocessing.current_process().name
    with open_tracker("prepare_data", place, experiment, {}, key="a") as tracker:
        tracker.metrics({"x": 1.0})


def test_first_processes_do_not_race_for_the_database(
    client: Any, experiment: str, start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path / 'new folder' / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    context = multiprocessing.get_context("fork")
    gate = context.Barrier(4)
    workers = [
        context.Process(target=_open_once, args=(tmp_path, experiment, gate), name=f"w{index}")
        for index in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    runs = all_runs(MlflowClient(uri), experiment)
    assert [run.info.status for run in runs] == ["FINISHED"] * 4
    assert "new folder/mlartifacts" in runs[0].info.artifact_uri.replace("%20", " ")


def answer(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(f"{status} Client Error", response=response)


@pytest.mark.parametrize(
    "refusal",
    [
        answer(413),
        ModuleNotFoundError("No module named 'boto3'"),
        PermissionError(13, "Permission denied"),
    ],
)
def test_a_file_that_the_store_refuses_costs_that_file_alone(
    client: Any,
    experiment: str,
    start: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    refusal: Exception,
) -> None:
    from mlflow.tracking import MlflowClient

    send = MlflowClient.log_artifact

    def refusing(self: Any, run_id: str, path: str, folder: str | None = None) -> None:
        if path.endswith("report.html"):
            raise refusal
        send(self, run_id, path, folder)

    monkeypatch.setattr(MlflowClient, "log_artifact", refusing)
    for name in ("report.html", "panel.png"):
        (tmp_path / name).write_text(name)
    (tmp_path / "damaged.png").write_text("no picture")
    with open_run(start()) as tracker:
        tracker.artifact(tmp_path / "report.html")
        tracker.artifact(tmp_path / "panel.png")
        tracker.artifact(tmp_path / "gone.png")
        tracker.table("pictures.json", {"image": [tmp_path / "damaged.png"]})
        tracker.table("gone.json", {"image": [tmp_path / "gone.png"]})
        tracker.table("words.json", {"image": ["a"]})
    run = only_run(client, experiment)
    assert (run.info.status, tracker.run_id) == ("FINISHED", run.info.run_id)
    stored = [item.path for item in client.list_artifacts(run.info.run_id)]
    assert stored == ["panel.png", "words.json"]
    said = [record.getMessage() for record in caplog.records if "does not take" in record.message]
    for name, reason in (
        ("report.html", str(refusal)),
        *(("gone.png", "gone"), ("pictures.json", "damaged.png"), ("gone.json", "gone.png")),
    ):
        assert sum(f"{name}, which" in line and reason in line for line in said) == 1, name
    assert not (tmp_path / FOLDER).exists()


@pytest.mark.parametrize(
    "error", [requests.ConnectionError(), TimeoutError(), *map(answer, (401, 429, 502, 503))]
)
def test_a_store_that_is_away_refuses_nothing(error: Exception) -> None:
    from wsss.tracking.mlflow_tracker import is_refusal

    assert not is_refusal(error)


class Server:
    """MLflow's own server on a port that stays the same when it comes back."""

    def __init__(self) -> None:
        from mlflow.server import app

        self._app, self.port = app, 0
        self.start()
        self.uri = f"http://user:secret@127.0.0.1:{self.port}"

    def start(self) -> None:
        from werkzeug.serving import make_server

        self._server = make_server("127.0.0.1", self.port, self._app, threaded=True)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_an_outage_neither_stops_the_stage_nor_loses_values(
    client: Any,
    database: str,
    experiment: str,
    start: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from wsss.tracking import mlflow_tracker

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    monkeypatch.setattr(mlflow_tracker, "_RETRY_SECONDS", 0.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("_MLFLOW_SERVER_FILE_STORE", database)
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", (tmp_path / "artifacts").as_uri())
    server = Server()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    with caplog.at_level(logging.INFO, "wsss"):
        with open_run(start("train_classifier")) as tracker:
            tracker.metrics({"loss": 3.0, "nan": math.nan}, 0)
            tracker.flush()
            server.stop()
            for step in (1, 2):
                tracker.metrics({"loss": 3.0 - step}, step)
                tracker.flush()
            tracker.tags({"weights": "none"})
            assert caplog.text.count("cannot be reached") == 1
            server.start()
            tracker.metrics({"loss": 0.0}, 3)
            tracker.flush()
            assert "nothing was lost" in caplog.text
        run = only_run(client, experiment)
        assert curve(client, run.info.run_id, "loss") == [(0, 3.0), (1, 2.0), (2, 1.0), (3, 0.0)]
        assert math.isnan(run.data.metrics["nan"])
        assert (run.info.status, run.data.tags["weights"]) == ("FINISHED", "none")

        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)  # the server here changed it
        with open_run(start("train_classifier")) as tracker:
            server.stop()  # and this time for good
            tracker.metrics({"loss": 1.0})
        assert "lacks 1 values" in caplog.text
    with (
        pytest.raises(ConnectionError, match=rf"127.0.0.1:{server.port}") as stopped,
        open_run(start("train_segmenter")),
    ):
        pytest.fail("the stage began without a server")
    assert "secret" not in str(stopped.value)
    assert "MLFLOW_TRACKING_URI" in str(stopped.value)


@pytest.mark.parametrize(
    ("said", "way_out"),
    [
        ("http://127.0.0.1:40147/api failed with exception: refused", "Start that server"),
        ("http://10.0.40.3:54030/api failed with exception: refused", "Start that server"),
        ("endpoint /api/2.0/40147 failed with error code 403 != 200.", "may not write"),
        ("endpoint /api/2.0/54030 failed with error code 401 != 200.", "MLFLOW_TRACKING_USERNAME"),
        ("endpoint /api/2.0 failed with error code 502 != 200. Body: 401", "Start that server"),
    ],
)
def test_what_a_server_answered_is_not_read_from_ports_and_ids(said: str, way_out: str) -> None:
    from mlflow.exceptions import MlflowException

    from wsss.tracking import mlflow_tracker

    error = MlflowException(f"API request to {said}")
    assert way_out in mlflow_tracker._way_out(error)
