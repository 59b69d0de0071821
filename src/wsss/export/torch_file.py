"""Files of torch.export, which PyTorch alone runs: no code of wsss is needed."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from wsss.export.graphs import Graph, trace

__all__ = ["ABOUT", "run_torch", "write_torch"]

ABOUT = "wsss.json"
"""The name of the description among a file's extra files."""


def write_torch(graph: Graph, texts: Mapping[str, str], file: Path) -> None:
    """Write a .pt2 file.

    Args:
        graph: to write.
        texts: become the extra file wsss.json.
        file: to write.

    Raises:
        ValueError: the network cannot be traced.
    """
    import torch

    program = trace(graph)
    for node in program.graph.nodes:  # which lines of which files on this machine they came from
        node.meta.pop("stack_trace", None)
    torch.export.save(program, file, extra_files={ABOUT: json.dumps(texts)})


def run_torch(file: Path) -> Callable[..., list[np.ndarray]]:
    """A function of the file's inputs, in their order."""
    import torch

    module = torch.export.load(file).module()

    def run(*inputs: np.ndarray) -> list[np.ndarray]:
        with torch.no_grad():
            found = module(*map(torch.from_numpy, inputs))
        return [item.numpy() for item in (found if isinstance(found, tuple) else (found,))]

    return run
