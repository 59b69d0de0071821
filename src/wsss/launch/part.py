"""What a task of a stage is told by the process that started it: which part, of which out.

The task reads settings and hashes from a file beside the work: params.yaml may have changed since,
and a cluster starts a task hours later.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from wsss.artifacts import read_json, write_json

__all__ = ["PART", "SHARD", "Part", "PartDone", "current_part"]

PART = "WSSS_PART"
"""The environment variable that names a part's file."""
SHARD = "WSSS_SHARD"
"""The environment variable that says which part, such as 0/8 for the first of eight."""

FILE = ".work.part.json"

Item = TypeVar("Item")


class PartDone(Exception):
    """A task has done its part: what is left of the stage is not its work."""


@dataclass(frozen=True)
class Part:
    """One of several parts of a folder that a stage makes.

    Attributes:
        out: the folder, below the project.
        key: the fingerprint under which it is made.
        checked: a hash of the settings and the code; a task whose own is another one must not work.
        kind: images, of which a task makes its share, or epochs, which all of a task's processes
            train together.
        params: all settings, as plain values.
        index: which part, from 0.
        count: of how many.
    """

    out: str
    key: str
    checked: str
    kind: Literal["images", "epochs"]
    params: dict[str, Any]
    index: int = 0
    count: int = 1

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """The items of this part: every n-th of n parts.

        Example:
            >>> Part("data/cams", "", "", "images", {}, 1, 3).share("abcdefg")
            'be'
        """
        return items[self.index :: self.count]

    def write(self, folder: Path) -> Path:
        """Write into the folder in the making what all parts have in common; where that is."""
        values = asdict(self)
        del values["index"], values["count"]
        write_json(folder / FILE, values)
        return folder / FILE

    def check(self, checked: str) -> None:
        """Raise ValueError unless this process has the settings and the code that were meant."""
        if checked != self.checked:
            raise ValueError(
                f"this task finds other code than the process that wants {self.out} from it; let "
                "all nodes see the same project, and do not change the code while tasks wait: "
                "run the stage again"
            )


def current_part() -> Part | None:
    """The part that this process was started for; None in all others."""
    if PART not in os.environ:
        return None
    index, count = map(int, os.environ.get(SHARD, "0/1").split("/"))
    return Part(**read_json(Path(os.environ[PART])), index=index, count=count)
