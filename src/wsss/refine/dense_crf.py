"""Fully connected CRF over position and colour (Krähenbühl and Koltun, NeurIPS 2011)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from wsss.artifacts import ScoreMap, read_further_map
from wsss.artifacts.background import BackgroundSettings, background_scores
from wsss.config.kernels import CrfKernelSettings
from wsss.refine._base import Context, check_images
from wsss.registry import REFINERS
from wsss.settings import Named

__all__ = ["PRESETS", "DenseCrf", "DenseCrfSettings", "marginals", "unary_probs"]

PRESETS: dict[str, dict[str, Any]] = {
    # PSA (Ahn and Kwak, CVPR 2018), from where SC-CAM (CVPR 2020) and others have it. This is
    # its map of confident foreground; the one of confident background has alpha 32.
    "psa": {
        "n_iters": 10,
        "sigma_xy": 80,
        "sigma_rgb": 13,
        "compat_bilateral": 10,
        "sigma_gaussian": 3,
        "compat_gaussian": 3,
        "unary": "soft",
        "background": "power",
        "alpha": 4,
    },
    # IRN (Ahn et al., CVPR 2019), also Puzzle-CAM (ICIP 2021) and CCAM (CVPR 2022). Again the
    # confident foreground; the background's threshold is 0.05.
    "irn": {
        "n_iters": 10,
        "sigma_xy": 50,
        "sigma_rgb": 5,
        "compat_bilateral": 10,
        "sigma_gaussian": 3,
        "compat_gaussian": 3,
        "unary": "labels",
        "gt_prob": 0.7,
        "background": "constant",
        "threshold": 0.3,
    },
    # CLIP-ES (Lin et al., CVPR 2023).
    "clip_es": {
        "n_iters": 10,
        "sigma_xy": 67,
        "sigma_rgb": 3,
        "compat_bilateral": 4,
        "sigma_gaussian": 1,
        "compat_gaussian": 3,
        "unary": "soft",
        "background": "power",
        "alpha": 1,
    },
    # Smoke in camera frames (arXiv 2507.21959); its published script has alpha 48.
    "smoke": {
        "n_iters": 5,
        "sigma_xy": 60,
        "sigma_rgb": 5,
        "compat_bilateral": 15,
        "sigma_gaussian": 3,
        "compat_gaussian": 5,
        "unary": "soft",
        "background": "power",
        "alpha": 1,
    },
}
"""Published settings, for images of about 500 pixels: scale sigma_xy with the size of yours."""


class DenseCrfSettings(Named, BackgroundSettings, CrfKernelSettings):
    """Kernels, weights and what the field starts from."""

    read_when: ClassVar[Mapping[str, Any]] = {
        **BackgroundSettings.read_when,
        "threshold": ("background", ("constant",)),
        "gt_prob": ("unary", ("labels",)),
    }

    name: Literal["dense_crf"] = "dense_crf"
    # left out of dumps: what is recorded and hashed are the numbers
    preset: Literal["psa", "irn", "clip_es", "smoke"] | None = Field(default=None, exclude=True)
    """Published settings (`PRESETS`) for the keys that are not written beside it."""
    unary: Literal["soft", "labels"] = "soft"
    """'soft': scores and background as probabilities; 'labels': their winner with `gt_prob`."""
    gt_prob: float = Field(default=0.7, gt=0, lt=1)
    """How sure the winner of 'labels' is."""
    threshold: float = Field(default=0.3, gt=0, lt=1)
    """Score of the constant background."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        name = values.get("preset") if isinstance(values, dict) else None
        if not isinstance(name, str) or name not in PRESETS:
            return values
        if PRESETS[name].keys() <= values.keys():
            raise ValueError(
                f"preset '{name}' has no effect, since all it sets is written beside it; delete "
                "those keys"
            )
        return PRESETS[name] | values


def unary_probs(
    scores: np.ndarray, settings: DenseCrfSettings, objects: np.ndarray | None = None
) -> np.ndarray:
    """Background and class probabilities that the field starts from.

    Args:
        scores: (P, H, W) float32 in [0, 1].
        settings: how the background and the probabilities are made.
        objects: of the object background, as in `background_scores`.

    Returns:
        (P + 1, H, W) float32, positive, summing to 1 over the first axis; 0 is background.

    Example:
        >>> unary_probs(np.full((1, 1, 1), 0.9, np.float32), DenseCrfSettings()).ravel().round(3)
        array([0.25, 0.75], dtype=float32)
    """
    background = background_scores(scores, settings, settings.threshold, objects)
    stack: np.ndarray = np.concatenate([background, scores])
    if settings.unary == "labels":
        winner = stack.argmax(axis=0)
        rest = (1 - settings.gt_prob) / (len(stack) - 1)
        stack = np.full_like(stack, rest)
        np.put_along_axis(stack, winner[None], settings.gt_prob, axis=0)
        return stack
    np.maximum(stack, 1e-5, out=stack)  # -log stays finite
    stack /= stack.sum(axis=0)
    return stack


def marginals(
    images: Sequence[np.ndarray],
    score_maps: Sequence[ScoreMap],
    settings: DenseCrfSettings,
    object_maps: Sequence[ScoreMap] | None = None,
) -> list[np.ndarray]:
    """The field's probabilities of background and classes.

    Args:
        images: each (H, W, 3) uint8 RGB.
        score_maps: one per image, with a class each at least.
        settings: of the field.
        object_maps: of the object background, one per image.

    Returns:
        For each image (P + 1, H, W) float32, summing to 1 over the first axis; 0 is background.
    """
    from wsss.densecrf import dense_crf  # compiled; not needed to read settings

    check_images(images, score_maps)
    others: Sequence[ScoreMap | None] = object_maps or [None] * len(images)
    found: list[np.ndarray] = dense_crf(
        list(images),
        [
            unary_probs(score_map.full_scores(), settings, other.full_scores() if other else None)
            for score_map, other in zip(score_maps, others, strict=True)
        ],
        **settings.kernels(),
    )
    return found


@REFINERS.register(DenseCrfSettings)
class DenseCrf:
    """Mean-field marginals of the present classes and the background.

    The background is folded away as s / (max s + background), so the marginals' own winner
    is what a threshold of 0.5 gives.
    """

    def __init__(self, settings: DenseCrfSettings, context: Context) -> None:
        self.settings = settings
        self.folder = context.further_cams / settings.object_source
        self.windowed = settings.background != "object"

    def __call__(
        self,
        images: Sequence[np.ndarray],
        score_maps: Sequence[ScoreMap],
        names: Sequence[str],
    ) -> list[ScoreMap]:
        tagged = [index for index, score_map in enumerate(score_maps) if len(score_map.class_ids)]
        object_maps = None
        if self.settings.background == "object":
            object_maps = [
                read_further_map(self.folder, names[index], score_maps[index]) for index in tagged
            ]
        refined = [replace(given, scores=given.full_scores()) for given in score_maps]
        found = marginals(
            [images[index] for index in tagged],
            [refined[index] for index in tagged],
            self.settings,
            object_maps,
        )
        for index, probs in zip(tagged, found, strict=True):
            best = probs[1:].max(axis=0)
            scores = probs[1:] / np.maximum(best + probs[0], 1e-12)
            refined[index] = replace(refined[index], scores=np.clip(scores, 0, 1))
        return refined
