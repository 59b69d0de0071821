"""Fixtures for all tests."""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import numpy as np
import pytest

if TYPE_CHECKING:
    import torch

hypothesis.settings.register_profile("any machine", deadline=None)  # a loaded one is slow
hypothesis.settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """What a test, or the code that it runs in this process, sets in the environment ends there."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def warnings_are_heard_afterwards() -> Iterator[None]:
    """No code that a test runs in this process silences what the project says from then on."""
    yield
    loggers = logging.root.manager.loggerDict
    ours = [log for name, log in loggers.items() if name.split(".")[0] == "wsss"]
    silent = [
        log.name
        for log in ours
        if isinstance(log, logging.Logger) and (log.disabled or log.level > logging.WARNING)
    ]
    assert not silent, f"the test left these loggers silent: {silent}"


@pytest.fixture(scope="session")
def cuda() -> "torch.device":
    """A GPU, or the test is skipped."""
    torch = pytest.importorskip("torch", reason="needs PyTorch and a GPU that it can use")
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU that PyTorch can use (CUDA)")
    return torch.device("cuda")


@pytest.fixture(scope="session")
def largest_tensor() -> Callable[[], Any]:
    """Makes a context that notes, as `values`, how many the largest tensor has that anything makes.

    Pixels as they are on disk are left out.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Largest(TorchDispatchMode):
        values = 0

        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = function(*args, **kwargs or {})
            for tensor in tree_leaves(result):
                if isinstance(tensor, torch.Tensor) and tensor.dtype != torch.uint8:
                    self.values = max(self.values, tensor.numel())
            return result

    return Largest


Cell = tuple[int, ...]


@pytest.fixture(scope="session")
def on_the_way() -> Callable[[Cell, Cell], list[Cell]]:
    """Gives the cells nearer than 1 to the segment between two, by projecting all onto it."""

    def found(first: Cell, other: Cell) -> list[Cell]:
        start, step = np.array(first, float), np.subtract(other, first).astype(float)
        low, high = np.minimum(first, other), np.maximum(first, other)
        cells: list[Cell] = []
        for y in range(low[0], high[0] + 1):
            for x in range(low[1], high[1] + 1):
                along = np.clip(np.dot((y, x) - start, step) / np.dot(step, step), 0, 1)
                if np.linalg.norm((y, x) - start - along * step) < 1 - 1e-9:
                    cells.append((y, x))
        return cells

    return found


@pytest.fixture(scope="session")
def colour_segmenter() -> Callable[..., Path]:
    """Writes models/segmenter below a folder: a network that knows red, green and the rest.

    Of each pixel by itself: red is class 1, green class 2, and blue, which stands for the
    background, 0. Images whose sides are multiples of 32 are not resized on the way.
    """

    def write(root: Path, *, has_background: bool = True) -> Path:
        import torch

        from wsss.artifacts import write_json
        from wsss.config.segmentation import SegmenterSettings
        from wsss.segment.network import make_segmenter, save_segmenter

        folder = root / "models/segmenter"
        folder.mkdir(parents=True)
        backbone = {"model_name": "resnet10t", "mean": [0.0] * 3, "std": [1.0] * 3}
        known = {"class_names": ["red", "green"], "backbone": backbone}
        write_json(root / "classifier/model.json", known)
        settings = SegmenterSettings(
            arch="unet_small", encoder_weights="none", arch_kwargs={"widths": [3, 3]}
        )
        model = make_segmenter(settings, root / "classifier", has_background=has_background)
        net: Any = model.net
        with torch.no_grad():
            for stage in (net.encoder.stages[0], net.decoder[0]):
                for layer in stage:
                    if isinstance(layer, torch.nn.Conv2d):
                        layer.weight.zero_()
                        layer.weight[range(3), range(3), 1, 1] = 1
            net.head.weight.zero_()
            net.head.bias.zero_()
            net.head.weight[[1, 2, 0], [0, 1, 2], 0, 0] = 20
        save_segmenter(model, folder)
        return folder

    return write
