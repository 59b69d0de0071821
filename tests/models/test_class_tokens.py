"""One class token per class: the tokens of a forward pass by hand, and what stays as it was."""

import copy
from typing import Any

import pytest
import timm
import torch

from wsss.models.class_tokens import (
    add_class_tokens,
    class_token_logits,
    count_class_tokens,
    count_image_tokens,
)

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("test_vit", {}),
    "registers": ("test_vit", {"reg_tokens": 4}),
    "registers without positions": ("test_vit", {"reg_tokens": 4, "no_embed_class": True}),
    "distilled": (
        "deit_tiny_distilled_patch16_224",
        {"embed_dim": 32, "depth": 2, "num_heads": 2, "img_size": 64},
    ),
}


def make(kind: str) -> Any:
    torch.manual_seed(0)
    name, kwargs = KINDS[kind]
    net: Any = timm.create_model(name, num_classes=0, dynamic_img_size=True, **kwargs).eval()
    for item in (net.cls_token, net.pos_embed):
        torch.nn.init.normal_(item)  # so that tokens and positions matter
    return net


@pytest.mark.parametrize("kind", KINDS)
def test_one_class_changes_nothing(kind: str) -> None:
    net = make(kind)
    images, prefix = torch.randn(2, 3, 32, 64), net.num_prefix_tokens
    with torch.no_grad():
        wanted = net.forward_features(images)
        add_class_tokens(net, 1)
        torch.testing.assert_close(net.forward_features(images), wanted)
    assert net.num_prefix_tokens == prefix


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_by_hand(kind: str) -> None:
    # Catches positions that go to the wrong token, and prefix tokens counted wrongly.
    net, before = make(kind), make(kind)
    add_class_tokens(net, 3)
    net.cls_token.data += torch.arange(3.0)[:, None]  # three different tokens
    images = torch.randn(2, 3, *net.patch_embed.img_size)  # the positions' own grid
    positions = before.pos_embed
    with torch.no_grad():
        patches = net.patch_embed(images).flatten(1, 2)
        classes = before.cls_token + torch.arange(3.0)[:, None]
        others = [
            item for item in (getattr(net, "dist_token", None), net.reg_token) if item is not None
        ]
        if net.no_embed_class:
            patches = patches + positions
        else:
            n_others = sum(tensor.shape[1] for tensor in others)
            classes = classes + positions[:, :1]
            others = [other + positions[:, 1 : 1 + n_others] for other in others]
            patches = patches + positions[:, 1 + n_others :]
        tokens = torch.cat(
            [other.expand(2, -1, -1) for other in (classes, *others, patches)], dim=1
        )
        wanted = net.norm(net.blocks(net.norm_pre(tokens)))
        found = net.forward_features(images)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert count_class_tokens(net) == 3
    assert found.shape[1] - net.num_prefix_tokens == patches.shape[1]
    torch.testing.assert_close(class_token_logits(net, found), wanted[:, :3].mean(dim=-1))
    assert count_image_tokens(net) == (4 if kind == "distilled" else 3)


def test_equal_class_tokens_give_equal_logits_and_learn_apart() -> None:
    net = make("vit")
    torch.nn.init.normal_(net.norm.weight)
    add_class_tokens(net, 2)
    logits = class_token_logits(net, net.forward_features(torch.randn(1, 3, 48, 32)))
    torch.testing.assert_close(logits[:, 0], logits[:, 1])
    (logits[:, 0] - logits[:, 1]).sum().backward()
    gradient = net.cls_token.grad[0]
    torch.testing.assert_close(gradient[0], -gradient[1])
    assert gradient[0].abs().max() > 0


def test_without_pretrained_weights_the_norm_learns_first() -> None:
    # As the docstring says: a plain layer norm takes the mean away that the logits are.
    net = make("vit")
    add_class_tokens(net, 2)
    logits = class_token_logits(net, net.forward_features(torch.randn(1, 3, 48, 32)))
    assert logits.abs().max() < 1e-6
    logits.sum().backward()
    assert net.norm.weight.grad.abs().max() > 1e-3


def test_a_hook_on_the_norm_gives_what_forward_features_gives() -> None:
    net = make("distilled")
    add_class_tokens(net, 2)
    kept: list[torch.Tensor] = []
    hook = net.norm.register_forward_hook(lambda _m, _i, out: kept.append(out))
    tokens = net.forward_features(torch.randn(1, 3, 32, 32))
    hook.remove()
    torch.testing.assert_close(kept[0], tokens)


def test_copies_and_saved_weights_keep_them() -> None:
    net = make("registers")
    add_class_tokens(net, 3)
    images = torch.randn(1, 3, 32, 48)
    other = make("registers")
    add_class_tokens(other, 3)
    net.cls_token.data.normal_()
    other.load_state_dict(net.state_dict())
    with torch.no_grad():
        wanted = net.forward_features(images)
        torch.testing.assert_close(other.forward_features(images), wanted)
        torch.testing.assert_close(copy.deepcopy(net).forward_features(images), wanted)
    assert count_class_tokens(copy.deepcopy(net)) == 3


def test_frozen_tokens_stay_frozen() -> None:
    net = make("vit")
    net.pos_embed.requires_grad_(False)
    add_class_tokens(net, 3)
    assert not net.pos_embed.requires_grad and net.cls_token.requires_grad


def test_networks_that_can_not_have_them() -> None:
    with pytest.raises(ValueError, match="ResNet has no class token to repeat"):
        add_class_tokens(timm.create_model("resnet10t"), 3)
    with pytest.raises(ValueError, match="no class token to repeat"):
        add_class_tokens(timm.create_model("test_vit", class_token=False, global_pool="avg"), 3)
    net = make("vit")
    with pytest.raises(ValueError, match="num_classes=0"):
        add_class_tokens(net, 0)
    add_class_tokens(net, 2)
    with pytest.raises(ValueError, match="has 2 class tokens already"):
        add_class_tokens(net, 2)
