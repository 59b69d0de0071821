"""Data sets: where images, tags and ground truth come from, and the images' decoding."""

from wsss.data._base import Dataset, Problem, RawBox, RawDataset, RawPoint, RawSample

__all__ = ["Dataset", "Problem", "RawBox", "RawDataset", "RawPoint", "RawSample"]
