"""PASCAL VOC's palette PNGs of class ids, with the list of labels that CVAT's masks come with."""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from wsss.artifacts import IGNORE_INDEX, atomic_path, files_below, palette, write_label_png
from wsss.data.drawn_masks import label_ids
from wsss.editors._base import Answers, Given, Known, label_of
from wsss.editors._pictures import read_files
from wsss.evaluate.placing import Meanings, colour_name, read_mask

__all__ = ["IMAGES", "LOSSLESS", "read", "reads", "write"]

IMAGES = "JPEGImages"
LOSSLESS = True
MASKS, LABELS, LIST = "SegmentationClass", "labelmap.txt", "ImageSets/Segmentation/default.txt"

_GREY = ("1", "L", "I", "I;16")  # modes without colours, whose values are class ids


def write(given: Iterable[Given], class_names: Sequence[str], out: Path, tolerance: float) -> str:
    """Write SegmentationClass, labelmap.txt and the list of images; see `Format`."""
    del tolerance
    names = []
    for item in given:
        write_label_png(out / f"{MASKS}/{item.name}.png", item.mask)
        names.append(item.name)
    values = (*range(1, len(class_names) + 1), IGNORE_INDEX)
    labels = [_line(label_of(value, class_names), value) for value in values]
    lines = ["# label:color_rgb:parts:actions", _line("background", 0), *labels]
    for file, text in ((LABELS, lines), (LIST, names)):
        with atomic_path(out / file) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in text), encoding="utf-8")
    return ""


def reads(path: Path) -> bool:
    """See `Format`; a folder of PNGs alone is one, too."""
    return path.is_dir() and bool(files_below(_masks(path), ".png"))


def read(path: Path, known: Known) -> Answers:
    """Read PNGs of class ids or, where labelmap.txt is there, of its colours; see `Format`."""
    masks = _masks(path)
    meanings = _meanings(path / LABELS, known.class_names)

    def drawing(file: Path, size: tuple[int, int], empty: int) -> np.ndarray:
        del size, empty
        with Image.open(file) as image:
            by_value, has_values = image.mode in _GREY, image.mode in (*_GREY, "P")
        if not (meanings or has_values):
            raise ValueError(
                f"{file} has colours, and there is no {path / LABELS} that says what they mean; "
                "put it there, or save masks as palette or grey PNGs of class ids"
            )
        return read_mask(file, {} if by_value else meanings, len(known.class_names))[0]

    return read_files(files_below(masks, ".png"), masks, known, lambda file: partial(drawing, file))


def _masks(path: Path) -> Path:
    return path / MASKS if (path / MASKS).is_dir() else path


def _line(label: str, class_id: int) -> str:
    return f"{label}:{','.join(map(str, palette()[class_id].tolist()))}::"


def _meanings(path: Path, class_names: Sequence[str]) -> Meanings:
    """What the colours of labelmap.txt are in masks; nothing without that file.

    Labels without colours have those of PASCAL VOC, in their order.
    """
    if not path.is_file():
        return {}
    found: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("# label:"):  # a class may begin with '#'
            continue
        try:
            label, colours, *_ = line.rsplit(":", 3)
            red, green, blue = map(int, colours.split(",")) if colours else palette()[len(found)]
        except ValueError:
            raise ValueError(
                f"{path}, line {number}: '{line}' is not label:red,green,blue::; export it again"
            ) from None
        found[colour_name((int(red) << 16) + (int(green) << 8) + int(blue))] = label
    ids = label_ids(found.values(), str(path), class_names)
    return {shown: ids[label] for shown, label in found.items()}
