"""Workers, what they leave in the storage and in MLflow, and what a dead one leaves."""

import logging
import multiprocessing
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

from wsss.artifacts import Paths, write_json
from wsss.checks import DivergedError
from wsss.cli.tune import _ended_early
from wsss.config.params import Params, parse_params
from wsss.config.recipes import with_settings
from wsss.pipeline.in_order import outdated
from wsss.stages import find_stages
from wsss.tuning import objective
from wsss.tuning.plan import SearchSettings, read_search
from wsss.tuning.retry import MAX_RETRIES, fail_dead_trials, sweep, worker_id
from wsss.tuning.search import join, prepare, run_in_processes
from wsss.tuning.storage import complete_trials, find_study, open_storage
from wsss.tuning.worker import run_trials

Values = dict[str, Any]


def settings_of(paths: Paths, **overrides: Any) -> SearchSettings:
    return read_search(paths.root, "crf", {"max_images": 3} | overrides)[1]


def run_here(values: Values, paths: Paths, trials: int, storage: str | None = None) -> Any:
    """A search by one worker, in this process; the Optuna study."""
    found = prepare("crf", settings_of(paths), values, paths, trials=trials,
                            storage=storage)  # fmt: skip
    study, job = found.study, found.job
    run_trials(job, 0)
    return study


def found_of(values: Values, paths: Paths) -> Any:
    return find_study("crf", values, paths, None)


def drawn(study: Any) -> list[tuple[int, float, dict[str, Any]]]:
    return [(trial.number, trial.value, trial.user_attrs["settings"]) for trial in study.trials]


@pytest.mark.usefixtures("untracked")
def test_one_worker_is_deterministic_and_starts_with_what_is_there(
    project: Paths, values: Values, params: Params, tmp_path: Path
) -> None:
    first = run_here(values, project, 12)  # past the sampler's random start
    again = run_here(values, project, 12, str(tmp_path / "other.journal"))
    assert drawn(first) == drawn(again)
    assert len({str(item) for item in drawn(first)}) == 12
    number, value, settings = drawn(first)[0]
    assert number == 0
    space = found_of(values, project).route.plan.space
    assert space.changed(settings) == params
    assert value == first.trials[0].value
    best = complete_trials(first)[0]
    assert best.value == max(item.value for item in first.trials)


@pytest.mark.usefixtures("untracked")
def test_going_on_draws_anew_and_keeps_the_first(project: Paths, values: Values) -> None:
    run_here(values, project, 3)
    study = run_here(values, project, 3)
    numbers = [number for number, _, _ in drawn(study)]
    assert numbers == list(range(6))
    assert len({str(settings) for _, _, settings in drawn(study)}) == 6


@pytest.mark.usefixtures("untracked")
def test_trials_on_other_cams_are_not_mixed(project: Paths, values: Values) -> None:
    before = run_here(values, project, 2)
    cams = sorted((project.cams / "selection").iterdir())
    for cam in cams[1:]:
        cam.write_bytes(cams[0].read_bytes())
    with pytest.raises(ValueError, match=r"no trials on the present data.*there are trials of"):
        found_of(values, project)
    after = run_here(values, project, 1)
    assert after.study_name != before.study_name
    assert len(complete_trials(after)) == 1
    assert found_of(values, project).name == after.study_name


def test_two_workers_run_exactly_as_many_as_asked_each_in_mlflow(
    project: Paths, values: Values, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    project = Paths(Path())  # as the command has it
    values = with_settings(values, {"machine.experiment": "two workers"})
    outcome = run_in_processes(
        prepare("crf", settings_of(project), values, project, trials=5, workers=2)
    )
    assert (outcome.complete, outcome.wanted, outcome.lost) == (5, 5, 0)
    study = found_of(values, project).study
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
def test_the_trial_of_a_dead_worker_runs_again(project: Paths, values: Values) -> None:
    study = prepare("crf", settings_of(project), values, project, trials=3).study
    gone = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    name = worker_id(gone.pid)
    gone.kill()
    gone.wait()
    dead, alive, elsewhere = study.ask(), study.ask(), study.ask()
    dead.set_user_attr("worker", name)
    dead.suggest_float("x", 0, 1)
    dead.report(0.5, 0)
    alive.set_user_attr("worker", worker_id(os.getpid()))
    elsewhere.set_user_attr("worker", "another-machine:1:1")
    for _ in range(2):  # whoever comes later finds nothing to do
        fail_dead_trials(study)
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.FAIL, *[TrialState.RUNNING] * 2, TrialState.WAITING]
    again = study.trials[3]
    assert again.params == study.trials[0].params
    assert again.intermediate_values == {0: 0.5}
    assert "worker" not in again.user_attrs
    assert again.system_attrs["retry_history"] == [0]
    assert again.system_attrs["fixed_params"] == study.trials[0].system_attrs["fixed_params"]


@pytest.mark.usefixtures("untracked")
def test_a_number_of_a_process_that_came_again_is_no_worker(project: Paths, values: Values) -> None:
    study = prepare("crf", settings_of(project), values, project, trials=1).study
    before = worker_id(os.getpid()).rpartition(":")[0] + ":1"
    study.ask().set_user_attr("worker", before)
    fail_dead_trials(study)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.WAITING]


@pytest.mark.usefixtures("untracked")
def test_a_trial_that_ends_every_worker_is_given_up(project: Paths, values: Values) -> None:
    study = prepare("crf", settings_of(project), values, project, trials=1).study
    for _ in range(MAX_RETRIES + 1):
        study.ask().set_user_attr("worker", "here")
        fail_dead_trials(study, {"here"})
    assert [trial.state for trial in study.trials] == [TrialState.FAIL] * (MAX_RETRIES + 1)


@pytest.mark.usefixtures("untracked")
def test_a_database_gives_trials_without_a_heartbeat_to_the_next_worker(
    project: Paths, values: Values
) -> None:
    url = f"sqlite:///{project.root}/trials.db"
    study = run_here(values, project, 1, url)
    running = study.ask()
    running.set_user_attr("worker", worker_id(os.getpid()))
    with sqlite3.connect(project.root / "trials.db") as database:
        database.execute(
            "INSERT INTO trial_heartbeats (trial_id, heartbeat) VALUES (?, '2020-01-01')",
            (running._trial_id,),
        )
    fail_dead_trials(study)
    assert [trial.state for trial in study.trials[1:]] == [TrialState.FAIL, TrialState.WAITING]
    assert find_study("crf", values, project, url).name == study.study_name


@pytest.mark.usefixtures("untracked")
def test_a_killed_worker_loses_no_trial(project: Paths, values: Values) -> None:
    """Killed for real, in the middle of a trial that would last very long."""
    slow = with_settings(values, {"refine.chains.crf.0.n_iters": 50_000_000})
    settings = settings_of(project)
    study = prepare("crf", settings, slow, project, trials=1).study

    def kill() -> None:
        while not (busy := [trial for trial in study.trials if "folder" in trial.user_attrs]):
            time.sleep(0.1)
        os.kill(int(busy[0].user_attrs["worker"].split(":")[1]), signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    outcome = run_in_processes(prepare("crf", settings, slow, project, trials=1))
    assert (outcome.complete, outcome.lost) == (0, 1)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.WAITING]
    folder = project.root / ".tuning/trials" / study.study_name
    for name in (study.trials[1].user_attrs["folder"], "of-nobody"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    sweep(study, folder)
    (left,) = [place.name for place in folder.iterdir() if place.is_dir()]
    assert left == study.trials[1].user_attrs["folder"], "what it has done is gone on with"
    study.tell(study.ask(), 0.5)
    sweep(study, folder)
    assert not folder.parent.exists(), "nobody goes on with it any more"


@pytest.mark.usefixtures("untracked")
def test_a_worker_that_is_asked_to_leave_gives_its_trial_back(
    project: Paths,
    values: Values,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And Optuna does not log a trace of up to a hundred lines, for each worker."""

    def interrupted(*_: object) -> Any:
        def score(_: Params) -> Any:
            raise KeyboardInterrupt

        return score

    monkeypatch.setattr(objective, "chain_scorer", interrupted)
    found = prepare("crf", settings_of(project), values, project, trials=1)
    study, job = found.study, found.job
    logging.getLogger("optuna").addHandler(caplog.handler)
    for _ in range(MAX_RETRIES + 2):  # that is not the trial's fault
        with pytest.raises(KeyboardInterrupt):
            run_trials(job, 0)
    logging.getLogger("optuna").removeHandler(caplog.handler)
    assert "KeyboardInterrupt" not in caplog.text
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.FAIL] * (MAX_RETRIES + 2) + [TrialState.WAITING]


@pytest.mark.usefixtures("untracked")
def test_as_many_trials_run_as_were_asked_for_whoever_joins(project: Paths, values: Values) -> None:
    found = prepare("crf", settings_of(project), values, project, trials=5)
    study, job, wanted = found.study, found.job, found.wanted
    assert wanted == 5
    joined = join("crf", values, project, limit=2)
    assert joined.study_name == job.study_name
    assert run_trials(joined, "a") == 2
    more = prepare("crf", settings_of(project), values, project, trials=4)
    assert more.wanted == 4, "three that wait, and one more"
    threads = [threading.Thread(target=run_trials, args=(more.job, at)) for at in range(1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 6
    with pytest.raises(ValueError, match="no trials on the present data"):
        join("crf", with_settings(values, {"refine.chains.crf.0.n_iters": 4}), project)


@pytest.mark.usefixtures("untracked")
def test_a_grid_is_run_once_and_whole(project: Paths, values: Values) -> None:
    space = {
        "refine.chains.crf.0.unary": {"type": "categorical", "choices": ["soft", "labels"]},
        "refine.chains.crf.0.n_iters": {"type": "int", "low": 1, "high": 3},
        "refine.chains.crf.0.gt_prob": {
            "type": "float",
            "low": 0.6,
            "high": 0.8,
            "step": 0.2,
            "when": {"refine.chains.crf.0.unary": "labels"},
        },
    }
    settings = SearchSettings.model_validate({"sampler": "grid", "space": space})
    found = prepare("crf", settings, values, project)
    study, job, wanted = found.study, found.job, found.wanted
    assert wanted == 9  # 3 soft, 6 labels; what params.yaml has is one of them
    run_trials(job, 0)
    assert len({str(item) for item in drawn(study)}) == len(drawn(study)) == 9
    with pytest.raises(ValueError, match="every value of the grid was tried"):
        prepare("crf", settings, values, project)


@pytest.mark.usefixtures("untracked")
def test_two_objectives(project: Paths, values: Values) -> None:
    settings = settings_of(project, seconds_per_image=True)
    found = prepare("crf", settings, values, project, trials=3)
    study, job = found.study, found.job
    run_trials(job, 0)
    assert all(len(trial.values) == 2 and trial.values[1] > 0 for trial in study.trials)
    assert complete_trials(study)[0].values[0] == max(trial.values[0] for trial in study.trials)


@pytest.mark.usefixtures("untracked")
def test_no_trial_starts_after_the_deadline(project: Paths, values: Values) -> None:
    found = prepare("crf", settings_of(project), values, project, trials=2, timeout=0)
    study, job = found.study, found.job
    assert run_trials(job, 0) == 0
    assert [trial.state for trial in study.trials] == [TrialState.WAITING] * 2


def test_what_stops_a_worker_reaches_the_caller(project: Paths, values: Values) -> None:
    for image in (project.images / "selection").iterdir():
        image.write_bytes(b"")
    with pytest.raises(ValueError, match=r"cannot be read as an image"):
        run_in_processes(prepare("crf", settings_of(project), values, project, trials=1))


def test_storages_that_can_not_be_used(project: Paths, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match=r"nodriver://\*\*\*@host/x: .*\n.*psycopg") as error:
        open_storage("crf", project, "nodriver://me:secret@host/x")
    assert "secret" not in str(error.value)
    (tmp_path / "photo.png").write_bytes(b"\x89PNG")
    with pytest.raises(ConnectionError, match="no journal"):
        open_storage("crf", project, str(tmp_path / "photo.png"))
    with pytest.raises(ConnectionError, match="cannot be kept in"):
        open_storage("crf", project, str(tmp_path / "photo.png" / "x"))


def test_an_unknown_search(project: Paths, values: Values) -> None:
    with pytest.raises(ValueError, match=r"no search is named 'cfr'; did you mean 'crf'\?"):
        read_search(project.root, "cfr")
    with pytest.raises(ValueError, match=r"'crf' has no trials .* `wsss tune run crf`"):
        found_of(values, project)
    settings = settings_of(project, sampler="grid")
    with pytest.raises(ValueError, match=r"grid tries every value, so space\..*sigma_xy needs a"):
        prepare("crf", settings, values, project)


@pytest.mark.usefixtures("untracked")
def test_a_worker_works_on_the_study_that_wants_it(project: Paths, values: Values) -> None:
    """Whichever was started last."""
    first = prepare("crf", settings_of(project), values, project, trials=2)
    later = prepare("crf", settings_of(project, max_images=4), values, project, trials=2)
    assert join("crf", values, project).study_name == later.study.study_name
    job = join("crf", values, project, study=first.study.study_name)
    assert run_trials(job, "a") == 2
    assert len(complete_trials(first.study)) == 2 and not complete_trials(later.study)
    with pytest.raises(ValueError, match="no study 'other' has trials"):
        join("crf", values, project, study="other")


@pytest.mark.usefixtures("untracked")
def test_what_waits_from_before_is_not_run_by_who_wants_fewer(
    project: Paths, values: Values, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    prepare("crf", settings_of(project), values, project, trials=6)
    few = prepare("crf", settings_of(project), values, project, trials=2)
    assert few.wanted == 2 and "4 more trials wait from before" in caplog.text
    assert run_trials(few.job, 0) == 2
    rest = prepare("crf", settings_of(project), values, project)
    assert rest.wanted == max(40, 4)


@pytest.mark.usefixtures("untracked")
def test_trials_of_results_of_other_settings_are_refused(project: Paths, values: Values) -> None:
    """Which would be recorded as those of params.yaml."""
    params = parse_params(values)
    pipeline = find_stages()
    for name in ("prepare_data", "train_classifier", "generate_cams"):
        write_json(project.root / f".stages/{name}.json", {})  # of anything else
    with pytest.raises(ValueError, match=r"trials take what (\w+) has made, but .* `wsss run \1`"):
        prepare("crf", settings_of(project), values, project, trials=1)
    targets = [pipeline.target(name, params) for name in ("prepare_data", "generate_cams")]
    assert outdated(pipeline, targets, params, project.root).keys() == {
        "prepare_data",
        "generate_cams",
    }
    for path in (project.root / ".stages").iterdir():
        path.unlink()
    assert prepare("crf", settings_of(project), values, project, trials=1).wanted == 1


@pytest.mark.usefixtures("untracked")
def test_a_training_that_diverges_is_a_bad_trial_and_no_error(
    project: Paths, values: Values, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = objective.Objective._score

    def diverges(self: Any, trial: Any, *rest: Any) -> Any:
        if trial.number == 1:
            raise DivergedError("the loss is nan in epoch 1, step 3; lower optimizer.lr")
        return score(self, trial, *rest)

    monkeypatch.setattr(objective.Objective, "_score", diverges)
    study = run_here(values, project, 3)
    states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE]
    assert [trial.state for trial in study.trials] == states
    (told,) = _ended_early(study)
    assert told.startswith("1 more diverged, such as 1 (refine.chains.crf.0.")
    assert told.endswith("the loss is nan in epoch 1, step 3")


def test_a_worker_may_have_processes_of_its_own(
    project: Paths, values: Values, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That load images: a daemonic process has none."""
    made = []

    class Seen(multiprocessing.get_context("spawn").Process):  # type: ignore[misc]
        def start(self) -> None:
            made.append(self.daemon)

        def is_alive(self) -> bool:
            return False

        def join(self, timeout: float | None = None) -> None: ...

        @property
        def exitcode(self) -> int:
            return 0

    context = multiprocessing.get_context("spawn")
    monkeypatch.setattr(type(context), "Process", Seen)
    run_in_processes(prepare("crf", settings_of(project), values, project, trials=1, workers=1))
    assert made == [False]
