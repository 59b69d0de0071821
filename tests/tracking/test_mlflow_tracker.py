"""Runs in MLflow, read back through its own client."""

import json
import logging
import math
import multiprocessing
import threading
from pathlib import Path
from typing import Any

import pytest

from wsss.config.params import Params
from wsss.tracking import open_tracker


def only_run(client: Any, params: Params) -> Any:
    (run,) = all_runs(client, params)
    return run


def all_runs(client: Any, params: Params) -> list[Any]:
    """Oldest first."""
    experiment = client.get_experiment_by_name(params.machine.experiment)
    return list(client.search_runs([experiment.experiment_id], order_by=["start_time ASC"]))


def record(root: Path, stage: str) -> dict[str, str]:
    return json.loads((root / "reports" / f"{stage}.run.json").read_text())


def curve(client: Any, run_id: str, key: str) -> list[tuple[int, float]]:
    return [(one.step, one.value) for one in client.get_metric_history(run_id, key)]


def test_a_run_holds_tags_settings_and_artifacts(
    client: Any, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "puny-bait")
    lock = "stages: {s: {outs: [{path: data/splits, hash: md5, md5: abc.dir}]}}"
    (tmp_path / "dvc.lock").write_text(lock)
    panel = tmp_path / "reports/panel.png"
    panel.parent.mkdir()
    panel.write_bytes(b"png")
    with open_tracker(
        "refine_cams@crf", params.model_copy(), tmp_path, ("data/splits",), {"study": "crf"}
    ) as tracker:
        tracker.artifact(panel)
        tracker.tags({"weights": "none"})
    run = only_run(client, params)
    assert run.info.run_name == "refine_cams@crf"
    assert run.info.status == "FINISHED"
    expected = {
        "stage": "refine_cams@crf",
        "recipe": params.base.recipe,
        "dvc.exp": "puny-bait",
        "upstream.data/splits": "abc.dir",
        "study": "crf",
        "weights": "none",
    }
    assert expected.items() <= run.data.tags.items()
    assert {"params.sha", "python", "torch"} <= run.data.tags.keys()
    assert run.data.params["base.rng_seed"] == str(params.base.rng_seed)
    assert [item.path for item in client.list_artifacts(run.info.run_id)] == ["panel.png"]
    held = record(tmp_path, "refine_cams_crf")
    assert (held["run_id"], held["status"]) == (run.info.run_id, "finished")
    assert held["params_sha"] == run.data.tags["params.sha"]


def test_curves_come_back_as_sent_in_few_batches(
    client: Any, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    sizes = []
    send = MlflowClient.log_batch

    def counted(self: Any, run_id: str, **batch: Any) -> None:
        sizes.append(len(batch.get("metrics", ())))
        send(self, run_id, **batch)

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    losses = [math.sin(step) for step in range(2500)]
    with open_tracker("train_classifier", params, tmp_path) as tracker:
        for step, loss in enumerate(losses):
            tracker.metrics({"loss": loss}, step)
    run_id = only_run(client, params).info.run_id
    assert curve(client, run_id, "loss") == list(enumerate(losses))
    assert sum(sizes) == 2500
    assert len([size for size in sizes if size]) <= 6
    assert max(sizes) <= 1000


def test_values_and_names_that_mlflow_refuses_are_made_to_fit(
    client: Any, params: Params, tmp_path: Path
) -> None:
    long = Params.model_validate(
        {
            **params.model_dump(mode="json"),
            "train_segmenter": {"model": {"arch_kwargs": {"note": "x" * 9000, "k" * 400: 1}}},
        }
    )
    with open_tracker("train_segmenter", long, tmp_path) as tracker:
        tracker.metrics({"a": math.inf, "b": -math.inf, "c": math.nan, "d": 1.0})
        tracker.metrics({"iou/c++": 0.5, "iou//große Katze": 0.25, "../x": 0.125, "": 2.0})
        tracker.tags({"big": "y" * 9000})
    run = only_run(client, params)
    metrics = run.data.metrics
    assert all(math.isnan(metrics[key]) for key in "abc")
    assert {key: value for key, value in metrics.items() if key not in "abc"} == {
        "d": 1.0,
        "iou/c__": 0.5,
        "iou/große Katze": 0.25,
        "x": 0.125,
        "_": 2.0,
    }
    note = run.data.params["train_segmenter.model.arch_kwargs.note"]
    assert note.startswith("xxx")
    assert note.endswith("...")
    assert run.data.tags["big"].endswith("...")


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("no masks"), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_a_failed_run_says_why_and_keeps_its_values(
    client: Any, params: Params, tmp_path: Path, error: BaseException, status: str
) -> None:
    with pytest.raises(type(error)), open_tracker("evaluate_cams", params, tmp_path) as tracker:
        tracker.metrics({"loss": 0.5})
        raise error
    run = only_run(client, params)
    assert run.info.status == status
    assert run.data.metrics == {"loss": 0.5}
    assert record(tmp_path, "evaluate_cams")["status"] == status.lower()
    assert run.data.tags.get("error") == ("ValueError: no masks" if status == "FAILED" else None)


def leave_running(params: Params, root: Path) -> str:
    """What kill -9 leaves behind: a run and a record that nobody ended."""
    from wsss.tracking import tracking_uri
    from wsss.tracking.mlflow_tracker import MlflowTracker
    from wsss.tracking.provenance import run_start

    start = run_start("train_classifier", params, root, (), {}, tracking_uri(root))
    tracker = MlflowTracker(start)
    tracker.metrics({"loss": 3.0}, 0)
    tracker.metrics({"loss": 2.0}, 1)
    tracker.flush()
    return str(tracker.run_id)


def test_a_killed_run_goes_on_under_its_id(client: Any, params: Params, tmp_path: Path) -> None:
    run_id = leave_running(params, tmp_path)
    assert client.get_run(run_id).info.status == "RUNNING"
    with open_tracker("train_classifier", params, tmp_path) as tracker:
        assert client.get_run(run_id).info.status == "RUNNING"
        tracker.metrics({"loss": 1.0}, 2)
    run = only_run(client, params)
    assert (run.info.run_id, run.info.status) == (run_id, "FINISHED")
    assert curve(client, run_id, "loss") == [(0, 3.0), (1, 2.0), (2, 1.0)]
    with open_tracker("train_classifier", params, tmp_path):
        pass  # finished is finished: the next one is new
    assert len(all_runs(client, params)) == 2


def test_an_interrupted_run_goes_on_and_a_failed_one_does_not(
    client: Any, params: Params, tmp_path: Path
) -> None:
    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error), open_tracker("train_classifier", params, tmp_path):
            raise error
    with open_tracker("train_classifier", params, tmp_path):
        pass
    assert [run.info.status for run in all_runs(client, params)] == ["FAILED", "FINISHED"]


def test_a_killed_run_of_other_settings_is_closed(
    client: Any, params: Params, tmp_path: Path
) -> None:
    stale = leave_running(params, tmp_path)
    changed = params.model_copy(
        update={"train_classifier": params.train_classifier.model_copy(update={"epochs": 99})}
    )
    with open_tracker("train_classifier", changed, tmp_path):
        pass
    status = {run.info.run_id: run.info.status for run in all_runs(client, params)}
    assert status.pop(stale) == "KILLED"
    assert list(status.values()) == ["FINISHED"]


@pytest.mark.parametrize("damage", ["run deleted", "unknown run", "not JSON", "not ours"])
def test_a_useless_record_means_a_new_run(
    client: Any, params: Params, tmp_path: Path, damage: str
) -> None:
    run_id = leave_running(params, tmp_path)
    path = tmp_path / "reports/train_classifier.run.json"
    if damage == "run deleted":
        client.delete_run(run_id)
    elif damage == "unknown run":
        path.write_text(path.read_text().replace(run_id, "0" * 32))
    else:
        path.write_text("{" if damage == "not JSON" else "[]")
    with open_tracker("train_classifier", params, tmp_path):
        pass
    assert record(tmp_path, "train_classifier")["run_id"] not in (run_id, "0" * 32)


def test_other_processes_of_one_training_record_nothing(
    client: Any, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    with open_tracker("train_classifier", params, tmp_path) as tracker:
        tracker.metrics({"loss": 1.0})
    assert client.get_experiment_by_name(params.machine.experiment) is None
    assert not (tmp_path / "reports").exists()


def test_without_mlflow_nothing_is_recorded_and_the_log_says_how(
    params: Params,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    with (
        caplog.at_level(logging.INFO, "wsss"),
        open_tracker("train_classifier", params, tmp_path) as tracker,
    ):
        tracker.metrics({"loss": 1.0})
        tracker.artifact(tmp_path / "x")
    assert "pip install mlflow" in caplog.text
    assert list(tmp_path.iterdir()) == []


def _open_once(root: Path, params: Params, gate: Any) -> None:
    gate.wait()
    with open_tracker("prepare_data", params, root / multiprocessing.current_process().name) as one:
        one.metrics({"x": 1.0})


def test_first_processes_do_not_race_for_the_database(
    client: Any, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path / 'new folder' / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    context = multiprocessing.get_context("fork")
    gate = context.Barrier(4)
    workers = [
        context.Process(target=_open_once, args=(tmp_path, params, gate), name=f"w{index}")
        for index in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    runs = all_runs(MlflowClient(uri), params)
    assert [run.info.status for run in runs] == ["FINISHED"] * 4
    assert "new folder/mlartifacts" in runs[0].info.artifact_uri.replace("%20", " ")


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
    params: Params,
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
        with open_tracker("train_classifier", params, tmp_path) as tracker:
            tracker.metrics({"loss": 3.0, "nan": math.nan}, 0)
            tracker.flush()
            server.stop()
            for step in (1, 2):
                tracker.metrics({"loss": 3.0 - step}, step)
                tracker.flush()
            tracker.tags({"weights": "none"})
            assert caplog.text.count("can not be reached") == 1
            server.start()
            tracker.metrics({"loss": 0.0}, 3)
            tracker.flush()
            assert "nothing was lost" in caplog.text
        run = only_run(client, params)
        assert curve(client, run.info.run_id, "loss") == [(0, 3.0), (1, 2.0), (2, 1.0), (3, 0.0)]
        assert math.isnan(run.data.metrics["nan"])
        assert (run.info.status, run.data.tags["weights"]) == ("FINISHED", "none")

        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)  # the server here changed it
        with open_tracker("train_classifier", params, tmp_path) as tracker:
            server.stop()  # and this time for good
            tracker.metrics({"loss": 1.0})
        assert "lacks 1 values" in caplog.text
    with (
        pytest.raises(ConnectionError, match=rf"127.0.0.1:{server.port}") as stopped,
        open_tracker("train_segmenter", params, tmp_path),
    ):
        pytest.fail("the stage began without a server")
    assert "secret" not in str(stopped.value)
    assert "MLFLOW_TRACKING_URI" in str(stopped.value)
