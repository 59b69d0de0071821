"""Where trials are kept, and which of them belong to the present data and settings."""

import re
import shlex
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wsss.artifacts import Paths
from wsss.checks import ConfigError
from wsss.tuning.plan import make_plan, parse_search
from wsss.tuning.retry import retry
from wsss.tuning.route import Route, make_route

__all__ = [
    "HEARTBEAT",
    "STORAGE",
    "Found",
    "choose_study",
    "complete_trials",
    "create_study",
    "find_studies",
    "find_study",
    "open_storage",
]

FOLDER = ".tuning"

STORAGE = "WSSS_TUNE_STORAGE"
"""The environment variable that says where trials are kept; other users do not see it."""

HEARTBEAT = 60.0
"""Seconds between two signs of life of a worker in a database; without three of them it is dead."""

_ANSWER = 15  # seconds in which a server has to answer


def open_storage(name: str, paths: Paths, storage: str | None, heartbeat: float = HEARTBEAT) -> Any:
    """Open an Optuna storage.

    Args:
        name: the search, such as "crf".
        paths: the project.
        storage: a journal file (for processes of one machine), a database's URL (for several),
            or None for the journal .tuning/<name>.journal.
        heartbeat: seconds between two signs of life of a worker, in a database.

    Raises:
        ConnectionError: it cannot be used, or does not answer; the text names it, without its
            password.
        ValueError: a journal is damaged so that trials cannot be told apart.
    """
    from optuna.exceptions import ExperimentalWarning
    from optuna.storages import JournalStorage, RDBStorage

    from wsss.tuning.journal import DamagedJournalError, Journal

    try:
        if storage and "://" in storage:
            engine: dict[str, Any] = {"pool_pre_ping": True}
            if storage.startswith(("postgresql", "mysql", "mariadb")):
                engine["connect_args"] = {"connect_timeout": _ANSWER}
            interval = max(1, round(heartbeat))
            with warnings.catch_warnings():  # heartbeats are called experimental
                warnings.simplefilter("ignore", ExperimentalWarning)
                return RDBStorage(
                    storage,
                    engine_kwargs=engine,
                    heartbeat_interval=interval,
                    grace_period=3 * interval,
                    heartbeat_stale_trial_callback=retry,
                )
        journal = Path(storage) if storage else paths.root / FOLDER / f"{name}.journal"
        journal.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(Journal(journal))
    except DamagedJournalError:
        raise
    except Exception as error:  # drivers and dialects raise anything
        shown = re.sub(r"://[^/@\s]*@", "://***@", storage or f"{FOLDER}/{name}.journal")
        reason = re.sub(r"://[^/@\s]*@", "://***@", str(error).strip().partition("\n")[0])
        driver = isinstance(error, ImportError) and "psycopg" in (storage or "")
        raise ConnectionError(
            f"trials cannot be kept in {shown}: {reason}\n"
            "--storage is a file that may be written, or a database's URL with its driver, such "
            "as postgresql+psycopg://user:password@host/name, whose server runs"
            + ("; install the driver: pip install 'wsss[postgres]'" if driver else "")
        ) from None


def create_study(route: Route, paths: Paths, storage: Any) -> Any:
    """Make or reopen the Optuna study of a search on the present data.

    Its name holds `Route.key`, so trials on other CAMs or of other ranges never mix with it.
    """
    import optuna

    plan = route.plan
    study = optuna.create_study(
        study_name=_full_name(route, paths),
        storage=storage,
        directions=["maximize", *(["minimize"] if plan.settings.seconds_per_image else [])],
        load_if_exists=True,
    )
    study.set_user_attr("settings", plan.settings.model_dump(mode="json"))
    study.set_user_attr("metric", plan.metric)
    study.set_user_attr("started", datetime.now(UTC).isoformat())
    return study


@dataclass(frozen=True)
class Found:
    """A search that was started on the present data and settings.

    Attributes:
        route: as it ran.
        settings: of the search, as plain values.
        study: the Optuna study.
        started: when it ran last, in ISO's format; "" where that was not noted.
    """

    route: Route
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
        ours, theirs = dict(_leaves(self.settings)), dict(_leaves(other.settings))
        keys = sorted({*ours, *theirs} - {"about", "trials"})
        return [key for key in keys if ours.get(key) != theirs.get(key)]

    def compares_with(self, other: "Found") -> bool:
        """Whether the scores of both are of the same images and the same stage."""
        return (
            self.settings.get("max_images") == other.settings.get("max_images")
            and self.route.score == other.route.score
        )


def find_studies(
    name: str,
    values: Mapping[str, Any],
    paths: Paths,
    storage: str | None,
    *,
    empty: bool = False,
    heartbeat: float = HEARTBEAT,
    argument: str = "",
) -> list[Found]:
    """The studies of a search on the present data and settings; the last run first.

    Args:
        name: of the search, such as "crf".
        values: the plain tree of params.yaml.
        paths: the project.
        storage: see `open_storage`.
        empty: also those that have no finished trial yet.
        heartbeat: see `open_storage`.
        argument: what the search is called by on the command line, where that is not its name.

    Raises:
        ValueError: there is none.
    """
    import optuna

    known = []
    if storage or (paths.root / FOLDER / f"{name}.journal").exists():
        if storage and "://" not in storage and not Path(storage).exists():
            raise ValueError(f"--storage {storage}: there is no such file")
        opened = open_storage(name, paths, storage, heartbeat)
        summaries = optuna.get_all_study_summaries(opened, include_best_trial=False)
        own = re.compile(rf"{re.escape(name)}-[0-9a-f]{{12}}")
        known = [item for item in summaries if own.fullmatch(item.study_name)]
    found, others = [], False
    for summary in sorted(known, key=lambda item: item.user_attrs.get("started", ""), reverse=True):
        try:
            plain = summary.user_attrs["settings"]
            settings = parse_search(plain, f"search '{name}'")
            route = make_route(make_plan(paths.root, name, settings, values))
            fits = _full_name(route, paths) == summary.study_name
        except (ConfigError, KeyError, TypeError):  # of another version, or damaged
            continue
        others |= not fits
        if fits:
            study = optuna.load_study(study_name=summary.study_name, storage=opened)
            if empty or complete_trials(study):
                found.append(Found(route, plain, study, summary.user_attrs.get("started", "")))
    if found:
        return found
    elsewhere = "; there are trials of others" if others else ""
    where = f" --storage {shlex.quote(_without_login(storage))}" if storage else ""
    raise ValueError(
        f"the search '{name}' has no trials on the present data and settings{elsewhere}: "
        f"run `wsss tune run {argument or name}{where}`"
    )


def find_study(
    name: str,
    values: Mapping[str, Any],
    paths: Paths,
    storage: str | None,
    study: str | None = None,
) -> Found:
    """The study last run on the present data and settings; see `find_studies`.

    Args:
        name: the search, such as "crf".
        values: the plain tree of params.yaml.
        paths: of the project.
        storage: see `open_storage`.
        study: the name of the Optuna study to take instead.

    Raises:
        ValueError: there is none, or it has no trial.
    """
    return choose_study(find_studies(name, values, paths, storage), study)


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
        if "settings" in trial.user_attrs
    ]
    return sorted(trials, key=lambda trial: (-trial.values[0], trial.number))


def _full_name(route: Route, paths: Paths) -> str:
    return f"{route.plan.name}-{route.key(paths)[:12]}"


def _without_login(storage: str) -> str:
    return re.sub(r"://[^/@\s]*@", "://***@", storage)


def _leaves(tree: Any, path: str = "") -> Any:
    """The values of a search by dotted key; ranges are one value each."""
    for key, value in tree.items():
        if key == "space" and not path:
            yield from ((name.rpartition(".")[2], held) for name, held in value.items())
        else:
            yield key, value
