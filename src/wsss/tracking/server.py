"""Asking an MLflow server without MLflow, whose import takes seconds."""

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from threading import Thread
from typing import TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import ProxyHandler, Request, build_opener

__all__ = ["Answer", "ask_server", "within", "without_login"]

Result = TypeVar("Result")

_PATIENCE = 5.0  # seconds that a server may take
_LOCAL = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Answer:
    """What a server says when it is asked for an experiment.

    Attributes:
        status: of HTTP; 0 where nothing answered.
        text: why nothing answered, or the beginning of what it said.
        experiment: the id of the experiment; "" where it is not there.
    """

    status: int
    text: str = ""
    experiment: str = ""


def without_login(text: str) -> str:
    """A text, such as a URL, without the login of any address in it.

    Example:
        >>> without_login("no answer from http://me:secret@host/path")
        'no answer from http://host/path'
    """
    return re.sub(r"://[^/@\s]*@", "://", text)


def ask_server(
    uri: str, experiment: str, environ: Mapping[str, str], patience: float = _PATIENCE
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
            return Answer(200, experiment=str(json.load(answer)["experiment"]["experiment_id"]))
    except HTTPError as error:
        return Answer(error.code, error.read(300).decode(errors="replace").partition("\n")[0][:120])
    except URLError as error:
        return Answer(0, str(getattr(error.reason, "strerror", None) or error.reason))
    except (HTTPException, ValueError, KeyError, TypeError):
        return Answer(500, "not MLflow")
    except OSError as error:
        return Answer(0, str(error.strerror or error))
