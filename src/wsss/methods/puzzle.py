"""Puzzle-CAM: the maps of an image's quarters must be those of the image."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field, NonNegativeFloat

from wsss.methods.base import Method
from wsss.methods.objective import MethodSettings, present
from wsss.registry import METHODS
from wsss.seeding import Step

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.methods.losses import Losses
    from wsss.methods.objective import Objective
    from wsss.models.classifier import Classifier

__all__ = ["Puzzle", "PuzzleSettings", "merge_quarters", "quarters"]


class PuzzleSettings(MethodSettings):
    name: Literal["puzzle"] = "puzzle"
    reconstruction_weight: NonNegativeFloat = 4
    """Weight of the difference between the maps of the image and of its quarters, at its
    highest."""
    ramp_share: float = Field(default=0.5, ge=0, le=1)
    """Share of all steps in which that weight rises linearly from 0; 0 is at once."""


@METHODS.register(PuzzleSettings)
class Puzzle(Method[PuzzleSettings]):
    """Quarters show parts of an object that the whole image can do without.

        L = C(pool(M), y) + C(pool(M'), y) + alpha mean(|M - M'| y)

    with M the raw maps of the image, neither cut at 0 nor divided by anything, and M' those of
    its four quarters put together again. The mean is over all classes, tagged or not.

    Quarters consist of whole cells, so that the two maps have the same grid. Where the number of
    cells is odd, quarters share the middle ones, which are means of both; an image that does not
    fill its last cells is padded with zeros, as the network does itself.

    References:
        Puzzle-CAM (Jo and Yu, ICIP 2021), with quarters that touch.
    """

    def __call__(
        self,
        model: "Classifier",
        images: "Tensor",
        labels: "Tensor",
        objective: "Objective",
        step: Step,
    ) -> "Losses":
        from wsss.models.pooling import pool

        output = model(images)
        grid = (output.maps.shape[2], output.maps.shape[3])
        parts = quarters(images, grid, model.backbone.output_stride)
        merged = merge_quarters(model(parts).maps, grid)
        losses = objective(output, [(1.0, labels)], self.settings)
        tiles = objective.classification(pool(merged, model.head_settings), labels)
        tags = present(labels)[:, :, None, None]
        differences = (output.maps.float() - merged.float()).abs() * tags
        losses.add("tiles", tiles)
        losses.add("reconstruction", differences.mean(), self.weight(step.progress))
        return losses

    def weight(self, progress: float) -> float:
        """alpha, when this share of all steps is done.

        Example:
            >>> [Puzzle(PuzzleSettings()).weight(progress) for progress in (0, 0.25, 0.5, 0.9)]
            [0.0, 2.0, 4.0, 4.0]
        """
        full, ramp = self.settings.reconstruction_weight, self.settings.ramp_share
        return full * min(1.0, progress / ramp) if ramp else full


def quarters(images: "Tensor", grid: tuple[int, int], stride: int) -> "Tensor":
    """Quarters of ceil(h / 2) by ceil(w / 2) cells, those at the lower right flush with the end.

    Args:
        images: (B, C, H, W).
        grid: (h, w) cells of their maps.
        stride: pixels per cell; images are padded or cut to h and w times that.

    Returns:
        (4 B, C, H', W'): first the upper left quarters of all images, then the upper right, the
        lower left and the lower right ones.
    """
    import torch
    from torch.nn import functional

    height, width = (cells * stride for cells in grid)
    images = functional.pad(images, (0, width - images.shape[3], 0, height - images.shape[2]))
    tall, wide = (-(-cells // 2) * stride for cells in grid)
    return torch.cat(
        [
            images[:, :, top : top + tall, left : left + wide]
            for top in (0, height - tall)
            for left in (0, width - wide)
        ]
    )


def merge_quarters(maps: "Tensor", grid: tuple[int, int]) -> "Tensor":
    """Maps of quarters to those of images.

    Args:
        maps: (4 B, L, ceil(h / 2), ceil(w / 2)) in the order of `quarters`.
        grid: (h, w).

    Returns:
        (B, L, h, w).

    Raises:
        ValueError: the maps are of another size.
    """
    expected = tuple(-(-cells // 2) for cells in grid)
    if tuple(maps.shape[2:]) != expected:
        raise ValueError(
            f"maps of quarters have {tuple(maps.shape[2:])} cells, but {expected} are needed for "
            f"a grid of {grid}; the method puzzle needs a backbone whose map has one "
            "cell per output_stride pixels"
        )
    upper_left, upper_right, lower_left, lower_right = maps.chunk(4)
    upper = _join(upper_left, upper_right, grid[1], 3)
    lower = _join(lower_left, lower_right, grid[1], 3)
    return _join(upper, lower, grid[0], 2)


def _join(first: "Tensor", second: "Tensor", length: int, axis: int) -> "Tensor":
    """`length` cells along an axis; the cell that both have is their mean."""
    import torch

    own = length // 2
    if length % 2 == 0:
        return torch.cat([first, second], dim=axis)
    shared = (first.narrow(axis, own, 1) + second.narrow(axis, 0, 1)) / 2
    return torch.cat([first.narrow(axis, 0, own), shared, second.narrow(axis, 1, own)], dim=axis)
