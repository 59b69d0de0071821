"""What every source of proposals promises, checked on each name the registry finds."""

import numpy as np
import pytest
import torch

from wsss.artifacts import Proposals
from wsss.proposals import ProposalSource
from wsss.registry import PROPOSALS

SETTINGS = {name: PROPOSALS.settings(name) for name in PROPOSALS.names()}
BY_DEFAULT = [
    name
    for name, settings in SETTINGS.items()
    if not any(field.is_required() for field in settings.model_fields.values())
]
"""Others take a checkpoint, and have tests of their own."""


def image_of(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A box on a grey ground, with sensor noise."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 120.0)
    image[height // 4 : height // 2, width // 3 :] = (200, 60, 40)
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


@pytest.fixture(params=BY_DEFAULT)
def source(request: pytest.FixtureRequest) -> ProposalSource:
    settings = SETTINGS[request.param]()
    found: ProposalSource = PROPOSALS.build(settings, lambda: torch.device("cpu"))
    return found


@pytest.mark.parametrize("size", [(40, 60), (33, 21), (8, 8), (2, 3), (1, 9), (9, 1), (1, 1)])
def test_images_of_any_size(source: ProposalSource, size: tuple[int, int]) -> None:
    found = source(image_of(*size))
    assert isinstance(found, Proposals)
    assert found.size == size
    assert found.quality.dtype == np.float32 and found.starts.dtype == np.int32
    assert (found.areas() > 0).all()
    assert source.parallel in (True, False)


@pytest.mark.parametrize("level", [0, 255])
def test_an_image_without_any_contrast(source: ProposalSource, level: int) -> None:
    assert (source(np.full((12, 17, 3), level, np.uint8)).areas() > 0).all()


def test_the_same_image_gives_the_same_masks_and_is_left_alone(source: ProposalSource) -> None:
    image = image_of(40, 60)
    before = image.copy()
    first, second = source(image), source(image)
    np.testing.assert_array_equal(image, before)
    for part in ("starts", "lengths", "offsets", "quality"):
        np.testing.assert_array_equal(getattr(first, part), getattr(second, part))
