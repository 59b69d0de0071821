"""Evaluation: the one place that opens ground-truth masks, and where metrics are defined, once."""

from wsss.evaluate.chains import ChainScores, ChosenChain, best_chain, choose_chains
from wsss.evaluate.confusion import confusion_matrix
from wsss.evaluate.curves import ThresholdCurve, score_histogram, threshold_grid
from wsss.evaluate.failures import Failures, ImageScore, find_failures, score_images
from wsss.evaluate.false_alarms import FalseAlarms, count_false_alarms
from wsss.evaluate.ground_truth import read_ground_truth
from wsss.evaluate.metrics import Counts, group_ids, summary
from wsss.evaluate.objects import FoundObjects
from wsss.evaluate.paired import Difference, image_counts, paired_differences
from wsss.evaluate.protocol import (
    best_threshold,
    curve_columns,
    label_report,
    score_map_report,
)
from wsss.evaluate.splits import LabelScores, evaluate_labels, evaluate_score_maps

__all__ = [
    "ChainScores",
    "ChosenChain",
    "Counts",
    "Difference",
    "Failures",
    "FalseAlarms",
    "FoundObjects",
    "ImageScore",
    "LabelScores",
    "ThresholdCurve",
    "best_chain",
    "best_threshold",
    "choose_chains",
    "confusion_matrix",
    "count_false_alarms",
    "curve_columns",
    "evaluate_labels",
    "evaluate_score_maps",
    "find_failures",
    "group_ids",
    "image_counts",
    "label_report",
    "paired_differences",
    "read_ground_truth",
    "score_histogram",
    "score_images",
    "score_map_report",
    "summary",
    "threshold_grid",
]
