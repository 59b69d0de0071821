"""Masks that come back as a picture of each image."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from wsss.data.drawn_masks import matched_names
from wsss.editors._base import Answers, Known, Returned

__all__ = ["read_files"]

Drawing = Callable[[tuple[int, int], int], np.ndarray]


def read_files(
    files: Sequence[Path], folder: Path, known: Known, drawing: Callable[[Path], Drawing]
) -> Answers:
    """The answers of files that are called as the images are, each as old as its file.

    Args:
        files: one an image.
        folder: they lie below.
        known: the images.
        drawing: gives for a file how its mask is drawn; see `Returned.draw`.

    Raises:
        ValueError: two files are of one image.
    """
    entries = {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}
    found = matched_names(list(entries), known.images, known.folder)
    masks: dict[str, Returned] = {}
    for entry, path in sorted(entries.items()):
        name = found.get(entry)
        if name is None:
            continue
        if name in masks:
            raise ValueError(
                f"{path} is of the image '{name}', as {masks[name].where} is; remove one of them"
            )
        changed = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
        masks[name] = Returned(name, str(path), drawing(path), when=changed)
    return Answers(list(masks.values()), [entry for entry in sorted(entries) if entry not in found])
