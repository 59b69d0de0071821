"""Losses of pixels that have a label, by name: each passes over the others."""

from wsss.segment.losses._base import LossContext, PixelBatch, PixelLoss

__all__ = ["LossContext", "PixelBatch", "PixelLoss"]
