"""Per-class score maps of one image: what CAM methods make and refiners change."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from wsss.artifacts.files import atomic_path
from wsss.checks import check_shape

__all__ = ["ScoreMap", "as_stored", "read_score_map", "write_score_map"]


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
    """

    class_ids: np.ndarray
    scores: np.ndarray
    size: tuple[int, int]
    class_probs: np.ndarray

    def __post_init__(self) -> None:
        check_shape("class_ids", self.class_ids.shape, ("P",))
        check_shape("scores", self.scores.shape, (len(self.class_ids), "h", "w"))
        check_shape("class_probs", self.class_probs.shape, (len(self.class_ids),))

    def full_scores(self) -> np.ndarray:
        """(P, H, W) float32: the scores at image size, bilinear with half-pixel centres."""
        return self.on_grid(self.size)

    def on_grid(self, grid: tuple[int, int]) -> np.ndarray:
        """(P, *grid) float32: the scores on another grid of the image, bilinear.

        A cell of a coarser grid is a mean over the cells that it covers.
        """
        height, width = grid
        if self.scores.shape[1:] == grid:
            return self.scores
        full = np.empty((len(self.class_ids), height, width), np.float32)
        for index, score in enumerate(self.scores):
            resized = Image.fromarray(score).resize((width, height), Image.Resampling.BILINEAR)
            full[index] = np.asarray(resized)
        return full


def write_score_map(path: Path, score_map: ScoreMap) -> None:
    """Write a score map as one .npz, atomically; the same map gives the same bytes.

    Scores are stored as uint8 with one scale per class (its maximum), so a score is off by
    at most max/510. Maps below 1e-30 become zero.
    """
    peaks = score_map.scores.max(axis=(1, 2), initial=0)
    if (
        not np.isfinite(score_map.scores).all()
        or score_map.scores.min(initial=0) < 0
        or peaks.max(initial=0) > 1 + 1e-5
    ):
        raise ValueError(
            f"scores for {path.name} must be finite and in [0, 1], but span "
            f"[{score_map.scores.min(initial=0)}, {score_map.scores.max(initial=0)}]"
        )
    levels, steps = _levels(score_map.scores)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            class_ids=score_map.class_ids.astype(np.uint8),
            scores=levels.astype(np.uint8, order="C"),
            steps=steps,
            size=np.asarray(score_map.size, np.int32),
            class_probs=score_map.class_probs.astype(np.float32),
        )


def as_stored(score_map: ScoreMap) -> ScoreMap:
    """The score map that writing and reading would give back."""
    levels, steps = _levels(score_map.scores)
    return replace(score_map, scores=np.minimum(levels * steps[:, None, None], 1))


def _levels(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores as whole steps of 0..255, and the height of a step per class."""
    peaks = scores.max(axis=(1, 2), initial=0)
    steps = np.where(peaks > 1e-30, peaks, 1).astype(np.float32) / 255
    return np.rint(scores / steps[:, None, None]), steps


def read_score_map(path: Path) -> ScoreMap:
    """Read a score map. Raises ValueError that names a file which is not one."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            scores = arrays["scores"].astype(np.float32)
            scores *= arrays["steps"][:, None, None]
            height, width = arrays["size"].tolist()
            return ScoreMap(
                arrays["class_ids"],
                np.minimum(scores, 1, out=scores),
                (height, width),
                arrays["class_probs"],
            )
    except Exception as error:  # damage inside an archive surfaces as almost any type
        raise ValueError(
            f"{path} is not a score map: {error}; rerun the stage that writes it"
        ) from None
