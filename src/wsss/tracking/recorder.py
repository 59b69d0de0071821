"""A helper process that holds MLflow, so that a stage need not wait for its import.

The stage writes one JSON line per call to the helper's stdin. The helper answers "ready",
or the error that kept it from starting, and ends the run when it is told to; if the stage
vanishes without a word, as after kill -9, it ends the run as KILLED.
"""

import json
import logging
import os
import select
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wsss.tracking.provenance import RunStart

__all__ = ["Recorder", "main"]

_logger = logging.getLogger(__name__)
_READY = "ready"


class Recorder:
    """The stage's end: a tracker that passes on what it is told.

    Args:
        start: the run.

    Raises:
        ConnectionError: MLflow can not record. A local database is waited for only at the
            end, so its error may come from any method.
    """

    def __init__(self, start: RunStart) -> None:
        code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import main; main()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is for the stage, which then ends the run
        )
        self._ready = self._lost = False
        self._tell(asdict(start))
        if not start.uri.startswith("sqlite"):
            self._wait()

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Remember values of one step."""
        self._tell(["metrics", {key: float(value) for key, value in values.items()}, step])

    def artifact(self, path: Path) -> None:
        """Store a file at the root of the run's artifacts, under its own name."""
        self._tell(["artifact", str(path.absolute())])

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags of the run."""
        self._tell(["tags", dict(values)])

    def flush(self) -> None:
        """Send what is buffered."""
        self._tell(["flush"])

    def end(self, status: str, error: str = "") -> None:
        """Send all that is left, end the run and wait until that is done."""
        self._tell(["end", status, error])
        assert self._process.stdin is not None
        with suppress(OSError):  # it is gone, which `_wait` finds out
            self._process.stdin.close()
        self._wait()
        self._process.wait()

    def _tell(self, message: Any) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if not self._ready and select.select([self._process.stdout], [], [], 0)[0]:
            self._wait()
        if self._lost:
            return
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except OSError:
            self._lost = True
            _logger.warning("The process that talks to MLflow is gone; the stage goes on without")

    def _wait(self) -> None:
        """Wait until the run exists."""
        assert self._process.stdout is not None
        if self._ready or self._lost:
            return
        answer = json.loads(self._process.stdout.readline() or "null")
        if answer == _READY:
            self._ready = True
            return
        self._lost = True
        self._process.wait()
        raise ConnectionError(answer or "the process that talks to MLflow ended before it began")


def main() -> None:
    """The helper's end: read calls from stdin until it closes."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is no answer
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.stdin.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    start = RunStart(**json.loads(sys.stdin.readline()))
    from wsss.tracking import prepare_mlflow

    prepare_mlflow()
    from wsss.tracking.mlflow_tracker import MlflowTracker

    try:
        tracker = MlflowTracker(start)
    except ConnectionError as error:
        print(json.dumps(str(error)), file=answers, flush=True)
        os._exit(1)
    with suppress(BrokenPipeError):  # a stage that is gone by now has its run ended below
        print(json.dumps(_READY), file=answers, flush=True)
    ending = ["KILLED"]
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        if method == "end":
            ending = arguments
            break
        if method == "artifact":
            arguments = [Path(arguments[0])]
        getattr(tracker, method)(*arguments)
    tracker.end(*ending)
    logging.shutdown()
    os._exit(0)  # MLflow's own farewell takes longer than the stage should wait
