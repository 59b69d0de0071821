"""Scores and mask proposals: regions take a class, or a score, as a whole."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from wsss.artifacts import Proposals, ScoreMap, has_file, read_proposals
from wsss.checks import check_dtype, check_values, full_key
from wsss.refine._base import Context
from wsss.registry import REFINERS
from wsss.settings import Named

__all__ = ["Regions", "RegionsSettings", "average_in_regions", "sepl_labels", "smoke_labels"]


class RegionsSettings(Named):
    """Which proposals, and by which rule.

    The seeds P_c of class c, of the rules sepl and smoke, are the pixels where it has the best
    score and that exceeds the threshold.
    """

    read_when: ClassVar[Mapping[str, Any]] = {
        "threshold": ("rule", ("sepl", "smoke")),
        "mask_share": ("rule", ("sepl",)),
        "seed_share": ("rule", ("sepl",)),
        "compat_first_match": ("rule", ("sepl",)),
        "min_iou": ("rule", ("smoke",)),
        "max_area_share": ("rule", ("smoke",)),
    }

    name: Literal["regions"] = "regions"
    proposals: str = Field(default="superpixels", min_length=1)
    """An entry of make_proposals."""
    rule: Literal["vote", "sepl", "smoke"] = "vote"
    """'vote': a pixel has the mean score of its regions; 'sepl' and 'smoke': regions that overlap
    the seeds enough are added to them."""
    threshold: float = Field(default=0.3, ge=0, lt=1)
    """Score above which pixels are seeds; 0.5 after a refiner such as dense_crf."""
    mask_share: float = Field(default=0.5, ge=0, lt=1)
    """In sepl, a region is of a class if more than this share of the region are its seeds."""
    seed_share: float = Field(default=0.85, gt=0, le=1)
    """In sepl, it is also if it holds at least this share of all seeds of the class."""
    compat_first_match: bool = False
    """In sepl, as in its published code, a region goes to the first class that fits instead of
    the one with the most seeds in it, later classes overwrite, and a class may vanish."""
    min_iou: float = Field(default=0.4, ge=0, lt=1)
    """In smoke, regions whose IoU with the seeds of a class is larger are added to it."""
    max_area_share: float = Field(default=0.5, gt=0, le=1)
    """In smoke, regions that cover a larger share of the image are passed over."""

    @property
    def leads_from(self) -> float | None:
        """See `usual_threshold`."""
        return None if self.rule == "vote" else 0.5


def average_in_regions(scores: np.ndarray, proposals: Proposals) -> np.ndarray:
    """Give each pixel the mean over its regions of their mean scores; elsewhere scores stay.

    With regions that do not overlap, a threshold then decides on each as a whole: it is of its
    best class on average, or background.

    Args:
        scores: (P, H, W) float32 in [0, 1].
        proposals: of the same image.

    Returns:
        (P, H, W) float32 in [0, 1].
    """
    check_values("scores", scores, 0, 1)
    means = proposals.sums(scores) / np.maximum(proposals.areas(), 1)
    counts = proposals.scatter(np.ones((1, len(proposals))))
    average = proposals.scatter(means) / np.maximum(counts, 1)
    result: np.ndarray = np.where(counts > 0, average, scores).clip(0, 1).astype(np.float32)
    return result


def sepl_labels(
    scores: np.ndarray, seeds: np.ndarray, proposals: Proposals, settings: RegionsSettings
) -> np.ndarray:
    """Assign regions to the class whose seeds they share most.

    A class is the regions assigned to it and its seeds that no region covers. Where regions of
    two classes overlap, the class with the higher mean score of its seeds wins. A class whose
    seeds all lie in regions that are not its own would vanish: it keeps its seeds.

    Args:
        scores: (P, H, W) float32 in [0, 1].
        seeds: (P, H, W) bool, each pixel of one class at most.
        proposals: of the same image.
        settings: mask_share, seed_share and compat_first_match.

    Returns:
        (H, W) int64: the index of a class, or -1 for background.

    References:
        SEPL (Chen et al., arXiv 2305.05803), with the largest overlap as in the paper; its code
        takes the first class.
    """
    _check(scores, seeds)
    areas, overlaps, sizes = _overlaps(seeds, proposals)
    fits = overlaps > settings.mask_share * areas
    fits |= (overlaps >= settings.seed_share * sizes) & (sizes > 0)
    first = settings.compat_first_match
    chosen = fits.argmax(axis=0) if first else np.where(fits, overlaps, -1).argmax(axis=0)
    mine = fits & (np.arange(len(seeds))[:, None] == chosen)
    bare = proposals.scatter(np.ones((1, len(proposals)))) == 0
    claims = (proposals.scatter(mine) > 0) | (seeds & bare)
    labels = _settle(claims, np.arange(len(seeds)) if first else _confidence(scores, seeds))
    present = np.flatnonzero(sizes)
    while not first and (lost := [index for index in present if not (labels == index).any()]):
        for index in lost:  # which may take the last pixel of another, but then not a seed of it
            labels[seeds[index]] = index
    return labels


def smoke_labels(
    scores: np.ndarray, seeds: np.ndarray, proposals: Proposals, settings: RegionsSettings
) -> np.ndarray:
    """Add to the seeds of a class the regions that are much like them.

    It was published for one class. Of several, a seed stays of its class, and elsewhere the class
    with the higher mean score of its seeds wins.

    Args:
        scores: (P, H, W) float32 in [0, 1].
        seeds: (P, H, W) bool, each pixel of one class at most.
        proposals: of the same image.
        settings: min_iou and max_area_share.

    Returns:
        (H, W) int64: the index of a class, or -1 for background.

    References:
        The smoke study (arXiv 2507.21959).
    """
    _check(scores, seeds)
    areas, overlaps, sizes = _overlaps(seeds, proposals)
    iou = overlaps / np.maximum(areas + sizes - overlaps, 1)
    kept = (iou > settings.min_iou) & (areas <= settings.max_area_share * seeds[0].size)
    labels = _settle(proposals.scatter(kept) > 0, _confidence(scores, seeds))
    for index, own in enumerate(seeds):
        labels[own] = index
    return labels


def _check(scores: np.ndarray, seeds: np.ndarray) -> None:
    check_values("scores", scores, 0, 1)
    check_dtype("seeds", seeds.dtype, "bool")


def _overlaps(seeds: np.ndarray, proposals: Proposals) -> tuple[np.ndarray, ...]:
    """Pixels of each region (N,), of seeds in it (P, N), and of all seeds (P, 1)."""
    return proposals.areas(), proposals.sums(seeds), seeds.sum(axis=(1, 2))[:, None]


def _confidence(scores: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """(P,) the mean score of each class over its seeds."""
    sums = np.where(seeds, scores, 0).sum(axis=(1, 2), dtype=np.float64)
    mean: np.ndarray = sums / np.maximum(seeds.sum(axis=(1, 2)), 1)
    return mean


def _settle(claims: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """(H, W) the class of the highest rank that claims a pixel, or -1."""
    winner = np.where(claims, rank[:, None, None], -1).argmax(axis=0)
    return np.where(claims.any(axis=0), winner, -1)


@REFINERS.register(RegionsSettings)
class Regions:
    """Refine scores by the proposals of make_proposals, which must have been run.

    The masks of sepl and smoke are what the threshold 0.5 gives, and below and above it the order
    of the scores decides: s becomes 0.51 + 0.49 s for the class of a pixel, and 0.49 s for others.
    """

    windowed = False

    def __init__(self, settings: RegionsSettings, context: Context) -> None:
        self.settings = settings
        self.folder = context.proposals / settings.proposals
        if not self.folder.is_dir():
            raise ValueError(
                f"{full_key('proposals')} is '{settings.proposals}', but {self.folder} does not "
                "exist; run make_proposals"
            )

    def __call__(
        self,
        images: Sequence[np.ndarray],
        score_maps: Sequence[ScoreMap],
        names: Sequence[str],
    ) -> list[ScoreMap]:
        files = [self.folder / f"{name}.npz" for name in names]
        tagged = [len(score_map.class_ids) > 0 for score_map in score_maps]
        for name, file, wanted in zip(names, files, tagged, strict=True):
            if wanted and not has_file(file):
                raise ValueError(f"{self.folder} has no proposals of '{name}'; run make_proposals")
        return [
            self._refine(score_map, read_proposals(file)) if wanted else score_map
            for score_map, file, wanted in zip(score_maps, files, tagged, strict=True)
        ]

    def _refine(self, score_map: ScoreMap, proposals: Proposals) -> ScoreMap:
        if proposals.size != score_map.size:
            raise ValueError(
                f"{self.folder} has proposals of {proposals.size} pixels for an image of "
                f"{score_map.size}; rerun make_proposals"
            )
        order = np.argsort(score_map.class_ids)  # ties go to the lower class id
        scores, result = (
            score_map.full_scores()[order],
            np.empty((len(order), *score_map.size), np.float32),
        )
        if self.settings.rule == "vote":
            result[order] = average_in_regions(scores, proposals)
        else:
            index = np.arange(len(scores))[:, None, None]
            seeds = (scores.argmax(axis=0) == index) & (scores > self.settings.threshold)
            rule = sepl_labels if self.settings.rule == "sepl" else smoke_labels
            labels = rule(scores, seeds, proposals, self.settings)
            result[order] = np.float32(0.49) * scores + np.float32(0.51) * (labels == index)
        return replace(score_map, scores=result)
