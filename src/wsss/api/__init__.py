"""What `import wsss` gives: models from anywhere, maps, masks and scores, in a line each."""

from wsss.api.classifiers import Classifier, load_classifier
from wsss.api.maps import cams
from wsss.api.masking import mask
from wsss.api.pictures import OneImage
from wsss.api.predicting import load_segmenter, predict
from wsss.api.refining import refine
from wsss.api.results import Maps, Mask
from wsss.api.scoring import Scores, evaluate

__all__ = [
    "Classifier",
    "Maps",
    "Mask",
    "OneImage",
    "Scores",
    "cams",
    "evaluate",
    "load_classifier",
    "load_segmenter",
    "mask",
    "predict",
    "refine",
]
