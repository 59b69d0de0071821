"""Weights files: read without unpickling code, checked against the network before use."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

__all__ = ["load_matching", "read_weights"]


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict from .safetensors, or from a torch file with weights_only=True.

    A dict nested under 'state_dict' or 'model' is unwrapped, a leading 'module.' dropped.

    Raises:
        ValueError: there is no such file, or it is not a state dict.
    """
    if not path.is_file():
        raise ValueError(f"weights file {path} does not exist; give a .safetensors or .pth file")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise ValueError(f"weights file {path} is not a safetensors file: {error}") from None
    except Exception as error:  # torch raises many types for a file that is not its own
        raise ValueError(f"weights file {path} can not be read as plain tensors: {error}") from None
    for key in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not all(torch.is_tensor(one) for one in loaded.values()):
        raise ValueError(f"weights file {path} holds no state dict (names to tensors)")
    return {name.removeprefix("module."): tensor for name, tensor in loaded.items()}


def load_matching(module: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Load every tensor that `module` has from `weights`; what is left over there is not used.

    Raises:
        ValueError: a tensor is missing or has another shape; the text names the first few.
    """
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
    module.load_state_dict({name: weights[name] for name in wanted}, strict=False)


def _few(items: list[str]) -> str:
    return ", ".join(items[:4]) + (", …" if items[4:] else "")
