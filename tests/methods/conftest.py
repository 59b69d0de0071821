"""A small classifier and a batch for it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from wsss.config.params import BackboneSettings
from wsss.models.classifier import Classifier
from wsss.models.timm_backbone import TimmBackbone

NAMES = ("boat", "car", "tree")


@pytest.fixture
def make_model() -> Callable[[], Classifier]:
    """Makes classifiers with the same weights."""

    def make() -> Classifier:
        torch.manual_seed(0)
        # residual branches that start at zero would hide their convolutions
        settings = BackboneSettings(model_name="resnet10t", timm_kwargs={"zero_init_last": False})
        return Classifier(TimmBackbone(settings), NAMES)

    return make


@pytest.fixture
def images() -> Tensor:
    """(4, 3, 48, 32): heights and widths must not be mistaken for one another."""
    return torch.randn(4, 3, 48, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def labels() -> Tensor:
    """(4, 3), exclusive, so that they fit both losses."""
    return torch.eye(3)[[0, 2, 1, 1]]
