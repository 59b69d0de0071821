"""The masks of a single-stage network."""

from typing import TYPE_CHECKING, Literal

from wsss.checks import full_key
from wsss.registry import CAM_METHODS
from wsss.settings import Named

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.models.classifier import Classifier

__all__ = ["SingleStageMasks", "SingleStageMasksSettings"]

AREA = 1e-5
"""Of the mean logits over masks: with more, an image would have others at other scales."""


class SingleStageMasksSettings(Named):
    """No settings; for classifiers that train_classifier.method: single_stage trained."""

    name: Literal["single_stage"] = "single_stage"


@CAM_METHODS.register(SingleStageMasksSettings)
class SingleStageMasks:
    """What the network says a cell is, among the image's possible classes and the background.

    With m the softmax over these alone, b the background in it and a class c:

        s_c = m_c / (max m + b)

    Of an image with one tag that is m_c itself. With several, it is what makes the network's own
    decision that of a score map: the arg-max of m is the background where no score is above 0.5,
    and 1 - max s goes to the scores as b to m. So the masks are used as they are with

        make_pseudo_masks: {background: power, alpha: 1, ignore_margin: 0}

    or with `background: constant` and `threshold: 0.5`, and a dense CRF with the same power
    background starts from m. A larger alpha means less background; 3 is what was published. Where
    the training method had no background, b is 0, and the strongest class has 1 everywhere.

    Over scales and flips the scores are averaged, and never divided by their maximum: a class that
    is nowhere likely stays below 0.5. The logits are the mean logits over the masks, by which the
    network was taught.

    References:
        Single-Stage Semantic Segmentation from Image Labels (Araslanov and Roth, CVPR 2020).
    """

    needs_gradients = False
    comparable: Literal[True] = True

    def __init__(self, settings: SingleStageMasksSettings) -> None:
        del settings

    def __call__(
        self, model: "Classifier", images: "Tensor", rows: "Tensor", columns: "Tensor"
    ) -> "tuple[Tensor, Tensor]":
        import torch

        part = model.part("segmentation_head", f"{full_key('method')}: single_stage")
        logits = part(*model.backbone.with_stages(images))
        tagged = torch.zeros(logits.shape[:2], dtype=torch.bool, device=logits.device)
        tagged[rows, columns] = True
        best = logits.masked_fill(~tagged[:, :, None, None], float("-inf")).amax(dim=1)  # (B, h, w)
        if part.settings.background:
            best = torch.logaddexp(best, torch.ones_like(best))  # max m + b, but for the softmax
        scores = (logits[rows, columns] - best[rows]).exp()
        return scores, part.scores(logits, AREA)
