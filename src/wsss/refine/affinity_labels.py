"""What affinity networks learn from: confident pixels, and pairs of them (AffinityNet and IRN)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, PositiveFloat, model_validator

from wsss.artifacts import IGNORE_INDEX, ScoreMap
from wsss.refine.dense_crf import DenseCrfSettings, marginals
from wsss.refine.random_walk import cells_with_partner, moved
from wsss.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "AffinityLabelSettings",
    "PairMasks",
    "affinity_labels",
    "affinity_loss",
    "affinity_terms",
    "pair_labels",
]


class AffinityLabelSettings(Settings):
    """Which pixels are confident: two backgrounds, a CRF on each."""

    kind: Literal["psa", "irn"] = "psa"
    """'psa': backgrounds (1 - max)^alpha, and a CRF from the scores (AffinityNet, CVPR 2018);
    'irn': constant backgrounds, and a CRF from the winners (CVPR 2019)."""
    low_alpha: PositiveFloat = 4
    """With 'psa', the exponent with which classes must win to be confident."""
    high_alpha: PositiveFloat = 32
    """With 'psa', the exponent with which the background must win to be confident."""
    fg_threshold: float = Field(default=0.3, gt=0, lt=1)
    """With 'irn', the background that classes must beat to be confident."""
    bg_threshold: float = Field(default=0.05, gt=0, lt=1)
    """With 'irn', the background with which no class may win where it is confident."""
    sigma_xy: PositiveFloat | None = None
    """Standard deviation of the CRF's bilateral kernel over position, in pixels; null is the
    published one of images of about 500 pixels: 80 of 'psa', 50 of 'irn'."""
    sigma_rgb: PositiveFloat | None = None
    """Standard deviation of the CRF's bilateral kernel over colour, in intensity levels; null is 13
    of 'psa', 5 of 'irn'."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.low_alpha < self.high_alpha:
            raise ValueError(
                f"low_alpha must be below high_alpha, but they are {self.low_alpha} and "
                f"{self.high_alpha}; a higher one means less background"
            )
        if not self.bg_threshold < self.fg_threshold:
            raise ValueError(
                f"bg_threshold must be below fg_threshold, but they are {self.bg_threshold} and "
                f"{self.fg_threshold}"
            )
        return self

    def crfs(self) -> tuple[DenseCrfSettings, DenseCrfSettings]:
        """The fields of confident classes and of confident background."""
        of_classes, of_background = (
            ({"alpha": self.low_alpha}, {"alpha": self.high_alpha})
            if self.kind == "psa"
            else ({"threshold": self.fg_threshold}, {"threshold": self.bg_threshold})
        )
        sigmas = {"sigma_xy": self.sigma_xy, "sigma_rgb": self.sigma_rgb}
        shared = {"preset": self.kind} | {key: sigma for key, sigma in sigmas.items() if sigma}
        return (
            DenseCrfSettings.model_validate(shared | of_classes),
            DenseCrfSettings.model_validate(shared | of_background),
        )


def affinity_labels(
    images: Sequence[np.ndarray],
    score_maps: Sequence[ScoreMap],
    settings: AffinityLabelSettings,
) -> list[np.ndarray]:
    """The confident pixels of a batch of images of any sizes.

    A pixel is of a class where that class wins against much background, and background where it
    wins in spite of being little; each time after a CRF. Where both hold, which a CRF can bring
    about, it is background with 'psa' and of the class with 'irn', as published. An image without
    tags is all background.

    Args:
        images: each (H, W, 3) uint8 RGB.
        score_maps: one per image, the scores max-normalised per class.
        settings: see `AffinityLabelSettings`.

    Returns:
        For each image (H, W) uint8: 0 for background, a class id, or 255 for neither.
    """
    tagged = [index for index, score_map in enumerate(score_maps) if len(score_map.class_ids)]
    known = [images[index] for index in tagged], [score_maps[index] for index in tagged]
    winners = [
        [probs.argmax(axis=0) for probs in marginals(*known, crf)] for crf in settings.crfs()
    ]
    labels = [np.zeros(score_map.size, np.uint8) for score_map in score_maps]
    for index, of_classes, of_background in zip(tagged, *winners, strict=True):
        ids = np.array([IGNORE_INDEX, *score_maps[index].class_ids], np.uint8)
        labels[index] = ids[of_classes]
        background = of_background == 0
        if settings.kind == "irn":
            background &= of_classes == 0
        labels[index][background] = 0
    return labels


class PairMasks(NamedTuple):
    """Which pairs are alike and which are not, each (B, K, h, w) bool."""

    fg: "Tensor"
    """Both of the same class."""
    bg: "Tensor"
    """Both background."""
    neg: "Tensor"
    """The two are of different classes, or one of them alone is background."""


def pair_labels(labels: "Tensor", offsets: np.ndarray) -> PairMasks:
    """What confident cells say about pairs.

    Args:
        labels: (B, h, w) uint8: 0 for background, a class id, or 255 for neither.
        offsets: (K, 2) of (dy, dx), as `pair_offsets` has them.

    Returns:
        Masks that are False where a cell of the pair is neither, and where there is no pair.

    Example:
        >>> import torch
        >>> masks = pair_labels(torch.tensor([[[7, 7, 0, 255]]]), np.array([[0, 1]]))
        >>> masks.fg.tolist(), masks.neg.tolist()
        ([[[[True, False, False, False]]]], [[[[False, True, False, False]]]])
    """
    import torch

    count, height, width = labels.shape
    shape = (count, len(offsets), height, width)
    masks = PairMasks(*torch.zeros((3, *shape), dtype=torch.bool, device=labels.device))
    for index, (dy, dx) in enumerate(offsets.tolist()):
        cells = cells_with_partner(dy, dx, height, width)
        first, second = labels[:, *cells], labels[:, *moved(cells, dy, dx)]
        valid = (first != IGNORE_INDEX) & (second != IGNORE_INDEX)
        alike = valid & (first == second)
        masks.fg[:, index, *cells] = alike & (first != 0)
        masks.bg[:, index, *cells] = alike & (first == 0)
        masks.neg[:, index, *cells] = valid & (first != second)
    return masks


def affinity_terms(affinities: "Tensor", masks: PairMasks) -> "tuple[Tensor, Tensor, Tensor]":
    """The means over pairs that the losses of AffinityNet and IRN are made of.

    Args:
        affinities: (B, K, h, w) in [0, 1]; those of no pair in `masks` do not count.
        masks: see `pair_labels`.

    Returns:
        The means of -ln a over `masks.fg`, of the same over `masks.bg`, and of -ln(1 - a) over
        `masks.neg`; 0 where there are no pairs. Logarithms are of their argument + 1e-5, and means
        are sums over the count + 1e-5, as published.
    """
    alike = [-(affinities[mask].float() + 1e-5).log() for mask in (masks.fg, masks.bg)]
    unlike = -(1 - affinities[masks.neg].float() + 1e-5).log()
    fg, bg, neg = (losses.sum() / (losses.numel() + 1e-5) for losses in (*alike, unlike))
    return fg, bg, neg


def affinity_loss(affinities: "Tensor", masks: PairMasks) -> "Tensor":
    """The loss of AffinityNet, and of IRN's affinities: ¼ fg + ¼ bg + ½ neg of `affinity_terms`.

    IRN writes it as the mean of positive and negative pairs, of which the former are the mean of
    classes and background: the same.

    Args:
        affinities: (B, K, h, w) in [0, 1].
        masks: see `pair_labels`.

    References:
        Ahn & Kwak, CVPR 2018; Ahn, Cho & Kwak, CVPR 2019.
    """
    fg, bg, neg = affinity_terms(affinities, masks)
    return fg / 4 + bg / 4 + neg / 2
