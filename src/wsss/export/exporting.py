"""From a trained network to one file in a format, compared with PyTorch before it is in place."""

import importlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wsss.checks import did_you_mean
from wsss.export.reading import Found, find_network
from wsss.prediction.description import Description

if TYPE_CHECKING:
    from wsss.export.graphs import Graph

__all__ = ["FORMATS", "TOLERANCE", "Exported", "export_model"]

FORMATS = {
    "onnx": (".onnx", "onnx_file", "write_onnx", "run_onnx"),
    "openvino": (".xml", "openvino_files", "write_openvino", "run_openvino"),
    "torch_export": (".pt2", "torch_file", "write_torch", "run_torch"),
}
"""By name the suffix, and the module with what writes and what runs a file."""

TOLERANCE, RARE = 1e-3, 1e-2
"""By how much a probability may differ from PyTorch's, and the share of those that may more: a
maximum of two nearly equal values may be either."""

_SIZES = ((2, 64, 96), (1, 75, 61), (1, 128, 160))
"""Images, height and width that a file is compared on: in one session, as they may vary."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        description: that is in the file.
        difference: the greatest one of a value from PyTorch's, on generated images.
        runs: of the network for one image.
        notes: what the model does in wsss and the file does not.
    """

    description: Description
    difference: float
    runs: int
    notes: tuple[str, ...]


def export_model(
    place: str | Path,
    file: Path,
    format: str = "onnx",
    *,
    scales: Sequence[float] | None = None,
    flip: bool | None = None,
    scores: Mapping[str, Any] | None = None,
) -> Exported:
    """Write a trained network with all that stands before and behind it into one file.

    A segmenter takes images, (B, H, W, 3) uint8 RGB of any number and size, and gives `probs`,
    (B, K + 1, H, W) float32; a second input `present`, (B, K + 1) bool, says which classes an image
    may have. A classifier takes the images and gives `probs`, (B, K) float32, and `cams`,
    (B, K, H, W) float32 in [0, 1].

    Args:
        place: a folder models/segmenter or models/classifier, a project (its segmenter), a package
            of `wsss models register`, or models:/NAME@ALIAS of MLflow.
        file: to write; its suffix is that of the format.
        format: one of `FORMATS`.
        scales: of the image sides that are averaged; None is as the project predicts.
        flip: whether mirrored images count, too; None is as the project predicts.
        scores: of the model, by split and metric, which go into the file; None is those that are
            known of a package.

    Raises:
        ImportError: an extra is not installed.
        ValueError: there is no network, it cannot be exported, or what was written gives other
            numbers; nothing is written then.
    """
    if format not in FORMATS:
        raise ValueError(f"there is no format '{format}'; {did_you_mean(format, FORMATS)}")
    suffix, module, write, run = FORMATS[format]
    if file.suffix != suffix:
        raise ValueError(
            f"a file of the format {format} ends in {suffix}, but is to be {file.name}; name it "
            f"{file.with_suffix(suffix).name}"
        )
    for scale in scales or ():
        if scale <= 0:
            raise ValueError(f"a scale is {scale:g}; give scales above 0, such as 1")
    with tempfile.TemporaryDirectory(prefix="wsss-") as fetched:
        found = find_network(place, Path(fetched), scales=scales, flip=flip)
    if scores is not None:
        found = replace(found, description=replace(found.description, scores=dict(scores)))
    functions = importlib.import_module(f"wsss.export.{module}")

    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".wsss-", dir=file.parent) as folder:
        written = Path(folder) / file.name
        getattr(functions, write)(found.graph, found.description.texts(), written)
        difference = _difference(found.graph, getattr(functions, run)(written), format)
        # beside an .xml lies its .bin, which has to be there first
        for part in sorted(Path(folder).iterdir(), key=lambda part: part.suffix != ".bin"):
            os.replace(part, file.parent / part.name)
    return Exported(found.description, difference, _runs(found), found.notes)


def _runs(found: Found) -> int:
    settings = found.description.settings
    runs: int = len(settings["scales"]) * (1 + settings["flip"])
    return runs


def _difference(graph: "Graph", run: Any, format: str) -> float:
    """Compare a file with the graph that it came from. Raises ValueError where they differ."""
    import torch
    from torch.nn import functional

    draw = torch.Generator().manual_seed(1)
    greatest = 0.0
    for count, height, width in _SIZES:
        coarse = torch.rand(count, 3, 6, 8, generator=draw) * 255
        images = functional.interpolate(coarse, (height, width), mode="bilinear")
        images = images.permute(0, 2, 3, 1).to(torch.uint8).contiguous()
        present = torch.rand(count, graph.num_classes, generator=draw) > 0.3
        present[:, 0] = True
        inputs = (images, present)[: len(graph.input_names)]
        with torch.no_grad():
            wanted = graph(*inputs)
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        given = run(*(item.numpy() for item in inputs))
        if len(given) < len(wanted):
            raise ValueError(f"the file has {len(given)} outputs of {len(wanted)}")
        for name, expected, values in zip(graph.output_names, wanted, given):
            apart = np.abs(expected.numpy() - values)
            greatest = max(greatest, float(apart.max()))
            far = ~(apart <= TOLERANCE)  # of NaN, too
            if apart.shape != expected.shape or far.mean() > RARE:
                raise ValueError(
                    f"the file gives other numbers than PyTorch: {name} of {count} images of "
                    f"{height} x {width} pixels differ by up to {apart.max():.2g}, and "
                    f"{far.mean():.0%} of them by more than {TOLERANCE:g}; nothing "
                    f"is written. Take another format than {format}: "
                    f"{', '.join(name for name in FORMATS if name != format)}"
                )
    return greatest
