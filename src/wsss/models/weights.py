"""Weights files: read without unpickling code, checked against the network before use."""

import logging
import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from wsss.artifacts import is_of_the_system

__all__ = ["load_matching", "matching", "read_weights", "with_positions_for"]

log = logging.getLogger(__name__)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict from .safetensors, or from a torch file with weights_only=True.

    A dict nested under 'state_dict' or 'model' is unwrapped, a leading 'module.' dropped.

    Raises:
        ValueError: there is no such file, or it is not a state dict.
    """
    if not path.is_file():
        raise ValueError(f"weights file {path} does not exist; give a .safetensors or .pth file")
    if path.suffix == ".params":
        raise ValueError(
            f"weights file {path} is MXNet's; make it one that can be used with "
            f"`wsss convert-weights resnet38d {shlex.quote(str(path))} "
            f"{shlex.quote(str(path.with_suffix('.safetensors')))}`"
        )
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise ValueError(f"weights file {path} is not a safetensors file: {error}") from None
    except Exception as error:  # torch raises many types for a file that is not its own
        if is_of_the_system(error):
            raise
        raise ValueError(f"weights file {path} cannot be read as plain tensors: {error}") from None
    for key in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not all(
        torch.is_tensor(tensor) for tensor in loaded.values()
    ):
        raise ValueError(f"weights file {path} holds no state dict (names to tensors)")
    return {name.removeprefix("module."): tensor for name, tensor in loaded.items()}


def load_matching(module: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Load every tensor that `module` has from `weights`; what is left over there is not used.

    Raises:
        ValueError: a tensor is missing or has another shape; the text names the first few.
    """
    module.load_state_dict(matching(module, weights, source), strict=False)


def matching(module: nn.Module, weights: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Those of `weights` that `module` has, which must be all that it has; see `load_matching`."""
    wanted = {
        name: tensor
        for name, tensor in module.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    missing = [name for name in wanted if name not in weights]
    wrong = [
        f"{name}: {tuple(weights[name].shape)} in the file, {tuple(tensor.shape)} in the network"
        for name, tensor in wanted.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    if missing or wrong:
        parts = []
        if missing:
            parts.append(f"{len(missing)} of {len(wanted)} tensors are missing: {_few(missing)}")
        if wrong:
            parts.append(f"{len(wrong)} have another shape: {_few(wrong)}")
        raise ValueError(
            f"{source} does not fit {type(module).__name__}: {'; '.join(parts)}. "
            "Check the model's name and its keyword arguments against the file"
        )
    return {name: weights[name] for name in wanted}


def with_positions_for(net: Any, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`weights` with position embeddings that fit a transformer's own grid of patches.

    They are interpolated bicubically, as timm does for its own; what stands ahead of the grid,
    such as a class token's, stays as it is. Embeddings of no square grid are left alone, for
    `load_matching` to refuse.

    Args:
        net: a timm model, with or without `pos_embed` (1, prefix + h w, D).
        weights: a state dict.
    """
    own, given = getattr(net, "pos_embed", None), weights.get("pos_embed")
    grid = getattr(getattr(net, "patch_embed", None), "grid_size", None)
    if not torch.is_tensor(own) or own.ndim != 3 or given is None or grid is None:
        return dict(weights)
    prefix = own.shape[1] - grid[0] * grid[1]
    cells = given.shape[1] - prefix if given.ndim == 3 else 0
    side = math.isqrt(max(0, cells))
    same_width = given.ndim == 3 and given.shape[::2] == own.shape[::2]
    if not same_width or prefix < 0 or side == 0 or side**2 != cells or own.shape == given.shape:
        return dict(weights)
    log.info("position embeddings of %d x %d patches are resized to %d x %d", side, side, *grid)
    resized = resample_abs_pos_embed(
        given, list(grid), old_size=[side, side], num_prefix_tokens=prefix
    )
    return {**weights, "pos_embed": resized}


def _few(items: list[str]) -> str:
    return ", ".join(items[:4]) + (", …" if items[4:] else "")
