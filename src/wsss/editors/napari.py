"""napari: TIFFs of class ids, which it opens as labels layers and saves as such."""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from wsss.artifacts import atomic_path, files_below
from wsss.editors._base import Answers, Given, Known
from wsss.editors._pictures import read_files
from wsss.evaluate.placing import read_mask

__all__ = ["IMAGES", "LOSSLESS", "read", "reads", "write"]

IMAGES = "images"
LOSSLESS = True
LABELS = "labels"

_SUFFIXES = (".tif", ".tiff")


def write(given: Iterable[Given], class_names: Sequence[str], out: Path, tolerance: float) -> str:
    """Write labels/NAME.tif of each image; see `Format`."""
    del tolerance, class_names
    for item in given:
        with atomic_path(out / f"{LABELS}/{item.name}.tif") as temporary:
            Image.fromarray(item.mask).save(
                temporary, format="TIFF", compression="tiff_adobe_deflate"
            )
    return LABELS


def reads(path: Path) -> bool:
    """See `Format`."""
    return path.is_dir() and bool(files_below(_labels(path), *_SUFFIXES))


def read(path: Path, known: Known) -> Answers:
    """Read TIFFs of whole numbers of any width; see `Format`."""
    folder = _labels(path)

    def drawing(file: Path, size: tuple[int, int], empty: int) -> np.ndarray:
        del size, empty
        return read_mask(file, {}, len(known.class_names))[0]

    files = files_below(folder, *_SUFFIXES)
    return read_files(files, folder, known, lambda file: partial(drawing, file))


def _labels(path: Path) -> Path:
    return path / LABELS if (path / LABELS).is_dir() else path
