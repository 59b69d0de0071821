"""Images with tags alone are left out."""

from typing import ClassVar, Literal

from wsss.registry import TAG_FORMS
from wsss.segment.forms.pseudo_masks import PseudoMasks
from wsss.settings import Named

__all__ = ["Ignored", "IgnoredSettings"]


class IgnoredSettings(Named):
    """Only images with a mask, points or scribbles teach, by the pixels that these label.

    With the losses cross_entropy and dense_crf it is the scribble training of Tang et al., On
    Regularized Losses for Weakly-supervised CNN Segmentation, ECCV 2018 (rloss).
    """

    name: Literal["ignored"] = "ignored"
    needs_given: ClassVar[bool] = True
    """Without a pixel that people labelled nothing is learned."""


@TAG_FORMS.register(IgnoredSettings)
class Ignored(PseudoMasks):
    """The pixel losses of what annotators labelled."""

    takes_pseudo_masks = False
    takes_tags = False
