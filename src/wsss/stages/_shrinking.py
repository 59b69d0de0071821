"""Larger images shrunk to a longer side, and their masks with them."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from PIL import Image

from wsss.artifacts import Sample, atomic_path
from wsss.cores import usable_cores
from wsss.evaluate.placing import shrink_mask
from wsss.progress import track

__all__ = ["shrink_all"]


def shrink_all(
    splits: Mapping[str, Sequence[Sample]], images: Path, masks: Path, long_side: int
) -> tuple[dict[str, list[Sample]], int]:
    """Shrink the prepared images whose longer side is larger, as PNGs; what is done stays.

    Args:
        splits: prepared samples, by split.
        images: the folder of their images.
        masks: the folder of their masks, which get the nearest pixels' values.
        long_side: in pixels; 0 shrinks nothing.

    Returns:
        The samples as they are now, and how many were shrunk.
    """
    if not long_side:
        return {split: list(samples) for split, samples in splits.items()}, 0
    jobs = [(split, sample) for split, samples in splits.items() for sample in samples]
    shrink = partial(_shrink, images=images, masks=masks, long_side=long_side)
    shrunk: dict[str, list[Sample]] = {split: [] for split in splits}
    count = 0
    with ThreadPoolExecutor(min(8, usable_cores() + 1)) as pool:
        found = pool.map(shrink, (sample for _, sample in jobs))
        for (split, before), sample in zip(jobs, track(found, "shrunk", len(jobs)), strict=True):
            shrunk[split].append(sample)
            count += sample.size != before.size
    return shrunk, count


def _shrink(sample: Sample, images: Path, masks: Path, long_side: int) -> Sample:
    factor = long_side / max(sample.size)
    if factor >= 1:
        return sample
    height, width = (max(1, round(length * factor)) for length in sample.size)
    file = f"{sample.name}.png"
    with Image.open(images / sample.image) as image:
        if image.size != (width, height):  # else a run that was killed has done it
            small = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
            with atomic_path(images / file) as temporary:
                small.save(temporary, format="PNG", compress_level=3)
    if file != sample.image:
        (images / sample.image).unlink()
    if sample.mask is not None:
        shrink_mask(masks / sample.mask, (height, width))
    return replace(sample, image=file, size=(height, width))
