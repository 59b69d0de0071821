"""A stage's output folder, filled under another name and moved into place when complete.

DVC deletes an out before its stage runs, so what a killed run has done must live beside
it: `data/cams` is filled as `data/.cams.partial`. A marker holds the fingerprint of
everything the result depends on; the rest of a run is kept only if that still fits.

Where a stage makes several named folders, only those need to be made anew whose fingerprint is
another one. There it stays in the finished folder.

Where several processes fill a folder, rank 0 makes it and moves it into place; the
others wait for both. Tasks that do a part each find the folder made, and leave it where it is.
Processes that know nothing of one another do not fill the same folder: see
`wsss.pipeline.exclusive`.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from wsss.artifacts.files import write_json
from wsss.artifacts.filling import finish_shards
from wsss.cores import is_first, rank, world_size
from wsss.launch import Part, PartDone
from wsss.launch.tasks import stop_jobs
from wsss.pipeline.exclusive import hold
from wsss.pipeline.others import run_token

__all__ = ["Staging", "drop_others", "has_key", "partial_folder"]

_MARKER = ".fingerprint.json"
_EMPTY = ".empty"
"""A file in a folder that holds nothing else: DVC warns of empty ones, each time."""
_RUN = ".work.run.json"  # which processes fill the folder now
_POLL = 0.02  # seconds between two looks at what another process does
_AGREE = 10.0  # seconds after which what rank 0 says is no leftover of an earlier run


def partial_folder(out: Path) -> Path:
    """Where an out lies while it is being made."""
    return out.with_name(f".{out.name}.partial")


def drop_others(folder: Path, names: Collection[str]) -> None:
    """Make a folder of named outs, and delete what it holds under other names.

    Of what is hidden, that is what was being made under other names.
    """
    if not is_first():
        return
    folder.mkdir(parents=True, exist_ok=True)
    kept = {kept.name for name in names for kept in _makings(folder / name)} | set(names)
    for old in folder.iterdir():
        hidden = old.name.startswith(".") and not old.name.endswith(".partial")
        if old.name not in kept and not hidden:
            _remove(old)
    _mark_empty(folder, not names)


def _makings(out: Path) -> tuple[Path, Path]:
    """Where an out lies while it is being made, and what is left of that until it is settled."""
    return partial_folder(out), out.with_name(f".{out.name}.work.partial")


def has_key(folder: Path, key: str) -> bool:
    """Whether a folder says that it was made, or is being made, under this fingerprint."""
    try:
        return bool(json.loads((folder / _MARKER).read_text())["key"] == key)
    except (OSError, ValueError, KeyError, TypeError):
        return False


class Staging:
    """Fill a folder under a temporary name, alone; `with` moves it into place at the end.

    Args:
        out: the folder to make, such as data/cams. What is there is replaced at the end.
        key: the fingerprint of all that decides the contents. Work left by a killed run
            with the same key is kept, any other is deleted.
        keep_key: the finished folder says its key, for `has_key`.
        keep_work: what is dropped at the end is kept until `settle`, so that the folder can be
            opened again.
        begun: the folder stays in the making, for another stage to go on with, as with what a
            killed run leaves.
        wait: for another process that fills the folder, until it is done.
        part: of the folder, that this process does as a task: then it neither makes the folder nor
            moves it into place, and `with` ends with PartDone.
        fill: lets tasks fill the folder, given where it is, before this process goes on.

    Attributes:
        path: where to write. Files whose names start with ".work." are dropped at the end.
        resumed: whether work of an earlier run was found; known within `with`.

    Raises:
        BusyError: another process fills the folder, and `wait` is False.
        ValueError: the folder cannot be replaced, the processes of one stage do not agree on the
            key, or jobs of a cluster may still write into it, which nobody here can ask.
    """

    def __init__(
        self,
        out: Path,
        key: str,
        *,
        keep_key: bool = False,
        keep_work: bool = False,
        begun: bool = False,
        wait: bool = False,
        part: Part | None = None,
        fill: Callable[[Path], None] | None = None,
    ) -> None:
        self.out, self.key, self.keep_key, self.keep_work = out, key, keep_key, keep_work
        self.begun, self.wait = begun, wait
        self.part, self.fill = part, fill
        self.path = partial_folder(out)
        self.resumed = self._completed = False
        _, self._aside = _makings(out)
        self._lock = ExitStack()

    def __enter__(self) -> Self:
        if self.part is not None:
            self._check_made()
            self.resumed = True
            return self
        if not is_first():
            self._wait_for_first()
            self.resumed = True
            return self
        if os.path.ismount(self.out):  # found at the end otherwise, when all is done
            raise ValueError(
                f"{self.out} is a disk of its own, so it cannot be replaced by a new one; mount "
                f"{self.out.parent} instead, or make {self.out.parent} a link to the disk"
            )
        with ExitStack() as lock:
            lock.enter_context(hold(self.out, wait=self.wait))
            self.resumed = has_key(self.path, self.key)
            if not self.resumed:
                stop_jobs(self.path)
                _remove(self.path)
                self.resumed = has_key(self._aside, self.key)
                if self.resumed:  # DVC has deleted the rest, and not the checkpoints
                    os.replace(self._aside, self.path)
                else:
                    self.path.mkdir(parents=True)
                    write_json(self.path / _MARKER, {"key": self.key})
            _remove(self._aside)
            if world_size() > 1:
                write_json(self.path / _RUN, {"key": self.key, "run": _run()})
            if self.fill is not None:
                self.fill(self.path)
            stop_jobs(self.path)  # that are left of earlier times, as this process does their work
            self._lock = lock.pop_all()
        return self

    def _check_made(self) -> None:
        """Raise ValueError unless the folder is still made for what this task was started for."""
        if not has_key(self.path, self.key):
            raise ValueError(
                f"{self.path} is not made any more for what this task was started for: settings, "
                "inputs or code have changed since, or it is finished; the task has nothing to do"
            )

    def _wait_for_first(self) -> None:
        """Wait until rank 0 of this very run has the folder, and made it for the same key."""
        first = time.monotonic()
        while True:
            try:
                known = json.loads((self.path / _RUN).read_text())
            except (OSError, ValueError):
                known = {}
            if known.get("run") != _run():
                first = time.monotonic()
            elif known["key"] == self.key:
                return
            elif time.monotonic() - first > _AGREE:
                raise ValueError(
                    f"process {rank() + 1} of {world_size()} finds other inputs, settings or code "
                    f"than the first one, and cannot fill {self.out} with it; let all of them see "
                    "the same files, and run the stage again"
                )
            time.sleep(_POLL)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.part is not None:
            if kind is None:
                self._check_made()
                raise PartDone
            return
        with self._lock:
            if kind is None and not self.begun:  # otherwise what is done stays for the next run
                self._complete()

    def _complete(self) -> None:
        if not is_first():
            self._done(rank()).touch()
            while self.path.exists():
                time.sleep(_POLL)
            return
        for other in range(1, world_size()):
            while not self._done(other).exists():
                time.sleep(_POLL)
        for leftover in self.path.rglob(".*.tmp"):
            leftover.unlink()
        finish_shards(self.path)
        (self.path / _RUN).unlink(missing_ok=True)
        for mark in self.path.glob(".work.done.*"):
            mark.unlink()
        works = list(self.path.glob(".work.*"))
        if self.keep_work and works:
            self._aside.mkdir()
            write_json(self._aside / _MARKER, {"key": self.key})
        for work in works:
            if self.keep_work:
                os.replace(work, self._aside / work.name)
            else:
                _remove(work)
        if not self.keep_key:
            (self.path / _MARKER).unlink()
        _mark_empty(self.path, not any(self.path.iterdir()))
        self.out.parent.mkdir(parents=True, exist_ok=True)
        old = self.out.with_name(f".{self.out.name}.old")
        _remove(old)
        if self.out.exists() or self.out.is_symlink():
            os.replace(self.out, old)
        os.replace(self.path, self.out)
        _remove(old)
        self._completed = True

    def settle(self) -> None:
        """Drop what was needed to open the finished folder again."""
        if self._completed:
            _remove(self._aside)

    def reopen(self) -> None:
        """Make the finished folder unfinished, as what goes with it was not; nothing else does.

        The next run goes on with it; DVC would delete it.
        """
        if not self._completed:
            return
        self._completed = False
        _remove(self.path)
        os.replace(self.out, self.path)
        write_json(self.path / _MARKER, {"key": self.key})
        if self._aside.is_dir():
            for work in self._aside.glob(".work.*"):
                os.replace(work, self.path / work.name)
            _remove(self._aside)

    def _done(self, number: int) -> Path:
        """What a process leaves that has finished its part, of this run and no earlier one."""
        return self.path / f".work.done.{_run()}.{number}"


def _run() -> str:
    """What the processes of one run have in common, and those of another one have not."""
    names = ("MASTER_PORT", "WSSS_PARENT")
    return run_token() or "-".join(os.environ.get(name, "0") for name in names)


def _mark_empty(folder: Path, is_empty: bool) -> None:
    if is_empty:
        (folder / _EMPTY).touch()
    else:
        (folder / _EMPTY).unlink(missing_ok=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
