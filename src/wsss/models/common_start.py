"""Networks that begin alike: what they have in common is computed once."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from wsss.models.classifier import Classifier

__all__ = ["begin_alike", "join_starts"]

_Pair = tuple[nn.Module, nn.Module]


class _Memory:
    """What a layer was given last, and what it made of it."""

    def __init__(self) -> None:
        self.given: Tensor | None = None
        self.made: Any = None
        self.was_asked_again = False
        self._replaced: dict[nn.Module, Any] = {}  # what other memories made of a layer

    def remember(self, layer: nn.Module) -> None:
        """From now on, the layer takes from here what it, or another one, made of the same maps."""
        compute, self._replaced[layer] = layer.forward, vars(layer).get("forward")

        def forward(maps: Tensor) -> Any:
            if self.given is not maps:
                self.made, self.given = compute(maps), maps
            else:
                self.was_asked_again = True
            return self.made

        layer.forward = forward

    def forget(self, layer: nn.Module) -> None:
        """Undo `remember`, as the last that the layer was told."""
        self.given = self.made = None
        if before := self._replaced.pop(layer):
            layer.forward = before
        else:
            del layer.forward


def begin_alike(first: Classifier, second: Classifier) -> bool:
    """Whether networks start with layers of the same weights, and see images in the same way."""
    same = vars(first.backbone.normalisation) == vars(second.backbone.normalisation)
    starts = _common(first.backbone.net, second.backbone.net)
    return same and any(list(layer.parameters()) for layer, _ in starts)


def join_starts(first: Classifier, second: Classifier, example: Tensor) -> bool:
    """Let networks share the layers with which both begin, such as stages that were frozen.

    Asked about the same images, one after the other, with gradients for neither, these layers run
    once: of a tensor that one of both was given last, they know what they made. Which layers a
    network begins with is a guess about the data flow, so the result is compared, byte for byte,
    with what `second` gives alone; if it differs, both stay as they are.

    Args:
        first: in eval mode.
        second: in eval mode.
        example: (1, 3, H, W) images to compare on.

    Returns:
        Whether they share any.
    """
    with torch.inference_mode():
        wanted = _all_of(second, example)
        joined = [(pair, _Memory()) for pair in _common(first.backbone.net, second.backbone.net)]
        for pair, memory in joined:
            for layer in pair:
                memory.remember(layer)
        _all_of(first, example)
        found = _all_of(second, example)
    same = all(
        own.shape == alone.shape and torch.equal(own, alone)
        for own, alone in zip(found, wanted, strict=True)
    )
    shared = [memory for _, memory in joined if same and memory.was_asked_again]
    for pair, memory in joined:
        if memory not in shared:
            for layer in pair:
                memory.forget(layer)
    return bool(shared)


def _all_of(model: Classifier, images: Tensor) -> list[Tensor]:
    found = model(images, with_stages=True)
    return [found.logits, found.maps, found.features, *found.stages]


def _common(first: nn.Module, second: nn.Module) -> Iterator[_Pair]:
    """Layers of both that are alike, from the first one on, up to where they differ."""
    children = first.named_children(), second.named_children()
    for (name, one), (other_name, other) in zip(*children, strict=False):
        if name == other_name and _are_alike(one, other):
            yield one, other
            continue
        if isinstance(one, nn.Sequential) and isinstance(other, nn.Sequential):
            yield from _common(one, other)
        return


def _are_alike(one: nn.Module, other: nn.Module) -> bool:
    if repr(one) != repr(other):  # types and settings of all layers inside
        return False
    states = one.state_dict(), other.state_dict()
    return all(map(torch.equal, *(state.values() for state in states)))
