"""Trials whose worker is gone: they are given to the next one, and none is lost or run twice.

A database knows a dead worker by its heartbeat, on whatever machine it was; a journal file, which
is of one machine, by its process.
"""

import os
import shutil
import socket
import warnings
from collections.abc import Collection
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from wsss.pipeline.exclusive import PATIENCE

__all__ = ["MAX_RETRIES", "fail_dead_trials", "retry", "sweep", "worker_id"]

MAX_RETRIES = 3
"""A trial that has ended its worker so often again is given up."""

_NAMELESS = 60.0
"""Seconds after which a running trial must say who runs it."""


def worker_id(pid: int) -> str:
    """Names a worker across machines and over time, as numbers of processes come again."""
    return f"{socket.gethostname()}:{pid}:{_process(pid)[1]}"


def fail_dead_trials(study: Any, dead: Collection[str] = ()) -> None:
    """End trials whose worker died, and put them into the queue again with the same parameters.

    Args:
        study: the Optuna study.
        dead: workers that are known to be gone.
    """
    from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
    from optuna.storages import RDBStorage, fail_stale_trials
    from optuna.trial import TrialState

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        fail_stale_trials(study)
    storage = study._storage
    # names of machines and numbers of processes may be the same in two containers
    by_process = not isinstance(getattr(storage, "_backend", storage), RDBStorage)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        worker = trial.user_attrs.get("worker", "")
        if worker in dead or (by_process and _is_gone(worker, trial.datetime_start)):
            try:
                if storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL):
                    retry(study, study.get_trials(deepcopy=False)[trial.number])
            except UpdateFinishedTrialError:  # another process was faster
                continue


def retry(study: Any, trial: Any, *, blame: bool = True) -> None:
    """Queue a failed trial again, with the parameters it had, and what it has reported.

    What stands in the new trial is what `optuna.storages.RetryHeartbeatStaleTrialCallback` writes.

    Args:
        study: the Optuna study.
        trial: that failed; what it has left in its folder is gone on with.
        blame: whether the trial may be why its worker is gone; it is given up after MAX_RETRIES.
    """
    from optuna.trial import TrialState, create_trial

    history = [*trial.system_attrs.get("retry_history", ()), *([trial.number] if blame else [])]
    if len(history) > MAX_RETRIES:
        return
    first = {"failed_trial": trial.system_attrs.get("failed_trial", trial.number)}
    study.add_trial(
        create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={key: value for key, value in trial.user_attrs.items() if key != "worker"},
            system_attrs={**trial.system_attrs, **first, "retry_history": history},
            intermediate_values=trial.intermediate_values,
        )
    )


def sweep(study: Any, folder: Path) -> None:
    """Delete what trials have left that nobody will go on with.

    Args:
        study: the Optuna study.
        folder: of its trials; each has one below, which its user attribute "folder" names.
    """
    from optuna.trial import TrialState

    left = list(folder.iterdir()) if folder.is_dir() else []  # before trials: they say it first
    states = (TrialState.RUNNING, TrialState.WAITING)
    unfinished = study.get_trials(deepcopy=False, states=states)
    alive = {trial.user_attrs.get("folder") for trial in unfinished}
    for place in left:
        if place.is_dir() and place.name not in alive:
            shutil.rmtree(place, ignore_errors=True)
            place.with_name(f".{place.name}.lock").unlink(missing_ok=True)
    if not unfinished:  # nobody is about to make a folder here
        for empty in (folder, folder.parent):
            with suppress(OSError):  # another study has trials
                empty.rmdir()


def _is_gone(worker: str, started: datetime | None) -> bool:
    """Whether a worker of this machine has ended, or one that never said its name."""
    if not worker:
        now = datetime.now(started.tzinfo) if started else None
        return bool(started and now and (now - started).total_seconds() > _NAMELESS + PATIENCE)
    host, pid, began = worker.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    alive, own = _process(int(pid))
    return not alive or (bool(began) and own != began)


def _process(pid: int) -> tuple[bool, str]:
    """Whether a process is alive, and when it began, in the kernel's own count."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False, ""
    except PermissionError:  # another user's
        pass
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # there is no /proc
        return True, ""
    return fields[0] != "Z", fields[19]
