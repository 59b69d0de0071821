"""The background as a score that competes with those of the classes, and the rule who wins."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

import numpy as np
from pydantic import PositiveFloat, model_validator

from wsss.checks import check_range, check_values
from wsss.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "BackgroundSettings",
    "background_scores",
    "labels_above",
    "power_background",
    "usual_threshold",
    "winners",
]

Scores = TypeVar("Scores", np.ndarray, "Tensor")


class BackgroundSettings(Settings):
    """A part of the settings of what needs a background; these have their own threshold."""

    read_when: ClassVar[Mapping[str, Any]] = {
        "alpha": ("background", ("power",)),
        "object_source": ("background", ("object",)),
    }

    background: Literal["constant", "power", "object", "none"] = "constant"
    """Background score: `threshold`, (1 - max)^alpha of the scores, 1 - an object map, or 0, which
    is that of data sets whose every pixel shows a class."""
    alpha: PositiveFloat = 4
    """Exponent of the power background: a larger one means less background."""
    object_source: str = ""
    """Source of the object background: the name in further_cams of maps that say where any object
    is, such as those of CCAM. With several classes in an image, the highest of their scores."""
    leads_from: ClassVar[float | None] = 0.5
    """See `usual_threshold`."""

    @model_validator(mode="after")
    def _has_source(self) -> Self:
        if self.background == "object" and not self.object_source:
            raise ValueError(
                "background: object needs an object map; set object_source to a name in "
                "further_cams, such as one whose method is ccam"
            )
        return self

    def without_background(self) -> Self:
        """The same for data of which every pixel shows a class."""
        return self.model_copy(update={"background": "none"})


def usual_threshold(refiners: Sequence[Settings]) -> float:
    """Where masks begin as long as nothing has chosen a better place.

    Args:
        refiners: settings of the chain that the maps came through; none of maps as they were made.

    Returns:
        The `leads_from` of the last of them that says it: 0.5 where a background has competed, as
        in a dense CRF, or regions have been given to classes. None there means that scores are
        averages of those before, so that what leads still leads. Of others, and without any, 0.4:
        what is best lies around 0.3 on painted scenes and from 0.3 to 0.5 on photographs, see
        docs/results.md.
    """
    found = 0.4
    for settings in refiners:
        own: float | None = getattr(settings, "leads_from", 0.4)
        found = found if own is None else own
    return found


def power_background(best: Scores, alpha: float) -> Scores:
    """(1 - best)^alpha: what the power background scores.

    Args:
        best: the highest score of a class at each pixel, in [0, 1].
        alpha: above 0.

    Example:
        >>> float(power_background(np.array(0.3), 4).round(4))
        0.2401
    """
    check_values("best", best, 0, 1)
    return (1 - best) ** alpha


def background_scores(
    scores: np.ndarray,
    settings: BackgroundSettings,
    threshold: float,
    objects: np.ndarray | None = None,
) -> np.ndarray:
    """What the background scores where the classes score so.

    The object background is that of CCAM (Xie et al., CVPR 2022) and of methods with saliency
    maps: 1 - object, where the object map has 1 as its highest value.

    Args:
        scores: (P, H, W) float32 in [0, 1], P at least 1.
        settings: the form of the background.
        threshold: of the constant background, in [0, 1].
        objects: of the object background: (Q, H, W) float32 in [0, 1], the scores of its source.

    Returns:
        (1, H, W) float32 in [0, 1].

    Raises:
        ValueError: a value lies outside of its range, or the background is that of an object map
            and there is none.

    Example:
        >>> settings = BackgroundSettings(background="power", alpha=4)
        >>> background_scores(np.array([[[0.1]], [[0.3]]], np.float32), settings, 0).round(4)
        array([[[0.2401]]], dtype=float32)
    """
    check_values("scores", scores, 0, 1)
    if settings.background == "constant":
        check_range("threshold", threshold, 0, 1)
        return np.full((1, *scores.shape[1:]), threshold, np.float32)
    if settings.background == "object":
        if objects is None:
            raise ValueError("background: object has no object map here; take constant or power")
        check_values("objects", objects, 0, 1)
        beyond: np.ndarray = 1 - objects.max(axis=0, keepdims=True)
        return beyond
    if settings.background == "none":
        return np.zeros((1, *scores.shape[1:]), np.float32)
    return power_background(scores.max(axis=0, keepdims=True), settings.alpha)


def winners(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which class has the highest score at each pixel.

    Args:
        scores: (P, H, W) float32, of a score map.

    Returns:
        (H, W) float32, the highest score, 0 without a class; and (H, W), the index of its class,
        the first on ties.
    """
    best = np.zeros(scores.shape[1:], np.float32)
    winner = np.zeros(scores.shape[1:], np.uint8)
    for index, score in enumerate(scores):
        better = score > best
        winner[better] = index
        np.maximum(best, score, out=best)
    return best, winner


def labels_above(scores: np.ndarray, class_ids: np.ndarray, threshold: float) -> np.ndarray:
    """The rule of thresholds: a class takes the pixels where its score is the highest, and above.

    It is above strictly, so that the background wins ties, and nothing lies above 1. Scores and
    threshold are compared as float32.

    Args:
        scores: (P, H, W) float32, of a score map.
        class_ids: (P,), the classes of that map, ascending.
        threshold: from 0 to 1.

    Returns:
        (H, W) uint8: 0, or a value of `class_ids`.

    Raises:
        ValueError: the threshold leaves its range.

    Example:
        >>> scores = np.array([[[0.5, 0.6, 0.7]], [[0.1, 0.9, 0.7]]], np.float32)
        >>> labels_above(scores, np.array([3, 7], np.uint8), 0.5)
        array([[0, 7, 3]], dtype=uint8)
    """
    check_range("threshold", threshold, 0, 1)
    if not len(class_ids):
        return np.zeros(scores.shape[1:], np.uint8)
    best, winner = winners(scores)
    labels: np.ndarray = np.where(best > np.float32(threshold), class_ids[winner], np.uint8(0))
    return labels
