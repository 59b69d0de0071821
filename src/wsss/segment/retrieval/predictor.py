"""Proposals of an image to its mask, by the regions of training images nearest to each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional

from wsss.artifacts import ExpectedPixels, Proposals, Sample, read_proposals
from wsss.checks import check_dtype
from wsss.loading.same_size import with_long_side
from wsss.segment.retrieval.index import Votes
from wsss.segment.retrieval.model import RetrievalModel, cell_features
from wsss.segment.retrieval.regions import pooled_features

__all__ = ["Decided", "RetrievalPredictor", "painted", "suppressed"]


@dataclass(frozen=True)
class Decided:
    """The proposals of an image, and what was found for them.

    Attributes:
        proposals: N masks.
        votes: of the index on each.
        shown: (S,) int64: the proposals that are painted, in this order; a later one covers others.
    """

    proposals: Proposals
    votes: Votes
    shown: np.ndarray

    def label_map(self) -> np.ndarray:
        """(H, W) uint8: 0 where no proposal of a class is."""
        return painted(self.proposals, self.shown, self.votes.class_ids)


class RetrievalPredictor:
    """Images to masks.

    Args:
        model: the network that gives features, and the index.
        proposals: the folder that make_proposals fills, with a folder per source.
        fabric: the device and the precision.
        present: as of `wsss.segment.predictor.Predictor`.

    Attributes:
        model: as given.
    """

    def __init__(
        self,
        model: RetrievalModel,
        proposals: Path,
        fabric: Fabric,
        present: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.model, self._fabric, self._present = model, fabric, present
        self._folder = proposals / model.settings.proposals
        self._backbone = fabric.to_device(model.backbone)

    def whole(self, samples: Sequence[Sample], pixels: Tensor) -> list[np.ndarray]:
        """(H, W) uint8 masks of images of one size.

        Args:
            samples: B of them.
            pixels: (B, 3, H, W) uint8 on the CPU.

        Raises:
            ValueError: pixels are not uint8, or an image has no proposals of its size.
        """
        return [decided.label_map() for decided in self.decide(samples, pixels)]

    def in_windows(self, sample: Sample, image: np.ndarray) -> np.ndarray:
        """The (H, W) uint8 mask of a large image, (H, W, 3) uint8: features are of all of it."""
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]
        return self.whole([sample], pixels)[0]

    def with_expected(
        self, samples: Sequence[Sample], pixels: Tensor
    ) -> list[tuple[np.ndarray, ExpectedPixels | None]]:
        """As `whole`; an index of regions has no probabilities, and expects nothing."""
        return [(mask, None) for mask in self.whole(samples, pixels)]

    def in_windows_with_expected(
        self, sample: Sample, image: np.ndarray
    ) -> tuple[np.ndarray, ExpectedPixels | None]:
        """As `in_windows`; see `with_expected`."""
        return self.in_windows(sample, image), None

    def decide(self, samples: Sequence[Sample], pixels: Tensor) -> list[Decided]:
        """What is found for each proposal of images of one size; arguments as of `whole`."""
        check_dtype("pixels", pixels.dtype, "uint8")
        settings = self.model.settings
        size = with_long_side((pixels.shape[2], pixels.shape[3]), settings.long_side)
        images = self._backbone.normalisation(self._fabric.to_device(pixels))
        images = functional.interpolate(
            images, size, mode="bilinear", align_corners=False, antialias=True
        )
        with self._fabric.autocast():
            features, shown = cell_features(self._backbone, images)
        return [
            self._decided(sample, of_image, shown)
            for sample, of_image in zip(samples, features, strict=True)
        ]

    def _decided(self, sample: Sample, features: np.ndarray, shown: tuple[float, float]) -> Decided:
        settings = self.model.settings
        file = self._folder / f"{sample.name}.npz"
        proposals = read_proposals(file)
        if proposals.size != tuple(sample.size):
            raise ValueError(
                f"{file} is of an image of {proposals.size}, but {sample.name} has {sample.size}; "
                "rerun make_proposals"
            )
        allowed = None if self._present is None else self._present[sample.name]
        pooled = pooled_features(proposals, features, shown)
        votes = self.model.index.vote(pooled, settings.neighbours, allowed)
        candidates = np.flatnonzero((votes.class_ids > 0) & (proposals.areas() > 0))
        kept = suppressed(proposals, candidates, votes, settings.nms_iou)
        return Decided(proposals, votes, kept[np.argsort(votes.scores[kept], kind="stable")])


def suppressed(
    proposals: Proposals, candidates: np.ndarray, votes: Votes, max_iou: float
) -> np.ndarray:
    """Leave out proposals that overlap a better one of their class.

    Args:
        proposals: N masks.
        candidates: (C,) int64 of them, that are looked at.
        votes: their classes and scores.
        max_iou: intersection over union above which the one with the lower score goes; the later
            one of equals.

    Returns:
        Those of `candidates` that stay, ascending.
    """
    masks, areas = proposals.matrix(), proposals.areas()
    kept: list[int] = []
    for class_id in np.unique(votes.class_ids[candidates]):
        own = candidates[votes.class_ids[candidates] == class_id]
        own = own[np.argsort(-votes.scores[own], kind="stable")]
        shared = (masks[own] @ masks[own].T).toarray()  # pixels, (n, n)
        iou = shared / (areas[own][:, None] + areas[own] - shared)
        stays = np.ones(len(own), bool)
        for at in range(len(own)):
            if stays[at]:
                stays[at + 1 :] &= iou[at, at + 1 :] <= max_iou
        kept.extend(own[stays].tolist())
    return np.array(sorted(kept), np.int64)


def painted(proposals: Proposals, order: np.ndarray, class_ids: np.ndarray) -> np.ndarray:
    """Lay masks over one another.

    Args:
        proposals: N masks.
        order: (S,) int64: which of them, the last on top.
        class_ids: (N,) uint8.

    Returns:
        (H, W) uint8: 0 where there is none.
    """
    check_dtype("class_ids", class_ids.dtype, "uint8")
    mask = np.zeros(proposals.size, np.uint8)
    flat = mask.reshape(-1)
    for number in order.tolist():
        runs = slice(proposals.offsets[number], proposals.offsets[number + 1])
        for start, length in zip(proposals.starts[runs], proposals.lengths[runs], strict=True):
            flat[start : start + length] = class_ids[number]
    return mask
