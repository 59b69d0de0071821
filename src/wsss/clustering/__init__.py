"""Clusterings of feature vectors, one per file, and how they split classes into sub-categories."""

from wsss.clustering._base import (
    ClassClusters,
    Clustering,
    Metric,
    assign_per_class,
    cluster_means,
    cluster_per_class,
    nearest_centroid,
)

__all__ = [
    "Clustering",
    "Metric",
    "ClassClusters",
    "assign_per_class",
    "cluster_means",
    "cluster_per_class",
    "nearest_centroid",
]
