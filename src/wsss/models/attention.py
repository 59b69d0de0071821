"""The attention matrices of a vision transformer, as they come up in a forward pass."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

__all__ = ["captured_attention", "last_blocks"]


def last_blocks(net: Any, count: int, setting: str = "the number of blocks") -> range:
    """Indices of the last `count` blocks; 0 is all of them.

    Raises:
        ValueError: there are fewer; the text names `setting`.
    """
    total = len(_attentions(net))
    if count > total:
        raise ValueError(f"{setting} is {count}, but {type(net).__name__} has {total} blocks")
    return range(total - (count or total), total)


@contextmanager
def captured_attention(
    net: Any,
    blocks: Sequence[int] | None = None,
    keep: Callable[[Tensor], Any] = lambda attention: attention,
) -> Iterator[list[Any]]:
    """What the blocks of a plain vision transformer attend to.

    Fused attention never has the matrix as a whole, so within the context it is switched off.

    Args:
        net: a timm model of equal blocks with global self-attention (ViT, DeiT, BEiT, EVA).
        blocks: their indices from 0, in order; None is all.
        keep: from (B, heads, N, N) float, N tokens, whose rows sum to 1 (row i is what token i
            attends to), to what is kept of it. N^2 is a lot: keep no more than is needed.

    Yields:
        A list to which every forward pass appends what `keep` returns, block by block.

    Raises:
        ValueError: the network has no such blocks, or their attention is not global.

    Example:
        >>> import timm, torch
        >>> net = timm.create_model("test_vit", dynamic_img_size=True).eval()
        >>> with torch.no_grad(), captured_attention(net, [5]) as kept:
        ...     tokens = net.forward_features(torch.zeros(1, 3, 32, 48))
        >>> tuple(kept[0].shape)
        (1, 2, 7, 7)
    """
    attentions = _attentions(net)
    chosen = range(len(attentions)) if blocks is None else blocks
    wrong = [index for index in chosen if not 0 <= index < len(attentions)]
    if wrong:
        raise ValueError(
            f"{type(net).__name__} has no block {wrong[0]}; "
            f"its {len(attentions)} blocks are 0 to {len(attentions) - 1}"
        )
    kept: list[Any] = []

    def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        (attention,) = inputs
        if attention.ndim != 4 or attention.shape[2] != attention.shape[3]:
            raise ValueError(
                f"{type(net).__name__} attends in windows or by {tuple(attention.shape)}; "
                "choose a plain vision transformer (ViT, DeiT)"
            )
        kept.append(keep(attention))

    fused = [attention.fused_attn for attention in attentions]
    # before dropout, so that the rows sum to 1 in training too
    hooks = [attentions[index].attn_drop.register_forward_pre_hook(hook) for index in chosen]
    try:
        for index in chosen:
            attentions[index].fused_attn = False
        yield kept
    finally:
        for handle in hooks:
            handle.remove()
        for attention, was in zip(attentions, fused, strict=True):
            attention.fused_attn = was


def _attentions(net: Any) -> list[Any]:
    """The attention module of every block."""
    blocks = list(getattr(net, "blocks", ()))
    attentions = [getattr(block, "attn", None) for block in blocks]
    if not blocks or not all(hasattr(attention, "attn_drop") for attention in attentions):
        raise ValueError(
            f"{type(net).__name__} has no blocks of global self-attention to read; "
            "choose a plain vision transformer (ViT, DeiT) as backbone"
        )
    return attentions
