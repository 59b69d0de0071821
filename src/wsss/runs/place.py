"""Where MLflow's page of the experiments is, and whether a server shows it."""

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import ProxyHandler, build_opener

from wsss.tracking.database import database_file, experiment_ids, tracking_uri

__all__ = ["LOCAL", "Place", "find_place"]

LOCAL = "http://127.0.0.1:5000"
"""Where `mlflow ui` serves, to this machine alone."""


@dataclass(frozen=True)
class Place:
    """Where a person finds the runs.

    Attributes:
        link: the page of the experiments, past MLflow's start page; their scores as bars.
        is_up: whether a server answers there, and has this project's experiment.
        command: what starts the server; "" where it is not ours to start.
        note: why it is not up, or that nothing was recorded yet; else "".
    """

    link: str
    is_up: bool
    command: str
    note: str


def find_place(root: Path, experiment: str, server: str = LOCAL) -> Place:
    """Say where the runs of an experiment are to be seen.

    Args:
        root: the project.
        experiment: MLflow's name of it.
        server: where the project's own database is served; another store is its own server.
    """
    uri = tracking_uri(root)
    database = database_file(uri)
    if database is None:
        server = uri.rstrip("/") if uri.startswith("http") else server
        number, note = _served(server, experiment)
        return Place(_link(server, number), bool(number), "", note)
    command = f"mlflow ui --backend-store-uri {shlex.quote(uri)}"
    if server != LOCAL:
        command += f" --port {server.rpartition(':')[2]}"
    if Path(sys.executable).with_name("mlflow").exists():
        command = shlex.quote(str(Path(sys.executable).with_name("mlflow"))) + command[6:]
    known = experiment_ids(database)
    own = known.get(experiment, "")
    if not own:
        return Place(_link(server, ""), False, command, f"no run is in {database} yet")
    number, note = _served(server, experiment)
    if number and number != own:
        note = f"the server at {server} shows another project; give this one another port"
    return Place(_link(server, own), number == own, command, note)


def _link(server: str, number: str) -> str:
    page = f"experiments/{number}/runs?compareRunsMode=CHART" if number else "experiments"
    return f"{server}/#/{page}"


def _served(server: str, experiment: str) -> tuple[str, str]:
    """The experiment's id at a server, or "" and why there is none."""
    asked = f"{server}/api/2.0/mlflow/experiments/get-by-name?experiment_name={quote(experiment)}"
    opener = build_opener(ProxyHandler({})) if server == LOCAL else build_opener()
    try:
        with opener.open(asked, timeout=5) as answer:
            return str(json.load(answer)["experiment"]["experiment_id"]), ""
    except URLError as error:
        code = getattr(error, "code", None)
        if code == 404:
            return "", f"the server at {server} has no experiment '{experiment}'"
        return "", f"no MLflow server answers at {server}" if code is None else str(error)
    except (OSError, ValueError, KeyError, TypeError):
        return "", f"what answers at {server} is not MLflow"
