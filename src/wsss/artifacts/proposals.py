"""Mask proposals of one image: masks of no class, possibly overlapping, kept as runs of pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from wsss.artifacts.files import atomic_path, is_of_the_system
from wsss.artifacts.shards import ShardError, open_file
from wsss.checks import check_dtype, check_shape

if TYPE_CHECKING:
    from scipy.sparse import csr_array  # type: ignore[import-untyped]

__all__ = ["Proposals", "read_proposals", "write_proposals"]


_OUT = np.int8(0)


@dataclass(frozen=True)
class Proposals:
    """N masks, each a list of runs of pixels that are counted row by row through the image.

    Attributes:
        starts: (R,) int32: the pixels y * W + x at which runs begin; ascending within a mask.
        lengths: (R,) int32: pixels per run, at least 1. A run may go on in the next row.
        offsets: (N + 1,) int32: mask n has the runs offsets[n] to offsets[n + 1], the last
            excluded; a mask without runs is empty.
        quality: (N,) float32: what the source thinks of each mask; 1 where it has no opinion.
        size: (height, width) of the image in pixels.

    Raises:
        ValueError: the parts do not fit together.

    Example:
        >>> left = Proposals.from_labels(np.array([[0, 1], [0, 1]]))
        >>> left.sums(np.array([[[1, 2], [3, 4]]]))
        array([[4., 6.]])
    """

    starts: np.ndarray
    lengths: np.ndarray
    offsets: np.ndarray
    quality: np.ndarray
    size: tuple[int, int]

    def __post_init__(self) -> None:
        check_shape("quality", self.quality.shape, ("N",))
        check_shape("offsets", self.offsets.shape, (len(self) + 1,))
        check_shape("starts", self.starts.shape, (int(self.offsets[-1]),))
        check_shape("lengths", self.lengths.shape, self.starts.shape)
        if self.offsets[0] != 0 or (np.diff(self.offsets) < 0).any():
            raise ValueError("offsets must begin with 0 and never descend")
        height, width = self.size
        ends = self.starts + self.lengths
        if (self.lengths < 1).any() or (self.starts < 0).any() or (ends > height * width).any():
            raise ValueError(f"runs must lie within {height} x {width} pixels, in at least one")
        follows = self._masks[1:] == self._masks[:-1]
        if (self.starts[1:] < ends[:-1])[follows].any():
            raise ValueError("runs of a mask must ascend and not overlap")
        if not np.isfinite(self.quality).all():
            raise ValueError("quality must be finite")

    def __len__(self) -> int:
        return len(self.quality)

    @property
    def _masks(self) -> np.ndarray:
        """(R,) the mask of each run."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @classmethod
    def from_masks(cls, masks: np.ndarray, quality: np.ndarray | None = None) -> Self:
        """Take masks as they are; for many of a large image, `join` what comes from a few.

        Args:
            masks: (N, H, W) bool.
            quality: (N,), or none for 1.
        """
        check_shape("masks", masks.shape, ("N", "H", "W"))
        check_dtype("masks", masks.dtype, "bool")
        runs = [np.empty((0, 2), np.int32)]
        for mask in masks:
            changes = np.diff(mask.ravel().astype(np.int8), prepend=_OUT, append=_OUT)
            runs.append(np.flatnonzero(changes).astype(np.int32).reshape(-1, 2))
        starts, ends = np.concatenate(runs).T
        return cls(
            np.ascontiguousarray(starts),
            ends - starts,
            np.cumsum([len(run) for run in runs], dtype=np.int32),
            np.ones(len(masks), np.float32) if quality is None else np.asarray(quality, np.float32),
            masks.shape[1:],
        )

    @classmethod
    def from_labels(cls, labels: np.ndarray) -> Self:
        """One mask per value of a label map, in ascending order; negative values are no mask.

        Args:
            labels: (H, W) of integers.
        """
        check_shape("labels", labels.shape, ("H", "W"))
        flat = labels.ravel()
        starts = np.flatnonzero(np.diff(flat, prepend=flat[:1] - 1))
        lengths = np.diff(starts, append=flat.size)
        values = flat[starts]
        order = np.argsort(values, kind="stable")[np.count_nonzero(values < 0) :]
        counts = np.unique(values[order], return_counts=True)[1]
        return cls(
            starts[order].astype(np.int32),
            lengths[order].astype(np.int32),
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
            np.ones(len(counts), np.float32),
            labels.shape,
        )

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """The masks of all parts, in order. Raises ValueError unless they are of one size."""
        sizes = {part.size for part in parts}
        if len(sizes) != 1:
            raise ValueError(f"only proposals of one size can be joined, but got {sorted(sizes)}")
        counts = np.concatenate([[0], *(np.diff(part.offsets) for part in parts)])
        return cls(
            np.concatenate([part.starts for part in parts]),
            np.concatenate([part.lengths for part in parts]),
            np.cumsum(counts, dtype=np.int32),
            np.concatenate([part.quality for part in parts]),
            sizes.pop(),
        )

    def matrix(self) -> "csr_array":
        """(N, H*W) sparse float32: 1 at the pixels of each mask.

        It has an entry per pixel of every mask. `sums` and `scatter` are its products, from the
        runs alone; what they cannot say, such as overlaps of masks with one another, takes it.
        """
        from scipy.sparse import csr_array

        bounds = np.concatenate([[0], np.cumsum(self.lengths)])
        pixels = np.repeat(self.starts - bounds[:-1], self.lengths) + np.arange(bounds[-1])
        height, width = self.size
        ones = np.ones(len(pixels), np.float32)
        parts = (ones, pixels.astype(np.int32), bounds[self.offsets].astype(np.int32))
        return csr_array(parts, shape=(len(self), height * width))

    def areas(self) -> np.ndarray:
        """(N,) float64: pixels per mask."""
        bounds = np.concatenate([[0.0], np.cumsum(self.lengths)])
        areas: np.ndarray = np.diff(bounds[self.offsets])
        return areas

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum an image over each mask; exact for whole numbers.

        Args:
            values: (C, H, W), of any number or bool.

        Returns:
            (C, N) float64.
        """
        check_shape("values", values.shape, ("C", *self.size))
        summed = np.zeros(self.size[0] * self.size[1] + 1)
        runs = np.zeros(len(self.starts) + 1)
        result = np.empty((len(values), len(self)))
        ends = self.starts + self.lengths
        for into, row in zip(result, values, strict=True):
            np.cumsum(row, dtype=np.float64, out=summed[1:])
            np.cumsum(summed[ends] - summed[self.starts], out=runs[1:])
            into[:] = np.diff(runs[self.offsets])
        return result

    def scatter(self, weights: np.ndarray) -> np.ndarray:
        """Sum at each pixel the weights of the masks that hold it; exact for whole numbers.

        Args:
            weights: (C, N), of any number or bool.

        Returns:
            (C, H, W) float64.
        """
        check_shape("weights", weights.shape, ("C", len(self)))
        height, width = self.size
        result = np.empty((len(weights), height, width))
        ends = self.starts + self.lengths
        for into, row in zip(result, weights[:, self._masks], strict=True):
            change = np.bincount(self.starts, row, height * width + 1)
            change -= np.bincount(ends, row, height * width + 1)
            np.cumsum(change[:-1], out=into.reshape(-1))
        return result


def write_proposals(path: Path, proposals: Proposals) -> None:
    """Write proposals as one .npz, atomically; the same proposals give the same bytes."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            # from one run to the next: small numbers that repeat from row to row
            steps=np.diff(proposals.starts, prepend=0).astype(np.int32),
            lengths=proposals.lengths.astype(np.int32),
            offsets=proposals.offsets.astype(np.int32),
            quality=proposals.quality.astype(np.float32),
            size=np.asarray(proposals.size, np.int32),
        )


def read_proposals(path: Path) -> Proposals:
    """Read proposals. Raises ValueError that names a file which holds none."""
    try:
        with open_file(path) as file, np.load(file, allow_pickle=False) as arrays:
            height, width = arrays["size"].tolist()
            return Proposals(
                np.cumsum(arrays["steps"], dtype=np.int32),
                arrays["lengths"],
                arrays["offsets"],
                arrays["quality"],
                (height, width),
            )
    except ShardError:
        raise
    except Exception as error:  # damage inside an archive surfaces as almost any type
        if is_of_the_system(error):
            raise
        raise ValueError(f"{path} does not hold proposals: {error}; rerun make_proposals") from None
