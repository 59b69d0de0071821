"""Journals that were torn or damaged: what is lost is named, and all else is there."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from wsss.artifacts import Paths
from wsss.tuning import journal
from wsss.tuning.journal import DamagedJournalError
from wsss.tuning.storage import open_storage


@pytest.fixture(autouse=True)
def untold() -> Iterator[None]:
    journal._told.clear()
    yield


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A journal of two studies with three finished trials each, and one that waits."""
    path = tmp_path / "a.journal"
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for name in ("crf-1", "crf-2"):
        made = optuna.create_study(storage=opened(path), study_name=name, direction="maximize")
        for value in (0.25, 0.5, 0.75):
            trial = made.ask()
            trial.set_user_attr("worker", "host:1")
            trial.suggest_float("x", 0, 1)
            made.tell(trial, value)
    return path


def opened(path: Path) -> Any:
    return open_storage("crf", Paths(path.parent), str(path))


def values(path: Path, name: str = "crf-2") -> list[float | None]:
    found = optuna.load_study(storage=opened(path), study_name=name)
    return [trial.value for trial in found.get_trials(states=(TrialState.COMPLETE,))]


def add_trial(path: Path) -> None:
    made = optuna.load_study(storage=opened(path), study_name="crf-2")
    made.tell(made.ask(), 1.0)


@pytest.mark.parametrize(
    "torn", [b'{"op_code":6,"worker', b"{", b"\0" * 40, b'{"op_code":4', b"\xff"]
)
def test_half_a_line_at_the_end_is_cut_off_by_whoever_writes_next(
    file: Path, torn: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole + torn)
    assert values(file) == [0.25, 0.5, 0.75]
    assert file.read_bytes() == whole + torn, "looking changes nothing"
    add_trial(file)
    assert caplog.text.count(f"{len(torn)} bytes were cut off") == 1
    assert values(file) == [0.25, 0.5, 0.75, 1.0]
    assert file.read_bytes().startswith(whole)
    assert all(json.loads(line) for line in file.read_bytes().splitlines())


def test_a_last_line_that_lacks_only_its_end_is_kept(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])
    add_trial(file)
    assert values(file) == [0.25, 0.5, 0.75, 1.0]


def test_a_line_that_is_torn_beside_a_living_worker_harms_neither(file: Path) -> None:
    alive = optuna.load_study(storage=opened(file), study_name="crf-2")
    running = alive.ask()
    with file.open("ab") as other:
        other.write(b'{"op_code":5,"worker_id":"gone","trial')
    assert len(alive.trials) == 4
    alive.tell(running, 2.0)
    add_trial(file)
    assert [trial.value for trial in alive.trials] == [0.25, 0.5, 0.75, 2.0, 1.0]
    assert values(file) == [0.25, 0.5, 0.75, 2.0, 1.0]


def test_processes_that_write_at_the_same_time_do_not_cut_each_other_off(file: Path) -> None:
    def work() -> None:
        for _ in range(10):
            add_trial(file)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(values(file)) == 33


def lines_with(code: int) -> Callable[[list[bytes]], list[int]]:
    return lambda lines: [
        at for at, line in enumerate(lines) if json.loads(line)["op_code"] == code
    ]


@pytest.mark.parametrize("code", [2, 3, 5, 6, 8, 9])
@pytest.mark.parametrize("cut", [0.4, 0.9])
def test_a_damaged_line_is_named_and_nothing_else_is_lost(
    file: Path, code: int, cut: float, caplog: pytest.LogCaptureFixture
) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    for at in lines_with(code)(lines)[:1]:
        damaged = [*lines]
        damaged[at] = lines[at][: max(int(len(lines[at]) * cut), 13)] + b"\n"
        file.write_bytes(b"".join(damaged))
        assert f"line {at + 1} cannot be read" in (opened(file) and caplog.text)
    assert values(file) == [0.25, 0.5, 0.75]
    assert values(file, "crf-1") == ([0.5, 0.75] if code == 6 else [0.25, 0.5, 0.75])


@pytest.mark.parametrize("code", [0, 4])
@pytest.mark.parametrize("which", [0, -1])
def test_a_damaged_line_that_begins_something_does_not_shift_the_numbers_of_others(
    file: Path, code: int, which: int, caplog: pytest.LogCaptureFixture
) -> None:
    before = {name: values(file, name) for name in ("crf-1", "crf-2")}
    lines = file.read_bytes().splitlines(keepends=True)
    at = lines_with(code)(lines)[which]
    lines[at] = lines[at][:-12] + b"\n"
    file.write_bytes(b"".join(lines))
    assert {name: values(file, name) for name in before} == before
    assert f"line {at + 1} cannot be read" in caplog.text


@pytest.mark.parametrize(
    "junk", [b"\n", b"no line of a journal\n", b"\0\0\n", b'{"a": 1}\n', b"[]\n"]
)
@pytest.mark.parametrize("at", [0, 5, -1])
def test_what_is_no_line_of_a_journal_is_passed_over(
    file: Path, junk: bytes, at: int, caplog: pytest.LogCaptureFixture
) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    lines.insert(at, junk)
    file.write_bytes(b"".join(lines))
    assert values(file) == [0.25, 0.5, 0.75]
    assert caplog.text.count("is passed over") == 1
    add_trial(file)
    assert values(file) == [0.25, 0.5, 0.75, 1.0]


def test_half_a_line_that_another_one_was_written_onto_costs_nothing(file: Path) -> None:
    """What Optuna's own journal does after a kill; it never reads such a file again."""
    whole = file.read_bytes()
    lines = whole.splitlines(keepends=True)
    file.write_bytes(whole.replace(lines[-1], b'{"op_code":5,"worker_id":"gone' + lines[-1]))
    assert values(file) == [0.25, 0.5, 0.75]


def test_a_trial_whose_beginning_is_lost_altogether_stops_with_the_way_out(file: Path) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    at = lines_with(4)(lines)[1]
    lines[at] = b"\0" * 50 + b"\n"
    file.write_bytes(b"".join(lines))
    with pytest.raises(DamagedJournalError, match=rf"line {at + 1} cannot be read") as stopped:
        opened(file)
    command = str(stopped.value).split("`")[1]
    subprocess.run(["bash", "-c", command], check=True)
    assert values(file, "crf-1") == [0.25]
    assert (file.parent / f"{file.name}.damaged").read_bytes() == b"".join(lines)


@pytest.mark.parametrize("held", [b"\x89PNG", b"a: 1\n", b'{"a": 1}\n', b'{"a": 1}', b"[1]"])
def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path, held: bytes) -> None:
    (tmp_path / "file").write_bytes(held)
    with pytest.raises(ConnectionError, match="is no journal"):
        opened(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == held


def test_a_worker_killed_while_it_writes_costs_its_line_alone(file: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; import optuna\n"
        "from wsss.tuning.journal import Journal\n"
        "from optuna.storages import JournalStorage\n"
        "class Killed(Journal):\n"
        "    def append_logs(self, logs):\n"
        "        with open(self._path, 'ab') as out: out.write(b'{\"op_code\":4,\"wor')\n"
        "        os.kill(os.getpid(), 9)\n"
        "storage = JournalStorage(Killed(Path(sys.argv[1])))\n"
        "optuna.load_study(storage=storage, study_name='crf-2').ask()\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(file)], check=False)
    assert killed.returncode == -9
    add_trial(file)
    assert values(file) == [0.25, 0.5, 0.75, 1.0]
