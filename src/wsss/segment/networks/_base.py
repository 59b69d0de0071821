"""What a network of this project says of itself, and what it is made from."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from wsss.config.sections import BackboneSettings
from wsss.loading.normalisation import Normalisation
from wsss.settings import Named

__all__ = ["NetworkPlan", "NetworkSettings"]


class NetworkSettings(Named):
    """What all networks have: `train_segmenter.model.arch_kwargs`, and the name.

    An entry of `NETWORKS` is a function of these and of a `NetworkPlan`. The module that it gives
    takes (B, 3, H, W) normalised images of any size, and gives (B, K + 1, H, W) logits. Its
    `encoder`, which weights files fill, has an `output_stride`, and gives a list of the images and
    the maps of its stages, shallow to deep.
    """

    encoder_is: ClassVar[Literal["chosen", "own", "frozen"]] = "own"
    """Whether `model.encoder` chooses it, the network has its own, or settings of the network name
    backbones that never learn."""
    pretrained: ClassVar[bool] = True
    """Whether there are weights for the encoder to start from."""

    def backbones_for(
        self, encoder: str, classifier: BackboneSettings
    ) -> tuple[BackboneSettings, ...]:
        """The timm backbones that it is built on, or whose weights its own encoder takes.

        Args:
            encoder: a name, or "classifier".
            classifier: the backbone of the classifier.
        """
        del encoder, classifier
        return ()


@dataclass(frozen=True)
class NetworkPlan:
    """What a network is made from, beside its settings.

    Attributes:
        num_classes: K + 1.
        normalisation: of the images that it is given.
        backbones: those of `NetworkSettings.backbones_for`.
        classifier: the folder of the trained classifier, for backbones that never learn; None
            leaves these random, for a caller that loads its own weights.
    """

    num_classes: int
    normalisation: Normalisation
    backbones: tuple[BackboneSettings, ...]
    classifier: Path | None
