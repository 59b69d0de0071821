"""How good masks are without ground truth: a sample that a person corrects, and what follows."""

from wsss.audit.drawing import intensities, order_of_drawing, probabilities
from wsss.audit.estimate import Audited, Estimate, Interval, estimate

__all__ = [
    "Audited",
    "Estimate",
    "Interval",
    "estimate",
    "intensities",
    "order_of_drawing",
    "probabilities",
]
