"""YOLO's text files of outlines, a line each: a class and shares of the image's sides."""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from wsss.artifacts import IGNORE_INDEX, atomic_path, files_below
from wsss.data.drawn_masks import filled_polygons, label_ids
from wsss.editors._base import IGNORED, Answers, Given, Known, layered, regions
from wsss.editors._pictures import read_files
from wsss.editors.outlines import outlines, simplified, without_holes

__all__ = ["IMAGES", "LOSSLESS", "read", "reads", "write"]

IMAGES = "images"
LOSSLESS = False
LABELS, NAMES = "labels", "data.yaml"


def write(given: Iterable[Given], class_names: Sequence[str], out: Path, tolerance: float) -> str:
    """Write labels/NAME.txt of each image, and data.yaml; see `Format`.

    A part with holes is one outline, which reaches them and goes back.
    """
    for item in given:
        lines = []
        sides = np.array(item.mask.shape[::-1], float)
        for class_id, inside in regions(item.mask):
            at = len(class_names) if class_id == IGNORE_INDEX else class_id - 1
            for part in outlines(inside):
                shares = without_holes(simplified(part, tolerance)) / sides
                lines.append(f"{at} {' '.join(f'{share:.9g}' for share in shares.ravel())}\n")
        _write(out / f"{LABELS}/{item.name}.txt", "".join(lines))
    names = dict(enumerate([*class_names, IGNORED]))
    value = {"path": ".", "train": IMAGES, "val": IMAGES, "names": names}
    _write(out / NAMES, yaml.safe_dump(value, sort_keys=False, allow_unicode=True))
    return ""


def reads(path: Path) -> bool:
    """See `Format`."""
    return path.is_dir() and (path / NAMES).is_file()


def read(path: Path, known: Known) -> Answers:
    """Read the labels of images; one without a file is not answered. See `Format`."""
    names = _names(path / NAMES)
    ids = label_ids(names.values(), str(path / NAMES), known.class_names)
    by_number = {number: ids[name] for number, name in names.items()}
    folder = path / LABELS
    if not folder.is_dir():
        raise ValueError(f"{path} has no folder {LABELS} of a text file per image; export it again")
    return read_files(
        files_below(folder, ".txt"), folder, known, lambda file: partial(_drawn, file, by_number)
    )


def _drawn(file: Path, ids: dict[int, int], size: tuple[int, int], empty: int) -> np.ndarray:
    parts = []
    sides = np.array(size[::-1], float)
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        words = line.split()
        try:
            label, values = int(words[0]), np.array(words[1:], float)
        except ValueError:
            raise ValueError(
                f"{where}: it is no class and numbers; if it was cut short, export it again"
            ) from None
        if label not in ids:
            raise ValueError(
                f"{where}: the class {label} is none of {NAMES}, which has 0..{max(ids)}; mend it"
            )
        if len(values) == 4:
            raise ValueError(f"{where} is a box; draw the outline of what it holds, or remove it")
        if len(values) < 6 or len(values) % 2:
            raise ValueError(
                f"{where} has {len(values)} numbers, but an outline has x and y of at least 3 "
                "corners; if it was cut short, export it again"
            )
        try:
            parts.append((ids[label], filled_polygons([values.reshape(-1, 2) * sides], size)))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    return layered(parts, size, empty)


def _names(path: Path) -> dict[int, str]:
    """The names of the classes by their numbers."""
    try:
        value: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        names = value["names"]
        found = dict(enumerate(names)) if isinstance(names, list) else dict(names)
        return {int(number): str(name) for number, name in found.items()}
    except (KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(
            f"{path} has no names of classes ({str(error)[:80]}); write them as names: [cat, dog]"
        ) from None


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
