"""Losses of pixels that have a label, by name: each passes over the others."""

from wsss.segment.losses._base import (
    LossContext,
    LossSettings,
    PixelBatch,
    PixelLoss,
    summed_nll,
)

__all__ = ["LossContext", "LossSettings", "PixelBatch", "PixelLoss", "summed_nll"]
