"""A segmentation network, of this project or of segmentation-models-pytorch, and its files."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from lightning_fabric import Fabric
from safetensors.torch import save_file
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from wsss.artifacts import read_json, write_json
from wsss.checks import did_you_mean, full_key
from wsss.config.sections import BackboneSettings
from wsss.config.segmentation import WEIGHTS_SUFFIXES, SegmenterSettings
from wsss.loading.normalisation import Normalisation
from wsss.models.frozen_backbones import FrozenBackbones
from wsss.models.fusion import fuse_batchnorm
from wsss.models.timm_backbone import TimmBackbone
from wsss.models.weights import load_matching, matching, read_weights, with_positions_for
from wsss.outside import troubles
from wsss.registry import NETWORKS
from wsss.segment.networks import NetworkPlan
from wsss.settings import expand_path

__all__ = [
    "Segmenter",
    "check_crop",
    "check_segmenter",
    "load_for_prediction",
    "load_segmenter",
    "make_segmenter",
    "save_segmenter",
]

FROZEN = "frozen."
"""Ahead of the names of weights that never learn, in the file of a network."""


_OF_ONE_SIZE = ("swin_transformer", "swin_transformer_v2")
"""Modules of timm whose networks take images of other sizes where they are told to."""


@dataclass(frozen=True)
class _Spec:
    """What it takes to make the network again, without its weights."""

    arch: str
    encoder: str
    kwargs: dict[str, Any]
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    backbones: tuple[dict[str, Any], ...] = ()
    has_background: bool = True


NEVER = -1e4
"""The logit of the background in data without one: its probability is 0, and it learns nothing."""


class Segmenter(nn.Module):
    """(B, 3, H, W) normalised images to (B, K + 1, H, W) logits.

    The networks of this project take images of any size; most of segmentation-models-pytorch take
    sides that are multiples of 32.

    Args:
        spec: how to make the network.
        pretrained: the encoder's weights, as segmentation-models-pytorch names them; None is none.
        classifier: as of `NetworkPlan`.

    Attributes:
        spec: how the network was made.
        normalisation: of images, as the encoder's weights expect it.
        weights_source: for the run's tags, where the encoder's weights came from.
    """

    def __init__(
        self, spec: _Spec, pretrained: str | None = None, classifier: Path | None = None
    ) -> None:
        super().__init__()
        self.spec = spec
        self.normalisation = Normalisation(spec.mean, spec.std)
        self.weights_source = "none"
        if spec.arch in NETWORKS.names():
            self.net: Any = _create_own(spec, classifier)
        else:
            self.net = _create(spec, pretrained)

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
        classifier: the folder of the trained classifier: class names and, when asked for,
            encoder, weights and normalisation.
        has_background: whether a pixel may show none of the classes.

    Raises:
        ValueError: an unknown architecture or encoder, or weights that do not fit.
    """
    trained = read_json(classifier / "model.json")
    backbone = BackboneSettings.model_validate(trained["backbone"])
    spec = _spec(settings, backbone, trained["class_names"], has_background=has_background)
    mean, std = _statistics(settings, backbone, spec)
    spec = replace(spec, mean=mean, std=std)
    network = settings.network
    source = settings.encoder_weights
    if source == "backbone":
        source = backbone.weights
    names_a_file = Path(source).suffix in WEIGHTS_SUFFIXES
    if network is not None and network.encoder_is == "frozen":
        segmenter = Segmenter(spec, classifier=classifier)
        source = segmenter.net.encoder.weights_source
    elif source == "classifier":
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
    elif network is not None and source == "hub":
        segmenter = Segmenter(spec)
        own = BackboneSettings.model_validate(spec.backbones[0])
        fetched = TimmBackbone(own.model_copy(update={"weights": "hub"}))
        source = fetched.weights_source
        _load_encoder(segmenter.net.encoder, fetched.net.state_dict(), f"weights {source}")
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


def check_segmenter(
    settings: SegmenterSettings, backbone: BackboneSettings, crop_size: int = 0
) -> None:
    """Raise ValueError where `make_segmenter` will, before there is a classifier.

    Networks are made without memory for their weights, in a fraction of a second. What nothing but
    the weights of a hub or of frozen networks can tell is left to `make_segmenter`.

    Args:
        settings: of the network.
        backbone: of the classifier that is to be trained.
        crop_size: height and width of training crops in pixels; 0 is one that fits.
    """
    network, source = settings.network, settings.encoder_weights
    if source == "backbone":
        source = backbone.weights
    with torch.device("meta"):
        spec = _spec(settings, backbone, ("class",), has_background=True)
        if network is not None and network.encoder_is == "frozen":
            return
        net = Segmenter(spec).net
        encoder = net.encoder
        check_crop(crop_size, net)
        if Path(source).suffix in WEIGHTS_SUFFIXES:
            path = Path(expand_path(source, "model.encoder_weights"))
            _fitting(encoder, read_weights(path), f"weights file {path}")
        elif source == "classifier":
            weights = TimmBackbone(backbone, load_weights=False).net.state_dict()
            _fitting(encoder, weights, f"the classifier, {backbone.model_name},")
        _freeze_stages(encoder, settings.frozen_stages)


def check_crop(side: int, net: Any) -> None:
    """Raise ValueError if an architecture that puts stages together cannot do so."""
    stride = net.encoder.output_stride
    if net.requires_divisible_input_shape and side % stride:
        raise ValueError(
            f"{full_key('augment.crop_size')} is {side}, but {type(net).__name__} takes multiples "
            f"of {stride}; set it to {side + stride - side % stride}"
        )


def _spec(
    settings: SegmenterSettings,
    classifier: BackboneSettings,
    class_names: Sequence[str],
    *,
    has_background: bool,
) -> _Spec:
    """What the settings come to, with the statistics of images that most weights have seen."""
    network, encoder, kwargs = settings.network, settings.encoder, dict(settings.arch_kwargs)
    backbones: tuple[BackboneSettings, ...] = ()
    if network is not None:
        kwargs = network.model_dump(mode="json", exclude={"name"})
        backbones = network.backbones_for(encoder, classifier)
    elif encoder == "classifier":
        encoder = f"tu-{classifier.model_name}"
        kwargs = dict(classifier.timm_kwargs) | kwargs
    return _Spec(
        settings.arch,
        encoder,
        kwargs,
        tuple(class_names),
        IMAGENET_DEFAULT_MEAN,
        IMAGENET_DEFAULT_STD,
        tuple(item.model_dump(mode="json") for item in backbones),
        has_background=has_background,
    )


def _statistics(
    settings: SegmenterSettings, classifier: BackboneSettings, spec: _Spec
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the images that the weights of an encoder have seen.

    Args:
        settings: of the network.
        classifier: its backbone, with what it takes.
        spec: of the network; its own values are not asked.
    """
    of_classifier = tuple(classifier.mean or ()), tuple(classifier.std or ())
    network, source = settings.network, settings.encoder_weights
    if network is not None and (network.encoder_is == "frozen" or not spec.backbones):
        return of_classifier
    of_its_kind = ("classifier", "backbone", "none", classifier.weights)
    if settings.encoder == "classifier" and source in of_its_kind:
        return of_classifier
    name = spec.encoder.removeprefix("tu-")
    if spec.backbones:
        name = spec.backbones[0]["model_name"]
    if (spec.backbones or name != spec.encoder) and timm.is_model(name):
        known = timm.models.get_pretrained_cfg(name)
        return tuple(known.mean), tuple(known.std)
    if Path(source).suffix not in WEIGHTS_SUFFIXES and source not in ("none", "hub"):
        with suppress(KeyError, ValueError, OSError):  # it has none, or cannot be asked
            told = smp.encoders.get_preprocessing_params(spec.encoder, source)
            return tuple(told["mean"]), tuple(told["std"])
    return IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD


def save_segmenter(model: Segmenter, folder: Path) -> None:
    """Write weights.safetensors and model.json, all that `load_segmenter` needs."""
    tensors, encoder = model.net.state_dict(), model.net.encoder
    if isinstance(encoder, FrozenBackbones):
        tensors |= {FROZEN + name: tensor for name, tensor in encoder.tensors().items()}
    weights = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    save_file(weights, folder / "weights.safetensors")
    write_json(folder / "model.json", vars(model.spec))


def load_segmenter(folder: Path) -> Segmenter:
    """Read what `save_segmenter` wrote: in eval mode, on the CPU."""
    spec = read_json(folder / "model.json")
    keys = ("class_names", "mean", "std", "backbones")  # networks of before have no backbones
    lists = {key: tuple(spec.get(key, ())) for key in keys}
    model = Segmenter(_Spec(**(spec | lists)))
    weights = read_weights(folder / "weights.safetensors")
    load_matching(model.net, weights, str(folder))
    if isinstance(model.net.encoder, FrozenBackbones):
        frozen = {
            name.removeprefix(FROZEN): tensor
            for name, tensor in weights.items()
            if name.startswith(FROZEN)
        }
        model.net.encoder.load(frozen, str(folder))
    return model.eval().to(memory_format=torch.channels_last)


def load_for_prediction(folder: Path, fabric: Fabric) -> Segmenter:
    """As `load_segmenter`, on a device, and with fewer passes over memory where that is a CPU."""
    model: Segmenter = load_segmenter(folder)
    if fabric.device.type == "cpu":
        model = fuse_batchnorm(model, torch.rand(1, 3, 64, 64))
    on_device: Segmenter = fabric.to_device(model)
    return on_device


def _create_own(spec: _Spec, classifier: Path | None) -> Any:
    settings = NETWORKS.settings(spec.arch).model_validate(spec.kwargs)
    plan = NetworkPlan(
        len(spec.class_names) + 1,
        Normalisation(spec.mean, spec.std),
        tuple(BackboneSettings.model_validate(item) for item in spec.backbones),
        classifier,
    )
    return NETWORKS.build(settings, plan)


def _create(spec: _Spec, pretrained: str | None) -> Any:
    kwargs, name = spec.kwargs, spec.encoder.removeprefix("tu-")
    if name != spec.encoder and timm.models.is_model_in_modules(name, _OF_ONE_SIZE):
        kwargs = {"strict_img_size": False} | kwargs
    try:
        return smp.create_model(
            spec.arch,
            encoder_name=spec.encoder,
            encoder_weights=pretrained,
            classes=len(spec.class_names) + 1,
            **kwargs,
        )
    except KeyError as error:
        message = str(error.args[0])
        if "rchitecture" in message:
            known = [*smp.MODEL_ARCHITECTURES_MAPPING, *NETWORKS.names()]
            meant = did_you_mean(spec.arch, known)
            message = f"{full_key('model.arch')} is '{spec.arch}'; {meant}{troubles()}"
        raise ValueError(message) from None
    except (TypeError, RuntimeError, ValueError, NotImplementedError, AssertionError) as error:
        reason = str(error) or "the encoder's stages cannot be dilated"
        if "dilat" in reason or "output_stride" in reason:
            reason = (
                f"{reason}; set {full_key('model.arch')} to one that takes stages as they are, "
                f"such as unet, or {full_key('model.encoder')} to another encoder"
            )
        raise ValueError(
            f"segmentation-models-pytorch cannot make {spec.arch} with encoder "
            f"{spec.encoder} and {spec.kwargs}: {reason}"
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


def _load_encoder(encoder: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Load a plain timm state dict into a timm encoder, which flattens some module names."""
    _plain(encoder).load_state_dict(_fitting(encoder, weights, source), strict=False)


def _fitting(encoder: nn.Module, weights: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Those weights that an encoder has, by its names; ValueError where some are not there."""
    module, known = _plain(encoder), dict(weights)
    for name in module.state_dict():
        plain = re.sub(r"^([a-z]+)_(\d+)\.", r"\1.\2.", name)
        if name not in known and plain in known:
            known[name] = known[plain]
    return matching(module, with_positions_for(module, known), source)


def _plain(encoder: Any) -> nn.Module:
    module: nn.Module = encoder.model if hasattr(encoder, "model") else encoder
    return module
