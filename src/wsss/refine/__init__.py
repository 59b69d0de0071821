"""Refiners: each takes an image and its score map and gives a better score map."""

from wsss.refine._base import Context, OneByOne, Refiner
from wsss.refine.chain import Chain

__all__ = ["Chain", "Context", "OneByOne", "Refiner"]
