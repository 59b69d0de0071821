"""The wide ResNet-38 of PSA, SC-CAM, SEAM and mva-wsss, as a timm model named `resnet38d`."""

from typing import Any

import torch
from timm.layers import ClassifierHead
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

__all__ = ["ResNet38d", "resnet38d"]

# name, blocks, channels after each convolution of a block, stride, dilation of its 3x3
# convolutions, dropout
_STAGES: tuple[tuple[str, int, tuple[int, ...], int, int, float], ...] = (
    ("b2", 3, (128, 128), 2, 1, 0.0),
    ("b3", 3, (256, 256), 2, 1, 0.0),
    ("b4", 6, (512, 512), 2, 1, 0.0),
    ("b5", 3, (512, 1024), 1, 2, 0.0),
    ("b6", 1, (512, 1024, 2048), 1, 4, 0.3),
    ("b7", 1, (1024, 2048, 4096), 1, 4, 0.5),
)
_STEM = 64
_STRIDE = 8


class _Block(nn.Module):
    """Batch norm, ReLU, convolution, two or three times; then the sum with what came in.

    Two convolutions are 3x3; of three, only the middle one is. Where the block changes the
    shape, what came in goes through the first batch norm and a 1x1 convolution instead.

    Args:
        channels: that come in, and after each convolution.
        stride: of the first convolution.
        dilations: of each convolution.
        dropout: chance that a channel is dropped ahead of each convolution but the first.
    """

    bn_branch2a: Any
    conv_branch2a: Any

    def __init__(
        self,
        channels: tuple[int, ...],
        stride: int,
        dilations: tuple[int, ...],
        dropout: float,
    ) -> None:
        super().__init__()
        kernels = (3, 3) if len(channels) == 3 else (1, 3, 1)
        self._steps = ("2a", "2b1", "2b2")[: len(kernels)]
        for i, step in enumerate(self._steps):
            kernel, dilation = kernels[i], dilations[i] if kernels[i] > 1 else 1
            conv = nn.Conv2d(
                channels[i],
                channels[i + 1],
                kernel,
                stride=stride if i == 0 else 1,
                padding=dilation * (kernel // 2),
                dilation=dilation,
                bias=False,
            )
            self.add_module(f"bn_branch{step}", nn.BatchNorm2d(channels[i]))
            self.add_module(f"conv_branch{step}", conv)
        self.conv_branch1: nn.Module | None = None
        if stride != 1 or channels[0] != channels[-1]:
            self.conv_branch1 = nn.Conv2d(channels[0], channels[-1], 1, stride=stride, bias=False)
        self.drop = nn.Dropout2d(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C', h / stride, w / stride)."""
        first: Tensor = torch.relu_(self.bn_branch2a(features))
        branch = self.conv_branch2a(first)
        for step in self._steps[1:]:
            branch = self.drop(torch.relu_(getattr(self, f"bn_branch{step}")(branch)))
            branch = getattr(self, f"conv_branch{step}")(branch)
        summed: Tensor = branch + (self.conv_branch1(first) if self.conv_branch1 else features)
        return summed


class ResNet38d(nn.Module):
    """Model A1 of Wu et al. in its dilated form: 4096 channels at an eighth of the image's size.

    Blocks are pre-activated: a batch norm and a ReLU stand ahead of every convolution, and once
    more behind the last block. Names are those of the PSA files, so that a .pth of that family
    loads as it is; `wsss convert-weights resnet38d` reads the MXNet file it came from.

    Args:
        num_classes: of the linear layer on top; 0 leaves it out.
        in_chans: channels of an image.
        global_pool: as timm's.
        output_stride: only 8 is there.
        width: every number of channels is multiplied by it, a multiple of 1/64; 1 as published.

    Raises:
        ValueError: `output_stride` is not 8, or `width` not a multiple of 1/64.

    References:
        Wider or Deeper: Revisiting the ResNet Model for Visual Recognition (Wu, Shen, van den
        Hengel, Pattern Recognition 2019). The dropout of b6 and b7 as in PSA (Ahn and Kwak,
        CVPR 2018).
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        output_stride: int = _STRIDE,
        width: float = 1,
    ) -> None:
        super().__init__()
        if output_stride != _STRIDE:
            raise ValueError(
                f"resnet38d has stride {_STRIDE} only, got {output_stride}; "
                f"set backbone.output_stride to {_STRIDE}"
            )
        if width <= 0 or width * _STEM % 1:
            raise ValueError(f"resnet38d: width is a multiple of 1/{_STEM}, got {width}")
        self.num_classes = num_classes
        self.feature_info: list[dict[str, Any]] = []
        into, before, reduction = int(_STEM * width), 1, 1
        self.conv1a = nn.Conv2d(in_chans, into, 3, padding=1, bias=False)
        for stage, count, widths, stride, dilation, dropout in _STAGES:
            channels = tuple(int(channels_of * width) for channels_of in widths)
            for i in range(count):
                # the first convolution still runs on the grid of the stage before
                dilations = (dilation if i else before, dilation, dilation)
                block = _Block((into, *channels), 1 if i else stride, dilations, dropout)
                name = f"{stage}_{i}" if i else stage
                self.add_module(name, block)
                into = channels[-1]
            before, reduction = dilation, reduction * stride
            self.feature_info.append({"num_chs": into, "reduction": reduction, "module": name})
        self.bn7 = nn.BatchNorm2d(into)
        self.act7 = nn.ReLU()
        self.feature_info[-1]["module"] = "act7"
        self.num_features = self.head_hidden_size = into
        self.head = ClassifierHead(into, num_classes, pool_type=global_pool)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images to (B, 4096, ceil(H / 8), ceil(W / 8)), at least 0."""
        features: Tensor = self.conv1a(images)
        for module in self.children():
            if isinstance(module, _Block):
                features = module(features)
        found: Tensor = self.act7(self.bn7(features))
        return found

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Pooled features, through the linear layer unless `pre_logits`."""
        logits: Tensor = self.head(features, pre_logits=pre_logits)
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images to (B, num_classes)."""
        return self.forward_head(self.forward_features(images))

    def get_classifier(self) -> Any:
        """The linear layer on top."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put another linear layer on top."""
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Parameters by depth, as timm groups them: the stem, then stages or blocks."""
        blocks: list[Any] = [(r"^b(\d)\.", (0,)), (r"^b(\d)_(\d)", None)]
        if coarse:
            blocks = [(r"^b(\d)", None)]
        blocks.append((r"^bn7", (99999,)))  # timm's number for: with the group before
        return {"stem": r"^conv1a", "blocks": blocks}


default_cfgs = generate_default_cfgs(
    {
        "resnet38d": {
            "num_classes": 1000,
            "input_size": (3, 224, 224),
            "pool_size": (28, 28),
            "crop_pct": 0.875,
            "interpolation": "bilinear",
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            "first_conv": "conv1a",
            "classifier": "head.fc",
        }
    }
)


def resnet38d(pretrained: bool = False, **kwargs: Any) -> Any:
    """For timm.create_model('resnet38d'); keyword arguments are those of `ResNet38d`."""
    return build_model_with_cfg(ResNet38d, "resnet38d", pretrained, **kwargs)


register_model(resnet38d)
