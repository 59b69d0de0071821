"""The project's own MLflow database: where it is, and the pictures and tables beside it.

MLflow writes absolute places of artifacts into its database. What is here lets a project be moved,
copied, or mounted elsewhere all the same, and needs no import of MLflow.
"""

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from filelock import FileLock

from wsss.tracking.usable import unusable

__all__ = [
    "artifacts_uri",
    "database_file",
    "database_uri",
    "experiment_ids",
    "finished_runs",
    "read_rows",
    "settle",
    "tracking_uri",
]

BESIDE = "wsss.artifacts"
"""A tag of experiments whose artifacts are in mlartifacts, in the folder of the database."""

_RELATIVE = re.compile(r"(sqlite[^:/]*:///|file:|)([^/:][^:]*)")
"""A store of MLflow's below the folder of whoever reads it: a database, or a folder."""


def tracking_uri(root: Path) -> str:
    """MLFLOW_TRACKING_URI, else the database mlflow.db in DVC's root (without DVC, in `root`).

    A database or folder that is not absolute lies there too: whoever records works elsewhere. A
    queued DVC experiment runs in a temporary copy, where DVC_ROOT names the real project.
    """
    home = Path(os.environ.get("DVC_ROOT") or root).absolute()
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    if uri == "databricks" or not (relative := _RELATIVE.fullmatch(uri)):
        return uri
    scheme, path = relative.groups()
    return f"{scheme}{_quoted(home) if scheme else home}/{path}"


def database_uri(file: Path) -> str:
    """Name a SQLite database as SQLAlchemy does; what means something in a URI is quoted.

    Example:
        >>> database_uri(Path("/50% done?/mlflow.db"))
        'sqlite:////50%25 done%3F/mlflow.db'
    """
    return f"sqlite:///{_quoted(file.absolute())}"


def _quoted(path: Path) -> str:
    text = path.as_posix()
    for sign in "%?#":  # "%" first
        text = text.replace(sign, f"%{ord(sign):X}")
    return text


def database_file(uri: str) -> Path | None:
    """Give the file of a SQLite URI; None of any other store."""
    scheme, _, path = uri.partition(":///")
    if not scheme.startswith("sqlite"):
        return None
    return Path(unquote(path.partition("?")[0])).absolute()


def artifacts_uri(database: Path) -> str:
    """Say where artifacts of the project's own database are."""
    return (database.parent / "mlartifacts").as_uri()


@contextmanager
def settle(database: Path) -> Iterator[None]:
    """Correct the places of artifacts in a database that has been moved or copied; then go on.

    Processes that make MLflow's tables, or correct them, at the same time break one another: the
    block runs alone. Experiments that keep their artifacts elsewhere stay as they are.

    Raises:
        ConnectionError: the database cannot be used.
    """
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{database}.lock"):
        if database.exists():
            with (
                _trouble_explained(database),
                closing(sqlite3.connect(database, timeout=30)) as opened,
            ):
                _correct(opened, artifacts_uri(database))
        yield


@contextmanager
def _trouble_explained(database: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise unusable(database, database_uri(database), str(error)) from None


def _correct(database: sqlite3.Connection, here: str) -> None:
    known = _rows(
        database,
        "SELECT e.experiment_id, e.artifact_location, t.value FROM experiments e "
        "LEFT JOIN experiment_tags t ON t.experiment_id = e.experiment_id AND t.key = ?",
        BESIDE,
    )
    for experiment, location, tag in known:
        if location == here and tag is None:
            database.execute(
                "INSERT INTO experiment_tags (key, value, experiment_id) VALUES (?, 'true', ?)",
                (BESIDE, experiment),
            )
        elif location != here and tag is not None:
            database.execute(
                "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
                (here, experiment),
            )
            database.execute(
                "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) "
                "WHERE experiment_id = ? AND substr(artifact_uri, 1, ?) = ?",
                (here, len(location) + 1, experiment, len(location) + 1, f"{location}/"),
            )
    database.commit()


def experiment_ids(database: Path) -> dict[str, str]:
    """Give the ids of a database's experiments by their names, without those deleted.

    Raises:
        ConnectionError: the database cannot be read.
    """
    with _read_only(database) as opened:
        rows = _rows(
            opened,
            "SELECT name, experiment_id FROM experiments WHERE lifecycle_stage = 'active'",
        )
    return {name: str(number) for name, number in rows}


def finished_runs(database: Path, experiment: str) -> dict[str, str]:
    """Give the ids of an experiment's finished runs by their keys, the latest of each key.

    Raises:
        ConnectionError: the database cannot be read.
    """
    with _read_only(database) as opened:
        rows = _rows(
            opened,
            "SELECT t.value, r.run_uuid FROM runs r JOIN tags t USING (run_uuid) "
            "JOIN experiments e USING (experiment_id) WHERE t.key = 'key' AND e.name = ? "
            "AND r.status = 'FINISHED' AND r.lifecycle_stage = 'active' ORDER BY r.start_time",
            experiment,
        )
    return dict(rows)


def read_rows(database: Path, *queries: str) -> list[list[Any]]:
    """Give the rows of each query; none where the database, or a table of it, is not there.

    Raises:
        ConnectionError: the database cannot be read.
    """
    with _read_only(database) as opened:
        return [_rows(opened, query) for query in queries]


@contextmanager
def _read_only(database: Path) -> Iterator[sqlite3.Connection | None]:
    if not database.exists():
        yield None
        return
    uri = f"{database.absolute().as_uri()}?mode=ro"
    with (
        _trouble_explained(database),
        closing(sqlite3.connect(uri, uri=True, timeout=30)) as opened,
    ):
        yield opened


def _rows(database: sqlite3.Connection | None, text: str, *values: object) -> list[Any]:
    """Ask; a database without MLflow's tables has no rows."""
    if database is None:
        return []
    try:
        return database.execute(text, values).fetchall()
    except sqlite3.OperationalError as error:
        if "no such" not in str(error):
            raise
        return []
