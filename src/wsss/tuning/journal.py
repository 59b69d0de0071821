"""The journal file of a search: what a kill or a bad disk did to it costs at most what it hit.

Optuna replays a journal line by line, and gives up at the first one that it cannot read. A worker
that is killed while it writes leaves half a line, which the next one would write on.
"""

import json
import logging
import multiprocessing
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["DamagedJournalError", "Journal"]

log = logging.getLogger(__name__)

_FIRST = b'{"op_code"'  # how every line begins
_CREATE_STUDY, _CREATE_TRIAL = 0, 4
_FIELDS = {
    _CREATE_STUDY: {"study_name", "directions"},
    1: {"study_id"},
    2: {"study_id", "user_attr"},
    3: {"study_id", "system_attr"},
    _CREATE_TRIAL: {"study_id", "datetime_start"},
    5: {"trial_id", "param_name", "param_value_internal", "distribution"},
    6: {"trial_id", "state", "values"},
    7: {"trial_id", "step", "intermediate_value"},
    8: {"trial_id", "user_attr"},
    9: {"trial_id", "system_attr"},
    10: set(),
}
"""What a line has besides, by its op_code."""

_told: set[tuple[str, int]] = set()


class DamagedJournalError(ValueError):
    """A journal cannot be read to its end; the text says where it breaks off, and what to do."""


class Journal:
    """A journal file that several processes of one machine read and append to, as Optuna asks.

    Half a line at the end is cut off by whoever writes next, within Optuna's lock, so that nobody
    else is writing it. Other lines that cannot be read are passed over, each with a warning.
    Studies and trials are numbered by the order of the lines that begin them: for one of those
    that is damaged, an empty one is put in its place.

    Args:
        path: the file; it is made if it is not there.

    Raises:
        ValueError: the file is no journal.
        DamagedJournalError: when it is read; trials cannot be told apart behind a damaged line.
    """

    def __init__(self, path: Path) -> None:
        from optuna.storages.journal import JournalFileSymlinkLock

        self._path, self._writing = path, JournalFileSymlinkLock(str(path))
        self._restart()
        path.touch()
        with path.open("rb") as file:
            begin = file.read(len(_FIRST))
        if begin and not any(True for _ in self.read_logs(0)) and not _FIRST.startswith(begin):
            raise ValueError("it exists and is no journal")
        self._restart()

    def _restart(self) -> None:
        self._count = self._offset = self._line = self._trials = self._study = self._lost = 0

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Give the lines from a number on, of those that can be read."""
        if log_number_from != self._count:
            self._restart()
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # it is being written, or never will be
                self._offset += len(line)
                self._line += 1
                found = self._read(line)
                if found is None:
                    continue
                self._check(found)
                self._count += 1
                if self._count > log_number_from:
                    yield found

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add lines, behind the last whole one."""
        lines = "".join(json.dumps(item, separators=(",", ":")) + "\n" for item in logs)
        self._writing.acquire()
        try:
            with self._path.open("r+b") as file:
                self._mend_end(file)
                file.write(lines.encode())
                file.flush()
                os.fsync(file.fileno())
        finally:
            self._writing.release()

    def _mend_end(self, file: Any) -> None:
        """Go to the end of the file, and cut off half a line that a killed process left there."""
        size = file.seek(0, os.SEEK_END)
        if not size:
            return
        file.seek(size - 1)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        held = file.read()
        end = held.rfind(b"\n") + 1
        if _parsed(held[end:]):
            file.write(b"\n")
            return
        log.warning(
            "%s: its last line breaks off, as its writer was killed; %d bytes were cut off",
            *(self._path, size - end),
        )
        file.seek(end)
        file.truncate()

    def _read(self, line: bytes) -> dict[str, Any] | None:
        """Read a line, or what can stand for it; None passes it over."""
        if found := _parsed(line):
            return found
        for begin in re.finditer(re.escape(_FIRST), line[1:]):
            if found := _parsed(line[1 + begin.start() :]):
                self._warn("begins with half of another one, which is passed over")
                self._lost = self._lost or self._line
                return found
        code = re.match(rb'\{"op_code":\s*(\d+)', line)
        number = int(code[1]) if code else None
        if number == _CREATE_TRIAL:
            study = re.search(rb'"study_id":\s*(\d+)', line)
            self._warn("cannot be read; a trial begins there, which may lack its settings")
            return {
                "op_code": _CREATE_TRIAL,
                "worker_id": "",
                "study_id": int(study[1]) if study else self._study,
                "datetime_start": None,
            }
        if number == _CREATE_STUDY:
            name = re.search(rb'"study_name":\s*"([\x20-\x7e]+?)"', line)
            self._warn("cannot be read; a study begins there")
            return {
                "op_code": _CREATE_STUDY,
                "worker_id": "",
                "study_name": name[1].decode() if name else f"unreadable line {self._line}",
                "directions": [2],
            }
        self._warn("cannot be read, and is passed over")
        if number is None:
            self._lost = self._lost or self._line
        return None

    def _check(self, found: dict[str, Any]) -> None:
        """Raise DamagedJournalError where a line that was lost has begun a trial."""
        if found["op_code"] == _CREATE_TRIAL:
            self._trials += 1
            self._study = found["study_id"]
        elif self._lost and found.get("trial_id", -1) >= self._trials:
            path, kept = (shlex.quote(f"{self._path}{end}") for end in ("", ".damaged"))
            raise DamagedJournalError(
                f"{self._path}: line {self._lost} cannot be read and has begun a trial, so what "
                "follows cannot be told apart.\nKeep what is before it: "
                f"`cp {path} {kept} && head -n {self._lost - 1} {kept} > {path}`"
            )

    def _warn(self, what: str) -> None:
        """Say once what is wrong with the present line; workers leave that to their parent."""
        where = (str(self._path), self._line)
        if where not in _told and multiprocessing.parent_process() is None:
            log.warning("%s: line %d %s", self._path, self._line, what)
        _told.add(where)


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Read a line as Optuna writes it; None where it is anything else."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    if not isinstance(found, dict) or found.get("op_code") not in _FIELDS:
        return None
    fields = _FIELDS[found["op_code"]] | {"worker_id"}
    return found if fields <= found.keys() else None
