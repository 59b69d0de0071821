"""A trained segmenter over HTTP: images to masks, for programs on this machine or others."""

from wsss.server.limits import Limits
from wsss.server.running import serve

__all__ = ["Limits", "serve"]
