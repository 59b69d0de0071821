"""Segmentation networks beyond those of segmentation-models-pytorch, by name."""

from wsss.segment.networks._base import NetworkPlan, NetworkSettings

__all__ = ["NetworkPlan", "NetworkSettings"]
