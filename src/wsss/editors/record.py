"""What was exported: by which an answer tells what a person has changed, and of what."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsss.artifacts import read_json, write_json

__all__ = ["RECORD", "Record", "Sent", "find_record", "read_record", "write_record"]

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


@dataclass(frozen=True)
class Record:
    """What an export was.

    Attributes:
        sent: by name of the sample.
        class_names: what class ids meant then; of none where an older export does not say.
    """

    sent: Mapping[str, Sent]
    class_names: tuple[str, ...] = ()


def write_record(folder: Path, kind: str, record: Record) -> None:
    """Write what was sent, as a format."""
    images = {
        name: {"origin": item.origin, "hash": item.origin_hash, "returned": item.returned}
        for name, item in record.sent.items()
    }
    classes = list(record.class_names)
    write_json(folder / RECORD, {"format": kind, "classes": classes, "images": images})


def find_record(path: Path) -> Path | None:
    """The record beside a file or in a folder that came back, or a few folders above."""
    for folder in (path, *path.absolute().parents[:_ABOVE]):
        if (folder / RECORD).is_file():
            return folder / RECORD
    return None


def read_record(path: Path) -> Record:
    """Read what `write_record` wrote. Raises ValueError where it is something else."""
    value: Any = read_json(path)
    try:
        sent = {
            str(name): Sent(str(item["origin"]), str(item["hash"]), str(item["returned"]))
            for name, item in value["images"].items()
        }
        return Record(sent, tuple(map(str, value.get("classes", ()))))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no record of an export ({error!r}); name the folder that `wsss annotations "
            "export` wrote, or move the file away"
        ) from None
