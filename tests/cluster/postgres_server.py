"""A PostgreSQL of the tests' own: in a temporary folder, at a free port of loopback, with a login.

Its programs are this machine's, or are installed by apt where the tests run as root. PostgreSQL
refuses to run as root; then it runs as the user postgres, or nobody.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

__all__ = ["PASSWORD", "USER", "PostgresServer", "free_port", "install", "postgres", "programs"]

USER = "wsss"
PASSWORD = "p@ss:/w%rd#?"  # all that a URL would trip over
PATIENCE = 60.0  # seconds for a start on a machine that is busy


def free_port() -> int:
    """A port of loopback that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def install(*packages: str) -> str:
    """Install Debian packages where that is allowed; says why not, or "" if they are there now."""
    if os.geteuid() != 0:
        return f"only root may do it: apt-get install {' '.join(packages)}"
    if shutil.which("apt-get") is None:
        return f"there is no apt-get to install {' '.join(packages)}"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        done = subprocess.run(
            ["apt-get", "-qq", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
    return (
        "" if done.returncode == 0 else f"apt-get cannot install {packages}: {done.stderr[-300:]}"
    )


def programs() -> Path:
    """The folder of initdb, postgres, pg_dump and psql; the test is skipped where there is none."""
    for attempt in ("as it is", "installed"):
        versions = list(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if versions:
            return max(versions, key=lambda path: float(path.parts[-3])).parent
        if found := shutil.which("initdb"):
            return Path(found).resolve().parent
        if attempt == "as it is" and (why := install("postgresql")):
            break
    pytest.skip(f"needs PostgreSQL (initdb and postgres): {why}")


def _servant() -> dict[str, Any]:
    """Who the server runs as, as options of subprocess."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            user = pwd.getpwnam(name)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")


@dataclass
class PostgresServer:
    """A server that `start` starts.

    Attributes:
        folder: of its data; another user's where the tests run as root.
        bin: of its programs.
        port: of 127.0.0.1.
    """

    folder: Path
    bin: Path
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    def url(self, database: str) -> str:
        """The URL of a database as SQLAlchemy names it; it is made if it is not there."""
        with self.connect("postgres") as connection:
            asked = "SELECT 1 FROM pg_database WHERE datname = %s"
            if connection.execute(asked, (database,)).fetchone() is None:
                connection.execute(f'CREATE DATABASE "{database}"')
        return f"postgresql+psycopg://{USER}:{quote(PASSWORD, safe='')}@{self.address}/{database}"

    def connect(self, database: str) -> Any:
        """A connection of psycopg to a database that is there; every statement counts at once."""
        import psycopg

        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=PASSWORD,
            dbname=database,
            autocommit=True,
        )

    def create(self) -> None:
        """Make the data folder, with one user who has a password."""
        servant = _servant()
        if servant:
            os.chown(self.folder, servant["user"], servant["group"])
        with tempfile.NamedTemporaryFile("w") as secret:
            secret.write(PASSWORD)
            secret.flush()
            if servant:
                os.chown(secret.name, servant["user"], servant["group"])
            command = [
                self.bin / "initdb",
                f"--pgdata={self.folder / 'data'}",
                f"--username={USER}",
                f"--pwfile={secret.name}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
            ]
            subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **servant)

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",  # a test's data need not outlive the machine
            "max_connections": 200,
        }
        command = [self.bin / "postgres", "-D", self.folder / "data"]
        command += [part for item in options.items() for part in ("-c", "{}={}".format(*item))]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, **_servant()
            )
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.connect("postgres").close()
                return
            except Exception:
                said = (self.folder / "log").read_text(errors="replace")[-2000:]
                assert self.process.poll() is None, f"PostgreSQL ended: {said}"
                assert time.monotonic() < deadline, f"PostgreSQL does not answer: {said}"
                time.sleep(0.1)

    def stop(self) -> None:
        """End the server, whoever is connected."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL for all tests of a session; each takes databases of its own names."""
    pytest.importorskip("psycopg", reason="needs psycopg: pip install '.[postgres]'")
    # pytest's own folders are root's alone
    server = PostgresServer(Path(tempfile.mkdtemp(prefix="wsss-postgres-")), programs())
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)
