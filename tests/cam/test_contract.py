"""What every CAM method promises: range, mirror image, independence, and a model left alone."""

from collections.abc import Callable

import pytest
import torch

from wsss.cam._base import CamMethod
from wsss.cam.multiscale import multiscale_cams
from wsss.cam.sliding_window import SlidingWindow
from wsss.models.classifier import Classifier
from wsss.registry import CAM_METHODS

KIND = {
    "attention_rollout": "vit",
    "trans_cam": "vit",
    "class_token_attention": "class tokens",
    "ccam": "disentangler",
    "pcm": "pcm",
    "pretrained": "pretrained_head",
}
"""The model a method is for; a convolutional network where nothing is said."""

CLIP = {"clip_es": {"attention_layers": 3}, "text_seeds": {"layers": 2}}
"""Methods that ask CLIP, here a tiny one, and what fits it."""

TAGS_COMPETE = {"clip_es"}
"""Methods whose map of a class depends on the image's other tags."""

NAMES = sorted(set(CAM_METHODS.names()) - {"sam3"})
"""All but one that needs a checkpoint, and sees a mirrored image as another; see test_sam3.py."""


@pytest.fixture
def method(name: str, request: pytest.FixtureRequest) -> CamMethod:
    """The method, with its defaults."""
    values = request.getfixturevalue("tiny_clip") | CLIP[name] if name in CLIP else {}
    return CAM_METHODS.build(CAM_METHODS.settings(name)(**values))


def cams_of(
    model: Classifier, method: CamMethod, images: torch.Tensor, ids: list[tuple[int, ...]]
) -> list[torch.Tensor]:
    with torch.inference_mode(not method.needs_gradients):
        return multiscale_cams(
            model, method, images, ids, grid=(16, 24), scales=(0.5, 1.0), flip=True,
            align_corners=False, max_pixels=64 * 96 * 2,
        )[0]  # fmt: skip


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_multiscale_maps(
    classifier: Callable[[str], Classifier], name: str, method: CamMethod, windows: bool
) -> None:
    model = classifier(KIND.get(name, "cnn"))
    if windows:
        method = SlidingWindow(method, 32, 0.5, together=4)
    torch.manual_seed(1)
    images = torch.randn(3, 3, 64, 96)
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    ids = [(1, 3), (), (2, 3, 4)]
    found = cams_of(model, method, images, ids)
    assert [len(one) for one in found] == [2, 0, 3]
    assert all(one.min() >= 0 and one.max() <= 1 for one in found if len(one))
    assert any(one.max() > 0.9 for one in found if len(one))
    assert not any(one.requires_grad for one in found)
    mirrored = cams_of(model, method, images.flip(-1), ids)
    for one, other in zip(found, mirrored, strict=True):
        torch.testing.assert_close(other.flip(-1), one, rtol=1e-3, atol=1e-4)
    # Alone, an image gets the maps it gets in a batch.
    torch.testing.assert_close(
        cams_of(model, method, images[2:], ids[2:])[0], found[2], rtol=1e-3, atol=1e-4
    )
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    modules = list(model.modules())
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in modules)


@pytest.mark.parametrize("name", sorted(set(NAMES) - TAGS_COMPETE))
def test_a_class_has_the_same_map_whatever_else_is_wanted(
    classifier: Callable[[str], Classifier], name: str, method: CamMethod
) -> None:
    # Catches maps that go to another class or image of the batch.
    model = classifier(KIND.get(name, "cnn"))
    torch.manual_seed(1)
    images = torch.randn(2, 3, 32, 48)
    rows, columns = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 2, 3, 3, 1])
    with torch.inference_mode(not method.needs_gradients):
        together, logits = method(model, images, rows, columns)
        for map_, row, column in zip(together, rows, columns, strict=True):
            image = images[row : row + 1]
            (alone,), score = method(model, image, torch.tensor([0]), column[None])
            torch.testing.assert_close(map_, alone, rtol=1e-3, atol=1e-4 * float(alone.max()))
            torch.testing.assert_close(score, logits[row : row + 1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_no_tags_and_an_image_smaller_than_a_cell(
    classifier: Callable[[str], Classifier], name: str, method: CamMethod
) -> None:
    model = classifier(KIND.get(name, "cnn"))
    assert cams_of(model, method, torch.randn(1, 3, 64, 96), [()])[0].shape == (0, 16, 24)
    (cams,) = cams_of(model, method, torch.randn(1, 3, 5, 7), [(2, 4)])
    assert cams.shape == (2, 16, 24) and torch.isfinite(cams).all()
