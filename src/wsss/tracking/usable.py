"""Whether MLflow can record in the project's own database, found out before any work.

Each fault has its way out, as a command that works for this very file. MLflow is not imported.
"""

import importlib.util
import os
import re
import shlex
import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["SYNC", "check_database", "unusable"]

PATIENCE = 10.0
"""Seconds in which another process may finish what it writes."""

SYNC = "\n`wsss runs sync` then records the results that have no run."
"""The end of every message about a database."""

_CREATION = 60.0  # seconds that another process may take to make MLflow's tables


def check_database(database: Path, uri: str, experiment: str) -> None:
    """Make sure that runs can be recorded in a SQLite file; one that is not there can be made.

    Args:
        database: the file.
        uri: as MLflow names it.
        experiment: MLflow's name for the runs.

    Raises:
        ConnectionError: they cannot; the text says why, and what to do.
    """
    folder = database.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if database.is_dir():
            raise unusable(database, uri, "it is a folder")
        for place in (folder, database):  # SQLite writes a journal beside the database
            if place.exists() and not os.access(place, os.W_OK):
                raise unusable(database, uri, f"{place} is read-only")
        if not database.exists():
            return
        with (
            FileLock(f"{database}.lock", timeout=_CREATION),
            closing(sqlite3.connect(database, timeout=PATIENCE)) as opened,
        ):
            opened.execute("BEGIN IMMEDIATE")
            opened.rollback()
            _check_tables(opened, database, uri, experiment)
    except Timeout:
        raise unusable(database, uri, "database is locked") from None
    except ConnectionError:
        raise
    except (OSError, sqlite3.Error) as error:
        raise unusable(database, uri, str(getattr(error, "strerror", "") or error)) from None


def _check_tables(opened: sqlite3.Connection, database: Path, uri: str, experiment: str) -> None:
    tables = {name for (name,) in opened.execute("SELECT name FROM sqlite_master")}
    if tables and "experiments" not in tables:
        held = ", ".join(sorted(tables)[:3])
        raise unusable(database, uri, f"it is another program's database, with the tables {held}")
    if "alembic_version" in tables:
        found = [str(name) for (name,) in opened.execute("SELECT version_num FROM alembic_version")]
        known, last = _revisions()
        if found and last and found[0] not in known:
            raise unusable(database, uri, f"its schema {found[0]} is newer than MLflow")
        if found and last and found[0] != last:
            raise unusable(database, uri, f"its schema {found[0]} is out-of-date")
    if "experiments" in tables:
        deleted = opened.execute(
            "SELECT experiment_id FROM experiments WHERE name = ? AND lifecycle_stage = 'deleted'",
            (experiment,),
        ).fetchone()
        if deleted:
            raise unusable(
                database, uri, f"the experiment '{experiment}' was deleted (-x {deleted[0]})"
            )


@cache
def _revisions() -> tuple[frozenset[str], str]:
    """The schemas that the installed MLflow knows, and its own; none where that is not to be had.

    MLflow's import would tell, in seconds.
    """
    found = importlib.util.find_spec("mlflow")
    places = list(found.submodule_search_locations or []) if found else []
    before: dict[str, str] = {}
    for place in places:
        for file in Path(place, "store/db_migrations/versions").glob("*.py"):
            text = file.read_text(encoding="utf-8")
            own = re.search(r"^revision\b.*=\s*[\"'](\w+)[\"']", text, re.MULTILINE)
            older = re.search(r"^down_revision\b.*=\s*[\"'](\w+)[\"']", text, re.MULTILINE)
            if own:
                before[own[1]] = older[1] if older else ""
    last = before.keys() - before.values()
    return frozenset(before), last.pop() if len(last) == 1 else ""


def unusable(database: Path, uri: str, reason: str) -> ConnectionError:
    """Describe why a database cannot be used, and the way out.

    Args:
        database: the file.
        uri: as MLflow names it.
        reason: what SQLite, MLflow or the system said.
    """
    file, store = shlex.quote(str(database)), shlex.quote(uri)
    aside = shlex.quote(f"{database}.old")
    backup = shlex.quote(f"{database}.backup")
    afresh = f"move it away (`mv {file} {aside}`), and a new one is made"
    low = reason.lower()
    if match := re.search(r"experiment '(.*)' was deleted.*-x (\d+)", reason):
        reason = f"the experiment '{match[1]}' was deleted"
        way = (
            f"Restore it (`MLFLOW_TRACKING_URI={store} mlflow experiments restore -x {match[2]}`), "
            "or give machine.experiment another name."
        )
    elif "out-of-date" in low:
        reason = "it was made by an older MLflow, and has another schema"
        way = f"Keep a copy and change it: `cp {file} {backup} && mlflow db upgrade {store}`"
    elif "newer than mlflow" in low or "can't locate revision" in low:
        reason = "it was made by a newer MLflow than the one that is installed"
        way = f"Install that one (`pip install -U mlflow`), or {afresh}."
    elif "locked" in low:
        reason = f"another process has locked it for more than {PATIENCE:g} s"
        way = f"See which one it is (`fuser -v {file}`), and close or stop it."
    elif "not a database" in low or "malformed" in low:
        way = f"Put a copy of it back, or {afresh}."
    elif "full" in low or "no space" in low:
        way = "Free some space on that disk."
    elif "it is a folder" in low or "another program's" in low:
        way = f"Set MLFLOW_TRACKING_URI to another place, or {afresh}."
    elif any(sign in low for sign in ("read-only", "readonly", "permission", "unable to open")):
        way = (
            f"Let it be written (`chmod u+w {shlex.quote(str(database.parent))} {file}`), or set "
            "MLFLOW_TRACKING_URI to another place."
        )
    else:
        way = "Set MLFLOW_TRACKING_URI to another place."
    return ConnectionError(f"MLflow cannot record in {database}: {reason}.\n{way}{SYNC}")
