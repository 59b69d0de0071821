"""Asking a server for an experiment: it is told who asks, and is not waited for."""

import socket
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Event, Thread

import pytest

from wsss.tracking.server import Answer, ask_server, within


@pytest.fixture
def server() -> "list[object]":
    """A server that answers with a status; its last request."""
    held: list[object] = [200, None, None]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            held[1] = self
            self.send_response(int(str(held[0])))
            self.end_headers()
            known = self.headers.get("Authorization") == "Basic bWU6YSBi"  # me:a b
            body = b'{"experiment": {"experiment_id": "3"}}' if held[0] == 200 else b"Invalid Host"
            self.wfile.write(body if known or held[0] != 200 else b"no login")

        def log_message(self, *_: object) -> None:
            pass

    own = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=own.serve_forever, daemon=True).start()
    held[2] = f"127.0.0.1:{own.server_port}"
    yield held
    own.shutdown()


def test_a_server_is_asked_with_the_login_that_is_set(server: "list[object]") -> None:
    login = {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "a b"}
    found = Answer(200, experiment="3")
    assert ask_server(f"http://{server[2]}/", "wsss", login) == found
    assert ask_server(f"http://me:a%20b@{server[2]}", "wsss", {}) == found
    assert ask_server(f"http://{server[2]}", "wsss", {}).status == 500
    server[0] = 403
    assert ask_server(f"http://{server[2]}", "my runs", {}) == Answer(403, "Invalid Host")


def test_a_server_that_says_nothing_is_not_waited_for() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        found = ask_server(f"http://127.0.0.1:{deaf.getsockname()[1]}", "wsss", {}, patience=0.2)
    assert found.status == 0 and "timed out" in found.text
    assert ask_server("http://127.0.0.1:1", "wsss", {}).text == "Connection refused"


def test_what_speaks_no_http_is_told_as_that() -> None:
    """As where the port is that of another service, or the address is none."""
    with socket.create_server(("127.0.0.1", 0)) as other:

        def greet() -> None:
            with other.accept()[0] as connection:
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-OpenSSH\r\n")

        Thread(target=greet, daemon=True).start()
        found = ask_server(f"http://127.0.0.1:{other.getsockname()[1]}", "wsss", {})
    assert found == Answer(500, "not MLflow")
    assert ask_server("http://127.0.0.1:port", "wsss", {}) == Answer(500, "not MLflow")


def test_a_call_that_takes_long_is_left_to_itself() -> None:
    waiting = Event()
    assert within(0.1, waiting.wait, False) is False
    waiting.set()
    with pytest.raises(ConnectionError, match="no"):
        within(5, lambda: (_ for _ in ()).throw(ConnectionError("no")), None)
