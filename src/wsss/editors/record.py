"""What was exported: by which an answer tells what a person has changed, and of what."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsss.artifacts import read_json, write_json

__all__ = ["RECORD", "Sent", "find_record", "read_record", "write_record"]

RECORD = "wsss_export.json"
"""The file, in the folder of an export."""

_ABOVE = 3  # folders that a record is looked for in, upwards


@dataclass(frozen=True)
class Sent:
    """A mask as it was exported.

    Attributes:
        origin: what it is: "pseudo_masks", "predictions" or "corrections".
        origin_hash: `wsss.artifacts.mask_hash` of it.
        returned: the same of the mask that comes back when nobody changes anything.
    """

    origin: str
    origin_hash: str
    returned: str


def write_record(folder: Path, kind: str, sent: Mapping[str, Sent]) -> None:
    """Write what was sent, by name of the sample, as a format."""
    images = {
        name: {"origin": item.origin, "hash": item.origin_hash, "returned": item.returned}
        for name, item in sent.items()
    }
    write_json(folder / RECORD, {"format": kind, "images": images})


def find_record(path: Path) -> Path | None:
    """The record beside a file or in a folder that came back, or a few folders above."""
    for folder in (path, *path.absolute().parents[:_ABOVE]):
        if (folder / RECORD).is_file():
            return folder / RECORD
    return None


def read_record(path: Path) -> dict[str, Sent]:
    """Read what `write_record` wrote. Raises ValueError where it is something else."""
    value: Any = read_json(path)
    try:
        return {
            str(name): Sent(str(item["origin"]), str(item["hash"]), str(item["returned"]))
            for name, item in value["images"].items()
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no record of an export ({error!r}); name the folder that `wsss annotations "
            "export` wrote, or move the file away"
        ) from None
