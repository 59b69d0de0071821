"""Any timm network as a feature extractor with a chosen output stride."""

from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import group_parameters
from torch import Tensor, nn

from wsss.checks import did_you_mean
from wsss.config.params import BackboneSettings
from wsss.config.settings import expand_path
from wsss.models.weights import load_matching, read_weights

__all__ = ["TimmBackbone"]


class TimmBackbone(nn.Module):
    """Images to the last feature map of a timm model.

    Args:
        settings: which model, its stride, its normalisation and what stays frozen.
        load_weights: fetch the weights that `settings` names; False leaves random values
            for a caller that loads its own.

    Attributes:
        num_features: D, channels of the feature map.
        output_stride: image pixels per cell.
        mean, std: per channel, of an image in [0, 1], as the weights expect.
        weights_source: for the run's tags: "none", "hub:<tag>" or "file:<name>".

    Raises:
        ValueError: no such model, no feature map, the stride is not available, or the
            weights do not fit.
    """

    def __init__(self, settings: BackboneSettings, *, load_weights: bool = True) -> None:
        super().__init__()
        name = settings.model_name
        if not timm.is_model(name):
            raise ValueError(
                f"backbone.model_name '{name}' is no timm model; "
                + did_you_mean(name, timm.list_models())
            )
        source = settings.weights if load_weights else "none"
        self.net: Any = _create(settings, pretrained=source == "hub")
        self.weights_source = source
        if source == "hub":
            self.weights_source = f"hub:{self.net.pretrained_cfg.get('tag', '')}"
        elif source != "none":
            path = Path(expand_path(source, "train_classifier.backbone.weights"))
            load_matching(self.net, read_weights(path), f"weights file {path}")
            self.weights_source = f"file:{path.name}"
        config = self.net.pretrained_cfg
        self.mean: tuple[float, ...] = settings.mean or tuple(config["mean"])
        self.std: tuple[float, ...] = settings.std or tuple(config["std"])
        self._prefix_tokens = int(getattr(self.net, "num_prefix_tokens", 0))
        self._freeze_batchnorm = settings.freeze_batchnorm
        self._frozen = self._freeze(settings.frozen_stages)
        self.num_features, self.output_stride = self._probe(settings)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images to (B, D, h, w) features."""
        features: Tensor = self.as_map(self.net.forward_features(images), images)
        return features

    def stages(self) -> tuple[nn.Module, ...]:
        """The modules whose outputs end the four stages, shallow to deep; fewer if it has fewer.

        A stage ends where timm lists features at a quarter of the image's size or less; of a
        plain transformer's blocks these are every fourth part.
        """
        modules = dict(self.net.named_modules())
        listed = [one for one in getattr(self.net, "feature_info", ()) if one["reduction"] >= 4]
        ends = [modules[one["module"]] for one in listed if one["module"] in modules]
        count = min(4, len(ends))
        return tuple(ends[len(ends) * (part + 1) // count - 1] for part in range(count))

    def train(self, mode: bool = True) -> "TimmBackbone":
        """As nn.Module.train, but frozen batch norm keeps its running statistics."""
        super().train(mode)
        if mode:
            for name, module in self.net.named_modules():
                norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
                if norm and (self._freeze_batchnorm or name in self._frozen):
                    module.eval()
        return self

    def _freeze(self, stages: int) -> set[str]:
        """Stop gradients of the first stages; return the names of their modules."""
        frozen: set[str] = set()
        if stages:
            groups = group_parameters(self.net, self.net.group_matcher(coarse=True), reverse=True)
            for name, parameter in self.net.named_parameters():
                if groups.get(name, stages) < stages:
                    parameter.requires_grad_(False)
                    frozen.add(name.rpartition(".")[0])
        if self._freeze_batchnorm:
            for module in self.net.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    for parameter in module.parameters():
                        parameter.requires_grad_(False)
        return frozen

    def _probe(self, settings: BackboneSettings) -> tuple[int, int]:
        """Run one small image; what comes out tells the channels and the stride."""
        size = self.net.pretrained_cfg["input_size"][-1] if self._prefix_tokens else 128
        training = self.training
        self.eval()
        with torch.inference_mode():
            image = torch.zeros(1, 3, size, size)
            features = self.as_map(self.net.forward_features(image), image)
        self.train(training)
        stride = round(size / features.shape[-1])
        if stride != settings.output_stride:
            raise ValueError(
                f"backbone.output_stride is {settings.output_stride}, but {settings.model_name} "
                f"gives stride {stride}; set it to {stride} or choose another model"
            )
        return features.shape[1], stride

    def as_map(self, features: Any, images: Tensor) -> Any:
        """What a layer gives as (B, D, h, w): tokens without their prefix, channels to the front.

        Args:
            features: (B, D, h, w), (B, h, w, D) or (B, tokens, D).
            images: (B, 3, H, W), whose size tells the grid of tokens.

        Raises:
            ValueError: it is no grid.
        """
        if torch.is_tensor(features) and features.ndim == 4:
            width = self.net.num_features
            channels_last = features.shape[1] != width and features.shape[-1] == width
            if channels_last or getattr(self.net, "output_fmt", "NCHW") == "NHWC":
                return features.permute(0, 3, 1, 2)
            return features
        if torch.is_tensor(features) and features.ndim == 3:
            tokens = features[:, self._prefix_tokens :]
            patch = self.net.patch_embed.patch_size
            # a pyramid's later stages merge patches
            for merged in {one["reduction"] // patch[0] for one in self.net.feature_info} | {1}:
                height = images.shape[2] // (patch[0] * merged)
                width = images.shape[3] // (patch[1] * merged)
                if merged and tokens.shape[1] == height * width:
                    return tokens.transpose(1, 2).reshape(len(tokens), -1, height, width)
        raise ValueError(
            f"{type(self.net).__name__} has no feature map (its features are not a grid); "
            "choose a convolutional network or a plain vision transformer"
        )


def _create(settings: BackboneSettings, *, pretrained: bool) -> Any:
    kwargs = dict(settings.timm_kwargs)
    if settings.output_stride != 32:
        kwargs.setdefault("output_stride", settings.output_stride)
    options = {"num_classes": 0, "global_pool": "", "pretrained": pretrained}
    try:
        try:
            return timm.create_model(settings.model_name, **options, **kwargs)
        except TypeError as error:
            if "output_stride" not in str(error):
                raise
            # a transformer's stride is its patch size; the probe compares it with the setting
            kwargs.pop("output_stride")
            return timm.create_model(settings.model_name, **options, **kwargs)
    except (TypeError, NotImplementedError, AssertionError, RuntimeError) as error:
        raise ValueError(
            f"timm can not make '{settings.model_name}' with output_stride "
            f"{settings.output_stride} and {dict(settings.timm_kwargs)}: {error}"
        ) from None
