"""Where MLflow's page of the experiments is, and whether a server shows it."""

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wsss.tracking.database import database_file, experiment_ids, tracking_uri
from wsss.tracking.server import ask_server, without_login

__all__ = ["LOCAL", "Place", "find_place"]

LOCAL = "http://127.0.0.1:5000"
"""Where `mlflow ui` serves, to this machine alone."""


@dataclass(frozen=True)
class Place:
    """Where a person finds the runs.

    Attributes:
        link: the page of the experiments, past MLflow's start page, with their scores as bars; the
            server asks for a login itself.
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
        number, note = _served(server, experiment, os.environ)
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
    number, note = _served(server, experiment, {})  # a login is for another server
    if number and number != own:
        note = f"the server at {server} shows another project; give this one another port"
    return Place(_link(server, own), number == own, command, note)


def _link(server: str, number: str) -> str:
    page = f"experiments/{number}/runs?compareRunsMode=CHART" if number else "experiments"
    return f"{without_login(server)}/#/{page}"


def _served(server: str, experiment: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """The experiment's id at a server, or "" and why there is none."""
    answer, shown = ask_server(server, experiment, environ), without_login(server)
    if answer.experiment:
        return answer.experiment, ""
    if answer.status == 404:
        return "", f"the server at {shown} has no experiment '{experiment}'"
    if answer.status in (401, 403):
        return "", (
            f"the server at {shown} refuses this login; set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD to one that may see the experiment"
        )
    if answer.status:
        return "", f"what answers at {shown} is not MLflow, or is out of order ({answer.status})"
    return "", f"no MLflow server answers at {shown} ({answer.text})"
