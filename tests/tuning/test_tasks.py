"""Workers of a search as tasks: what they are told, and what comes of them."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from wsss.artifacts import Paths
from wsss.checks import ConfigError
from wsss.launch import Failure, Task, TaskSettings, TasksFailedError
from wsss.tuning import tasks
from wsss.tuning.plan import SearchSettings, read_search
from wsss.tuning.search import Outcome, prepare
from wsss.tuning.storage import complete_trials, find_study

Values = dict[str, Any]


def crf(paths: Paths) -> SearchSettings:
    return read_search(paths.root, "crf", {"max_images": 2})[1]


def in_tasks(values: Values, paths: Paths, engine: str, **options: Any) -> Outcome:
    site = TaskSettings(engine=engine, restarts=0)
    tasks.check_storage(site, options.get("storage"))
    return tasks.run_in_tasks(prepare("crf", crf(paths), values, paths, **options), "crf", site)


def test_two_workers_of_the_local_engine_run_as_many_trials_as_asked(
    project: Paths, values: Values, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(project.root)
    found = in_tasks(values, project, "local", trials=4, workers=2)
    assert found == Outcome(4, 4, 0)
    study = find_study("crf", values, project, None).study
    assert [trial.number for trial in study.trials] == list(range(4))
    assert len(complete_trials(study)) == 4
    assert not (project.root / ".tuning/trials").exists()


@pytest.mark.usefixtures("untracked")
def test_a_password_is_in_no_command(
    project: Paths, values: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where trials are kept goes through the environment, and what failed is said."""
    url = f"sqlite:///{tmp_path}/secret.db"
    seen: list[Task] = []

    def run(wanted: Sequence[Task], *_: Any) -> list[Failure]:
        seen.extend(wanted)
        return [Failure("worker 2", "exit code 1", tmp_path / "worker_2.log")]

    monkeypatch.setattr(tasks, "run_tasks", run)
    with pytest.raises(TasksFailedError, match="worker 2: exit code 1"):
        in_tasks(values, project, "slurm", trials=5, workers=3, storage=url, timeout=60.0)
    assert len(seen) == len({task.name for task in seen}) == 3
    for task in seen:
        assert task.command[:5] == (sys.executable, "-m", "wsss", "tune", "worker")
        told = dict(zip(task.command[6::2], task.command[7::2], strict=True))
        assert re.fullmatch("crf-[0-9a-f]{12}", told["--study"]) and told["--enough"] == "5"
        assert url not in " ".join(task.command)
        assert task.environment == {"WSSS_TUNE_STORAGE": url}


def test_workers_on_several_machines_need_a_database(project: Paths, values: Values) -> None:
    for storage in (None, "own.journal"):
        with pytest.raises(ConfigError, match="journal file does not serve; give --storage"):
            in_tasks(values, project, "slurm", storage=storage)
