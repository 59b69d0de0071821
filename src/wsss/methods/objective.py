"""What a classifier minimises: classification, and regularisers that go with every method."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeFloat

from wsss.methods.losses import Losses
from wsss.settings import Named

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.models.classifier import ClassifierOutput

__all__ = ["MethodSettings", "Objective", "entropy", "map_variance", "present"]

EPSILON = 1e-5  # in the logarithms
FLOOR = 1e-3  # added to every cell of a map, so that an empty one has a centre


class MethodSettings(Named):
    """What the settings of every method have: the weights of what `Objective` adds."""

    entropy_weight: NonNegativeFloat = 0
    """Weight of the entropy of the predicted class probabilities; 0.02 in Mixup-CAM."""
    concentration_weight: NonNegativeFloat = 0
    """Weight of the spread of the maps of tagged classes; 0.0002 in Mixup-CAM."""


@dataclass(frozen=True)
class Objective:
    """The losses of a classifier's output.

    Attributes:
        loss: multi_label (sigmoid, mean binary cross-entropy over classes) or single_label
            (softmax, cross-entropy over exclusive classes).
    """

    loss: Literal["multi_label", "single_label"]

    def __call__(
        self,
        output: "ClassifierOutput",
        targets: "Sequence[tuple[float, Tensor]]",
        settings: MethodSettings,
        *,
        entropy_of: "Sequence[tuple[float, Tensor]] | None" = None,
        classification_weight: float = 1,
        class_weights: "Sequence[float] | None" = None,
    ) -> Losses:
        """Classification plus the regularisers that `settings` gives a weight.

        Args:
            output: of the classifier.
            targets: weights that sum to one, each with its (B, K) labels, see `classification`;
                one pair unless images were mixed. What is unknown of one image is unknown of
                the mixture.
            settings: of the method.
            entropy_of: logits and their weights, where they are not the output's.
            classification_weight: of the classification loss.
            class_weights: K, how much each class counts in it; None if all count alike.

        Returns:
            "classification", "entropy" and "concentration", the latter two if they have a weight.
        """
        losses = Losses()
        known = _known(targets)
        classification = _weighted(
            [
                (share, self.classification(output.logits, labels.where(known, nan), class_weights))
                for share, labels in targets
            ]
        )
        losses.add("classification", classification, classification_weight)
        if settings.entropy_weight:
            sources = [(1.0, output.logits)] if entropy_of is None else entropy_of
            entropies = [(share, entropy(self.probs(logits), known)) for share, logits in sources]
            losses.add("entropy", _weighted(entropies), settings.entropy_weight)
        if settings.concentration_weight:
            # of softmax over classes: a map is spread out where it wins over the others
            variances = map_variance(output.maps.float().relu().softmax(dim=1))  # (B, K)
            tagged = _weighted([(share, present(labels)) for share, labels in targets])
            concentration = (variances * tagged).sum() / len(tagged)
            losses.add("concentration", concentration, settings.concentration_weight)
        return losses

    def classification(
        self,
        logits: "Tensor",
        labels: "Tensor",
        class_weights: "Sequence[float] | None" = None,
    ) -> "Tensor":
        """The classification loss alone.

        Args:
            logits: (B, K).
            labels: (B, K), 1 and 0 or, of multi_label, a probability in [0, 1], or NaN where
                nobody knows: such a cell has no loss, and the mean is over the others. Exactly
                one 1 per row for single_label.
            class_weights: K factors of the classes' losses; the mean stays one over all cells.
        """
        from torch.nn import functional

        if self.loss == "multi_label":
            known = ~labels.isnan()
            weights = _mean_weights(known)
            if class_weights is not None:
                weights = weights * weights.new_tensor(class_weights)
            return functional.binary_cross_entropy_with_logits(
                logits, labels.where(known, 0), weight=weights
            )
        classes = labels.argmax(dim=1)
        if class_weights is None:
            return functional.cross_entropy(logits, classes)
        losses = functional.cross_entropy(logits, classes, reduction="none")
        return (losses * losses.new_tensor(class_weights)[classes]).mean()

    def probs(self, logits: "Tensor") -> "Tensor":
        """(B, K) float32 probabilities."""
        logits = logits.float()
        return logits.sigmoid() if self.loss == "multi_label" else logits.softmax(dim=1)


def present(labels: "Tensor") -> "Tensor":
    """1 where a class is taken to be there, at a probability of 0.5 and more; 0 where nobody knows.

    Example:
        >>> import torch
        >>> present(torch.tensor([1, 0.5, 0.25, 0, nan]))
        tensor([1., 1., 0., 0., 0.])
    """
    return (labels >= 0.5).to(labels.dtype)


def entropy(probs: "Tensor", known: "Tensor | None" = None) -> "Tensor":
    """Mean binary entropy of (B, K) probabilities, in nats; 0 when all are certain.

    Args:
        probs: (B, K).
        known: (B, K) bool, which of them count; None of all.

    References:
        Mixup-CAM (Chang et al., BMVC 2020).
    """
    if known is not None:
        probs = probs.where(known, 0)
    other = 1 - probs
    terms = probs * (probs + EPSILON).log() + other * (other + EPSILON).log()
    return -(terms if known is None else terms * _mean_weights(known)).mean()


def map_variance(maps: "Tensor") -> "Tensor":
    """How far the mass of a map lies from its centre: the variance along x plus that along y.

    Args:
        maps: (B, K, h, w) non-negative.

    Returns:
        (B, K) in units of half the map's height and width; 0 for one hot cell but for FLOOR,
        and for classes that are alone under a softmax a constant without gradient.

    References:
        The concentration loss of SCOPS (Hung et al., CVPR 2019), as in Mixup-CAM.
    """
    import torch

    density = maps + FLOOR
    density = density / density.sum(dim=(2, 3), keepdim=True)
    variances = []
    for marginal in (density.sum(dim=3), density.sum(dim=2)):  # (B, K, h), (B, K, w)
        length = marginal.shape[2]
        at = torch.arange(length, dtype=maps.dtype, device=maps.device) / length * 2 - 1
        centre = (marginal * at).sum(dim=2, keepdim=True)
        variances.append((marginal * (at - centre).square()).sum(dim=2))
    return variances[0] + variances[1]


def _known(targets: "Sequence[tuple[float, Tensor]]") -> "Tensor":
    """(B, K) bool: where none of the labels is NaN."""
    (_, labels), *others = targets
    known = ~labels.isnan()
    for _, labels in others:
        known = known & ~labels.isnan()
    return known


def _mean_weights(known: "Tensor") -> "Tensor":
    """Weights with which a mean over all cells is that over the known ones; 1 if all are.

    Nothing here waits for a GPU.
    """
    return known * (known.numel() / known.sum().clamp(min=1))


def _weighted(terms: "Sequence[tuple[float, Tensor]]") -> "Tensor":
    (share, total), *others = terms
    total = share * total
    for share, term in others:
        total = total + share * term
    return total
