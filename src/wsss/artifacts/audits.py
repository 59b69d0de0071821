"""What people found in audits of masks, as long as these masks are there."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wsss.artifacts.files import read_json
from wsss.artifacts.manifest import Manifest
from wsss.artifacts.paths import Paths
from wsss.artifacts.shards import has_file, read_bytes

__all__ = ["AUDIT", "Audits", "audited_folder", "hash_of_masks"]

AUDIT = "reports/audit.json"
"""Where `wsss audit score` writes what it found."""


@dataclass(frozen=True)
class Audits:
    """What `wsss audit score` found.

    Attributes:
        standing: its entries with an interval, of the masks that are there.
        without: by name of the others, why there is no interval (any more).
    """

    standing: tuple[Mapping[str, Any], ...] = ()
    without: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, paths: Paths) -> "Audits":
        """Read reports/audit.json; nothing where it is not there.

        Raises:
            ValueError: the file is not as an audit writes it.
        """
        file = paths.root / AUDIT
        if not file.is_file():
            return cls()
        standing, without = [], {}
        try:
            found = read_json(file)
            for entry in found["audits"]:
                if reason := _gone(paths, entry):
                    without[str(entry["name"])] = reason
                else:
                    standing.append(entry)
            for entry in found["without_interval"]:
                without[str(entry["name"])] = str(entry["reason"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{AUDIT} is not as an audit writes it ({type(error).__name__}: {error}); run "
                "`wsss audit score` again, or delete the file, and it is said that there is none"
            ) from None
        return cls(tuple(standing), without)


def audited_folder(paths: Paths, kind: str, split: str) -> Path:
    """Where the pipeline puts the pseudo masks or predictions of a split."""
    return paths.pseudo_masks if kind == "pseudo_masks" else paths.predictions / split


def hash_of_masks(folder: Path, names: Iterable[str]) -> str:
    """A hash of the masks <name>.png of a folder, of those that are there."""
    digest = hashlib.sha256()
    for name in sorted(names):
        path = folder / f"{name}.png"
        if has_file(path):
            digest.update(f"{name}\0".encode("utf-8", "surrogatepass"))
            digest.update(hashlib.sha256(read_bytes(path)).digest())
    return digest.hexdigest()


def _gone(paths: Paths, entry: Mapping[str, Any]) -> str:
    """Why an interval says nothing of the masks that are there; "" where it does."""
    kind, split, manifest = str(entry["of"]), str(entry["split"]), Manifest.read(paths.splits)
    if split in manifest.splits:
        names = (sample.name for sample in manifest.splits[split])
        if hash_of_masks(audited_folder(paths, kind, split), names) == entry["masks"]:
            return ""
    return (
        f"the {kind.replace('_', ' ')} of {split} are others by now than those that were audited; "
        "run `wsss audit score` again"
    )
