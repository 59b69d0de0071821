"""Boxes, points and scribbles of annotators imposed on score maps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from wsss.artifacts import IGNORE_INDEX, Annotations, Box, ScoreMap

__all__ = ["Given", "bounded", "seeded"]


@dataclass(frozen=True)
class Given:
    """The boxes, points and scribbles of one image; see `Annotations`."""

    boxes: tuple[Box, ...] = ()
    seeds: np.ndarray | None = None

    @classmethod
    def of(cls, name: str, annotations: Annotations | None) -> Self:
        """Read those of an image; nothing without annotations."""
        if annotations is None:
            return cls()
        return cls(annotations.boxes.get(name, ()), annotations.seed_map(name))

    def imposed(self, score_map: ScoreMap) -> ScoreMap:
        """The map within them, on its own grid; the same object where there are none."""
        score_map = bounded(score_map, self.boxes)
        return score_map if self.seeds is None else seeded(score_map, self.seeds)


def bounded(score_map: ScoreMap, boxes: Sequence[Box]) -> ScoreMap:
    """A map in which a class that has boxes scores 0 in all cells that lie outside of them.

    Args:
        score_map: of the image.
        boxes: of the image, of any classes; others stay as they are.

    Example:
        >>> scores = np.ones((1, 1, 3), np.float32)
        >>> found = ScoreMap(np.array([4], np.uint8), scores, (1, 6), np.ones(1, np.float32))
        >>> bounded(found, [Box(4, 0, 3, 1, 4)]).scores
        array([[[0., 1., 0.]]], dtype=float32)
    """
    limited = {box.class_id for box in boxes} & set(score_map.class_ids.tolist())
    if not limited:
        return score_map
    scores = score_map.scores.copy()
    (height, width), (rows, columns) = score_map.size, scores.shape[1:]
    for index, class_id in enumerate(score_map.class_ids.tolist()):
        if class_id not in limited:
            continue
        outside = np.ones((rows, columns), bool)
        for _, top, left, bottom, right in (box for box in boxes if box.class_id == class_id):
            down = slice(top * rows // height, -(-bottom * rows // height))
            across = slice(left * columns // width, -(-right * columns // width))
            outside[down, across] = False
        scores[index][outside] = 0
    return replace(score_map, scores=scores)


def seeded(score_map: ScoreMap, seeds: np.ndarray) -> ScoreMap:
    """A map in which the class of a seed scores 1 at it, and all others 0.

    In a cell with seeds of several classes each of these scores 1; the background, which has no
    score, gives way to them.

    Args:
        score_map: of the image.
        seeds: (H, W), points and scribbles as `Annotations.seed_map` gives them.

    Example:
        >>> scores = np.full((2, 1, 3), 0.5, np.float32)
        >>> found = ScoreMap(np.array([1, 4], np.uint8), scores, (1, 3), np.ones(2, np.float32))
        >>> seeded(found, np.array([[4, 255, 0]], np.uint8)).scores
        array([[[0. , 0.5, 0. ]],
        <BLANKLINE>
               [[1. , 0.5, 0. ]]], dtype=float32)
    """
    if not len(score_map.class_ids):
        return score_map
    grid = score_map.scores.shape[1:]
    present = np.unique(seeds[seeds != IGNORE_INDEX]).tolist()
    cells = {class_id: _cells(seeds == class_id, grid) for class_id in present}
    anywhere = np.zeros(grid, bool)
    for hit in cells.values():
        anywhere |= hit
    scores = np.where(anywhere, np.float32(0), score_map.scores)
    for index, class_id in enumerate(score_map.class_ids.tolist()):
        if class_id in cells:
            scores[index][cells[class_id]] = 1
    return replace(score_map, scores=scores)


def _cells(pixels: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    """(*grid) bool: the cells that hold one of the pixels; finer ones lie on one."""
    for axis, cells in enumerate(grid):
        if cells > pixels.shape[axis]:
            own = ((np.arange(cells) + 0.5) * pixels.shape[axis] / cells).astype(int)
            pixels = pixels.take(own, axis)
    found = np.zeros(grid, bool)
    ys, xs = np.nonzero(pixels)
    found[ys * grid[0] // pixels.shape[0], xs * grid[1] // pixels.shape[1]] = True
    return found
