"""Refiners: each takes an image and its score map and gives a better score map."""

from wsss.refine._base import Chain, Context, Refiner

__all__ = ["Chain", "Context", "Refiner"]
