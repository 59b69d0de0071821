"""Which of several chains of refiners finds each class best, where few masks say so."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from wsss.checks import check_range
from wsss.evaluate.curves import ThresholdCurve
from wsss.evaluate.metrics import iou
from wsss.evaluate.protocol import Groups, best_threshold

__all__ = ["ChainScores", "ChosenChain", "best_chain", "choose_chains"]


@dataclass(frozen=True)
class ChainScores:
    """What the maps of a chain score at the threshold that suits them best.

    Attributes:
        threshold: the best on these images.
        score: what it is the best by, such as the mean IoU.
        iou: by name of the class, of those that the ground truth shows.
        images: by name of the class, how many of the images show it.
    """

    threshold: float
    score: float
    iou: Mapping[str, float]
    images: Mapping[str, int]

    @classmethod
    def of(
        cls, curve: ThresholdCurve, class_names: Sequence[str], class_groups: Groups, select_by: str
    ) -> Self | None:
        """The scores of one split.

        Args:
            curve: of the split.
            class_names: K names, without the background.
            class_groups: see `group_ids`.
            select_by: see `best_threshold`.

        Returns:
            None where the ground truth shows no class that counts.
        """
        best = best_threshold(curve, class_names, class_groups, select_by)
        if best is None:
            return None
        index, score = best
        values = iou(curve.counts())[index]
        shown = {
            name: class_id
            for class_id, name in enumerate(class_names, 1)
            if curve.class_images[class_id]
        }
        return cls(
            float(curve.thresholds[index]),
            round(score, 6),
            {name: round(float(values[class_id]), 6) for name, class_id in shown.items()},
            {name: int(curve.class_images[class_id]) for name, class_id in shown.items()},
        )

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Read what `values` gave."""
        return cls(**values)

    def values(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return asdict(self)


@dataclass(frozen=True)
class ChosenChain:
    """The chain that a class is taken from, and why.

    Attributes:
        chain: its name.
        threshold: of that chain.
        images: how many show the class; 0 where none does.
        own_share: of the comparison, what the class itself has a say in; the rest is how
            good the chains are on the whole.
        iou: by chain, of the class; empty where no image shows it.
        lead: by how much the chain leads the next one in what they are compared by; 0
            where there is no other.
        next: the chain that comes next, "" where there is no other.
    """

    chain: str
    threshold: float
    images: int
    own_share: float
    iou: Mapping[str, float]
    lead: float
    next: str


def best_chain(scores: Mapping[str, ChainScores]) -> str:
    """The chain that is best on the whole, the first on ties."""
    return max(scores, key=lambda chain: scores[chain].score)


def choose_chains(
    scores: Mapping[str, ChainScores], class_names: Sequence[str], shrinkage: float
) -> dict[str, ChosenChain]:
    """Take each class from the chain that finds it best.

    The IoU of a class on few images says little, and the best of many chains on them would be one
    that was lucky there. So it is shrunk towards what the chain is worth on the whole: chains are
    compared by w * IoU of the class + (1 - w) * score of the chain, with w = n / (n + shrinkage)
    of a class that n images show. As much is done for the same class of all chains, so that only
    differences of chains count: with n small, the class goes with the best chain on the whole.

    Args:
        scores: by chain, all of the same images.
        class_names: K names, without the background.
        shrinkage: images at which the class and the whole count alike; 0 compares by the class
            alone.

    Returns:
        By class, all K of them. On ties the chain that is better on the whole, then the first.

    Raises:
        ValueError: there is no chain, the chains were scored on other images than one another, or
            shrinkage is below 0.

    Example:
        >>> images = {"cat": 60, "cow": 2}
        >>> scores = {
        ...     "crf": ChainScores(0.9, 0.50, {"cat": 0.50, "cow": 0.50}, images),
        ...     "pamr": ChainScores(0.4, 0.48, {"cat": 0.54, "cow": 0.60}, images),
        ... }
        >>> chosen = choose_chains(scores, ["cat", "cow", "dog"], shrinkage=20)
        >>> [(one.chain, round(one.own_share, 2), round(one.lead, 3)) for one in chosen.values()]
        [('pamr', 0.75, 0.025), ('crf', 0.09, 0.009), ('crf', 0.0, 0.02)]
    """
    check_range("shrinkage", shrinkage, 0, np.inf)
    if not scores:
        raise ValueError("there is no chain to choose from")
    images = next(iter(scores.values())).images
    for chain, own in scores.items():
        if own.images != images:
            raise ValueError(
                f"the chain '{chain}' was scored on other images than the others; run its "
                "evaluation again"
            )
    chosen = {}
    for name in class_names:
        number = images.get(name, 0)
        share = number / (number + shrinkage) if number else 0.0
        of_class = {chain: own.iou[name] for chain, own in scores.items()} if number else {}
        compared = {
            chain: share * of_class.get(chain, 0.0) + (1 - share) * own.score
            for chain, own in scores.items()
        }

        def rank(chain: str, compared: Mapping[str, float] = compared) -> tuple[float, float]:
            return compared[chain], scores[chain].score

        first, *others = sorted(scores, key=rank, reverse=True)
        chosen[name] = ChosenChain(
            first,
            scores[first].threshold,
            number,
            share,
            of_class,
            compared[first] - compared[others[0]] if others else 0.0,
            others[0] if others else "",
        )
    return chosen
