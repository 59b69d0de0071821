"""Attention of one class token per class."""

from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt

from wsss.cam.trans_cam import spread_by_attention
from wsss.checks import full_key
from wsss.registry import CAM_METHODS
from wsss.settings import Named

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.models.classifier import Classifier

__all__ = ["ClassTokenAttention", "ClassTokenAttentionSettings"]


class ClassTokenAttentionSettings(Named):
    """Whose attention counts, and whether it spreads the maps."""

    name: Literal["class_token_attention"] = "class_token_attention"
    last_layers: PositiveInt = 3
    """Blocks, counted from the last, whose attention of class tokens to patches is averaged."""
    refine: bool = True
    """Spread the maps by the attention between patches, the mean over all blocks."""


@CAM_METHODS.register(ClassTokenAttentionSettings)
class ClassTokenAttention:
    """sqrt(A_c ReLU(W_c F)): what a class token attends to and the CAM agree (MCTformer+, 2023).

    A_c, the mean over heads and the last layers, is multiplied by the number of patches, so that
    even attention of an image without other tokens is 1 at every scale and scales count alike. A
    map is then in the square root of the CAM's unit. For classifiers with class tokens, see
    `wsss.models.class_tokens`.
    """

    needs_gradients = False

    def __init__(self, settings: ClassTokenAttentionSettings) -> None:
        self.last_layers, self.refine = settings.last_layers, settings.refine

    def __call__(
        self, model: "Classifier", images: "Tensor", rows: "Tensor", columns: "Tensor"
    ) -> "tuple[Tensor, Tensor]":
        from wsss.models.attention import captured_attention, last_blocks
        from wsss.models.class_tokens import count_class_tokens

        net = model.backbone.net
        count = count_class_tokens(net)
        if count < len(model.class_names):
            raise ValueError(
                f"class_token_attention needs a class token for each of {len(model.class_names)} "
                f"classes, but the classifier has {count}; "
                "train one with the method class_tokens"
            )
        averaged = last_blocks(net, self.last_layers, full_key("method.last_layers"))
        everything = last_blocks(net, 0)
        prefix = net.num_prefix_tokens
        of_patches: list[Tensor] = []  # one sum however many the layers

        def keep(attention: "Tensor") -> "Tensor":
            if self.refine:
                patches = attention[:, :, prefix:, prefix:].float().mean(dim=1)
                of_patches[:] = [of_patches[0].add_(patches) if of_patches else patches]
            return attention[:, :, :count, prefix:].float().mean(dim=1)  # (B, K, h w)

        with captured_attention(net, everything if self.refine else averaged, keep) as kept:
            output = model(images)
        attended = sum(kept[-len(averaged) :]) / len(averaged)
        cams = output.maps[:, :count].float().relu()
        attended = attended[:, : cams.shape[1]].reshape(cams.shape)
        maps = (attended * cams[0, 0].numel() * cams).sqrt()
        if self.refine:
            maps = spread_by_attention(of_patches[0] / len(everything), maps)
        return maps[rows, columns], output.logits
