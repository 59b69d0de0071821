"""Published weights of ResNet-38 as the state dict that `resnet38d` loads."""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from wsss.models.mxnet_params import is_mxnet_params, read_mxnet_params
from wsss.models.resnet38d import ResNet38d
from wsss.models.weights import matching, read_weights

__all__ = ["Converted", "convert_resnet38d"]

_MXNET = re.compile(
    r"(?:arg:|aux:)?"
    r"(?:(?P<stem>conv1a)"
    r"|(?P<kind>res|bn)(?P<stage>[2-7])(?:a|b(?P<block>\d))_(?P<branch>branch(?:1|2a|2b[12]))"
    r"|(?P<last>bn7))"
    r"_(?P<value>weight|gamma|beta|moving_mean|moving_var)"
)
_VALUES = {
    "weight": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_var": "running_var",
}


@dataclass(frozen=True)
class Converted:
    """What a weights file holds for `resnet38d`.

    Attributes:
        weights: the state dict without a classifier, float32.
        used: the name in the file of each of `weights`.
        left: names in the file that are not used, such as its classifier's.
        width: of the network, 1 as published.
    """

    weights: dict[str, Tensor]
    used: dict[str, str]
    left: tuple[str, ...]
    width: float


def convert_resnet38d(path: Path) -> Converted:
    """Read the MXNet file of Wu et al., or a .pth of PSA, SC-CAM or SEAM.

    The MXNet file is ilsvrc-cls_rna-a1_cls1000_ep-0001.params; a .pth has the names already.

    Raises:
        ValueError: there is no such file, it cannot be read as plain tensors, or tensors are
            missing or have another shape.
    """
    if path.is_file() and (path.suffix == ".params" or is_mxnet_params(path)):
        arrays = read_mxnet_params(path)
        found = {name: torch.from_numpy(array.astype("float32")) for name, array in arrays.items()}
        names = {name: _from_mxnet(name) for name in found}
    else:
        found = read_weights(path)
        names = {name: name for name in found}
    renamed = {new: found[old] for old, new in names.items() if new}
    stem = renamed.get("conv1a.weight", torch.zeros(64))
    width = len(stem) / 64 if stem.ndim else 1
    with torch.device("meta"):
        net = ResNet38d(num_classes=0, global_pool="", width=width)
    weights = {
        name: tensor.float().contiguous()
        for name, tensor in matching(net, renamed, f"weights file {path}").items()
    }
    used = {new: old for old, new in names.items() if new in weights}
    left = tuple(old for old in names if old not in used.values())
    return Converted(weights, used, left, width)


def _from_mxnet(name: str) -> str:
    """The name in the network, or nothing for one that it does not have.

    Example:
        >>> _from_mxnet("arg:res4b3_branch2b1_weight"), _from_mxnet("aux:bn7_moving_var")
        ('b4_3.conv_branch2b1.weight', 'bn7.running_var')
        >>> _from_mxnet("arg:linear1000_bias")
        ''
    """
    found = _MXNET.fullmatch(name)
    if found is None:
        return ""
    value = _VALUES[found["value"]]
    if found["stem"] or found["last"]:
        return f"{found['stem'] or found['last']}.{value}"
    block = f"b{found['stage']}" + (f"_{found['block']}" if found["block"] else "")
    kind = "conv" if found["kind"] == "res" else "bn"
    return f"{block}.{kind}_{found['branch']}.{value}"
