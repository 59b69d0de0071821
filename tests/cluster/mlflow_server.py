"""The tracking server of docker/, by its own script, on the tests' PostgreSQL."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import pytest

from .postgres_server import PASSWORD, PostgresServer, free_port

__all__ = ["ROOT", "MlflowServer", "mlflow_server"]

ROOT = Path(__file__).parents[2]
PATIENCE = 180.0  # seconds for a start on a machine that is busy


@dataclass
class MlflowServer:
    """A server that `start` starts, and that may be killed and started again.

    Attributes:
        postgres: its databases.
        folder: of its artifacts and its log.
        passwords: by user.
        environment: further variables of its process.
    """

    postgres: PostgresServer
    folder: Path
    passwords: dict[str, str] = field(
        default_factory=lambda: {name: secrets.token_urlsafe(15) for name in ("admin", "worker")}
    )
    environment: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def login(self, user: str = "worker") -> dict[str, str]:
        """The variables of a client."""
        return {
            "MLFLOW_TRACKING_URI": self.url,
            "MLFLOW_TRACKING_USERNAME": user,
            "MLFLOW_TRACKING_PASSWORD": self.passwords[user],
        }

    def run(self, command: str, **further: str) -> "subprocess.Popen[bytes]":
        """Run docker/mlflow_service.py."""
        settings = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "PG_HOST": self.postgres.address,
            "PG_PASSWORD": PASSWORD,
            "MLFLOW_ADMIN_PASSWORD": self.passwords["admin"],
            "MLFLOW_WORKER_PASSWORD": self.passwords["worker"],
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "of tests",
            "AUTH_CONFIG": str(self.folder / "auth.ini"),
            "MLFLOW_ARTIFACTS": str(self.folder / "artifacts"),
            "MLFLOW_LISTEN": "127.0.0.1",
            "MLFLOW_PORT": str(self.port),
            "MLFLOW_WORKERS": "1",  # each takes seconds to start, and tests start many
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, str(ROOT / "docker/mlflow_service.py"), command],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=settings | self.environment | further,
                start_new_session=True,  # it has workers, which are killed with it
            )

    def init(self) -> None:
        """Make databases, tables and users."""
        assert self.run("init").wait(PATIENCE) == 0, self.log()

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        self.process = self.run("serve")
        deadline = time.monotonic() + PATIENCE
        while not self.answers():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.2)

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            with build_opener(ProxyHandler({})).open(f"{self.url}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    def signal(self, number: int) -> None:
        """Send the server and its workers a signal."""
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """End the server at once, without a farewell."""
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGKILL)
            self.process.wait()

    def log(self) -> str:
        """The last of what it said."""
        return (self.folder / "log").read_text(errors="replace")[-3000:]

    def client(self, monkeypatch: pytest.MonkeyPatch, user: str = "worker") -> Any:
        """MLflow's client, as a user."""
        for name, value in self.login(user).items():
            monkeypatch.setenv(name, value)
        from wsss.tracking import prepare_mlflow

        prepare_mlflow()
        from mlflow.tracking import MlflowClient

        return MlflowClient(self.url)


@pytest.fixture(scope="session")
def mlflow_server(postgres: PostgresServer) -> Iterator[MlflowServer]:
    """The server for all tests of a session; whoever kills it starts it again."""
    pytest.importorskip("mlflow")
    pytest.importorskip("flask_wtf", reason="needs a login page: pip install 'mlflow[auth]'")
    server = MlflowServer(postgres, Path(tempfile.mkdtemp(prefix="wsss-mlflow-")))
    try:
        server.init()
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(server.folder, ignore_errors=True)
