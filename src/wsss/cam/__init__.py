"""From a classifier to class activation maps: one method per file, and what they share."""

from wsss.cam._base import CamMethod

__all__ = ["CamMethod"]
