"""Attention rollout."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from wsss.registry import CAM_METHODS
from wsss.settings import Named

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.models.classifier import Classifier

__all__ = ["AttentionRollout", "AttentionRolloutSettings", "rollout"]


class AttentionRolloutSettings(Named):
    """Whose attention is followed."""

    name: Literal["attention_rollout"] = "attention_rollout"
    query: Literal["class_token", "patches"] = "class_token"
    """Whose attention is followed back to the image: the class token's (the mean of several), or
    the mean over patches, which is what a head that pools patches reads. A network without a class
    token has patches alone."""


def rollout(attentions: "Sequence[Tensor]", queries: "Tensor") -> "Tensor":
    """Attention followed through all layers: queries A~_L ... A~_1, A~ = (A + I) / sum of its row.

    Only the wanted rows are carried, from the last layer to the first: no (N, N) product.

    Args:
        attentions: of each layer, first to last, (B, N, N), the mean over heads.
        queries: (B, Q, N) weights of the tokens of the last layer; the identity gives all rows.

    Returns:
        (B, Q, N), the share of each token of the image; rows that sum to 1 still do.

    Example:
        >>> import torch
        >>> first = torch.tensor([[[0.5, 0.5], [0.2, 0.8]]])
        >>> last = torch.tensor([[[0.9, 0.1], [0.3, 0.7]]])
        >>> rollout([first, last], torch.eye(2)[None])
        tensor([[[0.7175, 0.2825],
                 [0.1975, 0.8025]]])
    """
    for attention in reversed(attentions):
        queries = queries / (attention.sum(dim=2) + 1)[:, None]
        queries = queries @ attention + queries
    return queries


@CAM_METHODS.register(AttentionRolloutSettings)
class AttentionRollout:
    """Where the class token's information comes from (Abnar & Zuidema, ACL 2020).

    It knows no classes: every tag of an image gets the same map. Times the number of patches, so
    that scales count alike. For plain vision transformers.
    """

    needs_gradients = False

    def __init__(self, settings: AttentionRolloutSettings) -> None:
        self.query = settings.query

    def __call__(
        self, model: "Classifier", images: "Tensor", rows: "Tensor", columns: "Tensor"
    ) -> "tuple[Tensor, Tensor]":
        from wsss.models.attention import captured_attention
        from wsss.models.class_tokens import count_image_tokens

        net = model.backbone.net
        with captured_attention(net, keep=lambda attention: attention.float().mean(dim=1)) as kept:
            output = model(images)
        begin, end = net.num_prefix_tokens, kept[0].shape[2]
        if self.query == "class_token" and count_image_tokens(net):
            begin, end = 0, count_image_tokens(net)
        queries = kept[0].new_zeros(len(images), 1, kept[0].shape[2])
        queries[:, :, begin:end] = 1 / (end - begin)
        patches = rollout(kept, queries)[:, 0, net.num_prefix_tokens :]
        maps = patches.reshape(len(images), *output.maps.shape[2:]) * patches.shape[1]
        return maps[rows], output.logits
