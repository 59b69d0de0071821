"""Proposal sources, one per file: each gives masks of an image, of no class."""

from wsss.proposals._base import Device, ProposalSource

__all__ = ["Device", "ProposalSource"]
