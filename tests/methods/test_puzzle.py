"""Puzzle-CAM: quarters, and what is the same in them as in the image."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from wsss.config.sections import HeadSettings
from wsss.methods.objective import Objective
from wsss.methods.puzzle import Puzzle, PuzzleSettings, merge_quarters, quarters
from wsss.models.classifier import Classifier, ClassifierOutput
from wsss.seeding import Step

OBJECTIVE = Objective("multi_label")
SIZES = [(64, 32), (48, 32), (48, 80), (49, 95), (16, 16), (7, 40)]
TAGS = torch.tensor([[1.0, 0, 1], [0, 1, 0]])


def losses(
    model: Any, images: Tensor, labels: Tensor, progress: float = 0.25, **values: Any
) -> dict[str, Tensor]:
    step = Step(np.random.default_rng(0), progress, list("abcd"))
    return Puzzle(PuzzleSettings(**values))(model, images, labels, OBJECTIVE, step)


class PerCell:
    """Stands for a network that sees no further than its own cell of 16 pixels."""

    head_settings = HeadSettings()

    def __init__(self) -> None:
        self.backbone = self
        self.output_stride = 16
        torch.manual_seed(0)
        self.kernel = torch.randn(3, 3, 16, 16, requires_grad=True)
        self.calls: list[tuple[int, ...]] = []

    def __call__(self, images: Tensor) -> ClassifierOutput:
        self.calls.append(tuple(images.shape))
        images = functional.pad(images, (0, -images.shape[3] % 16, 0, -images.shape[2] % 16))
        maps = functional.conv2d(images, self.kernel, stride=16)
        return ClassifierOutput(maps.mean(dim=(2, 3)), maps, maps)


@pytest.mark.parametrize("size", SIZES)
def test_without_context_quarters_give_the_same_maps(size: tuple[int, int]) -> None:
    model, images = PerCell(), torch.randn(2, 3, *size)
    found = losses(model, images, TAGS)
    assert found["reconstruction"].item() == pytest.approx(0, abs=1e-5)
    torch.testing.assert_close(found["tiles"], found["classification"])
    cells = [-(-length // 16) for length in size]
    assert model.calls[1] == (8, 3, *(-(-cell // 2) * 16 for cell in cells))


def test_by_hand(make_model: Callable[..., Classifier], images: Tensor, labels: Tensor) -> None:
    """Of (3, 2) cells: two rows to a quarter, the middle one in both."""
    model = make_model().eval()
    output = model(images)
    merged = torch.zeros(4, 3, 3, 2)
    for b in range(4):
        shares = torch.zeros(3, 2)
        for top, left in product((0, 1), (0, 1)):
            tile = images[b : b + 1, :, top * 16 : top * 16 + 32, left * 16 : left * 16 + 16]
            maps = model(tile).maps[0]
            for row in range(2):
                merged[b, :, top + row, left] += maps[:, row, 0]
                shares[top + row, left] += 1
        merged[b] /= shares
    expected = torch.zeros(())
    for b, c in product(range(4), range(3)):
        if labels[b, c]:
            expected = expected + (output.maps[b, c] - merged[b, c]).abs().sum()
    expected = expected / output.maps.numel()
    tiles = OBJECTIVE.classification(merged.mean(dim=(2, 3)), labels)
    found = losses(model, images, labels)
    assert expected > 0.001
    torch.testing.assert_close(found["reconstruction"], expected)
    torch.testing.assert_close(found["tiles"], tiles)
    torch.testing.assert_close(
        found["classification"], OBJECTIVE.classification(output.logits, labels)
    )
    torch.testing.assert_close(found["loss"], found["classification"] + tiles + 2 * expected)


@pytest.mark.parametrize(
    ("values", "progress", "weight"),
    [
        ({}, 0.0, 0.0),
        ({}, 0.125, 1.0),
        ({}, 0.5, 4.0),
        ({}, 0.999, 4.0),
        ({"ramp_share": 1}, 0.5, 2.0),
        ({"ramp_share": 0}, 0.0, 4.0),
        ({"reconstruction_weight": 0}, 0.9, 0.0),
    ],
)
def test_the_weight_rises(
    values: dict[str, float],
    progress: float,
    weight: float,
    make_model: Callable[..., Classifier],
    images: Tensor,
    labels: Tensor,
) -> None:
    found = losses(make_model().eval(), images, labels, progress, **values)
    rest = found["loss"] - found["classification"] - found["tiles"]
    torch.testing.assert_close(rest, weight * found["reconstruction"], atol=1e-6, rtol=1e-3)


def test_untagged_classes_are_not_compared(
    make_model: Callable[..., Classifier], images: Tensor, labels: Tensor
) -> None:
    model = make_model().eval()
    assert losses(model, images, torch.zeros(4, 3))["reconstruction"] == 0
    zeros = torch.zeros(4, 3)
    zeros[2, 1] = 1
    found = losses(model, images, zeros)["reconstruction"]
    (gradient,) = torch.autograd.grad(found, model.head.weight)
    assert gradient[1].abs().max() > 0
    assert gradient[[0, 2]].abs().max() == 0


@pytest.mark.parametrize("size", SIZES)
def test_quarters_of_coordinates(size: tuple[int, int]) -> None:
    """Every pixel is where it was; beyond the image there are zeros."""
    height, width = size
    image = torch.arange(1.0, height * width + 1).reshape(1, 1, height, width)
    grid = (-(-height // 16), -(-width // 16))
    parts = quarters(torch.cat([image, -image]), grid, 16)
    tall, wide = parts.shape[2:]
    starts = [(y, x) for y in (0, grid[0] * 16 - tall) for x in (0, grid[1] * 16 - wide)]
    for number, (top, left) in enumerate(starts):
        for sign, found in ((1, parts[2 * number, 0]), (-1, parts[2 * number + 1, 0])):
            inside = found[: max(0, height - top), : max(0, width - left)]
            expected = image[0, 0, top : top + tall, left : left + wide]
            assert torch.equal(inside, sign * expected)
            assert found.abs().sum() == expected.sum()


def test_merged_maps_of_even_grids_touch() -> None:
    maps = torch.randn(8, 3, 2, 3)
    merged = merge_quarters(maps, (4, 6))
    assert torch.equal(merged[:, :, :2, :3], maps[:2])
    assert torch.equal(merged[:, :, :2, 3:], maps[2:4])
    assert torch.equal(merged[:, :, 2:, :3], maps[4:6])
    assert torch.equal(merged[:, :, 2:, 3:], maps[6:])


def test_a_middle_cell_is_the_mean_of_four() -> None:
    maps = torch.zeros(4, 1, 1, 1)
    maps[:, 0, 0, 0] = torch.tensor([1.0, 2.0, 4.0, 9.0])
    assert merge_quarters(maps, (1, 1)).item() == 4


def test_a_grid_that_quarters_do_not_have_is_named() -> None:
    with pytest.raises(ValueError, match=r"\(3, 2\) cells, but \(2, 2\) are needed"):
        merge_quarters(torch.zeros(4, 1, 3, 2), (4, 4))
