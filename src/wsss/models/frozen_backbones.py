"""Backbones that never learn: shared by all copies of a network, and part of none of its states."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wsss.loading.normalisation import Normalisation
from wsss.models.timm_backbone import TimmBackbone
from wsss.models.weights import load_matching

__all__ = ["FrozenBackbones"]


class FrozenBackbones(nn.Module):
    """Images to the maps of blocks, without a gradient, and always in eval mode.

    The backbones go where the module goes, but are no modules of it: an optimiser, a checkpoint
    and the best epoch's copy do not hold their weights, and a copy of the module, such as that
    of a running mean, has the same backbones.

    Args:
        backbones: one or more.
        normalisation: of the images; each backbone is given them in its own.
    """

    output_stride = 1

    def __init__(self, backbones: Sequence[TimmBackbone], normalisation: Normalisation) -> None:
        super().__init__()
        self._backbones = tuple(backbone.requires_grad_(False).eval() for backbone in backbones)
        self._normalisation = normalisation

    def __len__(self) -> int:
        return len(self._backbones)

    def __getitem__(self, index: int) -> TimmBackbone:
        return self._backbones[index]

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to the images alone: there is no stage of it that could learn."""
        return [images]

    def blocks(self, images: Tensor) -> list[list[Tensor]]:
        """Of each backbone the (B, D_i, h_i, w_i) maps of its blocks, and its features as the last.

        Those of a convolutional network are the maps of its stages.
        """
        found = []
        with torch.no_grad():
            for backbone in self._backbones:
                own = backbone.normalisation.convert(images, self._normalisation)
                features, blocks = backbone.with_blocks(own)
                found.append([*blocks[:-1], features])
        return found

    @property
    def weights_source(self) -> str:
        """As of `TimmBackbone`, of all of them."""
        return ", ".join(backbone.weights_source for backbone in self._backbones)

    def tensors(self) -> dict[str, Tensor]:
        """All weights and buffers, by the number of the backbone and their names in timm."""
        return {
            f"{number}.{name}": tensor
            for number, backbone in enumerate(self._backbones)
            for name, tensor in backbone.net.state_dict().items()
        }

    def load(self, weights: Mapping[str, Tensor], source: str) -> None:
        """Fill all backbones with what `tensors` gave; see `load_matching`."""
        for number, backbone in enumerate(self._backbones):
            prefix = f"{number}."
            own = {
                name.removeprefix(prefix): tensor
                for name, tensor in weights.items()
                if name.startswith(prefix)
            }
            load_matching(backbone.net, own, source)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        for backbone in self._backbones:
            backbone._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def __deepcopy__(self, memo: dict[int, Any]) -> "FrozenBackbones":
        return self
