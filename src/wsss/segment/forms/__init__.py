"""Forms of learning from images without a mask, by name: what they teach a segmenter."""

from wsss.segment.forms._base import Lesson, Predict, TagForm, TrainBatch

__all__ = ["Lesson", "Predict", "TagForm", "TrainBatch"]
