"""One class token per class in a vision transformer, so that attention tells classes apart."""

from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

__all__ = [
    "add_class_tokens",
    "class_token_logits",
    "count_class_tokens",
    "count_image_tokens",
]


def add_class_tokens(net: Any, num_classes: int) -> None:
    """Give a ViT or DeiT one class token per class, as MCTformer does (Xu et al., CVPR 2022).

    The class token and its positional embedding are repeated, so pretrained weights can be loaded
    before; weights saved after it need it called before they are loaded. `forward_features` works
    as before, and its tokens are then

        tokens[:, :K]                      the class tokens, after the last norm,
        tokens[:, K : num_prefix_tokens]   a distillation or register tokens, if there are any,
        tokens[:, num_prefix_tokens:]      the patches, row by row.

    One forward pass gives both class logits and a classifier's output, without running the
    network twice, by a hook on the last norm:

        kept = []
        hook = model.backbone.net.norm.register_forward_hook(lambda _m, _i, out: kept.append(out))
        output = model(images)          # logits, maps and features of the patches, as ever
        hook.remove()
        logits = class_token_logits(model.backbone.net, kept[0])

    Args:
        net: a plain timm VisionTransformer with a class token; changed in place: `cls_token`
            (1, K, D), `pos_embed`, `num_prefix_tokens`, and the new attribute `class_tokens`, K.
        num_classes: K.

    Raises:
        ValueError: it has no class token, or has its class tokens already.
    """
    if not isinstance(net, VisionTransformer) or net.cls_token is None:
        raise ValueError(
            f"{type(net).__name__} has no class token to repeat; class tokens need a plain vision "
            "transformer with one, such as deit_small_patch16_224"
        )
    if count_class_tokens(net):
        raise ValueError(f"the network has {count_class_tokens(net)} class tokens already")
    if num_classes < 1:
        raise ValueError(f"class tokens are for at least one class, but num_classes={num_classes}")
    with torch.no_grad():
        net.cls_token = _repeat_first(net.cls_token, num_classes)
        if net.pos_embed is not None and not net.no_embed_class:
            net.pos_embed = _repeat_first(net.pos_embed, num_classes)
    net.num_prefix_tokens += num_classes - 1
    net.class_tokens = num_classes


def _repeat_first(tokens: nn.Parameter, count: int) -> nn.Parameter:
    """(1, N, D) to (1, count + N - 1, D)."""
    repeated = torch.cat([tokens[:, :1].expand(-1, count, -1), tokens[:, 1:]], dim=1)
    return nn.Parameter(repeated, requires_grad=tokens.requires_grad)


def count_class_tokens(net: Any) -> int:
    """K of `add_class_tokens`; 0 where it was not called."""
    return int(getattr(net, "class_tokens", 0))


def class_token_logits(net: Any, tokens: Tensor) -> Tensor:
    """(B, K) class logits: the mean over channels of each class token.

    After a layer norm whose weights are all equal, as before any training, this mean is that of
    the norm's bias and tells nothing of the image. The first steps change that, through the
    norm's weights alone; pretrained networks begin with weights that differ.

    Args:
        net: with class tokens.
        tokens: (B, N, D) as `net.forward_features` gives them.
    """
    return tokens[:, : count_class_tokens(net)].mean(dim=2)


def count_image_tokens(net: Any) -> int:
    """The prefix tokens that stand for the image or its classes: all but the registers."""
    registers = getattr(net, "reg_token", None)
    return int(net.num_prefix_tokens) - (0 if registers is None else registers.shape[1])
