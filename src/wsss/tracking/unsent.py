"""What a run was told, on disk until MLflow has it: whoever dies meanwhile, nothing is lost.

A run's folder below reports/unsent holds its start, its calls as lines, and the files that they
name. It is gone once MLflow has confirmed the run's end. What is left there, as MLflow or the stage
was killed, is told again when the run goes on, or by `wsss runs sync`. MLflow takes the same value
of the same step and time once, so that telling it again changes nothing.
"""

import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from wsss.artifacts import fingerprint, write_json
from wsss.tracking._base import RunTracker, Table, now
from wsss.tracking.calls import decode, encode
from wsss.tracking.provenance import RunStart, write_record

__all__ = ["FOLDER", "KeepingTracker", "Unsent", "send_unsent"]

FOLDER = "reports/unsent"
"""Below the project."""

_logger = logging.getLogger(__name__)


class Unsent:
    """The folder of one run, which this process alone writes while it is open.

    Args:
        folder: the run's own; made if it is not there.

    Attributes:
        earlier: calls that are there already, each with its time, as an interrupted run left them.

    Raises:
        BlockingIOError: another process has it open.
        OSError: it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / "calls.jsonl").open("a+", encoding="utf-8")
        try:
            # a lock that ends with the process, however it ends
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise
        self.earlier = list(self._read())
        self._num_files = sum(1 for _ in folder.glob("files/*"))

    @classmethod
    def of(cls, start: RunStart) -> "Unsent | None":
        """Open the folder of a run; None where that cannot be, of which is warned."""
        identity = fingerprint(start.record, start.key)[:12]
        stage = start.stage.replace("@", "_").replace("/", "_") or "experiment"
        folder = project(start) / FOLDER / f"{stage}-{identity}"
        for attempt in (folder, folder.with_name(f"{folder.name}-{os.getpid()}")):
            try:
                found = cls(attempt)
                # an address may hold a login, which has no place in a file
                write_json(attempt / "start.json", asdict(replace(start, uri="")))
                return found
            except BlockingIOError:  # the same stage runs twice
                continue
            except OSError as error:
                reason = error
                break
        else:
            return None
        _logger.warning("%s: what MLflow misses while it is away will be lost (%s)", folder, reason)
        return None

    @property
    def start(self) -> RunStart:
        """The start of the run, of no address.

        Raises:
            ValueError, OSError: it is not there, or damaged.
        """
        return RunStart.from_json((self.folder / "start.json").read_text(encoding="utf-8"))

    @property
    def record(self) -> Path:
        """Where the run's id is, once it is known."""
        return self.folder / "run.json"

    def write(self, call: list[Any]) -> list[Any]:
        """Write a call down, and keep a copy of its files.

        Returns:
            The call, of the copies: the files may change before MLflow has taken them.
        """
        line = encode(call, self._keep)
        self._file.write(f"{line}\n")
        self._file.flush()
        return decode(line, self.folder)

    def close(self, *, sent: bool) -> None:
        """Leave the folder for another time or, if all of it was sent, remove it."""
        if sent:
            shutil.rmtree(self.folder, ignore_errors=True)
            with suppress(OSError):  # others are there
                self.folder.parent.rmdir()
        self._file.close()

    def _keep(self, path: Path) -> Path:
        if not path.is_file():
            return path.absolute()
        kept = Path("files", str(self._num_files), path.name)
        (self.folder / kept).parent.mkdir(parents=True)
        shutil.copyfile(path, self.folder / kept)
        self._num_files += 1
        return kept

    def _read(self) -> Iterator[list[Any]]:
        self._file.seek(0)
        line = "\n"
        for line in self._file:
            with suppress(ValueError):
                yield decode(line, self.folder)
        if not line.endswith("\n"):  # a process was killed as it wrote
            self._file.write("\n")


class KeepingTracker:
    """Writes down what a tracker is told before it passes it on.

    Args:
        tracker: of the run.
        unsent: the run's folder; what an interrupted run left there is told first.
        key: of the run.
    """

    def __init__(self, tracker: RunTracker, unsent: Unsent, key: str) -> None:
        self._tracker, self._unsent, self._key = tracker, unsent, key
        self._is_kept = self._is_noted = False
        for call in unsent.earlier:
            if call[0] != "end":
                _tell(tracker, call)
        self._is_kept = True

    @property
    def run_id(self) -> str:
        """MLflow's, once the run has ended; "" if MLflow was lost."""
        return self._tracker.run_id

    def metrics(
        self, values: Mapping[str, float], step: int = 0, moment: int | None = None
    ) -> None:
        """Remember values of one step."""
        plain = {key: float(value) for key, value in values.items()}
        self._call("metrics", plain, step, now() if moment is None else moment)

    def artifact(self, path: Path) -> None:
        """Store a file at the root of the run's artifacts, as it is now."""
        self._call("artifact", path)

    def table(self, name: str, columns: Table) -> None:
        """Store a table with pictures."""
        self._call("table", name, {title: list(column) for title, column in columns.items()})

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags of the run."""
        self._call("tags", dict(values))

    def flush(self) -> None:
        """Send what is buffered."""
        self._tracker.flush()

    def end(self, status: str, error: str = "", moment: int | None = None) -> None:
        """Send all that is left and end the run; what could not be sent stays on disk."""
        self._call("end", status, error, now() if moment is None else moment)
        self._unsent.close(sent=bool(self._tracker.run_id))

    def _call(self, *call: Any) -> None:
        told = list(call)
        if self._is_kept:
            try:
                told = self._unsent.write(told)
                self._note()
            except OSError as error:  # the disk is full; the work goes on
                self._is_kept = False
                _logger.warning(
                    "%s: what MLflow misses while it is away will be lost (%s)",
                    *(self._unsent.folder, error),
                )
        _tell(self._tracker, told)

    def _note(self) -> None:
        """Write the run's id down, once MLflow has said it."""
        if self._tracker.run_id and not self._is_noted:
            write_record(self._unsent.record, self._tracker.run_id, self._key, "killed")
            self._is_noted = True


def project(start: RunStart) -> Path:
    """The project of a run; trials and queued experiments run in folders that are deleted."""
    root = Path(start.record).absolute().parents[1] if start.record else Path.cwd()
    if home := os.environ.get("DVC_ROOT"):
        return Path(home)
    return next((place for place in (root, *root.parents) if (place / "dvc.yaml").exists()), root)


def send_unsent(root: Path, uri: str) -> list[str]:
    """Tell MLflow what it missed of runs that have ended, however they did.

    Args:
        root: the project.
        uri: where MLflow is now. A run that is not known there is made, with all that it was told.

    Returns:
        The names of the runs that were sent.

    Raises:
        ConnectionError: MLflow cannot be reached, or was lost in some runs, which is said once the
            others are sent; what was not sent is kept.
    """
    home = Path(os.environ.get("DVC_ROOT") or root)
    names: list[str] = []
    lost: list[str] = []
    for folder in sorted(path for path in (home / FOLDER).glob("*") if path.is_dir()):
        try:
            unsent = Unsent(folder)
        except BlockingIOError:  # its stage is running
            continue
        sent = False
        try:
            start = unsent.start
            sent = _send(unsent, replace(start, uri=uri))
            (names if sent else lost).append(start.name)
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, ConnectionError) and not _is_of_one_run(error):
                raise
            if isinstance(error, ConnectionError):
                _logger.warning("%s was not sent: %s\nMend that, or remove it.", folder, error)
            else:
                _logger.warning("%s is damaged and was not sent (%s); remove it", folder, error)
        finally:
            unsent.close(sent=sent)
    if lost:
        raise ConnectionError(
            f"MLflow lacks what the runs {', '.join(lost)} were told, for the reasons above. It is "
            "kept; `wsss runs sync` goes on with it."
        )
    return names


def _is_of_one_run(error: ConnectionError) -> bool:
    """Whether MLflow answers and does not want one run, as its experiment was deleted."""
    from wsss.tracking.mlflow_tracker import is_refusal

    reason = error.__cause__
    return is_refusal(reason) and not isinstance(reason, OSError | ImportError)  # of every run


def _send(unsent: Unsent, start: RunStart) -> bool:
    """Tell MLflow all of one run; False where MLflow is lost meanwhile."""
    from wsss.tracking.mlflow_tracker import MlflowTracker

    # a trial's own record is gone with its folder
    is_own = unsent.record.exists() or not Path(start.record).exists()
    record = unsent.record if is_own else Path(start.record)
    start = replace(start, record=str(record))
    tracker = MlflowTracker(start)
    moments = [call[3] for call in unsent.earlier if call[0] in ("metrics", "end")]
    ending: list[Any] = ["end", "KILLED", "", max(moments, default=start.began)]
    for call in unsent.earlier:
        if call[0] == "end":
            ending = call
        else:
            _tell(tracker, call)
    _tell(tracker, ending)
    if tracker.run_id and ending[1] == "FINISHED":
        start.remember(tracker.run_id, "finished")
    return bool(tracker.run_id)


def _tell(tracker: RunTracker, call: list[Any]) -> None:
    method, *arguments = call
    told: dict[str, Callable[..., None]] = {
        "metrics": tracker.metrics,
        "artifact": tracker.artifact,
        "table": tracker.table,
        "tags": tracker.tags,
        "end": tracker.end,
    }
    told[method](*arguments)
