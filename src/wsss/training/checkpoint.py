"""Checkpoints that survive a kill: written whole, read without unpickling code."""

from pathlib import Path
from typing import Any

import torch

from wsss.artifacts import atomic_path

__all__ = ["load_checkpoint", "save_checkpoint"]


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values, atomically."""
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint to the CPU; None when there is none. Raises ValueError for a bad file."""
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for a file that is not its own
        raise ValueError(f"checkpoint {path} cannot be read: {error}; delete it") from None
    return state
