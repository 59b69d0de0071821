"""Networks with all that stands before and behind them, as one graph for images of any size.

A graph takes images as they are, 8-bit RGB, and gives probabilities at their size: what the
pipeline does in between (normalisation, scales and flips, sizes that strides divide, the softmax,
the way back) is in it.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsss.models.pooling import peaks
from wsss.segment.predict import SIDE_MULTIPLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wsss.models.classifier import Classifier
    from wsss.segment.network import Segmenter

__all__ = [
    "NETWORK",
    "ClassifierGraph",
    "Graph",
    "NetworkGraph",
    "SegmenterGraph",
    "Traceable",
    "outlined",
    "trace",
    "whole_side",
]

EXAMPLE = (2, 100, 141)
"""Images, height and width that a graph is traced with; none of them is fixed by it."""


NETWORK = "wsss::Network"
"""The operator that stands for the network in a graph of `outlined`, by domain and name."""


class Traceable(nn.Module):
    """A module that can be traced.

    Attributes:
        input_names: of the tensors that it takes, in their order.
        output_names: of those that it gives.
        num_classes: columns of the second input, where there is one.
        multiple: sides of views are this times a whole number, and
        extra: so many pixels more.
        axes: of the first input those that may have any length.
    """

    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    num_classes: int
    multiple: int
    extra: int = 0
    axes: tuple[int, ...] = (0, 1, 2)

    def examples(self) -> tuple[Tensor, ...]:
        """Inputs to trace it with."""
        count = EXAMPLE[0]
        images = torch.randint(
            0, 256, (*EXAMPLE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
        )
        present = torch.ones(count, self.num_classes, dtype=torch.bool)
        return (images, present)[: len(self.input_names)]


class Graph(Traceable, ABC):
    """A network with all that stands before and behind it, for images as they are."""

    @abstractmethod
    def network(self, view: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, h, w) normalised images to what is made of them in one run of the network."""

    @abstractmethod
    def shapes(self, view: Tensor) -> list[list[Any]]:
        """Those of what `network` gives."""


class SegmenterGraph(Graph):
    """(B, H, W, 3) uint8 images to (B, K + 1, H, W) float32 probabilities.

    As `wsss.segment.predict.predict_probs`, with normalisation. The second input, (B, K + 1) bool,
    is its `present`: classes that an image may have.

    Args:
        model: in eval mode, on the CPU; its layers may be replaced by equivalent ones.
        scales: of the image sides.
        flip: average with the mirrored image.
    """

    input_names = ("images", "present")
    output_names = ("probs",)

    def __init__(self, model: "Segmenter", scales: Sequence[float], flip: bool) -> None:
        super().__init__()
        self.multiple = SIDE_MULTIPLE
        _undo_poolings_plainly(model)
        _pad_plainly(model, self.multiple)
        self.model = model.requires_grad_(False)
        self.scales, self.flip = tuple(scales), flip
        self.num_classes = len(model.spec.class_names) + 1

    def forward(self, images: Tensor, present: Tensor) -> Tensor:
        """See the class."""
        pixels = self.model.normalisation(images.permute(0, 3, 1, 2))
        height, width = pixels.shape[2:]
        size = (height, width)
        views = []
        for scale in self.scales:
            view = _resized(pixels, scale, self.multiple)
            probs = self._probs(view, present)
            if self.flip:
                probs = (probs + self._probs(view.flip(-1), present).flip(-1)) / 2
            views.append(functional.interpolate(probs, size, mode="bilinear", align_corners=False))
        return _mean(views)

    def network(self, view: Tensor) -> tuple[Tensor, ...]:
        """The logits, (B, K + 1, h, w)."""
        return (self.model(view),)

    def shapes(self, view: Tensor) -> list[list[Any]]:
        """See `Graph.shapes`."""
        return [[view.shape[0], self.num_classes, *view.shape[2:]]]

    def _probs(self, view: Tensor, present: Tensor) -> Tensor:
        (logits,) = self.network(view)
        return logits.masked_fill(~present[:, :, None, None], -torch.inf).softmax(dim=1)


class ClassifierGraph(Graph):
    """(B, H, W, 3) uint8 images to (B, K) probabilities of classes and (B, K, H, W) maps of them.

    The maps are the class activation maps of `wsss.cam.cam`, summed over scales and flips and each
    divided by its maximum, so that they are in [0, 1]; those of a class that the image does not
    show are noise, as they are stretched, too: look at its probability first.

    Args:
        model: in eval mode, on the CPU; its layers may be replaced by equivalent ones.
        loss: that it was trained with, multi_label or single_label.
        scales: of the image sides.
        flip: add the mirrored image's maps.
        align_corners: of every resize, as of generate_cams.
    """

    input_names = ("images",)
    output_names = ("probs", "cams")

    def __init__(
        self,
        model: "Classifier",
        loss: str,
        scales: Sequence[float],
        flip: bool,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.multiple, self.extra = model.backbone.output_stride, int(align_corners)
        _pad_plainly(model, self.multiple, self.extra)
        self.model, self.loss = model.requires_grad_(False), loss
        self.scales, self.flip, self.align_corners = tuple(scales), flip, align_corners
        self.num_classes = len(model.class_names)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        pixels = self.model.backbone.normalisation(images.permute(0, 3, 1, 2))
        height, width = pixels.shape[2:]
        size = (height, width)
        views, logits = [], []
        for scale in self.scales:
            view = _resized(pixels, scale, self.multiple, self.align_corners)
            maps, of_view = self.network(view)
            logits.append(of_view)
            if self.flip:
                mirrored, of_view = self.network(view.flip(-1))
                maps = maps + mirrored.flip(-1)
                logits.append(of_view)
            views.append(
                functional.interpolate(
                    maps, size, mode="bilinear", align_corners=self.align_corners
                )
            )
        cams, mean = _mean(views), _mean(logits)
        probs = mean.sigmoid() if self.loss == "multi_label" else mean.softmax(dim=1)
        return probs, cams / peaks(cams)

    def network(self, view: Tensor) -> tuple[Tensor, ...]:
        """Maps that are not negative, (B, K, h, w), and logits, (B, K)."""
        found, kept = self.model(view), self.num_classes
        return found.maps[:, :kept].relu(), found.logits[:, :kept]

    def shapes(self, view: Tensor) -> list[list[Any]]:
        """See `Graph.shapes`."""
        cells = [(side - self.extra) // self.multiple + self.extra for side in view.shape[2:]]
        first = [view.shape[0], self.num_classes]
        return [[*first, *cells], first]


class NetworkGraph(Traceable):
    """The network of a graph alone: a view to what `Graph.network` makes of it.

    Args:
        graph: whose network it is.
    """

    input_names = ("view",)
    axes = (0, 2, 3)

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.whole, self.num_classes = graph, graph.num_classes
        self.multiple, self.extra = graph.multiple, graph.extra
        view = self.examples()[0]
        self.output_names = tuple(f"found_{at}" for at in range(len(graph.shapes(view))))

    def examples(self) -> tuple[Tensor, ...]:
        """See `Traceable.examples`."""
        sides = (cells * self.multiple + self.extra for cells in (3, 5))
        return (torch.zeros(EXAMPLE[0], 3, *sides),)

    def forward(self, view: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        for axis in (2, 3):  # which leaves it as it is, and says what divides its sides
            cells = (view.shape[axis] - self.extra) // self.multiple
            view = view.narrow(axis, 0, cells * self.multiple + self.extra)
        return self.whole.network(view)


@contextmanager
def outlined(graph: Graph) -> "Iterator[None]":
    """Let the operator `NETWORK` stand for the network while a graph is traced.

    A graph runs its network for each scale, mirrored and not, and tracing follows each run anew.
    """

    def stand_in(view: Tensor) -> tuple[Tensor, ...]:
        shapes = graph.shapes(view)
        return tuple(
            torch.onnx.ops.symbolic_multi_out(
                NETWORK, (view,), dtypes=[torch.float32] * len(shapes), shapes=shapes, version=1
            )
        )

    graph.network = stand_in  # type: ignore[method-assign]
    try:
        yield
    finally:
        del graph.network


def trace(graph: Traceable) -> Any:
    """A graph as a `torch.export.ExportedProgram`, for any number of images of any size.

    Raises:
        ValueError: the network does what cannot be traced, or fixes a size; the text says what.
    """
    dynamic = torch.export.Dim.DYNAMIC
    first = dict.fromkeys(graph.axes, dynamic)
    shapes: tuple[Any, ...] = (first, {0: dynamic})[: len(graph.input_names)]
    try:
        with torch.no_grad(), _plain_attention():
            return torch.export.export(
                graph.eval(),
                graph.examples(),
                dynamic_shapes=shapes,
                prefer_deferred_runtime_asserts_over_guards=True,
            )
    except Exception as error:  # what cannot be traced raises many types
        reason = str(error).strip().partition("\n\n")[0]
        raise ValueError(
            f"{_named(graph)} cannot be exported, as PyTorch cannot trace it for images of any "
            f"size ({type(error).__name__}: {reason}); the networks of this project and those of "
            "segmentation-models-pytorch on convolutional encoders can: see docs/export.md"
        ) from error


def whole_side(side: int, scale: float, multiple: int, extra: int = 0) -> int:
    """A side times a scale, as `extra` pixels more than the nearest multiple, which is not 0.

    As `round` of Python has it, halves go to even multiples; in whole numbers, which a graph
    computes exactly.

    Args:
        side: pixels; a symbol while a graph is traced.
        scale: above 0.
        multiple: pixels.
        extra: pixels.

    Example:
        >>> whole_side(213, 1.0, 16), whole_side(213, 1.0, 16, 1), whole_side(3, 1.0, 16)
        (208, 209, 16)
    """
    share = Fraction(scale).limit_denominator(10**4)
    unit = multiple * share.denominator
    doubled = 2 * (side * share.numerator - extra * share.denominator)
    # an even number of multiples is left above its half, an odd one at its half already
    passed = (doubled + 3 * unit - 1) // (4 * unit) + (doubled + unit) // (4 * unit)
    cells: Any = torch.sym_max(1, passed)
    whole: int = cells * multiple + extra
    return whole


def _resized(pixels: Tensor, scale: float, multiple: int, align_corners: bool = False) -> Tensor:
    size = [whole_side(side, scale, multiple, int(align_corners)) for side in pixels.shape[2:]]
    return functional.interpolate(
        pixels, size, mode="bilinear", align_corners=align_corners, antialias=scale < 1
    )


def _mean(parts: Sequence[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total / len(parts)


class _Unpool(nn.Module):
    """As nn.MaxUnpool2d of windows that do not overlap, in operations that all formats have."""

    def forward(self, features: Tensor, indices: Tensor, output_size: torch.Size) -> Tensor:
        """(B, D, h, w) values and their places to (B, D, H, W), 0 elsewhere."""
        count, channels, height, width = output_size
        empty = features.new_zeros(count, channels, height * width)
        filled = empty.scatter(2, indices.flatten(2), features.flatten(2))
        return filled.reshape(count, channels, height, width)


def _undo_poolings_plainly(model: nn.Module) -> None:
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.MaxUnpool2d):
                setattr(module, name, _Unpool())


class _FixedPadding(nn.Module):
    """A convolution behind padding of so many pixels: left, right, top, bottom."""

    def __init__(self, conv: nn.Conv2d, padding: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.conv, self.padding = conv, padding

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, H, W) to (B, E, h, w)."""
        conv = self.conv
        padded = functional.pad(x, self.padding)
        return functional.conv2d(
            padded, conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups
        )


def _pad_plainly(model: nn.Module, multiple: int, extra: int = 0) -> None:
    """Fix the padding of convolutions that pad as TensorFlow does: by what their input's size is.

    A graph's images have sides of `extra` more than a multiple of the strides, and so each of these
    convolutions always pads alike. As formulas of the sizes these paddings would stand in the sizes
    of all layers behind them, and tracing would take many minutes.
    """
    from timm.layers.conv2d_same import Conv2dSame
    from timm.layers.padding import get_same_padding

    sizes: dict[Any, torch.Size] = {}
    found = [module for module in model.modules() if isinstance(module, Conv2dSame)]
    if not found:
        return
    hooks = [
        module.register_forward_pre_hook(lambda own, x: sizes.__setitem__(own, x[0].shape[2:]))
        for module in found
    ]
    side = 3 * multiple + extra
    try:
        with torch.no_grad():
            model(torch.zeros(1, 3, side, side))
    finally:
        for hook in hooks:
            hook.remove()
    for module in list(model.modules()):
        children: Any = module.named_children()
        for name, child in children:
            if child in sizes:
                axes = zip(
                    sizes[child], child.kernel_size, child.stride, child.dilation, strict=True
                )
                top, left = (get_same_padding(*axis) for axis in axes)
                padding = (left // 2, left - left // 2, top // 2, top - top // 2)
                setattr(module, name, _FixedPadding(child, padding))


@contextmanager
def _plain_attention() -> "Iterator[None]":
    """Let transformers be traced layer by layer, not as one operation that PyTorch alone has."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _named(graph: Traceable) -> str:
    if isinstance(graph, NetworkGraph):
        return _named(graph.whole)
    if isinstance(graph, SegmenterGraph):
        spec = graph.model.spec
        return f"the network {spec.arch} with the encoder {spec.encoder}"
    model: Any = graph.model
    return f"the classifier on {type(model.backbone.net).__name__}"
