"""A web server on this machine that behaves as badly as a test wants."""

import io
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from wsss.downloads import fetching


@dataclass
class Server:
    """What is served, how, and what was asked.

    Attributes:
        url: of the server, without a slash at its end.
        files: by path.
        ranges: whether parts are given.
        cut: after so many bytes of an answer the connection ends; None never does it.
        cuts: how often that is done.
        answers: instead of a file, by path: a status and headers.
        says_length: whether answers have a length.
        tag: of all files.
        asked: path and Range of each request.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    cut: int | None = None
    cuts: int = 1_000
    answers: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)
    says_length: bool = True
    tag: str = '"1"'
    asked: list[tuple[str, str]] = field(default_factory=list)


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            span = self.headers.get("Range", "")
            server.asked.append((self.path, span))
            if self.path in server.answers:
                status, headers = server.answers[self.path]
                self._begin(status, {"Content-Length": "0", **headers})
                return
            if self.path not in server.files:
                self._begin(404, {"Content-Length": "0"})
                return
            held, start, status = server.files[self.path], 0, 200
            headers = {"ETag": server.tag}
            if span and server.ranges and self.headers.get("If-Range", server.tag) == server.tag:
                start, status = int(span[len("bytes=") : -1]), 206
                if start >= len(held):
                    found = {"Content-Range": f"bytes */{len(held)}", "Content-Length": "0"}
                    self._begin(416, found)
                    return
                headers["Content-Range"] = f"bytes {start}-{len(held) - 1}/{len(held)}"
            body = held[start:]
            length = {"Content-Length": str(len(body))} if server.says_length else {}
            self._begin(status, headers | length)
            if server.cut is not None and server.cuts:
                server.cuts -= 1
                body = body[: server.cut]
            self.wfile.write(body)

        def _begin(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Serves on a free port of this machine; nobody waits before asking again."""
    monkeypatch.setattr(fetching, "PAUSE", 0.0)
    monkeypatch.setattr(fetching, "MIB", 1000)  # blocks smaller than the files
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    made = Server()
    running = ThreadingHTTPServer(("127.0.0.1", 0), _handler(made))
    made.url = f"http://127.0.0.1:{running.server_address[1]}"
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    running.shutdown()
    running.server_close()
    thread.join()


def tar_of(*members: tuple[tarfile.TarInfo | str, bytes], mode: str = "w:gz") -> bytes:
    """A tar of members, each a header or the name of a file, with its content."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as tar:  # type: ignore[call-overload]
        for head, content in members:
            info = tarfile.TarInfo(head) if isinstance(head, str) else head
            info.size = len(content) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return packed.getvalue()


@pytest.fixture
def pack() -> Any:
    """Makes a tar; see `tar_of`."""
    return tar_of
