"""Files of a data set that paints its images: the same for any number of processes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from wsss.artifacts import write_label_png
from wsss.cores import usable_cores
from wsss.data._base import RawSample
from wsss.progress import track

__all__ = ["check_sides", "paint_files", "spread"]

Job = TypeVar("Job", bound=Any)
Result = TypeVar("Result")

MIN_JOBS = 100
"""Fewer images are not worth starting processes for."""

LONGEST = 4
"""How many times the shorter side the longer one may be."""

Paint = Callable[[str, int], tuple[np.ndarray, np.ndarray]]


def paint_files(
    paint: Paint, scratch: Path, counts: Mapping[str, int], what: str
) -> dict[str, list[RawSample]]:
    """Paint every image of every split, and take the tags from what was painted.

    Args:
        paint: split and index to an image, (H, W, 3) uint8, and its mask, (H, W) uint8 of class
            ids; can be sent to another process.
        scratch: where images/ and masks/ are written.
        counts: images of each split.
        what: they are, for the progress bar.
    """
    jobs = [(split, index) for split, count in counts.items() for index in range(count)]
    splits: dict[str, list[RawSample]] = {split: [] for split in counts}
    samples = track(spread(partial(_write, paint, scratch), jobs), what, len(jobs))
    for (split, _), sample in zip(jobs, samples, strict=True):
        splits[split].append(sample)
    return splits


def check_sides(size: tuple[int, int], size_spread: float = 0) -> None:
    """Raise ValueError if what is painted in scale with the shorter side would be too small a part.

    Args:
        size: height and width in pixels.
        size_spread: share by which either may be longer or shorter.
    """
    ratio = max(size) / min(size) * (1 + size_spread) / (1 - size_spread)
    if ratio > LONGEST:
        also = f" and size_spread {size_spread:g}" if size_spread else ""
        raise ValueError(
            f"image_size is {list(size)}{also}: one side may be {ratio:.1f} times the other, but "
            f"{LONGEST} times is the most at which all that is painted can be seen"
        )


def spread(work: "partial[Result]", jobs: Sequence[Job]) -> Iterator[Result]:
    """Do the jobs in order, in processes where that pays for starting them."""
    cores = usable_cores()
    if cores == 1 or len(jobs) < MIN_JOBS:
        yield from map(work, jobs)
        return
    with ProcessPoolExecutor(min(cores, 8), get_context("spawn")) as pool:
        yield from pool.map(work, jobs, chunksize=16)


def _write(paint: Paint, scratch: Path, job: tuple[str, int]) -> RawSample:
    split, index = job
    image, mask = paint(split, index)
    name = f"{split}_{index:05d}"
    image_path, mask_path = (scratch / "images" / f"{name}.png", scratch / "masks" / f"{name}.png")
    image_path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(image_path, compress_level=1)
    write_label_png(mask_path, mask)
    class_ids = tuple(int(item) for item in np.unique(mask) if item)
    return RawSample(name, image_path, class_ids, mask_path)
