"""What masks and boxes of a share of the images add to tags: what a study has measured."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from wsss.checks import did_you_mean
from wsss.config.shipped import recipe_files
from wsss.config.yaml_text import load_yaml, read_text
from wsss.settings import ConfigError, Settings, explain

__all__ = ["Curve", "Point", "read_curve"]


class Point(Settings):
    """A row of the study."""

    row: str
    masks: float = Field(ge=0, le=1)
    """The share of training images with a mask."""
    boxes: float = Field(ge=0, le=1)
    """The share with boxes of all their classes."""
    score: float = Field(ge=0, le=1)
    """Mean IoU of the segmenter."""
    spread: float | None = None
    """Standard deviation over seeds; none of a single run."""


class _Written(Settings):
    """A file of recipes/curves."""

    study: str
    size: str
    score: str
    baseline: str
    points: tuple[Point, ...] = Field(min_length=2)


@dataclass(frozen=True)
class Curve:
    """Scores by what was given: the lowest line over the points that rises, and ever less.

    A row of fewer masks that scores below one of none is chance; that the next masks gain nothing
    and those after them the more, as a line through every point would have it, is not likely.

    Attributes:
        name: of the study.
        score: what it compares.
        tags: the score of tags alone.
        masks: corners of the line, (share, score), ascending from (0, tags); none where the study
            has no row with masks.
        boxes: likewise with boxes.
        single: whether a point is of one run alone, so that small differences may be chance.
    """

    name: str
    score: str
    tags: float
    masks: tuple[tuple[float, float], ...]
    boxes: tuple[tuple[float, float], ...]
    single: bool

    def slope(self, kind: str, share: float) -> float:
        """Mean IoU that a small further share adds, per share; 0 where the line is flat or ends.

        Args:
            kind: "masks" or "boxes".
            share: that is there already, in [0, 1].

        Example:
            >>> curve = Curve("s", "iou", 0.6, ((0.0, 0.6), (0.1, 0.62), (1.0, 0.65)), (), True)
            >>> [round(curve.slope("masks", share), 4) for share in (0, 0.1, 1)]
            [0.2, 0.0333, 0.0]
        """
        points = self.masks if kind == "masks" else self.boxes
        for (start, low), (end, high) in pairwise(points):
            if start <= share < end:
                return (high - low) / (end - start)
        return 0.0


def rising_ever_less(points: Iterable[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Corners of the lowest line over all points that never falls, nor steepens.

    Example:
        >>> rising_ever_less([(0.0, 0.6), (0.1, 0.58), (0.2, 0.65), (0.5, 0.7), (1.0, 0.69)])
        ((0.0, 0.6), (0.2, 0.65), (0.5, 0.7), (1.0, 0.7))
    """
    corners: list[tuple[float, float]] = []
    for share, score in sorted(points):
        found = (share, max([score, *(value for _, value in corners)]))
        while len(corners) > 1 and _rise(corners[-2], corners[-1]) <= _rise(corners[-2], found):
            corners.pop()
        corners.append(found)
    return tuple(corners)


def _rise(start: tuple[float, float], end: tuple[float, float]) -> float:
    return (end[1] - start[1]) / (end[0] - start[0])


def read_curve(root: Path, name: str) -> Curve:
    """Read recipes/curves/<name>.yaml of a project, or one that ships of that name.

    Raises:
        ConfigError: there is none, or it is not what `wsss study curve` writes.
    """
    known = recipe_files(root / "recipes", "curves")
    if name not in known:
        raise ConfigError(
            f"suggest.curve is '{name}', but recipes/curves has no such file; "
            f"{did_you_mean(name, known)}. `wsss study curve {name}` writes one from a study"
        )
    path = known[name]
    values: Any = load_yaml(read_text(path), str(path))
    try:
        found = _Written.model_validate(values)
    except ValidationError as error:
        raise explain(error, str(path), _Written, values) from None
    base = [point.score for point in found.points if not point.masks and not point.boxes]
    if len(base) != 1:
        raise ConfigError(
            f"{path} must have one point without masks and boxes, but has {len(base)}; write it "
            f"anew: wsss study curve {name}"
        )

    def line(kind: str, other: str) -> tuple[tuple[float, float], ...]:
        points = {
            getattr(point, kind): point.score
            for point in found.points
            if getattr(point, kind) and not getattr(point, other)
        }
        return rising_ever_less([(0.0, base[0]), *points.items()]) if points else ()

    return Curve(
        found.study,
        found.score,
        base[0],
        line("masks", "boxes"),
        line("boxes", "masks"),
        any(point.spread is None for point in found.points),
    )
