"""Weakly supervised semantic segmentation: from image tags to pixel masks."""

__version__ = "0.1.0"
