"""Where the runs are to be seen."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from wsss.runs.place import find_place
from wsss.tracking import RunStart, open_run, prepare_mlflow, tracking_uri
from wsss.tracking.database import experiment_ids


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, str]]]:
    """Answers as MLflow does for the experiments that it is given, and for one "login" alone."""
    known: dict[str, str] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("=")[2]
            login = known.get("login", "")
            allowed = not login or self.headers.get("Authorization") == f"Basic {login}"
            self.send_response(401 if not allowed else 200 if name in known else 404)
            self.end_headers()
            if name in known:
                body = {"experiment": {"experiment_id": known[name]}}
                self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None: ...

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}", known
    served.shutdown()
    served.server_close()


def test_the_link_leads_to_the_experiment_and_says_whether_a_server_shows_it(
    project: Path, server: tuple[str, dict[str, str]]
) -> None:
    address, known = server
    nothing = find_place(project, "wsss", address)
    assert (nothing.is_up, nothing.link) == (False, f"{address}/#/experiments")
    assert "no run" in nothing.note
    prepare_mlflow()
    with open_run(RunStart("", tracking_uri(project), "wsss", "a", {}, "key")):
        pass
    number = experiment_ids(project / "mlflow.db")["wsss"]
    link = f"{address}/#/experiments/{number}/runs?compareRunsMode=CHART"
    away = find_place(project, "wsss", "http://127.0.0.1:9")
    assert not away.is_up
    assert "no MLflow server answers at http://127.0.0.1:9" in away.note
    assert away.command.endswith(f"ui --backend-store-uri sqlite:///{project}/mlflow.db --port 9")
    known["wsss"] = "another"
    other = find_place(project, "wsss", address)
    assert (other.is_up, other.link) == (False, link)
    assert "shows another project" in other.note
    known["wsss"] = number
    here = find_place(project, "wsss", address)
    assert (here.is_up, here.link, here.note) == (True, link, "")


def test_a_server_of_the_users_own_is_linked_and_not_started(
    project: Path, server: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, known = server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{address}/")
    assert find_place(project, "wsss").note.endswith("has no experiment 'wsss'")
    known["wsss"] = "7"
    place = find_place(project, "wsss")
    assert place.link == f"{address}/#/experiments/7/runs?compareRunsMode=CHART"
    assert (place.is_up, place.command) == (True, "")


def test_a_server_with_users_is_asked_with_the_login_which_is_not_shown(
    project: Path, server: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, known = server
    known.update(wsss="7", login="YWRhOnNlY3JldA==")  # ada:secret
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert "MLFLOW_TRACKING_USERNAME" in find_place(project, "wsss").note
    with monkeypatch.context() as with_login:
        with_login.setenv("MLFLOW_TRACKING_USERNAME", "ada")
        with_login.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
        assert find_place(project, "wsss").is_up
    host = address.removeprefix("http://")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ada:secret@{host}/")
    place = find_place(project, "wsss")
    assert (place.is_up, place.link.partition("/#/")[0]) == (True, address)
    for uri in (f"http://ada:secret@{host}", "http://ada:secret@127.0.0.1:9"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        for experiment in ("wsss", "other"):
            assert "secret" not in str(find_place(project, experiment))


def test_another_service_at_that_port_is_told_as_that(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def greet() -> None:
            with other.accept()[0] as connection:
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-OpenSSH\r\n")

        threading.Thread(target=greet, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{other.getsockname()[1]}")
        place = find_place(project, "wsss")
    assert not place.is_up and "is not MLflow" in place.note


def test_a_login_for_another_server_is_not_told_to_this_machines(
    project: Path, server: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_mlflow()
    with open_run(RunStart("", tracking_uri(project), "wsss", "a", {}, "key")):
        pass
    address, known = server
    known.update(wsss=experiment_ids(project / "mlflow.db")["wsss"], login="YWRhOnNlY3JldA==")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    assert not find_place(project, "wsss", address).is_up
