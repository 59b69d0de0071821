"""What a stage may tell its tracker."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

__all__ = ["NullTracker", "RunTracker", "Table", "Tracker", "now"]

Table = Mapping[str, Sequence[str | Path]]
"""Columns of equal length; a path is a picture, which MLflow shows."""


class Tracker(Protocol):
    """Records one run of one stage. Values are buffered; nothing here may slow a training step."""

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Remember values of one step (an epoch or an iteration); sent in batches."""

    def artifact(self, path: Path) -> None:
        """Store a file at the root of the run's artifacts, under its own name.

        It must stay in place until the stage ends.
        """

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags of the run, such as weights or protocol."""

    def flush(self) -> None:
        """Send what is buffered."""


class RunTracker(Tracker, Protocol):
    """A tracker whose run has to be ended.

    Attributes:
        run_id: MLflow's, once the run has ended; "" if MLflow was lost.
    """

    @property
    def run_id(self) -> str: ...

    def metrics(
        self, values: Mapping[str, float], step: int = 0, moment: int | None = None
    ) -> None:
        """Remember values of one step, of a moment in milliseconds since 1970, or of now."""

    def table(self, name: str, columns: Table) -> None:
        """Store a table that the runs page lays out as a grid, of the first column and runs.

        Args:
            name: of the file, such as "panel.json".
            columns: the first one names the rows; the second one is shown first.
        """

    def end(self, status: str, error: str = "", moment: int | None = None) -> None:
        """Send all that is left and end the run as FINISHED, FAILED or KILLED."""


class NullTracker:
    """Records nothing."""

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        pass

    def artifact(self, path: Path) -> None:
        pass

    def tags(self, values: Mapping[str, str]) -> None:
        pass

    def flush(self) -> None:
        pass


def now() -> int:
    """Milliseconds since 1970, as MLflow has them."""
    return time.time_ns() // 1_000_000
