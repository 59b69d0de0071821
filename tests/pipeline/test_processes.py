"""Processes that run one command together: ranks, one folder, and one that is lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wsss.pipeline import processes
from wsss.pipeline.others import LEFT_ALONE, LostProcessError
from wsss.pipeline.processes import lost_another, run_together

FILL = """
import sys
from pathlib import Path
from wsss.cores import is_first, rank, world_size
from wsss.pipeline.staging import Staging
assert world_size() == 3
with Staging(Path(sys.argv[1]), "key") as staging:
    assert staging.path.exists()
    (staging.path / str(rank())).write_text("done")
assert (Path(sys.argv[1]) / str(rank())).exists()
"""


def test_several_processes_fill_one_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for _ in range(2):  # the second time beside a finished one
        assert run_together([sys.executable, "-c", FILL, str(out)], 3) == 0
        assert sorted(path.name for path in out.iterdir()) == ["0", "1", "2"]
        assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_work_of_a_killed_run_is_kept_and_its_marks_are_not(tmp_path: Path) -> None:
    """Every process but the first has nothing left to do, and must not be taken for done early."""
    partial = tmp_path / ".out.partial"
    partial.mkdir()
    (partial / ".fingerprint.json").write_text('{"key": "key"}')
    (partial / "kept").write_text("kept")
    for number in (1, 2):
        (partial / f".work.done.0.{number}").touch()
    assert run_together([sys.executable, "-c", FILL, str(tmp_path / "out")], 3) == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["0", "1", "2", "kept"]


def test_processes_that_find_a_folder_taken_leave_it_as_it_is(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them, though only the first one asks for it."""
    held = "import sys, time; from pathlib import Path; from wsss.pipeline.staging import Staging\n\
with Staging(Path(sys.argv[1]), 'key'): print('held', flush=True); time.sleep(60)"
    monkeypatch.setattr(processes, "_OWN_WORDS", 1.0)
    out = tmp_path / "out"
    command = [sys.executable, "-c", held, str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        fill = "from wsss.pipeline import exclusive; exclusive.PATIENCE = 0.2\n" + FILL.replace(
            "3", "2"
        )
        assert run_together([sys.executable, "-c", fill, str(out)], 2) == 1
        assert f"kill {holder.pid}" in capfd.readouterr().err
        assert [file.name for file in (tmp_path / ".out.partial").iterdir()] == [
            ".fingerprint.json"
        ]
        holder.kill()


def test_a_process_with_another_key_than_the_first_does_not_wait_without_end(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    unlike = FILL.replace('"key"', '"key" if is_first() else "other"').replace(
        "with Staging",
        "from wsss.pipeline import staging as module; module._AGREE = 0.2\nwith Staging",
    )
    assert run_together([sys.executable, "-c", unlike, str(tmp_path / "out")], 3) == 1
    assert "process 2 of 3 finds other inputs, settings or code" in capfd.readouterr().err


def test_a_process_that_still_waits_when_the_first_is_done_is_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "_LATE", 0.3)
    code = "import os, time\nif os.environ['RANK'] == '1': time.sleep(60)"
    with pytest.raises(LostProcessError, match=r"process 2 of 2 still waited"):
        run_together([sys.executable, "-c", code], 2)


def test_a_killed_process_ends_the_others_with_a_message(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, time\n"
        "if os.environ['RANK'] == '1': os.kill(os.getpid(), signal.SIGKILL)\n"
        "time.sleep(60)\n"
    )
    started = time.monotonic()
    with pytest.raises(LostProcessError, match=r"process 2 of 2 was killed \(SIGKILL\).*run the"):
        run_together([sys.executable, "-c", code], 2)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("killed", [0, 1])
def test_nothing_is_lost_with_a_process_that_is_killed_once_the_work_is_done(killed: int) -> None:
    """It takes seconds to end: what it has recorded would be done and recorded a second time."""
    code = (
        "import os, signal, time\n"
        "from wsss.pipeline.processes import tell_done\n"
        "tell_done()\n"
        "time.sleep(0 if os.environ['RANK'] == '0' else 1)\n"
        f"if os.environ['RANK'] == '{killed}':\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert run_together([sys.executable, "-c", code], 2) == 0


def test_an_error_of_another_process_is_said_though_the_work_is_done() -> None:
    code = (
        "import os, sys, time\n"
        "from wsss.pipeline.processes import tell_done\n"
        "tell_done()\n"
        "time.sleep(0 if os.environ['RANK'] == '0' else 1)\n"
        "sys.exit(4 * (os.environ['RANK'] == '1'))"
    )
    assert run_together([sys.executable, "-c", code], 2) == 4


def test_an_error_is_said_once_with_its_exit_code(capfd: pytest.CaptureFixture[str]) -> None:
    everywhere = "import sys; sys.stderr.write('no images\\n'); sys.exit(3)"
    assert run_together([sys.executable, "-c", everywhere], 2) == 3
    assert capfd.readouterr().err == "no images\n"


def test_an_error_of_another_process_alone_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    second = (
        "import os, sys, time\n"
        "if os.environ['RANK'] == '1': sys.stderr.write('no image b\\n'); sys.exit(1)\n"
        "time.sleep(60)\n"
    )
    assert run_together([sys.executable, "-c", second], 2) == 1
    assert "no image b" in capfd.readouterr().err


def test_a_process_that_was_left_alone_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """It is the first to end, and not the one to blame."""
    code = (
        "import os, sys, time\n"
        "from wsss.pipeline.others import LEFT_ALONE\n"
        "if os.environ['RANK'] == '0': sys.exit(LEFT_ALONE)\n"
        "time.sleep(1); sys.stderr.write('no image b\\n'); sys.exit(1)\n"
    )
    assert run_together([sys.executable, "-c", code], 2) == 1
    assert capfd.readouterr().err == "no image b\n"


def test_where_all_processes_were_left_alone_the_error_of_the_first_is_said(
    capfd: pytest.CaptureFixture[str],
) -> None:
    code = (
        "import os, time\n"
        "from wsss.pipeline.execute import in_plain_words\n"
        "from wsss.pipeline.others import LeftAloneError\n"
        "time.sleep(2 * (os.environ['RANK'] == '0'))\n"
        "said = RuntimeError('no word for process ' + os.environ['RANK'])\n"
        "with in_plain_words('toy', 'the same'): raise LeftAloneError from said\n"
    )
    assert run_together([sys.executable, "-c", code], 2) == LEFT_ALONE
    said = capfd.readouterr().err
    assert said.count("no word for process 1") == 1 and "process 0" not in said


NCCL = "NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.cpp:94, "


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:9", True),
        ("[gloo/transport/tcp/pair.cc:5] Read error [127.0.0.1]:9: Connection reset by peer", True),
        ("[gloo/transport/tcp/pair.cc:300] writev [127.0.0.1]:9: Broken pipe", True),
        ("[gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 1800000ms for recv", True),
        (f"{NCCL}remote process exited or there was a network error, NCCL version 2.29", True),
        ("NCCL communicator was aborted on rank 1.", True),
        (f"{NCCL}invalid usage\nncclInvalidUsage: Duplicate GPU detected : rank 0 and 1", False),
        (f"{NCCL}unhandled cuda error\nncclUnhandledCudaError: out of memory", False),
        ("[gloo/transport/tcp/device.cc:84] ifa != nullptr. Unable to find interface eth7", False),
        ("DataLoader timed out after 10 seconds", False),
        ("shapes do not match", False),
    ],
)
def test_only_errors_of_a_lost_connection_are_taken_for_one(
    monkeypatch: pytest.MonkeyPatch, text: str, lost: bool
) -> None:
    from torch import distributed

    assert not lost_another(RuntimeError(text)), "there is no other process"
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not lost_another(RuntimeError(text)), "they have not found one another"
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    assert lost_another(RuntimeError(text)) == lost
    assert not lost_another(ValueError(text))


def test_processes_end_when_the_one_that_started_them_is_killed(tmp_path: Path) -> None:
    child = (
        "import os, time\n"
        "from pathlib import Path\n"
        "from wsss.cores import rank\n"
        "from wsss.pipeline.processes import end_with_parent\n"
        "end_with_parent()\n"
        f"Path({str(tmp_path)!r}, str(rank())).write_text(str(os.getpid()))\n"
        "time.sleep(60)\n"
    )
    parent = f"import sys; from wsss.pipeline.processes import run_together\n\
run_together([sys.executable, '-c', {child!r}], 2)"
    process = subprocess.Popen([sys.executable, "-c", parent])
    files = [tmp_path / "0", tmp_path / "1"]
    deadline = time.monotonic() + 60
    while not all(file.exists() and file.read_text() for file in files):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    numbers = [int(file.read_text()) for file in files]
    process.send_signal(signal.SIGKILL)
    process.wait()
    while any(_alive(number) for number in numbers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True
