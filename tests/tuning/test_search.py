"""Workers, what they leave in the storage and in MLflow, and what a dead one leaves."""

import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from wsss.artifacts import Paths
from wsss.config.params import Params
from wsss.tuning.base import changed
from wsss.tuning.crf import CrfSearch, CrfSearchSettings
from wsss.tuning.search import prepare, search
from wsss.tuning.storage import (
    complete_trials,
    fail_dead_trials,
    find_study,
    open_storage,
    search_settings,
    worker_id,
)
from wsss.tuning.worker import run_trials

SETTINGS = CrfSearchSettings(max_images=3)


def run_here(params: Params, paths: Paths, trials: int, storage: str | None = None) -> Any:
    """A search by one worker, in this process; the Optuna study."""
    study, job = prepare(SETTINGS, params, paths, storage=storage)
    run_trials(job, 0, threading.Semaphore(trials))
    return study


def drawn(study: Any) -> list[tuple[int, float, dict[str, Any]]]:
    return [(trial.number, trial.value, trial.user_attrs["settings"]) for trial in study.trials]


@pytest.mark.usefixtures("untracked")
def test_one_worker_is_deterministic_and_starts_with_what_is_there(
    project: Paths, params: Params, tmp_path: Path
) -> None:
    first = run_here(params, project, 12)  # past the sampler's random start
    again = run_here(params, project, 12, str(tmp_path / "other.journal"))
    assert drawn(first) == drawn(again)
    assert len({str(item) for item in drawn(first)}) == 12
    number, value, settings = drawn(first)[0]
    assert number == 0
    assert changed(params, settings) == params
    score = CrfSearch(SETTINGS).scorer(params, project)(params)
    assert (value, first.trials[0].user_attrs["threshold"]) == (score.value, score.threshold)
    best = complete_trials(first)[0]
    assert best.value == max(item.value for item in first.trials)
    trial = changed(params, best.user_attrs["settings"])
    assert CrfSearch(SETTINGS).scorer(params, project)(trial).value == best.value


@pytest.mark.usefixtures("untracked")
def test_going_on_draws_anew_and_keeps_the_first(project: Paths, params: Params) -> None:
    run_here(params, project, 3)
    study = run_here(params, project, 3)
    numbers = [number for number, _, _ in drawn(study)]
    assert numbers == list(range(6))
    assert len({str(settings) for _, _, settings in drawn(study)}) == 6


@pytest.mark.usefixtures("untracked")
def test_trials_on_other_cams_are_not_mixed(project: Paths, params: Params) -> None:
    before = run_here(params, project, 2)
    cams = sorted((project.cams / "selection").iterdir())
    for cam in cams[1:]:
        cam.write_bytes(cams[0].read_bytes())
    with pytest.raises(ValueError, match=r"no trials on the present data.*there are trials of"):
        find_study("crf", params, project, None)
    after = run_here(params, project, 1)
    assert after.study_name != before.study_name
    assert len(complete_trials(after)) == 1
    found, study = find_study("crf", params, project, None)
    assert (found.settings, study.study_name) == (SETTINGS, after.study_name)


def test_two_workers_run_exactly_as_many_as_asked_each_in_mlflow(
    project: Paths, params: Params, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    project = Paths(Path())  # as the command has it
    own = params.machine.model_copy(update={"experiment": "two workers"})
    params = params.model_copy(update={"machine": own})
    outcome = search(SETTINGS, params, project, trials=5, workers=2)
    assert (outcome.complete, outcome.wanted, outcome.lost) == (5, 5, 0)
    _, study = find_study("crf", params, project, None)
    assert [item.state for item in study.trials] == [TrialState.COMPLETE] * 5
    workers = {item.user_attrs["worker"] for item in study.trials}
    assert worker_id(os.getpid()) not in workers
    assert [path.name for path in (project.root / ".tuning").iterdir()] == ["crf.journal"]
    assert not (project.root / "reports").exists()

    from mlflow.tracking import MlflowClient

    client = MlflowClient(database)
    experiment = client.get_experiment_by_name("two workers trials").experiment_id
    query = f"tags.`study.key` = '{study.study_name}'"
    runs = {run.data.tags["trial"]: run for run in client.search_runs([experiment], query)}
    assert sorted(runs) == ["0", "1", "2", "3", "4"]
    for trial in study.trials:
        run = runs[str(trial.number)]
        assert run.info.status == "FINISHED"
        assert run.info.run_name == f"tune_crf {trial.number}"
        assert (run.data.tags["study"], run.data.tags["stage"]) == ("crf", "tune_crf")
        assert run.data.metrics["value"] == pytest.approx(trial.value)
        assert run.data.metrics["threshold"] == trial.user_attrs["threshold"]
        for key, value in trial.user_attrs["settings"].items():
            assert run.data.params[key] == str(value)


@pytest.mark.usefixtures("untracked")
def test_a_trial_whose_worker_died_does_not_count(project: Paths, params: Params) -> None:
    study, job = prepare(SETTINGS, params, project)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead, alive, elsewhere = study.ask(), study.ask(), study.ask()
    dead.set_user_attr("worker", worker_id(gone.pid))  # the one with the values of params.yaml
    alive.set_user_attr("worker", worker_id(os.getpid()))
    elsewhere.set_user_attr("worker", "another-machine:1")
    fail_dead_trials(study)
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.FAIL, TrialState.RUNNING, TrialState.RUNNING]
    run_here(params, project, 3)
    complete = complete_trials(study)
    assert sorted(item.number for item in complete) == [3, 4, 5]
    again = min(complete, key=lambda item: item.number)  # tried again, as it was never scored
    assert changed(params, again.user_attrs["settings"]) == params
    assert job.num_before == 0


@pytest.mark.usefixtures("untracked")
def test_a_database_gives_up_trials_without_a_heartbeat(project: Paths, params: Params) -> None:
    url = f"sqlite:///{project.root}/trials.db"
    study = run_here(params, project, 1, url)
    running = study.ask()
    with sqlite3.connect(project.root / "trials.db") as database:
        database.execute(
            "INSERT INTO trial_heartbeats (trial_id, heartbeat) VALUES (?, '2020-01-01')",
            (running._trial_id,),
        )
    fail_dead_trials(study)
    assert study.trials[1].state == TrialState.FAIL
    assert find_study("crf", params, project, url)[1].study_name == study.study_name


@pytest.mark.usefixtures("untracked")
def test_a_killed_worker_loses_its_trial_only(project: Paths, params: Params) -> None:
    """Killed for real, in the middle of a trial that would last very long."""
    slow = changed(params, {"refine.chains.crf.0.n_iters": 50_000_000})
    study, _ = prepare(SETTINGS, slow, project)

    def kill() -> None:
        while not (busy := [trial for trial in study.trials if "worker" in trial.user_attrs]):
            time.sleep(0.1)
        os.kill(int(busy[0].user_attrs["worker"].rpartition(":")[2]), signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    outcome = search(SETTINGS, slow, project, trials=1)
    assert (outcome.complete, outcome.lost) == (0, 1)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL]


@pytest.mark.usefixtures("untracked")
def test_a_trial_that_is_interrupted_leaves_no_trace_on_the_screen(
    project: Paths,
    params: Params,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Optuna would log one, of up to a hundred lines, for each worker."""

    def interrupted(*_: object) -> Any:
        def score(_: Params) -> Any:
            raise KeyboardInterrupt

        return score

    monkeypatch.setattr(CrfSearch, "scorer", interrupted)
    study, job = prepare(SETTINGS, params, project)
    logging.getLogger("optuna").addHandler(caplog.handler)
    with pytest.raises(KeyboardInterrupt):
        run_trials(job, 0, threading.Semaphore(1))
    logging.getLogger("optuna").removeHandler(caplog.handler)
    assert "KeyboardInterrupt" not in caplog.text
    assert [trial.state for trial in study.trials] == [TrialState.FAIL]


@pytest.mark.usefixtures("untracked")
def test_no_trial_starts_after_the_deadline(project: Paths, params: Params) -> None:
    study, job = prepare(SETTINGS, params, project, timeout=0)
    tickets = threading.Semaphore(2)
    run_trials(job, 0, tickets)
    assert complete_trials(study) == []
    assert tickets.acquire(False)


def test_what_stops_a_worker_reaches_the_caller(project: Paths, params: Params) -> None:
    for image in (project.images / "selection").iterdir():
        image.write_bytes(b"")
    with pytest.raises(ValueError, match=r"cannot be read as an image"):
        search(SETTINGS, params, project, trials=1)


def test_storages_that_can_not_be_used(project: Paths, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match=r"nodriver://\*\*\*@host/x: .*\n.*psycopg") as error:
        open_storage("crf", project, "nodriver://me:secret@host/x")
    assert "secret" not in str(error.value)
    (tmp_path / "photo.png").write_bytes(b"\x89PNG")
    with pytest.raises(ConnectionError, match="no journal"):
        open_storage("crf", project, str(tmp_path / "photo.png"))
    with pytest.raises(ConnectionError, match="cannot be kept in"):
        open_storage("crf", project, str(tmp_path / "photo.png" / "x"))


def test_an_unknown_search(project: Paths, params: Params) -> None:
    with pytest.raises(ValueError, match=r"no search is named 'cfr'; did you mean 'crf'\?"):
        search_settings("cfr")
    with pytest.raises(ValueError, match=r"'crf' has no trials .* `wsss tune run crf`"):
        find_study("crf", params, project, None)
