"""AffinityNet: features whose distance tells whether two cells belong together (PSA)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from wsss.artifacts import read_json, write_json
from wsss.commands import run_command
from wsss.config.sections import BackboneSettings
from wsss.models.timm_backbone import TimmBackbone
from wsss.models.weights import load_matching, read_weights

__all__ = [
    "AffinityNet",
    "Level",
    "level_features",
    "levels",
    "load_affinity_net",
    "network_input",
    "read_spec",
    "save_network",
]

WIDTHS = (64, 128, 256)
"""PSA's, for 512, 1024 and 4096 channels of ResNet-38d."""


class AffinityNet(nn.Module):
    """Images to features f, of which the affinity of two cells is exp(-mean_d |f_i - f_j|).

        f = ELU(1x1 [ELU(1x1 stage 2), ELU(1x1 stage 3), ELU(1x1 stage 4)])

    without biases, on the grid of the last stage; a finer stage is averaged onto it. PSA takes the
    third and second last stage of ResNet-38d behind the batch norm and ReLU of the block that
    follows; here stages are what they put out.

    Args:
        settings: of the backbone, which learns as well.
        widths: channels that the last three stages are reduced to.
        load_weights: as of `TimmBackbone`.

    Attributes:
        spec: what `save_network` keeps of the settings.

    Raises:
        ValueError: the backbone has fewer than three stages, or as `TimmBackbone`.

    References:
        Learning Pixel-level Semantic Affinity with Image-level Supervision (Ahn and Kwak,
        CVPR 2018).
    """

    def __init__(
        self,
        settings: BackboneSettings,
        widths: tuple[int, int, int] = WIDTHS,
        *,
        load_weights: bool = True,
    ) -> None:
        super().__init__()
        self.backbone = TimmBackbone(settings, load_weights=load_weights)
        self.spec = {"kind": "psa", "backbone": settings.model_dump(mode="json"), "widths": widths}
        self._levels = levels(self.backbone, at_least=3)[-3:]
        self.reduce = nn.ModuleList(
            nn.Conv2d(level.channels, width, 1, bias=False)
            for level, width in zip(self._levels, widths, strict=True)
        )
        self.join = nn.Conv2d(sum(widths), sum(widths), 1, bias=False)
        for layer in self.reduce:
            nn.init.kaiming_normal_(layer.weight)  # type: ignore[arg-type]
        nn.init.xavier_uniform_(self.join.weight, gain=4)  # far apart from the start

    @property
    def new_modules(self) -> list[nn.Module]:
        """What starts from random values."""
        scratch = self.backbone.weights_source == "none"
        return [self.reduce, self.join, *[self.backbone] * scratch]

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images to (B, sum(widths), h, w) features."""
        stages = level_features(self.backbone, self._levels, images)
        grid = (stages[-1].shape[2], stages[-1].shape[3])
        reduced = [
            functional.elu(reduce(functional.adaptive_avg_pool2d(stage, grid)))
            for reduce, stage in zip(self.reduce, stages, strict=True)
        ]
        features: Tensor = functional.elu(self.join(torch.cat(reduced, dim=1)))
        return features


class Level(NamedTuple):
    """A module of a backbone whose output is read, and its channels."""

    module: nn.Module
    channels: int


def levels(backbone: TimmBackbone, *, at_least: int) -> list[Level]:
    """The stem, where timm lists one at more than a quarter of the image's size, and the stages.

    Raises:
        ValueError: there are fewer than `at_least` stages.
    """
    modules = dict(backbone.net.named_modules())
    listed = [
        info for info in getattr(backbone.net, "feature_info", ()) if info["module"] in modules
    ]
    widths = {id(modules[info["module"]]): int(info["num_chs"]) for info in listed}
    stages = [Level(stage, widths[id(stage)]) for stage in backbone.stages()]
    if len(stages) < at_least:
        raise ValueError(
            f"{type(backbone.net).__name__} has {len(stages)} stages, but {at_least} are needed; "
            "choose another backbone.model_name"
        )
    stems = [modules[info["module"]] for info in listed if info["reduction"] < 4]
    return [*(Level(stem, widths[id(stem)]) for stem in stems[-1:]), *stages]


def level_features(backbone: TimmBackbone, wanted: Sequence[Level], images: Tensor) -> list[Tensor]:
    """(B, D_i, h_i, w_i) of each level, shallow to deep, in one pass over (B, 3, H, W) images."""
    found: list[Any] = []
    hooks = [
        level.module.register_forward_hook(lambda _, inputs, output: found.append(output))
        for level in wanted
    ]
    try:
        backbone(images)
    finally:
        for hook in hooks:
            hook.remove()
    return [
        backbone.as_map(output, images, level.module)
        for level, output in zip(wanted, found, strict=True)
    ]


def network_input(image: np.ndarray, backbone: TimmBackbone) -> Tensor:
    """One image as a network takes it, on the backbone's device.

    It is resized (bilinear) to whole cells of the last feature map, none less than it covers, so
    that maps on the network's grid are stretched over the image without a border.

    Args:
        image: (H, W, 3) uint8 RGB.
        backbone: whose stride and normalisation count.

    Returns:
        (1, 3, H', W') float32, each side the next multiple of the stride.
    """
    height, width = (
        -(-side // backbone.output_stride) * backbone.output_stride for side in image.shape[:2]
    )
    if (height, width) != image.shape[:2]:
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        image = np.asarray(resized)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    return backbone.normalisation(pixels.to(next(backbone.parameters()).device))


def save_network(model: Any, folder: Path) -> None:
    """Write weights.safetensors and model.json of an `AffinityNet` or an `Irn`."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "weights.safetensors")
    backbone = model.spec["backbone"] | vars(model.backbone.normalisation)
    spec = model.spec | {"backbone": backbone}
    write_json(folder / "model.json", spec)


def read_spec(folder: Path, kind: str) -> Any:
    """The settings in a folder that `save_network` filled.

    Raises:
        ValueError: there is no network, or it is of another kind.
    """
    if not (folder / "model.json").is_file():
        raise ValueError(
            f"{folder} holds no trained network; name '{folder.name}' in train_affinities, with "
            f"the method {kind}, and run that stage: {run_command(Path(), 'train_affinities')}"
        )
    spec = read_json(folder / "model.json")
    if spec["kind"] != kind:
        raise ValueError(
            f"{folder} holds a network of {spec['kind']}, but {kind} is asked for; name another "
            "one of train_affinities"
        )
    return spec


def load_affinity_net(folder: Path) -> AffinityNet:
    """Read what `save_network` wrote: in eval mode, on the CPU. Raises as `read_spec`."""
    spec = read_spec(folder, "psa")
    settings = BackboneSettings.model_validate(spec["backbone"])
    model = AffinityNet(settings, tuple(spec["widths"]), load_weights=False)
    load_matching(model, read_weights(folder / "weights.safetensors"), f"{folder}")
    return model.eval().to(memory_format=torch.channels_last)
