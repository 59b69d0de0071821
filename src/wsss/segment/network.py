"""A segmentation network of segmentation-models-pytorch, and its files."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from wsss.artifacts import read_json, write_json
from wsss.checks import did_you_mean, full_key
from wsss.config.sections import BackboneSettings
from wsss.config.segmentation import SegmenterSettings
from wsss.loading.normalisation import Normalisation
from wsss.models.weights import load_matching, read_weights
from wsss.settings import expand_path

__all__ = ["Segmenter", "load_segmenter", "make_segmenter", "save_segmenter"]


@dataclass(frozen=True)
class _Spec:
    """What it takes to make the network again, without its weights."""

    arch: str
    encoder: str
    kwargs: dict[str, Any]
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    has_background: bool = True


NEVER = -1e4
"""The logit of the background in data without one: its probability is 0, and it learns nothing."""


class Segmenter(nn.Module):
    """(B, 3, H, W) normalised images, sides multiples of 32, to (B, K + 1, H, W) logits.

    Attributes:
        spec: how the network was made.
        normalisation: of images, as the encoder's weights expect it.
        weights_source: for the run's tags, where the encoder's weights came from.
    """

    def __init__(self, spec: _Spec, pretrained: str | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.normalisation = Normalisation(spec.mean, spec.std)
        self.weights_source = "none"
        self.net: Any = _create(spec, pretrained)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.net(images)
        if not self.spec.has_background:
            logits = torch.cat([torch.full_like(logits[:, :1], NEVER), logits[:, 1:]], dim=1)
        return logits

    def train(self, mode: bool = True) -> "Segmenter":
        """As nn.Module.train, but an encoder's frozen batch norm keeps its statistics."""
        super().train(mode)
        for module in self.net.encoder.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                frozen = module.weight is not None and not module.weight.requires_grad
                module.train(mode and not frozen)
        return self


def make_segmenter(
    settings: SegmenterSettings, classifier: Path, *, has_background: bool = True
) -> Segmenter:
    """Make a network for training, its encoder filled as `settings` says.

    Args:
        settings: architecture, encoder and weights by name.
        classifier: the folder of the trained classifier: class names, normalisation and,
            when asked for, encoder and weights.
        has_background: whether a pixel may show none of the classes.

    Raises:
        ValueError: an unknown architecture or encoder, or weights that do not fit.
    """
    trained = read_json(classifier / "model.json")
    backbone = BackboneSettings.model_validate(trained["backbone"])
    encoder, kwargs = settings.encoder, dict(settings.arch_kwargs)
    if encoder == "classifier":
        encoder = f"tu-{backbone.model_name}"
        kwargs = dict(backbone.timm_kwargs) | kwargs
    spec = _Spec(
        settings.arch,
        encoder,
        kwargs,
        tuple(trained["class_names"]),
        tuple(trained["backbone"]["mean"]),
        tuple(trained["backbone"]["std"]),
        has_background=has_background,
    )
    source = settings.encoder_weights
    if source == "backbone":
        source = backbone.weights
    names_a_file = Path(source).suffix in {".safetensors", ".pth", ".pt", ".bin"}
    if source == "classifier":
        segmenter = Segmenter(spec)
        weights = read_weights(classifier / "weights.safetensors")
        prefix = "backbone.net."
        weights = {
            key.removeprefix(prefix): tensor
            for key, tensor in weights.items()
            if key.startswith(prefix)
        }
        _load_encoder(segmenter.net.encoder, weights, f"the classifier in {classifier}")
    elif names_a_file:
        segmenter = Segmenter(spec)
        path = Path(expand_path(source, "model.encoder_weights"))
        _load_encoder(segmenter.net.encoder, read_weights(path), f"weights file {path}")
        source = f"file:{path.name}"
    else:
        pretrained = "imagenet" if source == "hub" else source
        segmenter = Segmenter(spec, None if source == "none" else pretrained)
    segmenter.weights_source = source
    _freeze_stages(segmenter.net.encoder, settings.frozen_stages)
    if settings.freeze_batchnorm:
        for module in segmenter.net.encoder.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                for parameter in module.parameters():
                    parameter.requires_grad_(False)
    return segmenter


def save_segmenter(model: Segmenter, folder: Path) -> None:
    """Write weights.safetensors and model.json, all that `load_segmenter` needs."""
    weights = {name: tensor.contiguous().cpu() for name, tensor in model.net.state_dict().items()}
    save_file(weights, folder / "weights.safetensors")
    write_json(folder / "model.json", vars(model.spec))


def load_segmenter(folder: Path) -> Segmenter:
    """Read what `save_segmenter` wrote: in eval mode, on the CPU."""
    spec = read_json(folder / "model.json")
    lists = {name: tuple(spec[name]) for name in ("class_names", "mean", "std")}
    model = Segmenter(_Spec(**(spec | lists)))
    load_matching(model.net, read_weights(folder / "weights.safetensors"), str(folder))
    return model.eval().to(memory_format=torch.channels_last)


def _create(spec: _Spec, pretrained: str | None) -> Any:
    try:
        return smp.create_model(
            spec.arch,
            encoder_name=spec.encoder,
            encoder_weights=pretrained,
            classes=len(spec.class_names) + 1,
            **spec.kwargs,
        )
    except KeyError as error:
        message = str(error.args[0])
        if "rchitecture" in message:
            message = f"{full_key('model.arch')} is '{spec.arch}'; " + did_you_mean(
                spec.arch, smp.MODEL_ARCHITECTURES_MAPPING
            )
        raise ValueError(message) from None
    except (TypeError, RuntimeError, ValueError, NotImplementedError) as error:
        raise ValueError(
            f"segmentation-models-pytorch cannot make {spec.arch} with encoder "
            f"{spec.encoder} and {spec.kwargs}: {error}"
        ) from None


def _freeze_stages(encoder: Any, stages: int) -> None:
    """Stop gradients of all that the first maps of an encoder are made with."""
    if not stages:
        return
    training = encoder.training
    maps = encoder.eval()(torch.zeros(1, 3, 64, 64))[1:]  # the first is the image
    encoder.train(training)
    if stages > len(maps):
        raise ValueError(
            f"{full_key('model.frozen_stages')} is {stages}, but the encoder has {len(maps)} "
            f"stages; set it to {len(maps)} or less"
        )
    parameters = list(encoder.parameters())
    reached = torch.stack([stage.sum() for stage in maps[:stages]]).sum()
    if not reached.requires_grad:  # a network whose stem goes further down has no first map
        return
    for parameter, gradient in zip(
        parameters, torch.autograd.grad(reached, parameters, allow_unused=True), strict=True
    ):
        if gradient is not None:
            parameter.requires_grad_(False)


def _load_encoder(encoder: nn.Module, weights: dict[str, Tensor], source: str) -> None:
    """Load a plain timm state dict into a timm encoder, which flattens some module names."""
    module: Any = encoder.model if hasattr(encoder, "model") else encoder
    known = dict(weights)
    for name in module.state_dict():
        plain = re.sub(r"^([a-z]+)_(\d+)\.", r"\1.\2.", name)
        if name not in known and plain in known:
            known[name] = known[plain]
    load_matching(module, known, source)
