"""Checkpoints that survive a kill: written whole, read without unpickling code."""

from pathlib import Path
from typing import Any

import torch

from wsss.artifacts import atomic_path, is_of_the_system

__all__ = ["load_checkpoint", "save_checkpoint", "what_is_done"]


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values, atomically. Raises OSError when the disk does not take it."""
    with atomic_path(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError:  # it does not say what the disk said: ask again
            with temporary.open("ab") as file:
                file.write(bytes(1_000_000))
            raise


def what_is_done(path: Path) -> str:
    """Say what is behind a checkpoint of `fit`; "" for a file that is none, or not there."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        epochs = int(state["epoch"]) + 1
        steps = state["part"]["steps"] if state["part"] else 0
    except Exception:  # torch raises many types
        return ""
    part = f"{steps} steps of epoch {epochs + 1}" if steps else ""
    return " and ".join(filter(None, [f"epochs 1 to {epochs}" * bool(epochs), part]))


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint to the CPU; None when there is none. Raises ValueError for a bad file."""
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for a file that is not its own
        if is_of_the_system(error):
            raise
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"checkpoint {path} cannot be read: {reason}; delete it") from None
    return state
