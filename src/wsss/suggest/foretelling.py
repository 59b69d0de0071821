"""Tags foretold for each image by heads that have not seen its own, and where they are seen."""

from dataclasses import dataclass

import numpy as np

from wsss.checks import check_dtype, check_shape
from wsss.progress import track
from wsss.seeding import generator
from wsss.suggest.features import Features

__all__ = ["Foretold", "deal", "foretell"]

DECAYS = (0.01, 0.1, 1.0)
"""Weights of the squared weights of a head beside its mean loss; the one that foretells best is
taken."""

STEPS = 60  # of L-BFGS, which has converged by then


@dataclass(frozen=True)
class Foretold:
    """What is foretold of N images and K classes, each image by heads that have not seen its tags.

    Attributes:
        whole: (N, K) float32 logits of images as a whole.
        peak: (N, K) float32 logits of the part of an image that is most like the class: the energy
            of a map, which a small object raises and a likely surrounding alone does not.
        decay: of `DECAYS`, that was taken.
    """

    whole: np.ndarray
    peak: np.ndarray
    decay: float

    def chances(self, targets: np.ndarray, evidence: str = "both") -> np.ndarray:
        """(N, K) float32: the chance that a class is there, by a logistic model of both logits.

        Its three weights are the same for all classes, and are fitted to the tags as they are
        given: with few wrong ones among them the chance is a little too near a half.

        Args:
            targets: (N, K) float32 tags in [0, 1]; NaN where nobody knows.
            evidence: "both", or "whole" or "peak" alone.
        """
        columns = {"whole": [self.whole], "peak": [self.peak], "both": [self.whole, self.peak]}
        inputs = np.stack([column.ravel() for column in columns[evidence]], axis=1)
        weights, bias = _fit(inputs[:, None], targets.reshape(-1, 1), 1e-6)
        logits = inputs @ weights[:, 0] + bias[0]
        found: np.ndarray = (1 / (1 + np.exp(-logits))).astype(np.float32)
        return found.reshape(targets.shape)


def deal(targets: np.ndarray, folds: int, rng_seed: int) -> np.ndarray:
    """(N,) int: the fold of each image, each class in about the same share.

    Images are dealt out in turn, those of the rarest class first, in an order drawn by `rng_seed`.

    Args:
        targets: (N, K) float32 tags in [0, 1]; NaN where nobody knows.
        folds: how many.
        rng_seed: of the order.

    Example:
        >>> deal(np.array([[1, 0], [0, 1], [1, 0], [0, 1]], np.float32), 2, 1).tolist()
        [0, 1, 1, 0]
    """
    tagged = np.nan_to_num(targets) >= 0.5
    counts = tagged.sum(axis=0)
    rarest = [min((counts[k], k) for k in np.flatnonzero(row)) if row.any() else (np.inf, 0)
              for row in tagged]  # fmt: skip
    drawn = generator(rng_seed, "folds").permutation(len(targets))
    order = sorted(drawn.tolist(), key=lambda at: rarest[at])
    found = np.empty(len(targets), int)
    found[order] = np.arange(len(targets)) % folds
    return found


def foretell(features: Features, targets: np.ndarray, folds: int, rng_seed: int) -> Foretold:
    """Foretell the tags of each fold by heads that have learned from the others.

    A head is a logistic regression per class on features of the image as a whole, scaled to unit
    spread; on the features of a part it gives the value of a class activation map there.

    Args:
        features: of N images.
        targets: (N, K) float32 tags in [0, 1]; NaN where nobody knows, which teaches nothing.
        folds: how many.
        rng_seed: of the folds.

    Raises:
        ValueError: there are fewer images than folds.
    """
    check_shape("targets", targets.shape, (len(features.parts), "K"))
    check_dtype("targets", targets.dtype, "float32")
    if len(targets) < folds:
        raise ValueError(
            f"{len(targets)} images cannot be dealt to {folds} folds; set suggest.folds to "
            f"{max(2, len(targets))} at most"
        )
    dealt, whole = deal(targets, folds, rng_seed), features.whole
    best: Foretold | None = None
    lowest = np.inf
    for decay in track(DECAYS, "foretelling tags"):
        logits = np.empty(targets.shape, np.float32)
        peaks = np.empty(targets.shape, np.float32)
        for fold in range(folds):
            own, others = np.flatnonzero(dealt == fold), np.flatnonzero(dealt != fold)
            mean = whole[others].mean(axis=0)
            spread = whole[others].std(axis=0) + 1e-6
            weights, bias = _fit(((whole[others] - mean) / spread)[:, None], targets[others], decay)
            parts = (features.parts[own].astype(np.float32) - mean) / spread
            of_parts = parts @ weights + bias  # (n, parts, K)
            logits[own], peaks[own] = of_parts.mean(axis=1), of_parts.max(axis=1)
        loss = _loss(logits, targets)
        if loss < lowest:
            lowest, best = loss, Foretold(logits, peaks, decay)
    assert best is not None
    return best


def _fit(inputs: np.ndarray, targets: np.ndarray, decay: float) -> tuple[np.ndarray, np.ndarray]:
    """(D, K) weights and (K,) biases of logistic regressions; unknown targets count nothing.

    Args:
        inputs: (N, 1, D) float32.
        targets: (N, K) float32 in [0, 1]; NaN where nobody knows.
        decay: weight of the squared weights.
    """
    import torch
    from torch.nn import functional

    known = torch.from_numpy(~np.isnan(targets)).float()
    wanted = torch.from_numpy(np.nan_to_num(targets))
    rows = torch.from_numpy(np.ascontiguousarray(inputs[:, 0], np.float32))
    weights = torch.zeros(rows.shape[1], targets.shape[1], requires_grad=True)
    bias = torch.zeros(targets.shape[1], requires_grad=True)
    solver = torch.optim.LBFGS(
        [weights, bias], max_iter=STEPS, history_size=10, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        solver.zero_grad()
        losses = functional.binary_cross_entropy_with_logits(
            rows @ weights + bias, wanted, weight=known, reduction="sum"
        )
        loss = losses / len(rows) + decay / 2 * (weights**2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach().numpy(), bias.detach().numpy()


def _loss(logits: np.ndarray, targets: np.ndarray) -> float:
    """Mean binary cross-entropy over what is known."""
    known = ~np.isnan(targets)
    signed = np.where(targets[known] >= 0.5, -logits[known], logits[known])
    return float(np.logaddexp(0, signed).mean())
