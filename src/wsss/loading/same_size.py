"""Whole images in batches of equal size: for scoring, CAMs and prediction, without padding."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from wsss.artifacts import Sample, read_image
from wsss.progress import track

__all__ = ["same_size_batches", "size_groups", "with_long_side"]


def with_long_side(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    """The size of the same shape whose longer side is `long_side`."""
    factor = long_side / max(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def size_groups(
    sizes: Sequence[tuple[int, int]], batch_size: int, parts: Sequence[int] = ()
) -> list[list[int]]:
    """Indices in batches of equal size, largest images first so that memory peaks early.

    Args:
        sizes: of images.
        batch_size: at most so many images together.
        parts: a number for each image; those with different ones are in no batch together.

    Example:
        >>> size_groups([(2, 2), (4, 4), (2, 2), (2, 2)], 2)
        [[1], [0, 2], [3]]
    """
    found: dict[tuple[tuple[int, int], int], list[int]] = {}
    for index, size in enumerate(sizes):
        found.setdefault((size, parts[index] if parts else 0), []).append(index)
    by_size = sorted(found.items(), key=lambda item: (-item[0][0][0] * item[0][0][1], item))
    return [
        members[start : start + batch_size]
        for _, members in by_size
        for start in range(0, len(members), batch_size)
    ]


class _Images(Dataset[tuple[Tensor, int]]):
    def __init__(
        self, samples: Sequence[Sample], images: Path, sizes: Sequence[tuple[int, int]]
    ) -> None:
        self.samples, self.images, self.sizes = samples, images, sizes

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        sample = self.samples[index]
        image = read_image(self.images / sample.image)
        size = self.sizes[index]
        if size != image.shape[:2]:
            scaled = Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR)
            image = np.asarray(scaled)
        return torch.from_numpy(image.copy()).permute(2, 0, 1), index


def _count(batch: tuple[Tensor, Tensor]) -> int:
    """Images in a batch; there are few where sizes differ."""
    return len(batch[1])


def same_size_batches(
    samples: Sequence[Sample],
    images: Path,
    *,
    batch_size: int,
    num_workers: int,
    size_for: Callable[[tuple[int, int]], tuple[int, int]] = lambda size: size,
    part: Callable[[Sample], int] | None = None,
    done: Callable[[Sample], bool] = lambda sample: False,
    dealt: Callable[[Sequence[list[int]]], Sequence[list[int]]] = lambda batches: batches,
    description: str,
    stays: bool = True,
) -> Iterator[tuple[list[Sample], Tensor]]:
    """Yield (samples, (B, 3, H, W) uint8) with a progress bar, decoding in the background.

    Args:
        samples: in any order; batches go by size.
        images: the folder of prepared images.
        batch_size: at most so many images together.
        num_workers: decoding processes; 0 decodes here.
        size_for: an image's (height, width) to the one it is resized to; as it is by default.
        part: a number for each sample; those with different ones are in no batch together.
        done: a batch whose samples are all done is left out. One that is done in part runs
            whole, as rounding may depend on what else is in a batch.
        dealt: which of all batches this process has: those of `wsss.cores.share` or of `Job.share`,
            where others have the rest; the same batches that one process would have.
        description: beside the progress bar.
        stays: whether the bar is seen when all is done.
    """
    sizes = [size_for(sample.size) for sample in samples]
    groups = size_groups(sizes, batch_size, [part(sample) for sample in samples] if part else ())
    groups = [group for group in dealt(groups) if not all(done(samples[index]) for index in group)]
    loader: Any = DataLoader(
        _Images(samples, images, sizes),
        batch_sampler=groups,
        num_workers=num_workers,
        prefetch_factor=4 if num_workers else None,
    )
    total = sum(len(group) for group in groups)
    for pixels, indices in track(loader, description, total, _count, stays=stays):
        yield [samples[index] for index in indices.tolist()], pixels
