"""SEAM's losses against loops, and cases in which they are known."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wsss.methods.base import Start
from wsss.methods.objective import Objective
from wsss.methods.seam import Seam, SeamSettings, cross_consistency, min_pool
from wsss.models.classifier import Classifier, ClassifierOutput
from wsss.models.pcm import with_background
from wsss.seeding import Step

OBJECTIVE = Objective("multi_label")
STEP = Step(np.random.default_rng(0), 0.5, list("ab"))
TAGS = torch.tensor([[1.0, 0, 1], [0, 1, 0]])
TERMS = {"equivariance", "cross", "min_pool"}


@pytest.fixture
def model(make_model: Callable[..., Classifier], make_start: Callable[..., Start]) -> Classifier:
    found = make_model(Seam(SeamSettings()).begin(make_start())).eval()
    nn.init.normal_(found.head.weight)  # strong maps, positive and negative
    return found


@pytest.fixture
def pictures() -> Tensor:
    """(2, 3, 128, 160): maps of (8, 10) cells, and of (4, 5) at half the size."""
    return torch.randn(2, 3, 128, 160, generator=torch.Generator().manual_seed(2))


def losses(model: Any, pictures: Tensor, labels: Tensor = TAGS, **values: Any) -> dict[str, Tensor]:
    return Seam(SeamSettings(**values))(model, pictures, labels, OBJECTIVE, STEP)


def scaled(maps: np.ndarray) -> np.ndarray:
    """Cut at 0 and divided by the maximum, one map at a time."""
    found = np.zeros_like(maps)
    for b, c in product(range(maps.shape[0]), range(maps.shape[1])):
        positive = np.maximum(maps[b, c], 0)
        found[b, c] = positive / max(positive.max(), 1e-5)
    return found


def resized(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear, corners on corners."""
    found = np.zeros((*maps.shape[:2], *size))
    for i, j in product(range(size[0]), range(size[1])):
        y, x = (
            at * (before - 1) / (after - 1)
            for at, before, after in zip((i, j), maps.shape[2:], size, strict=True)
        )
        top, left = int(y), int(x)
        down, right = min(top + 1, maps.shape[2] - 1), min(left + 1, maps.shape[3] - 1)
        v, u = y - top, x - left
        found[:, :, i, j] = (1 - v) * (
            (1 - u) * maps[:, :, top, left] + u * maps[:, :, top, right]
        ) + v * ((1 - u) * maps[:, :, down, left] + u * maps[:, :, down, right])
    return found


def compete(maps: np.ndarray) -> np.ndarray:
    found = np.zeros((len(maps), maps.shape[1] + 1, *maps.shape[2:]))
    for b, i, j in product(range(len(maps)), range(maps.shape[2]), range(maps.shape[3])):
        scores = maps[b, :, i, j].tolist()
        found[b, :, i, j] = [1 - max(scores)] + [score * (score == max(scores)) for score in scores]
    return found


def extreme(values: np.ndarray, share: float, largest: bool) -> float:
    """Mean over images of the mean of a share of each image's values."""
    means = []
    for item in values.reshape(len(values), -1):
        ordered = sorted(item.tolist(), reverse=largest)
        means.append(np.mean(ordered[: max(1, int(share * len(ordered)))]))
    return float(np.mean(means))


def test_the_numbers_by_hand(model: Classifier, pictures: Tensor) -> None:
    found = losses(model, pictures, scale=0.5)
    small = torch.from_numpy(resized(pictures.numpy().astype(float), (64, 80))).float()
    tags = TAGS.numpy()[:, :, None, None]
    plain, refined, lowest, classified = [], [], [], []
    with torch.no_grad():
        for view in (pictures, small):
            output = model(view, with_stages=True)
            maps = scaled(output.maps.double().numpy())
            given = torch.from_numpy(compete(maps)).float()
            better = model.parts["pcm"](view, output.stages, given).double().numpy()
            plain.append(maps * tags)
            lowest.append(extreme((better[:, 1:] * tags).max(axis=1), 0.25, largest=False))
            refined.append(
                scaled(better) * np.concatenate([np.ones_like(tags[:, :1]), tags], axis=1)
            )
            classified.append(float(OBJECTIVE.classification(output.logits, TAGS)))
    coarse, coarse_refined = resized(plain[0], (4, 5)), resized(refined[0], (4, 5))
    expected = {
        "classification": np.mean(classified),
        "equivariance": np.abs(coarse - plain[1]).mean(),
        "cross": extreme(np.abs(compete(plain[1]) - coarse_refined), 0.2, largest=True)
        + extreme(np.abs(compete(coarse) - refined[1]), 0.2, largest=True),
        "min_pool": np.mean(lowest),
    }
    assert all(float(value) > 0.01 for value in expected.values())
    for key, value in expected.items():
        assert found[key].item() == pytest.approx(value, rel=1e-3), key
    assert found["loss"].item() == pytest.approx(sum(expected.values()), rel=1e-3)


def test_the_weights(model: Classifier, pictures: Tensor) -> None:
    values: dict[str, Any] = {"equivariance_weight": 2, "cross_weight": 3, "min_pool_weight": 5}
    found = losses(model, pictures, **values)
    expected = found["classification"] + sum(
        values[f"{key}_weight"] * found[key] for key in sorted(TERMS)
    )
    torch.testing.assert_close(found["loss"], expected)


@pytest.mark.parametrize("align_corners", [True, False])
def test_a_copy_of_equal_size_gives_equal_maps(
    model: Classifier, pictures: Tensor, align_corners: bool
) -> None:
    found = losses(model, pictures, scale=1, align_corners=align_corners)
    assert found["equivariance"] == 0
    expected = OBJECTIVE.classification(model(pictures).logits, TAGS)
    torch.testing.assert_close(found["classification"], expected)


@dataclass
class Ramps:
    """Stands for a network whose maps fall linearly, from corner to corner, at any size."""

    size: int = 8

    def __post_init__(self) -> None:
        self.backbone = self
        self.output_stride = self.size
        self.parts = {"pcm": lambda images, stages, maps: maps}
        self.sizes: list[tuple[int, ...]] = []

    def __call__(self, images: Tensor, *, with_stages: bool = False) -> ClassifierOutput:
        self.sizes.append(tuple(images.shape[2:]))
        height, width = (length // self.size for length in images.shape[2:])
        down = torch.linspace(1, 0, height)[:, None] + torch.zeros(height, width)
        right = torch.linspace(0, 0.9, width) + torch.zeros(height, width)
        maps = torch.stack([down, right, -down]).expand(len(images), -1, -1, -1)
        return ClassifierOutput(maps.mean(dim=(2, 3)), maps, maps)


def test_maps_that_scale_with_the_image_differ_in_nothing() -> None:
    found = losses(Ramps(), torch.zeros(2, 3, 72, 80))
    assert found["equivariance"].item() == pytest.approx(0, abs=1e-6)
    worse = losses(Ramps(), torch.zeros(2, 3, 72, 80), align_corners=False)
    assert worse["equivariance"] > 0.01


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [((72, 80), 0.3, (24, 24)), ((448, 448), 0.3, (136, 136)), ((16, 16), 0.3, (8, 8))],
)
def test_the_copy_fills_whole_cells(
    size: tuple[int, int], scale: float, expected: tuple[int, int]
) -> None:
    model = Ramps()
    losses(model, torch.zeros(2, 3, *size), scale=scale)
    assert model.sizes == [size, expected]


def test_untagged_classes_have_no_part_in_the_differences(
    model: Classifier, pictures: Tensor
) -> None:
    found = losses(model, pictures, torch.zeros(2, 3))
    assert found["equivariance"] == 0
    assert found["min_pool"] == 0


def test_who_learns_from_what(model: Classifier, pictures: Tensor) -> None:
    """Refined maps teach the module alone; plain ones the network alone."""
    model.train()
    found = losses(model, pictures)
    outside = [*model.backbone.parameters(), *model.head.parameters()]
    inside = list(model.parts.parameters())
    for key, taught in {"cross": inside, "min_pool": inside, "equivariance": outside}.items():
        for parameters in (inside, outside):
            gradients = torch.autograd.grad(
                found[key], parameters, retain_graph=True, allow_unused=True
            )
            assert any(gradient is not None for gradient in gradients) == (parameters is taught), (
                key
            )


def test_refined_maps_that_are_the_target_cost_nothing() -> None:
    maps = torch.rand(2, 3, 4, 5)
    assert cross_consistency(maps, with_background(maps), 0.2) == 0


@pytest.mark.parametrize("share", [0.001, 0.2, 1.0])
def test_cross_consistency_counts_the_largest(share: float) -> None:
    maps, refined = torch.rand(2, 3, 4, 5), torch.rand(2, 4, 4, 5, requires_grad=True)
    expected = extreme(
        np.abs(compete(maps.numpy()) - refined.detach().numpy()), share, largest=True
    )
    maps.requires_grad_()
    found = cross_consistency(maps, refined, share)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    torch.autograd.backward(found)
    assert maps.grad is None and refined.grad is not None
    assert int((refined.grad != 0).sum()) == 2 * max(1, int(share * 80))


def test_min_pool_is_of_the_quiet_cells() -> None:
    maps = torch.rand(2, 3, 4, 5)
    expected = extreme(maps.amax(dim=1).numpy(), 0.25, largest=False)
    assert min_pool(maps, 0.25).item() == pytest.approx(expected, rel=1e-5)
    maps[:, :, :, 0] = 0  # a fifth of the cells
    assert min_pool(maps, 0.2) == 0
    assert min_pool(maps, 0.25) > 0
