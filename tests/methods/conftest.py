"""A small classifier, a batch for it, and what a method may look at before training."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from wsss.config.sections import BackboneSettings
from wsss.methods.base import Start, Teacher
from wsss.models.classifier import Classifier
from wsss.models.timm_backbone import TimmBackbone
from wsss.settings import Settings

NAMES = ("boat", "car", "tree")
IMAGES = list("abcd")
# residual branches that start at zero would hide their convolutions
CNN = BackboneSettings(model_name="resnet10t", timm_kwargs={"zero_init_last": False})
BACKBONE_OF = {"class_tokens": BackboneSettings(model_name="test_vit")}
"""The backbone for parts that no convolutional network can have."""


@pytest.fixture
def make_model() -> Callable[..., Classifier]:
    """Makes classifiers with the same weights; `parts` are settings of PARTS."""

    def make(parts: Sequence[Settings] = (), seed: int = 0) -> Classifier:
        torch.manual_seed(seed)
        names = [getattr(part, "name", "") for part in parts]
        settings = next((BACKBONE_OF[name] for name in names if name in BACKBONE_OF), CNN)
        return Classifier(TimmBackbone(settings), NAMES, parts=parts)

    return make


@pytest.fixture
def images() -> Tensor:
    """(4, 3, 48, 32): heights and widths must not be mistaken for one another."""
    return torch.randn(4, 3, 48, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def labels() -> Tensor:
    """(4, 3), exclusive, so that they fit both losses."""
    return torch.eye(3)[[0, 2, 1, 1]]


@pytest.fixture
def make_start(
    make_model: Callable[..., Classifier], images: Tensor, labels: Tensor
) -> Callable[..., Start]:
    """Makes starts over the batch; its teacher "teacher" is another classifier.

    `tags` are labels in place of those of the batch.
    """

    def over_images(model: Any, function: Callable[[Any, Tensor], Tensor]) -> np.ndarray:
        with torch.inference_mode():
            values: np.ndarray = function(model.eval(), images).float().numpy()
        return values

    def make(
        index: int = 0,
        previous: Classifier | None = None,
        tags: Tensor = labels,
        has_background: bool = True,
        **teachers: Classifier,
    ) -> Start:
        asked = teachers or {"teacher": make_model(seed=7)}
        normalisation = make_model().backbone.normalisation
        return Start(
            index,
            NAMES,
            tuple(IMAGES),
            tags.numpy(),
            {name: Teacher(teacher, normalisation) for name, teacher in asked.items()},
            previous,
            over_images,
            0,
            has_background,
        )

    return make
