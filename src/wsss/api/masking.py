"""Maps to label masks."""

from collections.abc import Iterable
from typing import Literal, TypeAlias, overload

from wsss.api.choices import validated
from wsss.api.results import Maps, Mask
from wsss.checks import check_range
from wsss.config.segmentation import PseudoMaskSettings
from wsss.prediction.at_learned_size import enlarged
from wsss.segment.pseudo_masks import pseudo_mask

__all__ = ["mask"]

Background: TypeAlias = Literal["constant", "power"]


@overload
def mask(
    maps: Maps,
    threshold: float | None = ...,
    *,
    background: Background = ...,
    alpha: float = ...,
    ignore_margin: float = ...,
    min_area_share: float = ...,
) -> Mask: ...
@overload
def mask(
    maps: Iterable[Maps],
    threshold: float | None = ...,
    *,
    background: Background = ...,
    alpha: float = ...,
    ignore_margin: float = ...,
    min_area_share: float = ...,
) -> list[Mask]: ...
def mask(
    maps: Maps | Iterable[Maps],
    threshold: float | None = None,
    *,
    background: Background = "constant",
    alpha: float = 4,
    ignore_margin: float = 0,
    min_area_share: float = 0,
) -> Mask | list[Mask]:
    """The class of each pixel: that of the greatest score, where it exceeds that of the background.

    Data without a background have none here either: each pixel has the class that scores most.

    Args:
        maps: of one image or of many.
        threshold: the score of the constant background, in [0, 1]. None is, of maps made just as
            the project makes them, the one that its evaluation chose on the selection split; after
            a dense CRF 0.5; else 0.4. `Mask.threshold` has it.
        background: "constant", or "power", whose score is (1 - the greatest of a class)^alpha.
        alpha: of the power background: a larger one means less background.
        ignore_margin: a pixel whose winner leads by less is ignored, 255, as make_pseudo_masks has
            it.
        min_area_share: a class that covers less of its image is ignored there.

    Raises:
        ValueError: a value leaves its range, or `maps` are none.

    Example:
        >>> import numpy as np
        >>> found = Maps.of(np.zeros((1, 3, 3), np.uint8), {"cat": np.array([[0.9, 0.4, 0.1]])})
        >>> mask(found, 0.3).labels
        array([[1, 1, 0]], dtype=uint8)
    """
    given = [maps] if isinstance(maps, Maps) else list(maps)
    if threshold is not None:
        check_range("threshold", threshold, 0, 1)
    values = {
        "background": background,
        "alpha": alpha,
        "ignore_margin": ignore_margin,
        "min_area_share": min_area_share,
    }
    settings = validated(PseudoMaskSettings, values, "mask")
    if settings.background == "power" and threshold is not None:
        raise ValueError("the power background has no threshold; leave it out, or set alpha")
    found = [_masked(item, settings, threshold) for item in given]
    return found[0] if isinstance(maps, Maps) else found


def _masked(maps: Maps, settings: PseudoMaskSettings, threshold: float | None) -> Mask:
    if not isinstance(maps, Maps):
        raise ValueError(f"{type(maps).__name__} is no maps; wsss.cams makes some")
    if not maps.has_background:
        settings, used = settings.without_background(), 0.0
    elif settings.background == "power":
        used = 0.0
    else:
        used = maps.origin.threshold if threshold is None else threshold
    labels = pseudo_mask(maps.scores, settings, used)
    shown = used if settings.background == "constant" else None
    if maps.picture.size != labels.shape:
        labels = enlarged(labels, maps.picture.size)
    return Mask(
        maps.picture,
        labels,
        maps.class_names,
        threshold=shown,
        has_background=maps.has_background,
    )
