"""Captured attention against softmax(q k / sqrt d) of the block's own weights."""

from typing import Any

import pytest
import timm
import torch

from wsss.models.attention import captured_attention, last_blocks


@pytest.fixture(scope="module")
def net() -> Any:
    torch.manual_seed(0)
    return timm.create_model("test_vit", num_classes=0, dynamic_img_size=True).eval()


def by_hand(net: Any, images: torch.Tensor) -> list[torch.Tensor]:
    """(B, heads, N, N) of each block."""
    found = []
    tokens = net._pos_embed(net.patch_embed(images))
    for block in net.blocks:
        normed = block.norm1(tokens)
        attn, width = block.attn, normed.shape[2]
        q, k, _ = torch.einsum("bnd,ed->bne", normed, attn.qkv.weight).split(width, dim=2)
        q, k = q + attn.qkv.bias[:width], k + attn.qkv.bias[width : 2 * width]
        size = width // attn.num_heads
        heads = []
        for h in range(attn.num_heads):
            part = slice(h * size, (h + 1) * size)
            heads.append((q[..., part] @ k[..., part].transpose(1, 2) / size**0.5).softmax(dim=2))
        found.append(torch.stack(heads, dim=1))
        tokens = block(tokens)
    return found


def test_it_is_the_softmax_of_the_blocks_queries_and_keys(net: Any) -> None:
    # Catches a missing scale, a transposed matrix, another layer, and heads in another order.
    images = torch.randn(2, 3, 32, 64)
    with torch.no_grad():
        wanted = by_hand(net, images)
        with captured_attention(net) as kept:
            net.forward_features(images)
    assert len(kept) == len(net.blocks)
    for tensor, other in zip(kept, wanted, strict=True):
        assert tensor.shape == (2, 2, 9, 9)
        torch.testing.assert_close(tensor, other, rtol=1e-4, atol=1e-6)


def test_chosen_blocks_and_what_is_kept_of_them(net: Any) -> None:
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        with captured_attention(net) as everything:
            net.forward_features(images)
        with captured_attention(net, [1, 4], lambda item: item.mean(dim=1)) as kept:
            net.forward_features(images)
    torch.testing.assert_close(kept, [everything[i].mean(dim=1) for i in (1, 4)])


def test_rows_sum_to_one_under_dropout_of_attention() -> None:
    net: Any = timm.create_model("test_vit", num_classes=0, attn_drop_rate=0.5).train()
    with torch.no_grad(), captured_attention(net, [0]) as kept:
        net.forward_features(torch.randn(1, 3, 160, 160))
    torch.testing.assert_close(kept[0].sum(dim=3), torch.ones(kept[0].shape[:3]))


def test_the_network_is_left_as_it_was(net: Any) -> None:
    net.blocks[2].attn.fused_attn = False  # one that somebody else has switched off
    before = [block.attn.fused_attn for block in net.blocks]
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        wanted = net.forward_features(images)
        with captured_attention(net):
            found = net.forward_features(images)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(RuntimeError, match="stop"), captured_attention(net):
        raise RuntimeError("stop")
    assert [block.attn.fused_attn for block in net.blocks] == before
    assert not any(module._forward_pre_hooks for module in net.modules())
    net.blocks[2].attn.fused_attn = True


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv2_050", "swin_tiny_patch4_window7_224"])
def test_networks_without_global_attention_are_refused(name: str) -> None:
    small = {"embed_dim": 16, "depths": [1, 1, 1, 1]} if name.startswith("swin") else {}
    net = timm.create_model(name, num_classes=0, **small)
    refused = pytest.raises(ValueError, match="choose a plain vision transformer")
    with refused, captured_attention(net):
        pass


def test_windows_are_refused() -> None:
    # Its blocks look like a plain transformer's, but attend within windows.
    net: Any = timm.create_model(
        "samvit_base_patch16", num_classes=0, embed_dim=32, depth=2, num_heads=2, img_size=64,
        window_size=2, global_attn_indexes=(),
    )  # fmt: skip
    before = [block.attn.fused_attn for block in net.blocks]
    refused = pytest.raises(ValueError, match="choose a plain vision transformer")
    with refused, torch.no_grad(), captured_attention(net):
        net.forward_features(torch.zeros(1, 3, 64, 64))
    assert [block.attn.fused_attn for block in net.blocks] == before
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_blocks_that_do_not_exist(net: Any) -> None:
    refused = pytest.raises(ValueError, match="no block 6; its 6 blocks are 0 to 5")
    with refused, captured_attention(net, [0, 6]):
        pass
    assert list(last_blocks(net, 2)) == [4, 5]
    assert list(last_blocks(net, 0)) == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="last_layers is 7, but VisionTransformer has 6 blocks"):
        last_blocks(net, 7, "last_layers")
