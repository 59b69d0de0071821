"""A process that holds MLflow, so that stages need not wait for its import.

Whoever records a run connects to it and writes one JSON line per call. The helper answers when the
run exists, or with the error that kept it from starting, passes on what is logged, and ends the run
when it is told to; if the other end vanishes without a word, as after kill -9, it ends the run as
KILLED. All stages of a `dvc repro` that record in the project's own database share one helper,
which leaves when nobody has come for a while.
"""

import json
import logging
import os
import queue
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock

from wsss.artifacts import fingerprint
from wsss.tracking._base import Table, now
from wsss.tracking.calls import decode, encode
from wsss.tracking.database import database_file
from wsss.tracking.environment import prepare_mlflow
from wsss.tracking.provenance import RunStart
from wsss.tracking.usable import SYNC, check_database

__all__ = ["HelperTracker", "main"]

IDLE_SECONDS = 20.0
"""How long a helper waits for the next stage."""

_LONGEST = 103
"""Bytes that the address of a socket may have on every system."""

_logger = logging.getLogger(__name__)


class HelperTracker:
    """A tracker that passes on what it is told.

    Args:
        start: the run.

    Raises:
        ConnectionError: MLflow cannot record. A local database is looked at, and not waited for:
            what goes wrong there later on is logged, and the stage goes on.
    """

    def __init__(self, start: RunStart) -> None:
        database = database_file(start.uri)
        if database is not None:
            check_database(database, start.uri, start.experiment)
        self._is_local = database is not None
        self._socket = _own_helper() if database is None else _shared_helper(database)
        self._unread = b""
        self.run_id = ""
        self._exists = self._lost = self._ended = False
        self._send(["start", asdict(start)])
        if database is None:
            self._wait(lambda: self._exists)

    def metrics(
        self, values: Mapping[str, float], step: int = 0, moment: int | None = None
    ) -> None:
        """Remember values of one step."""
        plain = {key: float(value) for key, value in values.items()}
        self._send(["metrics", plain, step, now() if moment is None else moment])

    def artifact(self, path: Path) -> None:
        """Store a file at the root of the run's artifacts, under its own name."""
        self._send(["artifact", path])

    def table(self, name: str, columns: Table) -> None:
        """Store a table with pictures."""
        self._send(["table", name, {title: list(column) for title, column in columns.items()}])

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags of the run."""
        self._send(["tags", dict(values)])

    def flush(self) -> None:
        """Send what is buffered."""
        self._send(["flush"])

    def end(self, status: str, error: str = "", moment: int | None = None) -> None:
        """Send all that is left, end the run and wait until that is done."""
        self._send(["end", status, error, moment])
        self._wait(lambda: self._ended)
        self._socket.close()

    def _send(self, call: list[Any]) -> None:
        while not self._lost and select.select([self._socket], [], [], 0)[0]:
            self._read()
        if self._lost:
            return
        try:
            self._socket.sendall(encode(call).encode() + b"\n")
        except OSError:
            self._lose()

    def _wait(self, arrived: Callable[[], bool]) -> None:
        while not (self._lost or arrived()):
            self._read()

    def _read(self) -> None:
        """Take in what the helper says next."""
        try:
            received = self._socket.recv(65536)
        except OSError:
            received = b""
        if not received:
            self._lose()
            return
        *lines, self._unread = (self._unread + received).split(b"\n")
        for line in lines:
            kind, *rest = json.loads(line)
            if kind == "log":
                _logger.log(*rest)
            elif kind == "error":
                self._lose(rest[0])
                return
            if kind == "exists":
                self._exists, self.run_id = True, rest[0]
            if kind == "ended":  # "" of a run that MLflow does not have whole
                self._ended, self.run_id = True, rest[0]

    def _lose(self, reason: str = "") -> None:
        """Go on without MLflow; before a server has made the run, raise ConnectionError."""
        self._lost = True
        if not (self._exists or self._is_local):
            raise ConnectionError(
                reason or "the process that talks to MLflow ended before it began"
            )
        self.run_id = ""
        why = reason or "The process that talks to MLflow is gone."
        _logger.warning(
            "%s\nThe stage goes on, and its results are kept; `wsss runs sync` records them.",
            why.removesuffix(SYNC),
        )


def _own_helper() -> socket.socket:
    """Start a helper that serves this process alone."""
    ours, theirs = socket.socketpair()
    with theirs:
        _start(theirs, "")
    return ours


def _shared_helper(database: Path) -> socket.socket:
    """Connect to the helper of a database, which is started if there is none.

    Where no place for its address is short enough, this process gets a helper of its own.
    """
    database.touch()  # a helper whose database was deleted is not this one's
    held = database.stat()
    settings = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}
    identity = (str(database), held.st_dev, held.st_ino, sys.executable, settings)
    name = fingerprint(identity, files=[Path(__file__).parent])[:32]
    folder = _folder(len(f"/{name}.sock"))
    if folder is None:
        return _own_helper()
    address = folder / f"{name}.sock"
    # nobody may connect while the helper makes up its mind to leave
    with FileLock(f"{address}.lock"):
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(address))
            return connection
        except OSError:  # none is there, or it was killed
            address.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(address))
            listener.listen(64)
            _start(listener, str(address))
        connection.connect(str(address))
        return connection


def _folder(length: int) -> Path | None:
    """Make the folder of addresses, which is this user's alone.

    Args:
        length: bytes that come after it in an address.

    Returns:
        The folder; None where all places for it are too long, or not there.
    """
    for place in (tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR"), "/tmp"):
        folder = Path(place or "/tmp") / f"wsss-{os.getuid()}"
        if len(os.fsencode(folder)) + length > _LONGEST:
            continue
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError:
            continue
        held = folder.stat(follow_symlinks=False)
        if held.st_uid != os.getuid() or held.st_mode & 0o077:
            raise ConnectionError(f"{folder} must be a folder of yours alone (mode 700); remove it")
        return folder
    return None


def _start(channel: socket.socket, address: str) -> None:
    """Start a helper on a socket that listens at an address, or is connected already."""
    code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import main; main()"
    subprocess.Popen(
        [sys.executable, "-c", code, str(channel.fileno()), address, str(IDLE_SECONDS)],
        # whoever reads the stage's output must not wait for the helper's end
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[channel.fileno()],
        start_new_session=True,  # Ctrl-C is for the stage, which then ends the run
    )


class _Answers(logging.Handler):
    """What the helper says on the connection of the current thread."""

    def __init__(self) -> None:
        super().__init__()
        self.current = threading.local()

    def say(self, *answer: Any) -> None:
        with suppress(OSError, AttributeError):  # whoever is gone by now has its run ended
            self.current.connection.sendall(json.dumps(answer).encode() + b"\n")

    def emit(self, record: logging.LogRecord) -> None:
        self.say("log", record.levelno, record.getMessage())


def main() -> None:
    """Serve one caller, or all that come to an address until none has come for a while."""
    handle, address, idle = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    channel = socket.socket(fileno=handle)
    answers = _Answers()
    logging.getLogger("wsss").addHandler(answers)
    logging.getLogger("wsss").setLevel(logging.INFO)
    prepare_mlflow()
    # a cluster signals all processes of a job; the stage still has something to say
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    if not address:
        _serve(channel, answers)
        os._exit(0)  # MLflow's own farewell takes longer than a caller should wait
    os.chdir("/")  # folders may be moved and unmounted
    channel.settimeout(idle)
    callers: list[threading.Thread] = []
    while True:
        try:
            connection, _ = channel.accept()
        except TimeoutError:
            callers = [caller for caller in callers if caller.is_alive()]
            if callers:
                continue
            with FileLock(f"{address}.lock"):
                if not select.select([channel], [], [], 0)[0]:
                    Path(address).unlink(missing_ok=True)
                    os._exit(0)
            continue
        connection.setblocking(True)
        callers.append(threading.Thread(target=_serve, args=(connection, answers)))
        callers[-1].start()


def _serve(connection: socket.socket, answers: _Answers) -> None:
    """Record one run: read calls until the other end closes."""
    answers.current.connection = connection
    with connection, connection.makefile("r", encoding="utf-8") as calls:
        try:
            _record(calls, answers)
        except Exception as error:  # the caller alone can show it
            answers.say("error", str(error) or repr(error))
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RD)  # nobody reads on


def _record(calls: Iterable[str], answers: _Answers) -> None:
    arrived = _read_ahead(calls)
    (_, values), *_ = [decode(next(arrived))]
    from wsss.tracking.mlflow_tracker import MlflowTracker

    tracker = MlflowTracker(RunStart.from_json(json.dumps(values)))
    answers.say("exists", tracker.run_id)
    ending: list[Any] = ["KILLED"]
    for line in arrived:
        method, *arguments = decode(line)
        if method == "end":
            ending = arguments
            break
        getattr(tracker, method)(*arguments)
    tracker.end(*ending)
    answers.say("ended", tracker.run_id)


def _read_ahead(lines: Iterable[str]) -> Iterator[str]:
    """Take lines in as they come: while a server hangs, whoever sends them must not wait."""
    arrived: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        with suppress(OSError):  # the other end was reset
            for line in lines:
                arrived.put(line)
        arrived.put(None)

    threading.Thread(target=read, daemon=True).start()
    while (line := arrived.get()) is not None:
        yield line
