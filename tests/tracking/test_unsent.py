"""What a run was told is on disk until MLflow has it, and is told again as it was."""

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wsss.tracking import open_run, send_unsent, tracking_uri
from wsss.tracking.unsent import FOLDER, KeepingTracker, Unsent


class Lost:
    """A tracker whose MLflow never has the whole run; remembers what it is told."""

    def __init__(self, run_id: str = "") -> None:
        self.run_id, self.told = run_id, []  # type: ignore[var-annotated]

    def metrics(
        self, values: Mapping[str, float], step: int = 0, moment: int | None = None
    ) -> None:
        self.told.append(["metrics", dict(values), step, moment])

    def artifact(self, path: Path) -> None:
        self.told.append(["artifact", path.name, path.read_text()])

    def table(self, name: str, columns: Any) -> None:
        self.told.append(["table", name, dict(columns)])

    def tags(self, values: Mapping[str, str]) -> None:
        self.told.append(["tags", dict(values)])

    def flush(self) -> None:
        pass

    def end(self, status: str, error: str = "", moment: int | None = None) -> None:
        self.told.append(["end", status, error, moment])


def opened(start: Any) -> Unsent:
    unsent = Unsent.of(start)
    assert unsent is not None
    return unsent


def test_an_interrupted_run_is_told_what_it_had_said(start: Any, tmp_path: Path) -> None:
    file = tmp_path / "panel.png"
    file.write_text("first")
    first, unsent = Lost(), opened(start())
    tracker = KeepingTracker(first, unsent, "same")
    tracker.metrics({"loss": float("nan"), "große Katze": 1 / 3}, 2)
    tracker.artifact(file)
    tracker.tags({"a": "x\ny"})
    tracker.table("t.json", {"image": ["a"]})
    file.write_text("second")
    with (unsent.folder / "calls.jsonl").open("a") as calls:
        calls.write('["metrics", {"lo')  # killed as it wrote
    unsent.close(sent=False)
    second = Lost("7")
    tracker = KeepingTracker(second, opened(start()), "same")
    assert str(second.told) == str(first.told)
    assert second.told[1] == ["artifact", "panel.png", "first"]
    tracker.metrics({"loss": 1.0}, 3)
    tracker.end("FINISHED")
    assert not (tmp_path / FOLDER).exists()


def test_a_run_that_was_not_sent_whole_is_kept(start: Any, tmp_path: Path) -> None:
    tracker = KeepingTracker(Lost(), opened(start()), "same")
    tracker.metrics({"loss": 1.0}, 3)
    tracker.end("FINISHED")
    (folder,) = (tmp_path / FOLDER).iterdir()
    lines = (folder / "calls.jsonl").read_text().splitlines()
    assert [json.loads(line)[0] for line in lines] == ["metrics", "end"]


def test_no_login_is_written(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:secret@server")
    unsent = opened(start())
    written = "".join(file.read_text() for file in unsent.folder.glob("*.*"))
    assert "train_classifier" in written
    assert "secret" not in written


def test_a_stage_that_runs_twice_is_kept_twice(start: Any, tmp_path: Path) -> None:
    first, second = opened(start()), opened(start())
    assert first.folder != second.folder
    assert send_unsent(tmp_path, "http://nobody.invalid") == []  # both are running


def test_trials_whose_folders_are_deleted_are_kept_with_the_project(
    start: Any, tmp_path: Path
) -> None:
    (tmp_path / "dvc.yaml").touch()
    root = tmp_path / ".tuning/trial-1"
    unsent = opened(start(root=root))
    assert unsent.folder.parent == tmp_path / FOLDER


def test_a_disk_that_is_full_costs_a_warning(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = Lost("7")
    keeping = KeepingTracker(tracker, opened(start()), "same")

    def write(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Unsent, "write", write)
    with caplog.at_level(logging.WARNING):
        keeping.metrics({"loss": 1.0})
        keeping.metrics({"loss": 2.0})
        keeping.end("FINISHED")
    assert [call[0] for call in tracker.told] == ["metrics", "metrics", "end"]
    assert caplog.text.count("No space left") == 1


def test_a_place_that_cannot_be_written_costs_a_warning(
    start: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "reports").write_text("a file")
    assert Unsent.of(start()) is None
    assert "will be lost" in caplog.text


def test_what_is_left_is_sent_once_with_its_times(
    client: Any, experiment: str, start: Any, tmp_path: Path
) -> None:
    panel = tmp_path / "panel.png"
    panel.write_text("as it was")
    tracker = KeepingTracker(Lost(), opened(start(settings={"epochs": 3})), "same")
    for epoch in range(3):
        tracker.metrics({"loss": epoch / 7}, epoch, 1_000_000 + epoch)
    tracker.artifact(panel)
    tracker.tags({"weights": "none"})
    tracker.end("FAILED", "ValueError: no", 2_000_000)
    panel.unlink()
    kept = tmp_path / "copy"
    shutil.copytree(tmp_path / FOLDER, kept)
    uri = tracking_uri(tmp_path)
    assert send_unsent(tmp_path, uri) == ["train_classifier"]
    assert send_unsent(tmp_path, uri) == []
    found = client.get_experiment_by_name(experiment)
    (run,) = client.search_runs([found.experiment_id])
    # as if all had been sent, and no answer had come
    (folder,) = kept.iterdir()
    known = {"run_id": run.info.run_id, "key": "same", "status": "killed"}
    (folder / "run.json").write_text(json.dumps(known))
    shutil.copytree(kept, tmp_path / FOLDER)
    assert send_unsent(tmp_path, uri) == ["train_classifier"]
    (run,) = client.search_runs([found.experiment_id])
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(value.timestamp, value.step, value.value) for value in history] == [
        (1_000_000 + epoch, epoch, epoch / 7) for epoch in range(3)
    ]
    assert (run.info.status, run.info.end_time) == ("FAILED", 2_000_000)
    assert run.data.tags["error"] == "ValueError: no"
    assert run.data.params == {"epochs": "3"}
    text = Path(client.download_artifacts(run.info.run_id, "panel.png")).read_text()
    assert text == "as it was"


def test_a_damaged_folder_does_not_keep_the_others_from_being_sent(
    client: Any, start: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    KeepingTracker(Lost(), opened(start("a")), "same").end("FINISHED")
    KeepingTracker(Lost(), opened(start("b")), "same").end("FINISHED")
    (first, _) = sorted((tmp_path / FOLDER).iterdir())
    (first / "start.json").write_text("{")
    assert send_unsent(tmp_path, tracking_uri(tmp_path)) == ["b"]
    assert "damaged" in caplog.text
    assert first.exists()


def test_no_run_keeps_those_after_it_from_being_sent(
    client: Any,
    start: Any,
    experiment: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from mlflow.tracking import MlflowClient

    def lost(*_: Any) -> None:
        raise TimeoutError("the store is slow")

    monkeypatch.setattr(MlflowClient, "log_artifact", lost)
    client.delete_experiment(client.create_experiment(f"{experiment} deleted"))
    (tmp_path / "panel.png").write_text("")
    for name in "abc":
        begun = start(name)
        if name == "a":
            begun = replace(begun, experiment=f"{experiment} deleted")
        tracker = KeepingTracker(Lost(), opened(begun), "same")
        if name == "b":
            tracker.artifact(tmp_path / "panel.png")
        tracker.end("FINISHED")
    with pytest.raises(ConnectionError, match="what the runs b were told"):
        send_unsent(tmp_path, tracking_uri(tmp_path))
    assert [path.name[0] for path in sorted((tmp_path / FOLDER).iterdir())] == ["a", "b"]
    assert "deleted' was deleted" in caplog.text and "the store is slow" in caplog.text
    monkeypatch.undo()
    assert send_unsent(tmp_path, client.tracking_uri) == ["b"]


def test_a_run_that_went_well_leaves_nothing(client: Any, start: Any, tmp_path: Path) -> None:
    with open_run(start()) as tracker:
        tracker.metrics({"loss": 1.0})
        assert (tmp_path / FOLDER).exists()
    assert not (tmp_path / FOLDER).exists()
