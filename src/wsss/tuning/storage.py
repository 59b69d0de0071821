"""Where trials are kept, and which of them belong to the present data and settings."""

import os
import re
import socket
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from wsss.artifacts import Paths
from wsss.config.params import Params
from wsss.registry import SEARCHES
from wsss.settings import ConfigError, Named, explain
from wsss.tuning.base import Search

__all__ = [
    "Found",
    "choose_study",
    "complete_trials",
    "create_study",
    "fail_dead_trials",
    "find_studies",
    "find_study",
    "open_storage",
    "search_settings",
    "worker_id",
]

FOLDER = ".tuning"
_HEARTBEAT, _GRACE = 60, 180  # seconds


def search_settings(name: str, values: dict[str, Any] | None = None) -> Named:
    """The settings of the search `name`. Raises ValueError for an unknown name, key or value."""
    model = SEARCHES.settings(name)
    tree = {"name": name, **(values or {})}
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise explain(error, f"search '{name}'", model, tree) from None


def open_storage(name: str, paths: Paths, storage: str | None) -> Any:
    """Open an Optuna storage.

    Args:
        name: the search, such as "crf".
        paths: the project.
        storage: a journal file (for processes of one machine), a database's URL (for several),
            or None for the journal .tuning/<name>.journal.

    Raises:
        ConnectionError: it cannot be used; the text names it, without its password.
        ValueError: a journal is damaged so that trials cannot be told apart.
    """
    from optuna.exceptions import ExperimentalWarning
    from optuna.storages import JournalStorage, RDBStorage

    from wsss.tuning.journal import DamagedJournalError, Journal

    try:
        if storage and "://" in storage:
            with warnings.catch_warnings():  # heartbeats are called experimental
                warnings.simplefilter("ignore", ExperimentalWarning)
                return RDBStorage(
                    storage,
                    engine_kwargs={"pool_pre_ping": True},
                    heartbeat_interval=_HEARTBEAT,
                    grace_period=_GRACE,
                )
        journal = Path(storage) if storage else paths.root / FOLDER / f"{name}.journal"
        journal.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(Journal(journal))
    except DamagedJournalError:
        raise
    except Exception as error:  # drivers and dialects raise anything
        shown = re.sub(r"://[^/@\s]*@", "://***@", storage or f"{FOLDER}/{name}.journal")
        reason = re.sub(r"://[^/@\s]*@", "://***@", str(error).strip().partition("\n")[0])
        raise ConnectionError(
            f"trials cannot be kept in {shown}: {reason}\n"
            "--storage is a file that may be written, or a database's URL with its driver, such "
            "as postgresql+psycopg://user:password@host/name"
        ) from None


def create_study(settings: Named, params: Params, paths: Paths, storage: Any) -> Any:
    """Make or reopen the Optuna study of these settings on the present data.

    Its name holds `Search.key`, so trials on other CAMs or of other ranges never mix with it.
    """
    import optuna

    study = optuna.create_study(
        study_name=_full_name(SEARCHES.build(settings), settings, params, paths),
        storage=storage,
        direction="maximize",
        load_if_exists=True,
    )
    study.set_user_attr("settings", settings.model_dump(mode="json"))
    study.set_user_attr("metric", params.evaluate.select_by)
    study.set_user_attr("started", datetime.now(UTC).isoformat())
    return study


@dataclass(frozen=True)
class Found:
    """A search that ran on the present data and settings, and has trials.

    Attributes:
        search: as it ran.
        settings: of the search, as plain values.
        study: the Optuna study.
        started: when it ran last, in ISO's format; "" where that was not noted.
    """

    search: Search
    settings: dict[str, Any]
    study: Any
    started: str

    @property
    def name(self) -> str:
        """The name of the Optuna study, such as "crf-0123456789ab"."""
        return str(self.study.study_name)

    @property
    def trials(self) -> list[Any]:
        """Trials with a score, the best first."""
        return complete_trials(self.study)

    def differs_from(self, other: "Found") -> list[str]:
        """The settings of the search that differ from another one."""
        keys = sorted({*self.settings, *other.settings})
        return [key for key in keys if self.settings.get(key) != other.settings.get(key)]

    def compares_with(self, other: "Found") -> bool:
        """Whether the scores of both are of the same images."""
        return "max_images" not in self.differs_from(other)


def find_studies(name: str, params: Params, paths: Paths, storage: str | None) -> list[Found]:
    """The searches `name` on the present data and settings that have trials; the last run first.

    Raises:
        ValueError: there is none.
    """
    search_settings(name)  # an unknown name is told apart from a study that never ran
    import optuna

    known = []
    if storage or (paths.root / FOLDER / f"{name}.journal").exists():
        if storage and "://" not in storage and not Path(storage).exists():
            raise ValueError(f"--storage {storage}: there is no such file")
        opened = open_storage(name, paths, storage)
        summaries = optuna.get_all_study_summaries(opened, include_best_trial=False)
        known = [item for item in summaries if item.study_name.startswith(f"{name}-")]
    found, others = [], False
    for summary in sorted(known, key=lambda item: item.user_attrs.get("started", ""), reverse=True):
        try:
            plain = summary.user_attrs["settings"]
            settings = search_settings(name, plain)
            search: Search = SEARCHES.build(settings)
            fits = _full_name(search, settings, params, paths) == summary.study_name
        except (ConfigError, KeyError, TypeError):  # of another version, or damaged
            continue
        others |= not fits
        if fits:
            study = optuna.load_study(study_name=summary.study_name, storage=opened)
            if complete_trials(study):
                found.append(Found(search, plain, study, summary.user_attrs.get("started", "")))
    if found:
        return found
    elsewhere = "; there are trials of others" if others else ""
    raise ValueError(
        f"the search '{name}' has no trials on the present data and settings{elsewhere}: "
        f"run `wsss tune run {name}`"
    )


def find_study(
    name: str, params: Params, paths: Paths, storage: str | None, study: str | None = None
) -> tuple[Search, Any]:
    """The search last run on the present data and settings, and its Optuna study.

    Args:
        name: the search, such as "crf".
        params: of the project.
        paths: of the project.
        storage: see `open_storage`.
        study: the name of the Optuna study to take instead.

    Raises:
        ValueError: there is none, or it has no trial.
    """
    found = choose_study(find_studies(name, params, paths, storage), study)
    return found.search, found.study


def choose_study(found: Sequence[Found], study: str | None) -> Found:
    """The study of a name, of those found; without a name the one that ran last.

    Raises:
        ValueError: none has the name.
    """
    for item in found:
        if study in (None, item.name):
            return item
    raise ValueError(
        f"no study '{study}' has trials on the present data and settings; there "
        f"{'are' if len(found) > 1 else 'is'} {', '.join(item.name for item in found)}"
    )


def complete_trials(study: Any) -> list[Any]:
    """Trials with a score, the best first, without those whose settings a damaged journal lost."""
    from optuna.trial import TrialState

    trials = [
        trial
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if {"settings", "threshold"} <= trial.user_attrs.keys()
    ]
    return sorted(trials, key=lambda trial: (-trial.value, trial.number))


def worker_id(pid: int) -> str:
    """Names a worker across machines."""
    return f"{socket.gethostname()}:{pid}"


def fail_dead_trials(study: Any) -> None:
    """End trials whose worker died: a journal knows them by process, a database by heartbeat."""
    from optuna.exceptions import ExperimentalWarning
    from optuna.storages import fail_stale_trials
    from optuna.trial import TrialState

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        host, _, pid = trial.user_attrs.get("worker", "").rpartition(":")
        if host == socket.gethostname() and not _alive(int(pid)):
            study.tell(trial.number, state=TrialState.FAIL)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _full_name(search: Search, settings: Named, params: Params, paths: Paths) -> str:
    return f"{settings.name}-{search.key(params, paths)[:12]}"
