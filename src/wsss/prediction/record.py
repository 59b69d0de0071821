"""What lies in a folder of masks: of which model, and what each of its images was."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsss.artifacts import fingerprint, read_json, write_json
from wsss.data.listing import some
from wsss.prediction._base import Model

__all__ = ["Entry", "Record"]

_ABOUT = "predict.json"
_ENTRIES = "predict.jsonl"


@dataclass(frozen=True)
class Entry:
    """An image that is done.

    Attributes:
        source: its file.
        bytes: the size of that.
        modified: when it was changed, in nanoseconds.
        tags: the classes that were allowed; None of all.
        files: names of what was written.
        pixels: of the mask, by value: K + 1 of them.
    """

    source: str
    bytes: int
    modified: int
    tags: tuple[str, ...] | None
    files: tuple[str, ...]
    pixels: tuple[int, ...]


class Record:
    """The list of a folder's masks, which a stopped run goes on from.

    Args:
        folder: of the masks; it is made.
        model: that predicts.

    Raises:
        ValueError: it holds masks of another model, or of other settings.
    """

    def __init__(self, folder: Path, model: Model) -> None:
        self.folder = folder
        about = model.about
        key = fingerprint(about.get("key") or about, about.get("images"))
        known = {
            "key": key,
            "model": str(about.get("place", "")),
            "settings": about.get("settings"),
            "images": about.get("images"),
            "has_background": model.has_background,
            "classes": [
                {"id": at, "name": name, "colour": model.palette[at].tolist()}
                for at, name in enumerate(model.class_names, 1)
            ],
        }
        self._about, self._file = folder / _ABOUT, folder / _ENTRIES
        if self._about.exists():
            self._check(read_json(self._about), known)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(self._about, known)
        self._entries = self._read()

    def entry(self, name: str) -> Entry | None:
        """What is noted of an image by the name of its mask; None of nothing."""
        return self._entries.get(name)

    def is_done(self, name: str, entry: Entry) -> bool:
        """Whether all of an image is there, made of the same file with the same tags."""
        known = self._entries.get(name)
        if known is None or not set(entry.files) <= set(known.files):
            return False
        same = ("source", "bytes", "modified", "tags")
        return all(getattr(known, key) == getattr(entry, key) for key in same) and all(
            (self.folder / file).exists() for file in entry.files
        )

    def check_free(self, wanted: Mapping[str, Entry]) -> None:
        """Raise ValueError where a file would be written over that is of something else.

        Args:
            wanted: by name what is to be made.
        """
        strange = []
        for name, entry in wanted.items():
            known = self._entries.get(name)
            if known is not None and known.source != entry.source:
                raise ValueError(
                    f"{self.folder / name} is of {known.source}, and {entry.source} would have the "
                    "same name; name another folder with --out, or predict both with one command, "
                    "which names them by their folders"
                )
            own = () if known is None else known.files
            files = (self.folder / file for file in entry.files if file not in own)
            strange += [str(file) for file in files if file.exists()]
        if strange:
            raise ValueError(
                f"{len(strange)} files are there that no prediction has made, and would be written "
                f"over: {some(strange, 3)}; name another folder with --out"
            )

    def add(self, name: str, entry: Entry) -> None:
        """Note an image, whose files then follow at once."""
        row = {"name": name, **vars(entry)}
        with self._file.open("a", encoding="utf-8", newline="\n") as file:
            # half a surrogate pair, of a file name that is not UTF-8, is written as its escape
            file.write(json.dumps(row) + "\n")
        self._entries[name] = entry

    def _check(self, held: Mapping[str, Any], known: Mapping[str, Any]) -> None:
        if held.get("key") == known["key"]:
            return
        changed = [
            f"{section}.{key} was {json.dumps(before.get(key))} and is {json.dumps(now.get(key))}"
            for section, name in (("predict_masks", "settings"), ("prepare_data", "images"))
            for before, now in [(held.get(name) or {}, known[name] or {})]
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key) and key != "batch_size"
        ]
        what = f"of other settings ({'; '.join(changed)})" if changed else "of another model"
        raise ValueError(
            f"{self.folder} holds masks {what}: {self._about} says {held.get('model')}; name "
            "another folder with --out, or remove this one"
        )

    def _read(self) -> dict[str, Entry]:
        """The entries; a last line that was cut off is left out, and removed."""
        if not self._file.exists():
            return {}
        whole, newline, rest = self._file.read_bytes().rpartition(b"\n")
        if rest:
            os.truncate(self._file, len(whole) + len(newline))
        found = {}
        for number, line in enumerate(whole.split(b"\n") if whole else (), 1):
            try:
                row = json.loads(line)
                tags = None if row["tags"] is None else tuple(row["tags"])
                lists = {key: tuple(row[key]) for key in ("files", "pixels")}
                name = row.pop("name")
                row["source"] = os.path.normpath(row["source"])
                found[name] = Entry(**(row | lists | {"tags": tags}))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{self._file}, line {number}: not what `wsss predict` writes ({error!r}); "
                    "name another folder with --out, or remove this one"
                ) from None
        return found
