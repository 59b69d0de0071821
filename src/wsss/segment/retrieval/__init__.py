"""Segmentation without training: a proposal has the class of training regions that are like it."""

from wsss.segment.retrieval.index import RegionIndex, Votes
from wsss.segment.retrieval.model import RetrievalModel, load_retrieval, save_retrieval

__all__ = ["RegionIndex", "RetrievalModel", "Votes", "load_retrieval", "save_retrieval"]
