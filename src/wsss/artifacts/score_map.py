"""Per-class score maps of one image: what CAM methods make and refiners change."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from wsss.artifacts.files import atomic_path, is_of_the_system
from wsss.artifacts.shards import ShardError, has_file, open_file
from wsss.checks import check_dtype, check_shape, check_values
from wsss.commands import run_command

__all__ = ["ScoreMap", "as_stored", "read_further_map", "read_score_map", "write_score_map"]

BLOCK_PIXELS = 2**20  # of an image, that row_blocks lets be worked on together
_FURTHER = "generate_further_cams"


@dataclass(frozen=True)
class ScoreMap:
    """Foreground scores of the classes an image is tagged with.

    A pixel is background where no score exceeds the threshold; there is no background
    channel. A refiner that has one passes on s / (max s + background), so that its own
    decision is the threshold 0.5.

    Attributes:
        class_ids: (P,) uint8 in 1..K, ascending: the classes present.
        scores: (P, h, w) float32 in [0, 1], on any grid.
        size: (height, width) of the image in pixels.
        class_probs: (P,) float32 in [0, 1]: what the classifier thinks of each class.

    Raises:
        ValueError: an array is not as above.
    """

    class_ids: np.ndarray
    scores: np.ndarray
    size: tuple[int, int]
    class_probs: np.ndarray

    def __post_init__(self) -> None:
        check_shape("class_ids", self.class_ids.shape, ("P",))
        check_shape("scores", self.scores.shape, (len(self.class_ids), "h", "w"))
        check_shape("class_probs", self.class_probs.shape, (len(self.class_ids),))
        check_dtype("class_ids", self.class_ids.dtype, "uint8")
        check_dtype("scores", self.scores.dtype, "float32")
        check_values("class_ids", self.class_ids, 1, 254)
        check_values("scores", self.scores, 0, 1)
        check_values("class_probs", self.class_probs, 0, 1)

    def full_scores(self) -> np.ndarray:
        """(P, H, W) float32: the scores at image size, bilinear with half-pixel centres."""
        return self.on_grid(self.size)

    def on_grid(self, grid: tuple[int, int]) -> np.ndarray:
        """(P, *grid) float32: the scores on another grid of the image, bilinear.

        A cell of a coarser grid is a weighted mean over twice as many cells as it covers, those in
        its middle counting most.
        """
        height, width = grid
        if self.scores.shape[1:] == grid:
            return self.scores
        full = np.empty((len(self.class_ids), height, width), np.float32)
        for index, score in enumerate(self.scores):
            resized = Image.fromarray(score).resize((width, height), Image.Resampling.BILINEAR)
            full[index] = np.asarray(resized)
        return full

    def row_blocks(self) -> Iterator[tuple[int, int]]:
        """Starts and stops for `rows`, such that a large image needs little memory.

        A map with more rows than the image is as large as the whole, so that is one block.
        """
        height, width = self.size
        step = max(1, BLOCK_PIXELS // width) if self.scores.shape[1] <= height else height
        for start in range(0, height, step):
            yield start, min(start + step, height)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """(P, stop - start, W) float32: `full_scores()[:, start:stop]`, to the last bit.

        Args:
            start: first row, in 0..H - 1.
            stop: after the last row, in start + 1..H.
        """
        height, width = self.size
        cells = self.scores.shape[1]
        if cells > height or stop - start == height or self.scores.shape[1:] == self.size:
            return self.full_scores()[:, start:stop]
        # PIL interpolates along rows, rounds to float32, and then interpolates down columns. Its
        # own way to a part, `box`, has other bits; so the second half is done here as PIL does it.
        centres = (np.arange(start, stop) + 0.5) * (cells / height)
        first = np.maximum((centres - 0.5).astype(np.intp), 0)
        taps = first[:, None] + np.arange(3)
        weights = np.maximum(1 - np.abs(taps - centres[:, None] + 0.5), 0)
        weights[taps >= cells] = 0
        weights /= weights.sum(axis=1, keepdims=True)
        top, bottom = first[0], min(first[-1] + 3, cells)
        band = replace(self, scores=self.scores[:, top:bottom]).on_grid((bottom - top, width))
        found = np.empty((len(band), stop - start, width), np.float32)
        rows = np.minimum(taps, cells - 1) - top
        for index, item in enumerate(band):
            found[index] = sum(weights[:, [tap]] * item[rows[:, tap]] for tap in range(3))
        return found


def write_score_map(path: Path, score_map: ScoreMap) -> None:
    """Write a score map as one .npz, atomically; the same map gives the same bytes.

    Scores are stored as uint8 with one scale per class (its maximum), so a score is off by
    at most max/510. Maps below 1e-30 become zero.
    """
    levels, steps = _levels(score_map.scores)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            class_ids=score_map.class_ids.astype(np.uint8),
            scores=levels,
            steps=steps,
            size=np.asarray(score_map.size, np.int32),
            class_probs=score_map.class_probs.astype(np.float32),
        )


def as_stored(score_map: ScoreMap) -> ScoreMap:
    """The score map that writing and reading would give back."""
    levels, steps = _levels(score_map.scores)
    return replace(score_map, scores=np.minimum(levels * steps[:, None, None], 1))


def _levels(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores as uint8, whole steps of 0..255, and the height of a step per class."""
    peaks = scores.max(axis=(1, 2), initial=0)
    steps = np.where(peaks > 1e-30, peaks, 1).astype(np.float32) / 255
    levels = np.empty(scores.shape, np.uint8)
    rows = max(1, BLOCK_PIXELS // max(1, scores.shape[2]))
    for top in range(0, scores.shape[1], rows):  # of a large map no copy as floats is made
        levels[:, top : top + rows] = np.rint(scores[:, top : top + rows] / steps[:, None, None])
    return levels, steps


def read_score_map(path: Path) -> ScoreMap:
    """Read a score map. Raises ValueError that names a file which is not one."""
    try:
        with open_file(path) as file, np.load(file, allow_pickle=False) as arrays:
            scores = arrays["scores"].astype(np.float32)
            scores *= arrays["steps"][:, None, None]
            height, width = arrays["size"].tolist()
            return ScoreMap(
                arrays["class_ids"],
                np.minimum(scores, 1, out=scores),
                (height, width),
                arrays["class_probs"],
            )
    except ShardError:
        raise
    except Exception as error:  # damage inside an archive surfaces as almost any type
        if is_of_the_system(error):
            raise
        raise ValueError(
            f"{path} is not a score map: {error}; rerun the stage that writes it"
        ) from None


def read_further_map(folder: Path, name: str, own: ScoreMap) -> ScoreMap:
    """Read a map that generate_further_cams made of the image that a score map is of.

    Only the classes of that score map are given: the file has all others besides of which nobody
    knows whether they are there.

    Args:
        folder: of the source.
        name: of the image.
        own: the score map that it is to go with.

    Raises:
        ValueError: it is missing, lacks a class, or is of another size.
    """
    path = folder / f"{name}.npz"
    if not has_file(path):
        raise ValueError(f"{path} is missing; run `{run_command(Path(), _FURTHER)}`")
    other = read_score_map(path)
    if not np.isin(own.class_ids, other.class_ids).all() or other.size != own.size:
        raise ValueError(
            f"{path} has the classes {other.class_ids.tolist()} of an image of {other.size}, but "
            f"the map to go with it {own.class_ids.tolist()} of {own.size}; run "
            f"`{run_command(Path(), _FURTHER)}`"
        )
    if np.array_equal(own.class_ids, other.class_ids):
        return other
    places = {class_id: at for at, class_id in enumerate(other.class_ids.tolist())}
    kept = [places[class_id] for class_id in own.class_ids.tolist()]
    return replace(
        other,
        class_ids=other.class_ids[kept],
        scores=other.scores[kept],
        class_probs=other.class_probs[kept],
    )
