"""What every CAM method promises: range, mirror image, independence, and a model left alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wsss.cam import clip_es, text_seeds
from wsss.cam._base import CamMethod
from wsss.cam.comparable import ComparableCamMethod
from wsss.cam.learning import LearningCamMethod
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
    "single_stage": "segmentation_head",
}
"""The model a method is for; a convolutional network where nothing is said."""

CLIP = {"clip_es": {"attention_layers": 3}, "text_seeds": {"layers": 2}}
"""Methods that ask CLIP, here a tiny one, and what fits it."""

PATCHES = {"patch_memory": {"reach": 30.0, "neighbourhood": 1}}
"""Methods that learn from good images: a reach that random features do not exceed."""

TAGS_COMPETE = {"clip_es", "single_stage"}
"""Methods whose map of a class depends on the image's other tags."""

NAMES = sorted(set(CAM_METHODS.names()) - {"sam3"})
"""All but one that needs a checkpoint, and sees a mirrored image as another; see test_sam3.py."""


@pytest.fixture
def method(name: str, request: pytest.FixtureRequest) -> CamMethod:
    """The method, with its defaults."""
    values = request.getfixturevalue("tiny_clip") | CLIP[name] if name in CLIP else {}
    return CAM_METHODS.build(CAM_METHODS.settings(name)(**values | PATCHES.get(name, {})))


def shown_good_images(method: CamMethod, model: Classifier) -> None:
    """Let a method that learns from good images see some, of another kind than is asked for."""
    if isinstance(method, LearningCamMethod):
        generator = torch.Generator().manual_seed(5)
        good = [[0.2 * torch.randn(1, 3, 64, 96, generator=generator)] for _ in range(4)]
        with torch.inference_mode():
            method.learn(model, good, len(good), 0)


def cams_of(
    model: Classifier, method: CamMethod, images: torch.Tensor, ids: list[tuple[int, ...]]
) -> list[torch.Tensor]:
    wrapped = method.method if isinstance(method, SlidingWindow) else method
    shown_good_images(wrapped, model)
    with torch.inference_mode(not method.needs_gradients):
        return multiscale_cams(
            model, method, images, ids, grid=(16, 24), scales=(0.5, 1.0), flip=True,
            align_corners=False, max_pixels=64 * 96 * 2,
            stretch=not isinstance(wrapped, ComparableCamMethod),
        )[0]  # fmt: skip


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_multiscale_maps(
    classifier: Callable[[str], Classifier], name: str, method: CamMethod, windows: bool
) -> None:
    model = classifier(KIND.get(name, "cnn"))
    least = 0.1 if isinstance(method, ComparableCamMethod) else 0.9
    if windows:
        method = SlidingWindow(method, 32, 0.5, batch_size=4)
    torch.manual_seed(1)
    images = torch.randn(3, 3, 64, 96)
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    ids = [(1, 3), (), (2, 3, 4)]
    found = cams_of(model, method, images, ids)
    assert [len(cams) for cams in found] == [2, 0, 3]
    assert all(cams.min() >= 0 and cams.max() <= 1 for cams in found if len(cams))
    assert any(cams.max() > least for cams in found if len(cams))
    assert not any(cams.requires_grad for cams in found)
    mirrored = cams_of(model, method, images.flip(-1), ids)
    for cams, other in zip(found, mirrored, strict=True):
        torch.testing.assert_close(other.flip(-1), cams, rtol=1e-3, atol=1e-4)
    # Alone, an image gets the maps it gets in a batch.
    torch.testing.assert_close(
        cams_of(model, method, images[2:], ids[2:])[0], found[2], rtol=1e-3, atol=1e-4
    )
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    modules = list(model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)


@pytest.mark.parametrize("name", sorted(set(NAMES) - TAGS_COMPETE))
def test_a_class_has_the_same_map_whatever_else_is_wanted(
    classifier: Callable[[str], Classifier], name: str, method: CamMethod
) -> None:
    # Catches maps that go to another class or image of the batch.
    model = classifier(KIND.get(name, "cnn"))
    torch.manual_seed(1)
    images = torch.randn(2, 3, 32, 48)
    rows, columns = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 2, 3, 3, 1])
    shown_good_images(method, model)
    with torch.inference_mode(not method.needs_gradients):
        maps, logits = method(model, images, rows, columns)
        for map_, row, column in zip(maps, rows, columns, strict=True):
            image = images[row : row + 1]
            (alone,), score = method(model, image, torch.tensor([0]), column[None])
            torch.testing.assert_close(map_, alone, rtol=1e-3, atol=1e-4 * float(alone.max()))
            torch.testing.assert_close(score, logits[row : row + 1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_maps_in_reduced_precision_are_nearly_the_same(
    classifier: Callable[[str], Classifier], name: str, method: CamMethod
) -> None:
    model = classifier(KIND.get(name, "cnn"))
    torch.manual_seed(1)
    images, ids = torch.randn(2, 3, 64, 96), [(1, 3), (2,)]
    exact = cams_of(model, method, images, ids)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = cams_of(model, method, images, ids)
    for found, expected in zip(coarse, exact, strict=True):
        assert found.dtype == expected.dtype
        assert (found - expected).abs().mean() < 0.1


@pytest.mark.parametrize("name", NAMES)
def test_no_tags_and_an_image_smaller_than_a_cell(
    classifier: Callable[[str], Classifier], name: str, method: CamMethod
) -> None:
    model = classifier(KIND.get(name, "cnn"))
    assert cams_of(model, method, torch.randn(1, 3, 64, 96), [()])[0].shape == (0, 16, 24)
    (cams,) = cams_of(model, method, torch.randn(1, 3, 5, 7), [(2, 4)])
    assert cams.shape == (2, 16, 24) and torch.isfinite(cams).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_weak_classifier_has_the_maps_of_a_strong_one(
    classifier: Callable[[str], Classifier], name: str, method: CamMethod
) -> None:
    """Catches what is added to a maximum, or to a sum, so that nothing is divided by zero."""
    torch.manual_seed(1)
    images = torch.randn(2, 3, 64, 96)
    found = []
    for strength in (1e-3, 1e-8):
        model = classifier(KIND.get(name, "cnn"))
        model.head.weight.data *= strength
        if name == "pretrained":
            for parameter in model.parts["pretrained_head"].parameters():
                parameter.data *= strength
        found.append(torch.cat(cams_of(model, method, images, [(1, 3), (2, 4)])))
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=5e-3)
    if not isinstance(method, ComparableCamMethod):
        assert set(found[1].amax(dim=(1, 2)).tolist()) <= {0, 1}  # pcm lets other classes win a map


LAYERS = {"layers": ("stage2", "last")}
FINER = [
    *((name, {}) for name in CAM_METHODS.names()),
    *((name, LAYERS) for name in ("grad_cam", "grad_cam_plus_plus", "layer_cam")),
    ("attention_rollout", {"query": "patches"}),
    ("ccam", {"with_class_maps": True}),
    ("ccam", {"compat_logits": True}),
    ("clip_es", {"affinity": False}),
    ("pcm", {"maps": "sum"}),
]
"""Every method, and those of its settings that change what it computes."""


def attention_on_a_finer_grid(cells: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Attention in which the first token keeps its share when each patch becomes so many."""

    def attention(queries: Tensor, keys: Tensor) -> Tensor:
        scores = queries @ keys.mT / queries.shape[-1] ** 0.5
        scores[..., 0] += torch.tensor(cells).log()
        return scores.softmax(dim=-1)

    return attention


@pytest.mark.parametrize("times", [2, 8])
@pytest.mark.parametrize(("name", "settings"), FINER)
def test_every_cam_method_gives_the_same_map_on_a_finer_grid(
    classifier: Callable[[str], Classifier],
    name: str,
    settings: dict[str, Any],
    times: int,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a network finds in one cell, here it finds in `times` squared: scales count alike.

    A mean over cells leaves each a gradient, or an attention, that is so much smaller.
    """
    values = dict(settings)
    if name in CLIP:
        values |= request.getfixturevalue("tiny_clip") | CLIP[name]
    if name == "sam3":
        values["checkpoint"] = str(request.getfixturevalue("sam3_folder"))
    if name == "ecs":
        values["sigma"] = 1e6  # a blur of pixels would see the finer grid's
    values |= PATCHES.get(name, {})
    method = CAM_METHODS.build(CAM_METHODS.settings(name)(**values))
    kind = KIND.get(name, "cells")
    model = classifier(kind if kind in ("vit", "class tokens") else "cells")
    if kind in ("vit", "class tokens"):
        nn.init.zeros_(model.backbone.net.pos_embed)
    if name in CLIP:
        nn.init.zeros_(method.clip.net.visual.positional_embedding)

    torch.manual_seed(1)
    colours = torch.randn(2, 3, 2, 3)
    rows, columns = torch.tensor([0, 0, 1]), torch.tensor([0, 2, 3])
    if name == "ecs":  # straight edges, where a map falls from 1 to 0: halfway is between cells
        colours = colours[:, :, :1, [0, 0, 1]]
        pictures = colours.repeat_interleave(16, 2).repeat_interleave(16, 3)
        left, _, right = model.backbone(pictures)[:, :, 0].unbind(-1)
        weights = nn.functional.normalize(left, dim=1) - nn.functional.normalize(right, dim=1)
        model.head.weight.data[[0, 2, 3], :, 0, 0] = weights[[0, 0, 1]]
    else:
        pictures = colours.repeat_interleave(16, 2).repeat_interleave(16, 3)
        with torch.inference_mode():
            signs = model(pictures).logits[rows, columns].sign()
        model.head.weight.data[columns] *= signs[:, None, None, None]  # no map is empty

    shown_good_images(method, model)

    def found(finer: int) -> tuple[Tensor, Tensor]:
        images = colours.repeat_interleave(16 * finer, 2).repeat_interleave(16 * finer, 3)
        for module in (clip_es, text_seeds):
            monkeypatch.setattr(module, "attention", attention_on_a_finer_grid(finer**2))
        if kind in ("vit", "class tokens"):
            net = model.backbone.net
            tokens = net.num_prefix_tokens + 6 * finer**2
            mask = torch.zeros(tokens, tokens)
            mask[:, : net.num_prefix_tokens] = torch.tensor(finer**2).log()
            whole = type(net).forward_features
            monkeypatch.setattr(net, "forward_features", lambda x: whole(net, x, attn_mask=mask))
        with torch.inference_mode(not method.needs_gradients):
            maps, logits = method(model, images, rows, columns)
        return maps, logits

    maps, logits = found(1)
    finer_maps, finer_logits = found(times)
    if name != "sam3":  # which stretches images to a square of its own
        maps = maps.repeat_interleave(times, 1).repeat_interleave(times, 2)
    assert (maps.amax(dim=(1, 2)) > 0).all()
    # SAM 3 resizes images, and what CLIP-ES stretches in the end has all but one value
    share = {"sam3": 5e-2, "clip_es": 1e-2}.get(name, 1e-4)
    torch.testing.assert_close(finer_maps, maps, rtol=1e-3, atol=share * float(maps.max()))
    torch.testing.assert_close(finer_logits, logits, rtol=1e-3, atol=1e-4)
