"""Whether runs can be recorded where MLflow is said to be, found out within seconds."""

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from wsss.doctor.check import Check, fault, ok, warning
from wsss.doctor.project import without_login

if TYPE_CHECKING:  # its package needs others, which may be what is missing
    from wsss.tracking.server import Answer

__all__ = ["check_storage", "check_tracking"]

_PATIENCE = 5.0  # seconds that a server may take


def check_tracking(
    uri: str,
    *,
    installed: bool,
    look_at_database: Callable[[], bool],
    ask: Callable[[str], "Answer"],
) -> Check:
    """Whether runs can be recorded.

    Args:
        uri: where MLflow is, as MLFLOW_TRACKING_URI names it.
        installed: whether MLflow is.
        look_at_database: raises ConnectionError where the project's own database cannot be used;
            whether that was found out in time.
        ask: asks a server at an address.
    """
    shown = without_login(uri)
    if not installed:
        return warning(
            "mlflow", "not installed; no runs are recorded", "pip install 'mlflow>=3.10'"
        )
    scheme = uri.partition("://")[0] if "://" in uri else uri.partition(":")[0]
    if scheme == "file" or "://" not in uri:
        return fault(
            "mlflow",
            f"MLFLOW_TRACKING_URI is {shown}, a folder, which MLflow no longer records in",
            "unset MLFLOW_TRACKING_URI",
        )
    if scheme.startswith("sqlite"):
        try:
            in_time = look_at_database()
        except ConnectionError as error:
            first, _, rest = str(error).partition("\n")
            return fault("mlflow", first, " ".join(rest.splitlines()[:1]) or "see docs/mlflow.md")
        if in_time:
            return ok("mlflow", f"runs can be recorded in {shown}")
        return warning(
            "mlflow", f"{shown} is in use by another process", "look again when that is done"
        )
    if scheme.startswith("postgresql"):
        return _check_postgres(uri, shown)
    if not scheme.startswith("http"):
        return ok("mlflow", f"{shown} was not looked at; `wsss runs sync` records into it")
    return _check_server(shown, ask(uri))


def _check_server(shown: str, answer: "Answer") -> Check:
    if answer.status in (200, 404):  # the experiment may not be there yet
        return ok("mlflow", f"the server at {shown} answers")
    if answer.status == 401:
        return fault(
            "mlflow",
            f"the server at {shown} wants a login, and does not take the one that is set",
            "export MLFLOW_TRACKING_USERNAME=... MLFLOW_TRACKING_PASSWORD=...",
        )
    if answer.status == 403:
        host = urlsplit(shown).netloc
        return fault(
            "mlflow",
            f"the server at {shown} refuses this: {answer.text or 'forbidden'}",
            f"ask for the right to it, or start it with --allowed-hosts '{host}'",
        )
    if answer.status:
        return fault(
            "mlflow",
            f"what answers at {shown} is not MLflow, or is out of order ({answer.status})",
            "see its log, and that MLFLOW_TRACKING_URI has the right port",
        )
    return fault(
        "mlflow",
        f"nothing answers at {shown}: {answer.text}",
        "start the server, or unset MLFLOW_TRACKING_URI; stages that run meanwhile are recorded by "
        "`wsss runs sync` later",
    )


def _check_postgres(uri: str, shown: str) -> Check:
    if uri.startswith("postgresql://"):
        return fault(
            "mlflow",
            f"{shown} names no driver, and the one that is then taken is not installed with wsss",
            "write postgresql+psycopg:// at its beginning",
        )
    parts = urlsplit(uri)
    host, port = parts.hostname or "localhost", parts.port or 5432
    try:
        with socket.create_connection((host, port), timeout=_PATIENCE):
            return ok("mlflow", f"a server answers at {shown}")
    except OSError as error:
        return fault(
            "mlflow",
            f"nothing answers at {shown}: {error.strerror or error}",
            "start the database, or unset MLFLOW_TRACKING_URI",
        )


def check_storage(url: str) -> Check | None:
    """Whether trials of a search can be kept where WSSS_TUNE_STORAGE says; None of a file.

    Example:
        >>> check_storage("postgresql://me:secret@host/trials").fix
        'write postgresql+psycopg:// at its beginning'
    """
    if not url.startswith("postgresql"):
        return None
    found = _check_postgres(url, without_login(url))
    return Check(found.level, "WSSS_TUNE_STORAGE", found.text, found.fix)
