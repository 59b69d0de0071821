"""The workers of a search as tasks: processes of this machine, or jobs of a cluster."""

import math
import time

from wsss.checks import ConfigError
from wsss.launch import Task, TaskSettings, check_all_done, run_tasks
from wsss.launch.task import log_folder, python_of
from wsss.tuning.objective import trial_folder
from wsss.tuning.retry import fail_dead_trials, sweep
from wsss.tuning.search import Outcome, Prepared
from wsss.tuning.storage import STORAGE

__all__ = ["check_storage", "run_in_tasks"]


def check_storage(site: TaskSettings, storage: str | None) -> None:
    """Raise ConfigError where the tasks of an engine could not share the trials."""
    if site.engine == "slurm" and "://" not in (storage or ""):
        raise ConfigError(
            "workers of --engine slurm may run on several machines, which a journal file does not "
            f"serve; give --storage (or {STORAGE}) a database's URL, such as "
            "postgresql+psycopg://user:password@host/name"
        )


def run_in_tasks(search: Prepared, argument: str, site: TaskSettings) -> Outcome:
    """Run the trials that wait in as many tasks as there are to be workers: `wsss tune worker`.

    A task that is killed, or reaches the time limit of its job, is started again; its trial waits
    for whichever worker is next.

    Args:
        search: whose trials wait.
        argument: what the search is called by on the command line.
        site: the engine.

    Raises:
        ValueError, OSError: the engine cannot run here; before anything is started.
        TasksFailedError: a worker failed more often than it may.
    """
    job = search.job
    title = f"tune-{job.name}"
    logs = log_folder(site, job.paths.root, title)
    command = [python_of(site), "-m", "wsss", "tune", "worker", argument]
    command += ["--study", job.study_name, "--enough", str(job.enough)]
    command += ["--heartbeat", str(job.heartbeat)]
    if job.deadline < math.inf:
        command += ["--timeout", str(max(job.deadline - time.time(), 0))]
    told = {STORAGE: job.storage} if job.storage else {}  # others can read a command; a password
    tasks = []
    for index in range(search.workers):
        done = logs / f"worker-{index + 1}.done"
        done.unlink(missing_ok=True)
        tasks.append(Task(f"worker {index + 1}", tuple(command), done, told))
    failed = run_tasks(tasks, site, job.paths.root, title)
    fail_dead_trials(search.study)
    sweep(search.study, trial_folder(job.paths, job.study_name))
    check_all_done(failed, f"the search {job.name}")
    return search.outcome(len(failed))
