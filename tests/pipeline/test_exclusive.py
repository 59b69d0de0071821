"""Two processes that want one folder: one has it, the other is told which, before any work."""

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from wsss.pipeline import exclusive
from wsss.pipeline.exclusive import BusyError, hold
from wsss.pipeline.staging import Staging

HOLD = """
import sys, time
from pathlib import Path
from wsss.pipeline.staging import Staging
with Staging(Path(sys.argv[1]), "key") as staging:
    (staging.path / "a").write_text("first")
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exclusive, "PATIENCE", 0.2)


@contextmanager
def another(out: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that fills the folder until it is told to go on."""
    command = [sys.executable, "-c", HOLD, str(out)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout and process.stdout.readline() == "held\n"
        yield process
        if process.poll() is None:
            process.kill()


def test_a_second_process_is_told_who_has_the_folder_and_changes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "cams"
    with another(out) as process:
        with pytest.raises(BusyError) as refused, Staging(out, "other key"):
            pass
        said = str(refused.value)
        assert f"process {process.pid} on {socket.gethostname()} is at work on it" in said
        assert re.search(r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", said)
        assert f"kill {process.pid}" in said and "Wait until it ends" in said and "-c" in said
        assert (tmp_path / ".cams.partial/a").read_text() == "first"
        process.communicate("\n")
        assert process.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["cams"]


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path: Path) -> None:
    out = tmp_path / "cams"
    with another(out) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / ".cams.lock").exists()  # the file stays, and locks nothing
    with Staging(out, "key") as staging:
        assert staging.resumed
    assert [path.name for path in tmp_path.iterdir()] == ["cams"]


def test_the_lock_of_another_user_says_who_is_at_work_and_is_taken_when_nobody_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write into a folder may not write into a file that another one made there."""
    out, theirs = tmp_path / "cams", os.open

    def opened(path: Path, flags: int, *mode: int) -> int:
        if flags & os.O_RDWR and Path(path).exists():
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return theirs(path, flags, *mode)

    with another(out) as process:
        monkeypatch.setattr(exclusive.os, "open", opened)
        with (
            pytest.raises(BusyError, match=f"process {process.pid} on .* is at work on it"),
            hold(out),
        ):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    with hold(out):
        assert json.loads((tmp_path / ".cams.lock").read_text())["pid"] == os.getpid()
    assert not (tmp_path / ".cams.lock").exists()


def test_who_waits_for_a_folder_says_so_and_gets_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    out = tmp_path / "cams"
    with another(out) as process:
        record = json.loads((tmp_path / ".cams.lock").read_text())
        assert record["pid"] == process.pid
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
        with hold(out, "row", wait=True):
            assert (out / "a").exists()
    if caplog.records:  # it may have been done before it was asked
        assert "row: process" in caplog.text


def test_a_process_may_hold_what_it_holds(tmp_path: Path) -> None:
    with hold(tmp_path / "cams", "generate_cams"):
        with Staging(tmp_path / "cams", "key"):
            pass
        assert (tmp_path / ".cams.lock").exists()
    assert not (tmp_path / ".cams.lock").exists()


def test_processes_that_a_holder_has_forked_do_not_keep_the_lock(tmp_path: Path) -> None:
    code = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from wsss.pipeline.exclusive import hold\n"
        "with hold(Path(sys.argv[1])):\n"
        "    if not os.fork(): time.sleep(20); os._exit(0)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "cams")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    with hold(tmp_path / "cams"):
        pass


def test_a_disk_without_locks_is_worked_on_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(exclusive.errno.ENOLCK, os.strerror(exclusive.errno.ENOLCK))

    monkeypatch.setattr(exclusive.fcntl, "lockf", refuse)
    with Staging(tmp_path / "cams", "key") as staging:
        (staging.path / "a").write_text("a")
    assert (tmp_path / "cams/a").exists()
    assert "its disk has no locks" in caplog.text


def test_a_link_that_leads_nowhere_is_found_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(tmp_path / "disk/data")
    with (
        pytest.raises(
            FileNotFoundError, match=r"data is a link to .*disk/data, which is not there"
        ),
        Staging(tmp_path / "data/cams", "key"),
    ):
        pass
    assert not (tmp_path / "disk").exists()


def test_a_folder_that_is_a_disk_of_its_own_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume of Docker at data/cams cannot be renamed; that used to be found at the end."""
    monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path / "cams")
    with (
        pytest.raises(ValueError, match=r"is a disk of its own.*mount"),
        Staging(tmp_path / "cams", "key"),
    ):
        pass
