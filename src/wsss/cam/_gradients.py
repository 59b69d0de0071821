"""Activations of chosen layers and the gradients of class scores there: GradCAM and its kin."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from wsss.checks import did_you_mean, full_key
from wsss.settings import Named

if TYPE_CHECKING:
    from torch import Tensor, nn

    from wsss.cam._base import CamMethod
    from wsss.models.classifier import Classifier

__all__ = ["GradientCam", "GradientCamSettings", "gradient_cams", "without_backward"]

LARGEST_POWER = 10
"""Power of two by which gradients are multiplied at most: half precision ends at 65504."""

APART = "on which the logits do not depend"


class GradientCamSettings(Named):
    """Which layers to look at."""

    layers: tuple[str, ...] = Field(default=("last",), min_length=1)
    """'last' for the map that the head sees, 'stage1' to 'stage4' of the backbone, or the path of
    a module of the timm model, such as 'blocks.11.norm1'. Several are averaged."""


class GradientCam(ABC):
    """A `CamMethod` that is a formula of activations and gradients."""

    needs_gradients = True

    def __init__(self, settings: GradientCamSettings) -> None:
        self.layers = settings.layers

    @abstractmethod
    def maps(self, activations: "Tensor", gradients: "Tensor") -> "Tensor":
        """(n, D, h, w) activations and gradients to (n, h, w), at least 0.

        A map that is nowhere above 0 stays empty; nothing is stretched to fill a range. Gradients
        that are the same in all cells may be (n, D, 1, 1).
        """

    def __call__(
        self, model: "Classifier", images: "Tensor", rows: "Tensor", columns: "Tensor"
    ) -> "tuple[Tensor, Tensor]":
        return gradient_cams(model, images, rows, columns, self.layers, self.maps)


class _LinearHeadGradients:
    """A gradient method where the gradients are known: those of a mean are W / cells."""

    needs_gradients = False
    output_alone: Literal[True] = True

    def __init__(self, method: GradientCam) -> None:
        self.method = method

    def __call__(
        self, model: "Classifier", images: "Tensor", rows: "Tensor", columns: "Tensor"
    ) -> "tuple[Tensor, Tensor]":
        output = model(images)
        features = output.features[rows].float()
        gradients = model.head.weight[columns].float() / features.shape[2:].numel()
        return self.method.maps(features, gradients), output.logits


def without_backward(method: "CamMethod", model: "Classifier") -> "CamMethod":
    """The same maps by a forward pass alone, where the gradients are known; else the method itself.

    That is so of gradient methods that look at the last layer alone, of a classifier whose head is
    linear in each cell and pooled by the mean.
    """
    if isinstance(method, GradientCam) and method.layers == ("last",):
        head = model.head_settings
        if head.kernel_size == 1 and head.pooling == "mean":
            return _LinearHeadGradients(method)
    return method


def gradient_cams(
    model: "Classifier",
    images: "Tensor",
    rows: "Tensor",
    columns: "Tensor",
    layers: tuple[str, ...],
    maps_of: "Callable[[Tensor, Tensor], Tensor]",
) -> "tuple[Tensor, Tensor]":
    """What a gradient method does besides its formula; see `CamMethod`.

    One forward pass, whose graph begins at the first of the layers, and as many backward passes
    as the image with the most tags has: each takes one class of every image at once, since images
    of a batch do not depend on one another in eval mode.

    Args:
        model: in eval mode.
        images: (B, 3, H, W).
        rows: (P,) sorted.
        columns: (P,).
        layers: as `GradientCamSettings.layers`.
        maps_of: as `GradientCam.maps`.

    Returns:
        (P, h, w) maps, on the largest of the layers' grids: of one layer as they are, of several
        the mean after each has been divided by its maximum, times the mean of these maxima.
        (B, K) logits.

    Raises:
        ValueError: there is no such layer, it gives no map, or the logits do not depend on it.
    """
    import torch
    from torch.nn import functional

    from wsss.models.pooling import peaks

    # Parameters are left out of the graph, so that it begins at the first captured activation.
    wanted_gradient = [parameter.requires_grad for parameter in model.parameters()]
    model.requires_grad_(False)
    captured: dict[str, Tensor] = {}
    modules = {name: _find_layer(model, name) for name in layers}
    hooks = [module.register_forward_hook(_keep(captured, n)) for n, module in modules.items()]
    try:
        with torch.enable_grad():
            logits = model(images).logits
            maps = _backward_by_slot(
                model, images, logits, rows, columns, captured, layers, maps_of
            )
    finally:
        for hook in hooks:
            hook.remove()
        for parameter, wanted in zip(model.parameters(), wanted_gradient, strict=True):
            parameter.requires_grad_(wanted)
    if len(layers) == 1:
        return maps[layers[0]], logits.detach()
    grid = max(
        (tuple(map_.shape[1:]) for map_ in maps.values()), key=lambda size: size[0] * size[1]
    )
    scaled, strengths = [], []
    for map_ in maps.values():
        highest = peaks(map_)
        scaled.append(
            functional.interpolate((map_ / highest)[:, None], grid, mode="bilinear")[:, 0]
        )
        strengths.append(highest)
    # A window or scale where the class is weak must not count like one where it is strong.
    mean = torch.stack(scaled).mean(dim=0) * torch.stack(strengths).mean(dim=0)
    return mean, logits.detach()


def _backward_by_slot(
    model: "Classifier",
    images: "Tensor",
    logits: "Tensor",
    rows: "Tensor",
    columns: "Tensor",
    captured: "dict[str, Tensor]",
    layers: tuple[str, ...],
    maps_of: "Callable[[Tensor, Tensor], Tensor]",
) -> "dict[str, Tensor]":
    """(P, h, w) maps of each layer; slot j holds the j-th class of every image."""
    import torch

    backbone, givers = model.backbone, {name: _find_layer(model, name) for name in layers}
    activations = {
        name: _as_map(model, captured.get(name), images, name, givers[name]).detach()
        for name in layers
    }
    if not logits.requires_grad:
        raise _no_use(model, layers[0], APART)
    maps = {n: a.new_zeros(len(rows), *a.shape[2:]).float() for n, a in activations.items()}
    first_of_row = torch.searchsorted(rows, rows)
    slot = torch.arange(len(rows), device=rows.device) - first_of_row
    n_slots = int(slot.max()) + 1 if len(rows) else 0
    # A mean over cells makes gradients too small for half precision, which a power of two undoes
    # without a change of any other bit.
    cells = math.prod(-(-side // backbone.output_stride) for side in images.shape[2:])
    factor = 2.0 ** min(int(math.log2(cells)), LARGEST_POWER)
    for j in range(n_slots):
        pairs = (slot == j).nonzero().squeeze(1)
        score = logits[rows[pairs], columns[pairs]].sum()
        gradients = torch.autograd.grad(
            score,
            [captured[name] for name in activations],
            score.new_tensor(factor),
            retain_graph=j + 1 < n_slots,
            allow_unused=True,
        )
        for (name, activation), gradient in zip(activations.items(), gradients, strict=True):
            if gradient is None:
                raise _no_use(model, name, APART)
            gradient = backbone.as_map(gradient, images, givers[name])
            at = rows[pairs]
            maps[name][pairs] = maps_of(activation[at].float(), gradient[at].float() / factor)
    return maps


def _keep(captured: "dict[str, Tensor]", name: str) -> "Callable[[Any, Any, Any], Any]":
    """A forward hook that captures the output and passes on a copy.

    A copy, since what follows may work in place; of the first layer a leaf of the graph.
    """
    import torch

    def hook(_module: Any, _inputs: Any, output: Any) -> Any:
        if not torch.is_tensor(output) or not output.is_floating_point():
            return output
        captured[name] = output if output.requires_grad else output.detach().requires_grad_()
        return captured[name].clone()

    return hook


def _as_map(
    model: "Classifier", output: "Tensor | None", images: "Tensor", name: str, layer: "nn.Module"
) -> "Tensor":
    """What a layer gave as (B, D, h, w). Raises ValueError where that is no map of the image."""
    if output is None:
        raise _no_use(model, name, "which gives nothing on the way to the logits")
    try:
        map_: Tensor = model.backbone.as_map(output, images, layer)
    except ValueError:
        raise _no_use(model, name, f"which gives {tuple(output.shape)}, no map") from None
    (height, width), (h, w) = images.shape[2:], map_.shape[2:]
    stride = model.backbone.output_stride
    # as many cells along an axis as its length says, to the nearest; and not a mean over all
    alike = abs(h * width - w * height) <= max(height, width)
    if not alike or (h * w == 1 and max(height, width) > stride):
        raise _no_use(model, name, f"which gives {tuple(output.shape)}, no map of the image")
    return map_


def _no_use(model: "Classifier", name: str, why: str) -> ValueError:
    return ValueError(
        f"{full_key('method.layers')} has '{name}', {why}; take {_known(model)}, or the path of a "
        "module that gives a map on the way to the logits"
    )


def _known(model: "Classifier") -> str:
    """The names that fit every network."""
    stages = (f"stage{at}" for at in range(1, 1 + len(model.backbone.stages())))
    return ", ".join(f"'{name}'" for name in ("last", *stages))


def _find_layer(model: "Classifier", name: str) -> "nn.Module":
    if name == "last":
        return model.backbone
    stages = {f"stage{at}": stage for at, stage in enumerate(model.backbone.stages(), 1)}
    paths: dict[str, nn.Module] = dict(model.backbone.net.named_modules())
    layer = stages.get(name) or paths.get(name)
    if layer is None or not name:
        hint = did_you_mean(name, ["last", *stages, *filter(None, paths)])
        net = type(model.backbone.net).__name__
        raise ValueError(
            f"{full_key('method.layers')} has '{name}', but {net} has no such layer; "
            + (hint if len(hint) < 80 else f"take {_known(model)}, or a module's path")
        )
    return layer
