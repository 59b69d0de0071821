"""TransCAM."""

from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeInt

from wsss.checks import full_key
from wsss.registry import CAM_METHODS
from wsss.settings import Named

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.models.classifier import Classifier

__all__ = ["TransCam", "TransCamSettings", "spread_by_attention"]


class TransCamSettings(Named):
    """Whose attention spreads the map."""

    name: Literal["trans_cam"] = "trans_cam"
    last_layers: NonNegativeInt = 0
    """Blocks, counted from the last, whose attention is added up; 0 is all."""


def spread_by_attention(attention: "Tensor", maps: "Tensor") -> "Tensor":
    """A M: every patch takes the scores of the patches that it attends to.

    Args:
        attention: (B, N, N) from patch to patch.
        maps: (B, K, h, w), N = h w.

    Returns:
        (B, K, h, w).

    Example:
        >>> import torch
        >>> spread_by_attention(torch.tensor([[[0.0, 1.0], [0.5, 0.5]]]), torch.ones(1, 1, 1, 2))
        tensor([[[[1., 1.]]]])
    """
    spread = maps.flatten(2) @ attention.transpose(1, 2)  # (B, K, N)
    return spread.reshape(maps.shape)


@CAM_METHODS.register(TransCamSettings)
class TransCam:
    """(Sum over layers of the mean over heads of patch attention) ReLU(W F) (Li et al., 2022).

    The CAM of the linear head, spread over what belongs together. For plain vision transformers.
    """

    needs_gradients = False

    def __init__(self, settings: TransCamSettings) -> None:
        self.last_layers = settings.last_layers

    def __call__(
        self, model: "Classifier", images: "Tensor", rows: "Tensor", columns: "Tensor"
    ) -> "tuple[Tensor, Tensor]":
        from wsss.models.attention import captured_attention, last_blocks

        net = model.backbone.net
        blocks = last_blocks(net, self.last_layers, full_key("method.last_layers"))
        prefix = net.num_prefix_tokens
        total: list[Tensor] = []  # one matrix however many the layers

        def add(attention: "Tensor") -> None:
            patches = attention[:, :, prefix:, prefix:].float().mean(dim=1)
            total[:] = [total[0].add_(patches) if total else patches]

        with captured_attention(net, blocks, add):
            output = model(images)
        maps = spread_by_attention(total[0], output.maps.float().relu())
        return maps[rows, columns], output.logits
