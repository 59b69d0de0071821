"""The network part that gives a vision transformer one class token per class."""

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor, nn

from wsss.checks import full_key
from wsss.models.class_tokens import add_class_tokens, class_token_logits
from wsss.models.timm_backbone import TimmBackbone
from wsss.registry import PARTS
from wsss.settings import Named

__all__ = ["ClassTokenPart", "ClassTokenPartSettings"]


class ClassTokenPartSettings(Named):
    """Made by the training method `class_tokens`."""

    name: Literal["class_tokens"] = "class_tokens"


@PARTS.register(ClassTokenPartSettings)
class ClassTokenPart(nn.Module):
    """Changes the backbone when it is built, and has no parameters itself.

    The class tokens are the backbone's: they learn at its rate and start from its weights.

    Args:
        settings: none.
        backbone: changed in place.
        num_outputs: how many class tokens.

    Raises:
        ValueError: the backbone has no class token that could be repeated.
    """

    def __init__(
        self, settings: ClassTokenPartSettings, backbone: TimmBackbone, num_outputs: int
    ) -> None:
        super().__init__()
        del settings
        try:
            add_class_tokens(backbone.net, num_outputs)
        except ValueError as error:
            raise ValueError(f"{full_key('method')} class_tokens: {error}") from None

    def forward(self, net: Any, run: Callable[[], Any]) -> tuple[Any, Tensor]:
        """What `run` returns, and the (B, L) class-token logits of its forward pass.

        Args:
            net: of the backbone.
            run: runs the network once.
        """
        kept: list[Tensor] = []
        hook = net.norm.register_forward_hook(lambda _, inputs, tokens: kept.append(tokens))
        try:
            output = run()
        finally:
            hook.remove()
        return output, class_token_logits(net, kept[0])
