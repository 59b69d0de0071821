"""Quick gradients of dilated depthwise convolutions are PyTorch's own."""

import copy

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional

from wsss.models.dilated_depthwise import DilatedDepthwiseConv2d, quick_dilated_depthwise


def gradients(
    conv: nn.Conv2d, maps: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor | None, ...]:
    leaves = [x for x in (maps, weight, bias) if x is not None]
    for leaf in leaves:
        leaf.grad = None
    slopes = torch.rand(maps.shape, generator=torch.Generator().manual_seed(1), dtype=maps.dtype)
    (conv._conv_forward(maps, weight, bias) * slopes).sum().backward()
    return tuple(leaf.grad for leaf in leaves)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize(
    ("size", "d"),
    [((14, 14), 2), ((13, 18), 2), ((9, 17), 3), ((16, 16), 12), ((5, 40), 4), ((4, 4), 24)],
)
def test_gradients(
    size: tuple[int, int], d: int, wanted: tuple[bool, bool], layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 6, 3, padding=d, dilation=d, groups=6).double()
    maps = torch.rand(2, 6, *size).double().to(memory_format=layout).requires_grad_(wanted[0])
    weight, bias = conv.weight.requires_grad_(wanted[1]), conv.bias
    expected = gradients(conv, maps, weight, bias)
    with quick_dilated_depthwise(nn.Sequential(conv)) as number:
        assert number == 1
        assert isinstance(conv, DilatedDepthwiseConv2d)
        found = gradients(conv, maps, weight, bias)
    assert type(conv) is nn.Conv2d
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        if b is not None:
            torch.testing.assert_close(a, b)


def test_gradients_of_gradients() -> None:
    conv = nn.Conv2d(3, 3, 3, padding=2, dilation=2, groups=3, bias=False).double()
    for size in ((8, 8), (5, 5)):
        maps = torch.rand(1, 3, *size, dtype=torch.float64, requires_grad=True)
        with quick_dilated_depthwise(nn.Sequential(conv)):
            assert torch.autograd.gradgradcheck(conv, (maps,))


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2),
        nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=4),
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        nn.Conv2d(4, 4, 5, padding=4, dilation=2, groups=4),
        nn.Conv2d(4, 4, 3, padding=1, dilation=2, groups=4),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4, stride=2),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, padding="same", dilation=2, groups=4),
        nn.Conv2d(1, 1, 3, padding=2, dilation=2),
    ],
)
def test_others_stay_as_they_are(conv: nn.Conv2d) -> None:
    with quick_dilated_depthwise(nn.Sequential(conv)) as number:
        assert number == 0


def test_half_precision_and_inference_are_left_to_pytorch() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4)
    maps = torch.rand(1, 4, 12, 12)
    with torch.autocast("cpu", torch.bfloat16):
        expected = conv(maps)
    with quick_dilated_depthwise(nn.Sequential(conv)), torch.autocast("cpu", torch.bfloat16):
        found = conv(maps)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected)


def test_a_segmenter() -> None:
    torch.manual_seed(0)
    network = smp.DeepLabV3Plus("tu-resnet10t", encoder_weights=None, classes=3).double()
    network.decoder.aspp[0].project[-1].p = 0.0  # its dropout
    plain = copy.deepcopy(network)
    images, labels = torch.rand(2, 3, 64, 64).double(), torch.randint(0, 3, (2, 64, 64))
    functional.cross_entropy(plain(images), labels).backward()
    with quick_dilated_depthwise(network) as number:
        assert number == 3
        assert list(network.state_dict()) == list(plain.state_dict())
        functional.cross_entropy(network(images), labels).backward()
    for (name, a), b in zip(network.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-6, atol=1e-9, msg=name)
