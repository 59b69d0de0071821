"""Who may do what at the tracking server, asked of the real one."""

import json
import os
import subprocess
import sys
import time
import uuid
from base64 import b64encode
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from .mlflow_server import ROOT, MlflowServer

pytestmark = pytest.mark.cluster

NUM_WORKERS, NUM_EPOCHS = 20, 15

WORKER = """
import sys
from pathlib import Path
from wsss.tracking import open_tracker

root, number = Path(sys.argv[1]), int(sys.argv[2])
tags = {"study": "many", "trial": str(number)}
with open_tracker("trial", root, sys.argv[3], {"trial": number}, key=sys.argv[2], tags=tags) as run:
    for epoch in range(int(sys.argv[4])):
        run.metrics({"score": number + epoch / 100, "loss": 1 / (epoch + 1)}, epoch)
        run.flush()
"""


def ask(
    server: MlflowServer,
    path: str,
    user: str | None = "worker",
    password: str | None = None,
    body: object = None,
    **headers: str,
) -> tuple[int, str]:
    """Send a request; gives the status and the answer."""
    request = Request(f"{server.url}{path}", method="GET" if body is None else "POST")
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    if user is not None:
        login = f"{user}:{server.passwords.get(user) if password is None else password}"
        request.add_header("Authorization", f"Basic {b64encode(login.encode()).decode()}")
    for name, value in headers.items():
        request.add_header(name, value)
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=60) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except HTTPError as error:
        return error.code, error.read().decode(errors="replace")


EXPERIMENTS = "/api/2.0/mlflow/experiments/search?max_results=10"


def test_only_those_who_log_in_are_let_in(mlflow_server: MlflowServer) -> None:
    assert ask(mlflow_server, EXPERIMENTS)[0] == 200
    assert ask(mlflow_server, EXPERIMENTS, user=None)[0] == 401
    assert ask(mlflow_server, EXPERIMENTS, password="wrong password")[0] == 401
    assert ask(mlflow_server, EXPERIMENTS, user="admin", password="password1234")[0] == 401
    assert ask(mlflow_server, EXPERIMENTS, user="nobody", password="")[0] == 401


@pytest.mark.parametrize("host", ["evil.example", "evil.example:5000", "mlflow.evil.example"])
def test_a_foreign_host_is_refused(mlflow_server: MlflowServer, host: str) -> None:
    """A page in somebody's browser could reach the server through a name of its own."""
    status, said = ask(mlflow_server, EXPERIMENTS, Host=host)
    assert (status, "host" in said.lower()) == (403, True)


@pytest.mark.parametrize(
    "path", ["../../auth.ini", "..%2f..%2fauth.ini", "%2e%2e/%2e%2e/auth.ini", "/etc/passwd"]
)
def test_a_path_that_climbs_out_of_the_artifacts_is_refused(
    mlflow_server: MlflowServer, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = mlflow_server.client(monkeypatch)
    number = client.create_experiment(f"climbs {uuid.uuid4()}")
    run = client.create_run(number).info
    for place in (
        f"/api/2.0/mlflow-artifacts/artifacts/{path}",
        f"/api/2.0/mlflow-artifacts/artifacts/{number}/{run.run_id}/artifacts/{path}",
        f"/get-artifact?run_id={run.run_id}&path={path}",
    ):
        status, said = ask(mlflow_server, place)
        assert status >= 400, place
        assert "database_uri" not in said
        assert "root:" not in said


def documented() -> list[str]:
    """The calls of docs/server.md that make a user, give rights, and take them away."""
    text = (ROOT / "docs/server.md").read_text()
    return [line for line in text.splitlines() if line.startswith("users.")]


def stage(server: MlflowServer, root: Path, experiment: str, user: str) -> tuple[int, str]:
    """Run a stage as a user."""
    command = [sys.executable, "-c", WORKER, str(root), "1", experiment, "1"]
    environment = {**os.environ, **server.login(user), "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_rights_are_those_that_were_given(
    mlflow_server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None, then reading, then editing, then none; by the calls of docs/server.md."""
    name = f"rights {uuid.uuid4()}"
    client = mlflow_server.client(monkeypatch)
    number = client.create_experiment(name)
    run = client.create_run(number).info.run_id
    (tmp_path / "secret.txt").write_text("secret")
    client.log_artifact(run, str(tmp_path / "secret.txt"))
    read = f"/api/2.0/mlflow/runs/get?run_id={run}"
    file = f"/get-artifact?run_id={run}&path=secret.txt"
    proxied = f"/api/2.0/mlflow-artifacts/artifacts/{number}/{run}/artifacts/secret.txt"
    write = {"run_id": run, "key": "x", "value": "1"}

    def answers() -> list[int]:
        asked = [ask(mlflow_server, path, user="ada")[0] for path in (read, file, proxied)]
        path = "/api/2.0/mlflow/runs/set-tag"
        return [*asked, ask(mlflow_server, path, user="ada", body=write)[0]]

    from mlflow.server import get_app_client

    for variable, value in mlflow_server.login("admin").items():
        monkeypatch.setenv(variable, value)
    users = get_app_client("basic-auth", tracking_uri=mlflow_server.url)
    known = {"users": users, "experiment_id": number}
    make, reading, none, editing, password, delete = documented()
    exec(make, known)
    mlflow_server.passwords["ada"] = "a password of 12 characters or more"
    assert answers() == [403] * 4
    status, said = stage(mlflow_server, tmp_path, name, "ada")
    assert status == 1
    assert "The user 'ada' may not write in that experiment" in said
    exec(reading, known)
    assert answers() == [200, 200, 200, 403]
    assert "may not write in that experiment" in stage(mlflow_server, tmp_path, name, "ada")[1]
    exec(none, known)
    assert answers() == [403] * 4
    exec(editing, known)
    assert answers() == [200] * 4
    assert stage(mlflow_server, tmp_path, name, "ada")[0] == 0
    exec(none, known)
    assert answers() == [403] * 4
    exec(password, known)
    mlflow_server.passwords["ada"] = "another one, at least as long"
    assert answers() == [403] * 4
    exec(delete, known)
    assert answers() == [401] * 4


def test_a_wrong_login_is_said_before_any_work(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    mlflow_server.passwords["intruder"] = "a wrong password"
    status, said = stage(mlflow_server, tmp_path, "any", "intruder")
    assert status == 1
    assert "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in said
    assert "a wrong password" not in said


def test_many_workers_lose_no_value(
    mlflow_server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = f"many {uuid.uuid4()}"
    client: Any = mlflow_server.client(monkeypatch)
    number = client.create_experiment(experiment)
    environment = {**os.environ, **mlflow_server.login(), "PYTHONPATH": str(ROOT / "src")}
    environment |= {"MLFLOW_HTTP_REQUEST_TIMEOUT": "120"}  # all of them on a small machine
    began = time.monotonic()
    workers = []
    for worker in range(NUM_WORKERS):
        (tmp_path / str(worker)).mkdir()
        command = [sys.executable, "-c", WORKER, str(tmp_path / str(worker)), str(worker)]
        command += [experiment, str(NUM_EPOCHS)]
        workers.append(subprocess.Popen(command, env=environment))
    assert [worker.wait() for worker in workers] == [0] * NUM_WORKERS
    print(f"{NUM_WORKERS} workers of {NUM_EPOCHS} epochs: {time.monotonic() - began:.1f} s")
    runs = client.search_runs([number], max_results=100)
    assert sorted(int(run.data.params["trial"]) for run in runs) == list(range(NUM_WORKERS))
    for run in runs:
        trial = int(run.data.params["trial"])
        assert run.info.status == "FINISHED"
        for key, values in {
            "score": [trial + epoch / 100 for epoch in range(NUM_EPOCHS)],
            "loss": [1 / (epoch + 1) for epoch in range(NUM_EPOCHS)],
        }.items():
            history = client.get_metric_history(run.info.run_id, key)
            assert [(value.step, value.value) for value in history] == list(enumerate(values))
