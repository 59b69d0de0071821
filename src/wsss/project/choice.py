"""Which recipe suits a data set, with which numbers: by its images, and the weights there are."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from wsss.config.params import Params
from wsss.project.layouts import Understood, has_masks

__all__ = ["Choice", "choose", "explain", "why_no_weights"]

_NETWORK = "mobilenetv2_100"
_STEPS = 400  # of the classifier, in batches of 16: what own_photos takes of 800 images


@dataclass(frozen=True)
class Choice:
    """What params.yaml begins with.

    Attributes:
        recipe: its name.
        settings: single ones over it, by dotted key.
    """

    recipe: str
    settings: Mapping[str, Any]


def choose(understood: Understood, weights: str = "hub") -> Choice:
    """Choose for a data set.

    Args:
        understood: what was found.
        weights: "hub" for ImageNet weights from timm's hub, "none" for a small network without,
            or a file.
    """
    raw = understood.raw
    number = len(raw.splits["train"])
    settings: dict[str, Any] = {"prepare_data.dataset": understood.dataset}
    if weights == "none":
        recipe = "own_photos_from_scratch"
    else:
        parts = understood.layout == "good and defective parts"
        recipe = "small_defects" if parts else "own_photos"
        settings["train_classifier.backbone.weights"] = weights
        if recipe == "small_defects":  # what it says of normalisation is of other weights
            settings["train_classifier.backbone.timm_kwargs"] = {}
            settings["train_classifier.backbone.mean"] = None
            settings["train_classifier.backbone.std"] = None
    size = 16 if number >= 64 else 8
    epochs = min(30, max(4, math.ceil(_STEPS * 16 / max(1, number))))
    for section, share in (("train_classifier", 1.0), ("train_segmenter", 0.5)):
        settings[f"{section}.epochs"] = max(3, round(epochs * share))
        settings[f"{section}.batch_size"] = size if recipe != "small_defects" else 8
    if not has_masks(raw):
        settings["make_pseudo_masks.threshold"] = "usual"
    settings["predict_masks.splits"] = ["train", "selection", "val"]
    return Choice(recipe, settings)


def explain(recipe: str, params: Params, understood: Understood) -> list[str]:
    """What a person must know of what was chosen, line by line.

    Args:
        recipe: that was chosen.
        params: what came of it and of the person's own settings.
        understood: what was found.
    """
    raw = understood.raw
    said = []
    if params.train_classifier.backbone.weights == "none":
        said.append("a network that begins without weights: ImageNet weights do far better")
    said.append(
        f"recipe {recipe}: {params.train_classifier.epochs} epochs of the classifier and "
        f"{params.train_segmenter.epochs} of the segmenter for {len(raw.splits['train'])} images"
    )
    if not has_masks(raw):
        threshold = params.make_pseudo_masks.threshold
        named = "the usual one, which nothing has chosen" if threshold == "usual" else threshold
        said.append(
            f"no masks: the threshold is {named}, and nothing is scored; masks of a few images "
            "would do both (make_pseudo_masks.threshold: selected)"
        )
    return said


def why_no_weights(timeout: float = 4.0) -> str:
    """Say why ImageNet weights of timm's hub cannot be had here; "" where they can.

    Args:
        timeout: seconds that the hub is waited for.
    """
    from huggingface_hub import constants

    kept = Path(constants.HF_HUB_CACHE)
    if any(kept.glob(f"models--timm--{_NETWORK}.*/snapshots/*/*")):
        return ""
    if constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        return "HF_HUB_OFFLINE is set, and they are not in the cache of Hugging Face"
    try:
        with urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=timeout):
            return ""
    except (URLError, OSError, ValueError) as error:
        return f"{constants.ENDPOINT} does not answer ({error})"
