"""A trained segmenter at work: opened from wherever it lies, on images from anywhere."""

from wsss.prediction._base import Model, Predicted
from wsss.prediction.opening import open_model

__all__ = ["Model", "Predicted", "open_model"]
