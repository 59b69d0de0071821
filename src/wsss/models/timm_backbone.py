"""Any timm network as a feature extractor with a chosen output stride."""

from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import group_parameters, is_model_in_modules
from timm.models.vgg import VGG
from torch import Tensor, nn
from torch.nn import functional

import wsss.models.resnet38d  # noqa: F401  its import adds it to timm's models
from wsss.artifacts import is_of_the_system
from wsss.checks import did_you_mean, full_key
from wsss.config.sections import BackboneSettings
from wsss.loading.normalisation import Normalisation
from wsss.models.vgg import dilate_vgg, vgg_stages
from wsss.models.weights import load_matching, read_weights, with_positions_for
from wsss.settings import expand_path

__all__ = ["TimmBackbone"]


class TimmBackbone(nn.Module):
    """Images to the last feature map of a timm model.

    Transformers that can, take images of any size: these are padded with zeros, at the right
    and below, to whole patches, and position embeddings are interpolated bicubically to the
    grid. The map then covers the padded image.

    Args:
        settings: which model, its stride, its normalisation and what stays frozen.
        load_weights: fetch the weights that `settings` names; False leaves random values
            for a caller that loads its own.

    Attributes:
        num_features: D, channels of the feature map.
        output_stride: image pixels per cell.
        normalisation: of images, as the weights expect it.
        weights_source: for the run's tags: "none", "hub:<tag>" or "file:<name>".
        last_stage: whose map `forward` gives, from 1, behind which nothing is computed; 0 the
            network's own. Set to another one than the settings', it is not what num_features and
            output_stride tell of.

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
        self._model_name = name
        self._file_head: dict[str, Tensor] = {}
        self.net: Any = _create(settings, pretrained=source == "hub")
        self.weights_source = source
        if source == "hub":
            self.weights_source = f"hub:{self.net.pretrained_cfg.get('tag', '')}"
        elif source != "none":
            path = Path(expand_path(source, "backbone.weights"))
            weights = with_positions_for(self.net, read_weights(path))
            load_matching(self.net, weights, f"weights file {path}")
            self._file_head = {
                key: weight
                for key, weight in weights.items()
                if key.startswith(f"{self._head_name()}.")
            }
            self.weights_source = f"file:{path.name}"
        config = self.net.pretrained_cfg
        self.normalisation = Normalisation(
            settings.mean or tuple(config["mean"]), settings.std or tuple(config["std"])
        )
        self._patch, self._pads = _patches(self.net)
        self._freeze_batchnorm = settings.freeze_batchnorm
        self._frozen = self._freeze(settings.frozen_stages)
        self._channels_last: set[nn.Module] = set()
        self.last_stage = settings.last_stage
        self.num_features, self.output_stride = self._probe(settings)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images to (B, D, h, w) features.

        Raises:
            ValueError: the model takes images of another size only.
        """
        height, width = self.covered(images)
        padding = 0, width - images.shape[3], 0, height - images.shape[2]
        try:  # nothing to pad would be a copy all the same
            found = self._run(functional.pad(images, padding) if any(padding) else images)
        except (AssertionError, RuntimeError) as error:
            shapes = ("size of tensor", "invalid for input of size")
            if isinstance(error, RuntimeError) and not any(shape in str(error) for shape in shapes):
                raise
            raise ValueError(
                f"{type(self.net).__name__} does not take images of {images.shape[2]} x "
                f"{images.shape[3]} pixels: {error or 'its grid does not divide'}; choose another "
                "size, backbone.timm_kwargs (img_size, if it has that) or another model"
            ) from None
        features: Tensor = self.as_map(found, images, self._end() or self.net)
        return features

    def covered(self, images: Tensor) -> tuple[int, int]:
        """(height, width) in pixels of what the map of (B, 3, H, W) images covers."""
        height, width = images.shape[2:]
        if self._pads:
            height += -height % self._patch[0]
            width += -width % self._patch[1]
        return height, width

    def _end(self) -> nn.Module | None:
        """The layer whose output is the feature map; None is the whole network."""
        stages, last = self.stages(), self.last_stage
        if last > len(stages):
            raise ValueError(
                f"backbone.last_stage is {last}, but {self._model_name} has stages 1 to "
                f"{len(stages)}; choose one of them, or 0 for the whole network"
            )
        return stages[last - 1] if last else None

    def _run(self, images: Tensor) -> Any:
        """What the network gives, or one of its layers, behind which nothing is computed."""
        end = self._end()
        if end is None:
            return self.net.forward_features(images)

        def stop(layer: nn.Module, inputs: Any, output: Any) -> None:
            raise _EndReached(output)

        hook = end.register_forward_hook(stop)
        try:
            self.net.forward_features(images)
        except _EndReached as reached:
            return reached.output
        finally:
            hook.remove()
        raise AssertionError("a stage that the network does not run")

    def pretrained_head(self) -> tuple[Tensor, Tensor] | None:
        """(L, D) weights and (L,) biases of the classes that the weights were trained to tell.

        Returns:
            None where the backbone has random values, or those of a caller.

        Raises:
            ValueError: the weights file holds no such head, or last_stage leaves out what it reads.
        """
        if self.last_stage:
            raise ValueError(
                "the head of the weights reads the last features, but backbone.last_stage leaves "
                f"them out; set it to 0, or take another {full_key('method')}"
            )
        if self.weights_source.startswith("hub:"):
            head = timm.create_model(self._model_name, pretrained=True).get_classifier()
            return head.weight.detach(), head.bias.detach()
        if not self.weights_source.startswith("file:"):
            return None
        name = self._head_name()
        if {f"{name}.weight", f"{name}.bias"} - set(self._file_head):
            raise ValueError(
                f"the weights file holds no {name}.weight and {name}.bias, the head of its own "
                f"classes; take a file that has them, or another {full_key('method')}"
            )
        weight = self._file_head[f"{name}.weight"]
        return weight.reshape(len(weight), -1), self._file_head[f"{name}.bias"]

    def _head_name(self) -> str:
        name = self.net.pretrained_cfg.get("classifier", "")
        return str(name[0] if isinstance(name, tuple | list) else name)

    def with_stages(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """As `forward`, and (B, D_i, h_i, w_i) of each of the `stages`."""
        return self._with_layers(images, self.stages())

    def with_blocks(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """As `with_stages`, of all that timm lists: of a plain transformer each block."""
        return self._with_layers(images, self._listed())

    def _with_layers(
        self, images: Tensor, layers: tuple[nn.Module, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        found: list[tuple[nn.Module, Any]] = []
        hooks = [
            layer.register_forward_hook(lambda layer, inputs, output: found.append((layer, output)))
            for layer in layers
        ]
        try:
            features = self(images)
        finally:
            for hook in hooks:
                hook.remove()
        return features, tuple(self.as_map(output, images, layer) for layer, output in found)

    def stages(self) -> tuple[nn.Module, ...]:
        """The modules whose outputs end the four stages, shallow to deep; fewer if it has fewer.

        A stage ends where timm lists features at a quarter of the image's size or less; of a
        plain transformer's blocks these are every fourth part.
        """
        ends = self._listed()
        count = min(4, len(ends))
        return tuple(ends[len(ends) * (part + 1) // count - 1] for part in range(count))

    def stage_widths(self) -> list[int]:
        """The channels of each of the `stages` that run: none behind `last_stage` does."""
        modules = dict(self.net.named_modules())
        widths = {
            modules[info["module"]]: int(info["num_chs"])
            for info in getattr(self.net, "feature_info", ())
            if info["module"] in modules
        }
        return [widths[stage] for stage in self.stages()[: self.last_stage or None]]

    def _listed(self) -> tuple[nn.Module, ...]:
        """The modules where timm lists features at a quarter of the image's size or less."""
        modules = dict(self.net.named_modules())
        listed = [info for info in getattr(self.net, "feature_info", ()) if info["reduction"] >= 4]
        return tuple(modules[info["module"]] for info in listed if info["module"] in modules)

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
            if isinstance(self.net, VGG):
                groups = vgg_stages(self.net)
            else:
                matcher = self.net.group_matcher(coarse=True)
                groups = group_parameters(self.net, matcher, reverse=True)
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
        height, width = self._patch
        small = (-(-128 // height) * height, -(-128 // width) * width)
        training = self.training
        self.eval()
        try:
            features, size = self._run_blank(small), small
        except ValueError:  # networks of one size
            embed = getattr(self.net, "patch_embed", None)
            size = getattr(embed, "img_size", None) or self.net.pretrained_cfg["input_size"][-2:]
            features = self._run_blank(size)
        self.train(training)
        stride = round(size[1] / features.shape[-1])
        if stride != settings.output_stride:
            raise ValueError(
                f"backbone.output_stride is {settings.output_stride}, but {settings.model_name} "
                f"gives stride {stride}; set it to {stride} or choose another model"
            )
        return features.shape[1], stride

    def _run_blank(self, size: tuple[int, int]) -> Tensor:
        """The features of a blank image of (height, width) pixels, and who has channels last."""
        height, width = size
        channels_last = getattr(self.net, "output_fmt", "NCHW") == "NHWC"
        self._channels_last = {self.net} if channels_last else set()

        def note(layer: nn.Module, inputs: Any, output: Any) -> None:
            if torch.is_tensor(output) and output.ndim == 4:
                lengths = output.shape[1:]
                # which two are as long, to one another, as the sides of the image?
                first, last = (a * width == b * height for a, b in (lengths[1:], lengths[:2]))
                if last and (channels_last or not first):
                    self._channels_last.add(layer)

        hooks = [module.register_forward_hook(note) for module in self.net.modules()]
        try:
            with torch.inference_mode():
                features: Tensor = self(torch.zeros(1, 3, *size))
        except ValueError:
            raise
        except Exception as error:  # what is not made for images raises many types
            if is_of_the_system(error):
                raise
            raise ValueError(
                f"{type(self.net).__name__} gives no feature map "
                f"({type(error).__name__}: {error}); {_CHOOSE}"
            ) from None
        finally:
            for hook in hooks:
                hook.remove()
        return features

    def as_map(self, features: Any, images: Tensor, layer: nn.Module | None = None) -> Any:
        """What a layer gives as (B, D, h, w): tokens without their prefix, channels to the front.

        Args:
            features: (B, D, h, w), (B, h, w, D) or (B, tokens, D).
            images: (B, 3, H, W), whose size tells the grid of tokens.
            layer: the module of `net` that gave it, which tells where the channels are; none if
                they are known to come first.

        Raises:
            ValueError: it is no grid.
        """
        if torch.is_tensor(features) and features.ndim == 4:
            return features.permute(0, 3, 1, 2) if layer in self._channels_last else features
        if torch.is_tensor(features) and features.ndim == 3:
            tokens = features[:, int(getattr(self.net, "num_prefix_tokens", 0)) :]
            listed = getattr(self.net, "feature_info", ())
            floor = self._patch != (1, 1) and not self._pads
            # a pyramid's later stages merge patches
            for merged in {1, *(info["reduction"] // self._patch[0] for info in listed)} - {0}:
                height, width = (
                    length // (patch * merged) if floor else -(-length // (patch * merged))
                    for length, patch in zip(images.shape[2:], self._patch, strict=True)
                )
                if tokens.shape[1] == height * width:
                    return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, height, width)
        raise ValueError(
            f"{type(self.net).__name__} has no feature map (its features are not a grid); {_CHOOSE}"
        )


class _EndReached(Exception):
    """Ends a forward pass at a layer.

    Attributes:
        output: what the layer gave.
    """

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output


_CHOOSE = "choose a convolutional network or a plain vision transformer"


def _patches(net: Any) -> tuple[tuple[int, int], bool]:
    """Height and width of a patch, (1, 1) if there are none; whether images must fill them."""
    embed: Any = getattr(net, "patch_embed", None)
    if not hasattr(embed, "feat_ratio"):
        return (1, 1), False
    height, width = embed.feat_ratio(as_scalar=False)
    return (height, width), not getattr(embed, "strict_img_size", True)


def _create(settings: BackboneSettings, *, pretrained: bool) -> Any:
    vgg = is_model_in_modules(settings.model_name.partition(".")[0], ["vgg"])
    # asked for where it can be had; the probe compares the stride with the setting
    wishes: dict[str, Any] = {"dynamic_img_size": True, "global_pool": ""}
    if settings.output_stride != 32 and not vgg:
        wishes["output_stride"] = settings.output_stride
    kwargs = {"num_classes": 0, "pretrained": pretrained, **wishes, **settings.timm_kwargs}
    net = None
    while net is None:
        try:
            net = timm.create_model(settings.model_name, **kwargs)
        except (TypeError, NotImplementedError, AssertionError, RuntimeError) as error:
            refused = [
                name
                for name in wishes
                if name in kwargs and name not in settings.timm_kwargs and _refuses(error, name)
            ]
            if not refused:
                raise ValueError(
                    f"timm cannot make '{settings.model_name}' with output_stride "
                    f"{settings.output_stride} and {dict(settings.timm_kwargs)}: {error}"
                ) from None
            del kwargs[refused[0]]
    if vgg:
        dilate_vgg(net, settings.output_stride)
        net.pre_logits = nn.Identity()  # most of its weights, and none of its features
    return net


def _refuses(error: Exception, argument: str) -> bool:
    """Whether timm may do without this argument what it does not do with it."""
    if argument == "global_pool":  # some assert that there is one; it is behind the features
        return isinstance(error, AssertionError)
    return isinstance(error, TypeError) and f"'{argument}'" in str(error)
