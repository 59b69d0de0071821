"""What stages have in common: their declaration, their order, and how one is run."""

from wsss.pipeline.graph import Pipeline, Target
from wsss.pipeline.job import Job
from wsss.pipeline.stage import Curve, Picture, Stage

__all__ = [
    "Curve",
    "Job",
    "Picture",
    "Pipeline",
    "Stage",
    "Target",
]
