"""Larger images shrunk to a longer side, and their masks with them."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from PIL import Image

from wsss.artifacts import Filling, Sample, atomic_path, open_file, parts_together
from wsss.cores import usable_cores
from wsss.evaluate.placing import shrink_mask
from wsss.progress import track

__all__ = ["shrink_all", "shrunk_size"]


def shrink_all(
    splits: Mapping[str, Sequence[Sample]],
    images: Path,
    masks: Path,
    long_side: int,
    fillings: Sequence[Filling] = (),
) -> tuple[dict[str, list[Sample]], int]:
    """Shrink the prepared images whose longer side is larger, as PNGs; what is done stays.

    Args:
        splits: prepared samples, by split.
        images: the folder of their images.
        masks: the folder of their masks, which get the nearest pixels' values.
        long_side: in pixels; 0 shrinks nothing.
        fillings: of images and masks, where they may be packed.

    Returns:
        The samples as they are now, and how many were shrunk.
    """
    if not long_side:
        return {split: list(samples) for split, samples in splits.items()}, 0
    shrink = partial(_shrink, images=images, masks=masks, long_side=long_side)
    before = [sample for samples in splits.values() for sample in samples]
    found: dict[str, Sample] = {}
    kinds = (lambda item: found[item.name].image, lambda item: found[item.name].mask)
    parts = parts_together(before, list(zip(fillings, kinds, strict=False)), "shrunk")
    with ThreadPoolExecutor(min(8, usable_cores() + 1)) as pool:
        for part in parts:
            for sample in track(pool.map(shrink, part), "shrunk", len(part)):
                found[sample.name] = sample
    shrunk = {split: [found[item.name] for item in samples] for split, samples in splits.items()}
    return shrunk, sum(found[sample.name].size != sample.size for sample in before)


def shrunk_size(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    """The size of an image when its longer side is at most so many pixels; 0 lets it be.

    Example:
        >>> shrunk_size((375, 500), 100), shrunk_size((30, 20), 100)
        ((75, 100), (30, 20))
    """
    if not 0 < long_side < max(size):
        return size
    factor = long_side / max(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _shrink(sample: Sample, images: Path, masks: Path, long_side: int) -> Sample:
    height, width = shrunk_size(sample.size, long_side)
    if (height, width) == sample.size:
        return sample
    file = f"{sample.name}.png"
    with open_file(images / sample.image) as held, Image.open(held) as image:
        if image.size != (width, height):  # else a run that was killed has done it
            small = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
            with atomic_path(images / file) as temporary:
                small.save(temporary, format="PNG", compress_level=3)
    if file != sample.image:
        (images / sample.image).unlink(missing_ok=True)  # of a shard it goes when that is settled
    if sample.mask is not None:
        shrink_mask(masks / sample.mask, (height, width))
    return replace(sample, image=file, size=(height, width))
