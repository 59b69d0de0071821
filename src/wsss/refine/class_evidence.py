"""Class evidence: a map counts for as much as the classifier believes that its class is there."""

from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import PositiveFloat

from wsss.artifacts import ScoreMap
from wsss.refine._base import Context, OneByOne
from wsss.registry import REFINERS
from wsss.settings import Named

__all__ = ["ClassEvidence", "ClassEvidenceSettings"]


class ClassEvidenceSettings(Named):
    """How much the classifier's doubt counts."""

    name: Literal["class_evidence"] = "class_evidence"
    power: PositiveFloat = 1
    """Of the classifier's probability of a class, by which the class's map is multiplied: 0.5 is
    milder, 2 is stricter."""


@REFINERS.register(ClassEvidenceSettings)
class ClassEvidence(OneByOne):
    """Scores times the probability of their class, to a power.

    A CAM is divided by its own maximum, so that a class that the classifier has not learned, or
    does not see in the image, competes with one that it is sure of. Put it before what lets
    classes compete, such as `dense_crf`.
    """

    windowed = False

    def __init__(self, settings: ClassEvidenceSettings, context: Context) -> None:
        del context
        self.power = settings.power

    def refined(self, image: np.ndarray, score_map: ScoreMap) -> ScoreMap:
        """Scores on their own grid."""
        del image
        weights = score_map.class_probs ** np.float32(self.power)
        return replace(score_map, scores=score_map.scores * weights[:, None, None])
