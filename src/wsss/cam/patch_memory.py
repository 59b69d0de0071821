"""How far each patch of an image is from all patches of good images."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, PositiveInt

from wsss.checks import full_key
from wsss.registry import CAM_METHODS
from wsss.seeding import generator
from wsss.settings import Named

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.models.classifier import Classifier

__all__ = ["PatchMemory", "PatchMemorySettings", "coreset", "nearest_distances"]

BLOCK = 4096
"""Patches whose distances are computed at once."""


class PatchMemorySettings(Named):
    """What a patch is, and how many of good images are remembered."""

    name: Literal["patch_memory"] = "patch_memory"
    stages: tuple[PositiveInt, ...] = Field(default=(2, 3), min_length=1)
    """Stages of the backbone whose features make up a patch, 1 to 4; the map has the grid of the
    finest of them."""
    neighbourhood: PositiveInt = 3
    """Side of the square of cells over which features are averaged; odd."""
    size: PositiveInt = 2000
    """Patches in the memory."""
    candidates: PositiveInt = 20000
    """Patches of good images, drawn at random, of which the memory is chosen."""
    held_out: float = Field(default=0.25, gt=0, lt=1)
    """Share of the good images that tell which distances are usual, and are not remembered."""
    usual: float = Field(default=0.99, gt=0, lt=1)
    """Share of the patches of held-out good images whose score is 0."""
    reach: float = Field(default=1.0, gt=0)
    """The score is 1 at a distance that exceeds the usual one by this share of it."""


def nearest_distances(patches: "Tensor", memory: "Tensor") -> "Tensor":
    """(N, D) patches and (M, D) memory to the (N,) Euclidean distances of the nearest.

    Example:
        >>> import torch
        >>> nearest_distances(torch.tensor([[0.0, 3.0]]), torch.tensor([[4.0, 0.0], [0.0, 1.0]]))
        tensor([2.])
    """
    import torch

    lengths = memory.square().sum(dim=1)
    found = [
        torch.addmm(lengths, block, memory.T, alpha=-2).amin(dim=1) + block.square().sum(dim=1)
        for block in torch.split(patches, BLOCK)
    ]
    return torch.cat([patches.new_zeros(0), *found]).clamp_min(0).sqrt()


def coreset(patches: "Tensor", size: int) -> "Tensor":
    """(size,) int64 rows that leave no patch far from all of them.

    Each is the patch that is farthest from those before it, the lowest row on ties; the first is
    the one that is farthest from the mean.

    Args:
        patches: (N, D) float32.
        size: how many are wanted; all N, if there are no more.

    References:
        Sener and Savarese, ICLR 2018; in PatchCore (Roth et al., CVPR 2022).

    Example:
        >>> import torch
        >>> coreset(torch.tensor([[0.0], [1.0], [9.0], [10.0]]), 2).tolist()
        [0, 3]
    """
    import torch

    if size >= len(patches):
        return torch.arange(len(patches), device=patches.device)
    lengths = patches.square().sum(dim=1)
    distances = (patches - patches.mean(dim=0)).square().sum(dim=1)
    chosen = [int(distances.argmax())]
    distances = torch.full_like(distances, float("inf"))
    for _ in range(size - 1):
        last = chosen[-1]
        to_last = torch.addmv(lengths, patches, patches[last], alpha=-2) + lengths[last]
        distances = torch.minimum(distances, to_last)
        distances[last] = -1
        chosen.append(int(distances.argmax()))
    return torch.tensor(chosen, device=patches.device)


def _some(patches: "Tensor", most: int, rng: np.random.Generator) -> "Tensor":
    """(N, D) to no more than so many rows, drawn at random, in order."""
    import torch

    if len(patches) <= most:
        return patches
    rows = np.sort(rng.choice(len(patches), most, replace=False))
    return patches[torch.from_numpy(rows).to(patches.device)]


@CAM_METHODS.register(PatchMemorySettings)
class PatchMemory:
    """A map of what no good image shows, for an image with a tag (after PatchCore).

    Channels are divided by their spread over good images. Distances to the nearest remembered
    patch are held against those of good images that are not remembered: up to what nearly all of
    their patches have the score is 0, so that a good image stays near 0. All tags of an image have
    the same map; the refiner `fusion` puts it together with those of classes.
    """

    needs_gradients = False
    comparable: Literal[True] = True

    def __init__(self, settings: PatchMemorySettings) -> None:
        if settings.neighbourhood % 2 == 0:
            raise ValueError(
                f"{full_key('method.neighbourhood')} is {settings.neighbourhood}, but must be odd, "
                "so that it has a middle; take 3 or 5"
            )
        self.settings = settings
        self._memory: Tensor | None = None
        self._spread: Tensor | None = None
        self._usual = 0.0

    def learn(
        self, model: "Classifier", good: "Iterable[Iterable[Tensor]]", count: int, rng_seed: int
    ) -> None:
        """Remember patches of good images; see `LearningCamMethod`."""
        settings = self.settings
        if count < 2:
            raise ValueError(
                f"{full_key('method')}: patch_memory learns from training images without a tag, "
                f"one to remember and one to compare with it, but there are {count}; add images "
                "that show none of the classes (of a folder: in a sub-folder named as "
                "dataset.empty_tag), or leave this method out"
            )
        rng = generator(rng_seed, "patch_memory")
        order = rng.permutation(count)
        n_compared = min(count - 1, max(1, round(settings.held_out * count)))
        compared, remembered = self._drawn(model, good, order, n_compared, rng)
        spread = remembered.std(dim=0)  # of a channel that good images hardly use it says nothing
        spread = spread.clamp_min(max(0.1 * float(spread.mean()), 1e-6))
        self._spread = spread * remembered.shape[1] ** 0.5
        remembered = remembered / self._spread
        self._memory = remembered[coreset(remembered, settings.size)]
        usual = np.quantile(self._distances(compared).cpu().numpy(), settings.usual)
        self._usual = max(float(usual), 1e-6)

    def _drawn(
        self,
        model: "Classifier",
        good: "Iterable[Iterable[Tensor]]",
        order: np.ndarray,
        n_compared: int,
        rng: np.random.Generator,
    ) -> "tuple[Tensor, Tensor]":
        """(N, D) random patches of the first images of an order, and of the others."""
        import torch

        parts: tuple[list[Tensor], list[Tensor]] = ([], [])
        compared = set(order[:n_compared].tolist())
        for index, views in enumerate(good):
            inside = index in compared
            n_images = n_compared if inside else len(order) - n_compared
            most = -(-self.settings.candidates // n_images)
            of_image = []
            for view in views:
                stages = model(view, with_stages=True).stages
                of_image.append(_some(self._patches(stages).flatten(2)[0].T, most, rng))
            parts[not inside].append(_some(torch.cat(of_image), most, rng))
        return torch.cat(parts[0]), torch.cat(parts[1])

    def __call__(
        self, model: "Classifier", images: "Tensor", rows: "Tensor", columns: "Tensor"
    ) -> "tuple[Tensor, Tensor]":
        import torch

        del columns
        output = model(images, with_stages=True)
        wanted = torch.zeros(len(images), dtype=torch.bool, device=rows.device)
        wanted[rows] = True
        at = (wanted.cumsum(0) - 1)[rows]
        patches = self._patches(tuple(stage[wanted] for stage in output.stages))
        count, _, height, width = patches.shape
        distances = self._distances(patches.permute(0, 2, 3, 1).flatten(0, 2))
        excess = distances.view(count, height, width) / self._usual - 1
        return (excess / self.settings.reach).clamp(0, 1)[at], output.logits

    def _distances(self, patches: "Tensor") -> "Tensor":
        """(N, D) to (N,), after the channels have been divided by their spread."""
        if self._memory is None or self._spread is None:
            raise ValueError("patch_memory has seen no good image; call learn first")
        return nearest_distances(patches / self._spread, self._memory)

    def _patches(self, stages: "tuple[Tensor, ...]") -> "Tensor":
        """(B, D, h, w) float32 of the chosen stages, each averaged over neighbours."""
        import torch
        from torch.nn import functional

        wanted, side = self.settings.stages, self.settings.neighbourhood
        if max(wanted) > len(stages):
            raise ValueError(
                f"{full_key('method.stages')} has {max(wanted)}, but this backbone has stages 1 to "
                f"{len(stages)}; take some of them"
            )
        chosen = [stages[number - 1].float() for number in wanted]
        grid = max((tuple(stage.shape[2:]) for stage in chosen), key=lambda size: size[0] * size[1])
        parts = []
        for stage in chosen:
            if side > 1:
                stage = functional.avg_pool2d(
                    stage, side, stride=1, padding=side // 2, count_include_pad=False
                )
            if tuple(stage.shape[2:]) != grid:
                stage = functional.interpolate(stage, grid, mode="bilinear")
            parts.append(stage)
        return torch.cat(parts, dim=1)
