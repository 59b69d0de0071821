"""Whether runs can be recorded where MLflow is said to be, found out within seconds."""

import base64
import json
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Thread
from typing import TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from wsss.doctor.check import Check, fault, ok, warning
from wsss.doctor.project import without_login

__all__ = ["Answer", "ask_server", "check_storage", "check_tracking", "within"]

Result = TypeVar("Result")

PATIENCE = 5.0
"""Seconds that a server may take."""

_LOCAL = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Answer:
    """What a server says when it is asked for an experiment.

    Attributes:
        status: of HTTP; 0 where nothing answered.
        text: why nothing answered, or the beginning of what it said.
    """

    status: int
    text: str = ""


def check_tracking(
    uri: str,
    *,
    installed: bool,
    look_at_database: Callable[[], bool],
    ask: Callable[[str], Answer],
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


def _check_server(shown: str, answer: Answer) -> Check:
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
        with socket.create_connection((host, port), timeout=PATIENCE):
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


def ask_server(
    uri: str, experiment: str, environ: Mapping[str, str], patience: float = PATIENCE
) -> Answer:
    """Ask an MLflow server for an experiment; whatever it does, this comes back in time.

    Args:
        uri: its address, with or without a login.
        experiment: its name.
        environ: has MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or
            MLFLOW_TRACKING_TOKEN, where the address has no login.
        patience: seconds.
    """
    limit = 2 * patience  # finding a host's address has no limit of its own
    late = Answer(0, f"no answer within {limit:g} s")
    return within(limit, lambda: _asked(uri, experiment, environ, patience), late)


def within(seconds: float, call: Callable[[], Result], late: Result) -> Result:
    """What a call gives, or `late` where it takes longer; it is then left to itself.

    Example:
        >>> within(5.0, lambda: "there", "too late")
        'there'
    """
    given: list[Result] = []
    raised: list[BaseException] = []

    def work() -> None:
        try:
            given.append(call())
        except Exception as error:  # is raised where it was asked for
            raised.append(error)

    working = Thread(target=work, daemon=True)
    working.start()
    working.join(seconds)
    if raised:
        raise raised[0]
    return given[0] if given else late


def _asked(uri: str, experiment: str, environ: Mapping[str, str], patience: float) -> Answer:
    parts = urlsplit(uri)
    place = without_login(uri).rstrip("/")
    asked = f"{place}/api/2.0/mlflow/experiments/get-by-name?experiment_name={quote(experiment)}"
    request = Request(asked)
    user = parts.username or environ.get("MLFLOW_TRACKING_USERNAME")
    password = parts.password or environ.get("MLFLOW_TRACKING_PASSWORD", "")
    if user:
        login = f"{unquote(user)}:{unquote(password)}" if parts.username else f"{user}:{password}"
        request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    elif token := environ.get("MLFLOW_TRACKING_TOKEN"):
        request.add_header("Authorization", f"Bearer {token}")
    own = [ProxyHandler({})] if parts.hostname in _LOCAL else []
    try:
        with build_opener(*own).open(request, timeout=patience) as answer:
            json.load(answer)["experiment"]
            return Answer(200)
    except HTTPError as error:
        return Answer(error.code, error.read(300).decode(errors="replace").partition("\n")[0][:120])
    except URLError as error:
        return Answer(0, str(getattr(error.reason, "strerror", None) or error.reason))
    except (ValueError, KeyError, TypeError):
        return Answer(500, "not MLflow")
    except OSError as error:
        return Answer(0, str(error.strerror or error))
