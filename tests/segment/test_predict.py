"""Multi-scale prediction and the pixel loss: identities that any mistake breaks."""

import torch
from torch import nn

from wsss.segment.losses import cross_entropy
from wsss.segment.predict import predict_probs


class Colours(nn.Module):
    """Logits that are the colours, so the truth is known."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.shape[2] % 32 == 0 and images.shape[3] % 32 == 0
        return images


def test_constant_image_gives_its_softmax_at_any_size() -> None:
    images = torch.tensor([1.0, 2.0, -1.0]).view(1, 3, 1, 1).expand(2, 3, 50, 71)
    probs = predict_probs(Colours(), images, scales=(0.5, 1.0, 1.7), flip=True)
    torch.testing.assert_close(probs, images.softmax(dim=1))


def test_one_scale_at_a_fitting_size_is_the_network_itself() -> None:
    images = torch.randn(2, 3, 64, 96)
    torch.testing.assert_close(predict_probs(Colours(), images), images.softmax(dim=1))


def test_mirror_image_mirrors_the_prediction() -> None:
    net = nn.Conv2d(3, 4, 3, padding=1)
    images = torch.randn(1, 3, 40, 70)
    with torch.inference_mode():
        plain = predict_probs(net, images, scales=(0.75, 1.0), flip=True)
        mirrored = predict_probs(net, images.flip(-1), scales=(0.75, 1.0), flip=True)
    torch.testing.assert_close(plain, mirrored.flip(-1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(plain.sum(dim=1), torch.ones(1, 40, 70))


def test_loss_is_the_mean_over_labelled_pixels() -> None:
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    masks = torch.randint(0, 3, (2, 4, 5))
    masks[0, 0] = 255
    by_hand = [
        -logits.log_softmax(dim=1)[b, masks[b, y, x], y, x]
        for b in range(2)
        for y in range(4)
        for x in range(5)
        if masks[b, y, x] != 255
    ]
    loss = cross_entropy(logits, masks)
    torch.testing.assert_close(loss, torch.stack(by_hand).mean())
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[0, :, 0] == 0).all()
    assert (logits.grad[1] != 0).all()


def test_all_ignored_is_zero_and_not_nan() -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = cross_entropy(logits, torch.full((1, 4, 4), 255))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None and (logits.grad == 0).all()
