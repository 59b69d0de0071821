"""What the single-stage network learns from: its labels by loops, and who gets none."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import wsss.methods.single_stage as module
from wsss.config.sections import BackboneSettings
from wsss.methods._self_labels import self_label_loss, self_labels
from wsss.methods.base import Start
from wsss.methods.objective import Objective
from wsss.methods.single_stage import SingleStage, SingleStageSettings
from wsss.models.classifier import Classifier
from wsss.models.timm_backbone import TimmBackbone
from wsss.seeding import Step

MULTI = Objective("multi_label")


def step(progress: float = 0.5) -> Step:
    return Step(np.random.default_rng(0), progress, list("abcd"))


def labels_by_loops(
    masks: np.ndarray, possible: np.ndarray, shares: list[float], least: float
) -> np.ndarray:
    labels = np.full((len(masks), *masks.shape[2:]), 255)
    for image, y, x in np.ndindex(*labels.shape):
        accepted = [
            c
            for c in range(masks.shape[1])
            if possible[image, c]
            and masks[image, c, y, x] > max(least, shares[c] * masks[image, c].max())
        ]
        if len(accepted) == 1:
            labels[image, y, x] = accepted[0]
    return labels


def some_masks(seed: int = 0) -> Tensor:
    """(3, 4, 6, 5), a softmax."""
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(3, 4, 6, 5, generator=generator)).softmax(dim=1)


def test_labels_are_the_rule() -> None:
    masks, shares = some_masks(), [0.7, 0.6, 0.6, 0.6]
    possible = torch.tensor([[1, 1, 0, 1], [1, 0, 0, 0], [0, 1, 1, 1]]).bool()
    found = self_labels(masks, possible, torch.tensor(shares), 0.2)
    expected = labels_by_loops(masks.numpy(), possible.numpy(), shares, 0.2)
    np.testing.assert_array_equal(found, expected)
    assert set(found[0].unique().tolist()) == {0, 1, 3, 255}
    assert set(found[1].unique().tolist()) <= {0, 255}


def test_the_loss_by_hand() -> None:
    """N = 4 accepted of 6 pixels, 3 of them background."""
    logits = torch.randn(1, 3, 2, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[[0, 0, 255], [0, 2, 255]]])
    wanted = torch.tensor([[True, False, True]])
    nll = -logits.log_softmax(dim=1)[0]
    rare, frequent = nll[2, 1, 1], nll[0, 0, 0] + nll[0, 0, 1] + nll[0, 1, 0]
    expected = ((4 - 1) / 5 * rare + (4 - 3) / 5 * frequent) / 6
    torch.testing.assert_close(self_label_loss(logits, labels, wanted), expected)


def test_ignored_pixels_and_incomplete_images_have_no_gradient() -> None:
    logits = torch.randn(2, 3, 2, 3, requires_grad=True)
    labels = torch.tensor([[[0, 0, 255], [0, 2, 255]]] * 2)
    wanted = torch.tensor([[True, False, True], [True, True, True]])  # 1 has no pixel
    self_label_loss(logits, labels, wanted).backward()
    assert logits.grad is not None
    assert (logits.grad[0, :, labels[0] == 255] == 0).all()
    assert (logits.grad[0, :, labels[0] != 255] != 0).all()
    assert (logits.grad[1] == 0).all()


def test_one_class_alone_and_no_label_at_all_cost_nothing() -> None:
    logits = torch.randn(2, 3, 2, 3, requires_grad=True)
    labels = torch.stack([torch.zeros(2, 3), torch.full((2, 3), 255)]).long()
    wanted = torch.tensor([[True, False, False]] * 2)
    loss = self_label_loss(logits, labels, wanted)
    loss.backward()
    assert loss == 0
    assert logits.grad is not None and (logits.grad == 0).all()


@pytest.fixture
def begin(
    make_model: Callable[..., Classifier], make_start: Callable[..., Start]
) -> Callable[..., tuple[SingleStage, Classifier]]:
    """Makes the method and a classifier with its part."""

    def make(*, has_background: bool = True, **settings: Any) -> tuple[SingleStage, Classifier]:
        values = {"channels": 16, "rates": [1, 2]} | settings
        method = SingleStage(SingleStageSettings.model_validate(values))
        start = make_start(has_background=has_background)
        return method, make_model(method.begin(start)).eval()

    return make


@pytest.fixture
def taught(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Logits, labels and wanted classes of every call of the loss."""
    found: list[tuple[Tensor, Tensor, Tensor]] = []

    def noted(logits: Tensor, labels: Tensor, wanted: Tensor) -> Tensor:
        found.append((logits, labels, wanted))
        return self_label_loss(logits, labels, wanted)

    monkeypatch.setattr(module, "self_label_loss", noted)
    return found


def give(model: Classifier, logits: Tensor) -> None:
    """Let the head say this of every batch of images."""
    model.parts["segmentation_head"].forward = lambda *_: logits


def spots(images: int = 4) -> Tensor:
    """(B, 3, 12, 8) logits in which each class is sure of a few cells of its own."""
    logits = torch.full((images, 3, 12, 8), -4.0)
    for index in range(3):
        logits[:, index, 4 * index : 4 * index + 2, 2:6] = 5 + index
    return logits


def test_a_class_without_its_tag_is_never_a_label(
    begin: Callable[..., Any], images: Tensor, taught: list[Any]
) -> None:
    method, model = begin(n_iters=1)
    give(model, spots())
    seen = set()
    for tags in torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3):
        method(model, images, tags.repeat(4, 1), MULTI, step())
        _, labels, wanted = taught.pop()
        assert labels.shape == (4, 48, 32)
        found = set(labels.unique().tolist()) - {255}
        assert found <= {0, *(tags.nonzero().flatten() + 1).tolist()}
        assert torch.equal(wanted[:, 1:], tags.bool().repeat(4, 1))
        assert wanted[:, 0].all()
        seen |= found
    assert seen == {0, 1, 2, 3}


def test_a_class_that_nobody_knows_of_competes_and_is_no_label(
    begin: Callable[..., Any], images: Tensor, taught: list[Any]
) -> None:
    method, model = begin(n_iters=1)
    give(model, spots())
    tags = torch.tensor([[1.0, 0, 0]] * 4)
    method(model, images, tags, MULTI, step())
    _, without, _ = taught.pop()
    tags[:, 1] = math.nan
    method(model, images, tags, MULTI, step())
    _, labels, wanted = taught.pop()
    assert set(labels.unique().tolist()) <= {0, 1, 255}
    assert not wanted[:, 2].any()
    assert ((labels == without) | (labels == 255)).all()
    unsure = labels != without
    assert unsure[:, 16:24, 8:24].any()  # about the cells of class 2


def test_an_extra_class_is_no_label(images: Tensor, taught: list[Any]) -> None:
    method = SingleStage(SingleStageSettings(channels=16, n_iters=1))
    torch.manual_seed(0)
    names = ("boat", "car")
    start: Any = type(
        "Start", (), {"class_names": (*names, "background_images"), "has_background": True}
    )
    backbone = TimmBackbone(BackboneSettings(model_name="resnet10t"))
    model = Classifier(backbone, names, num_extra=1, parts=method.begin(start)).eval()
    give(model, spots())
    tags = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    method(model, images, tags, MULTI, step())
    _, labels, wanted = taught.pop()
    assert set(labels.unique().tolist()) == {0, 1, 2, 255}
    assert wanted.shape == (4, 4) and not wanted[:, 3].any()


def test_without_a_background_all_classes_are_alike(
    begin: Callable[..., Any], images: Tensor, labels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Tensor] = []

    def noted(masks: Tensor, possible: Tensor, shares: Tensor, least: float) -> Tensor:
        asked.append(shares)
        assert masks.shape[1] == possible.shape[1] == len(shares)
        torch.testing.assert_close(masks.sum(dim=1), torch.ones(4, 48, 32))
        return self_labels(masks, possible, shares, least)

    monkeypatch.setattr(module, "self_labels", noted)
    for background in (True, False):
        method, model = begin(has_background=background)
        method(model, images, labels, MULTI, step())
    torch.testing.assert_close(asked[0], torch.tensor([0.7, 0.6, 0.6, 0.6]))
    torch.testing.assert_close(asked[1], torch.tensor([0.6, 0.6, 0.6]))


def test_labels_come_from_averages_over_pixels_of_like_colour(
    begin: Callable[..., Any], taught: list[Any]
) -> None:
    """Halves of an image in two colours: across the edge nothing is averaged."""
    images = torch.zeros(1, 3, 64, 64)
    images[..., 32:] = 1
    tags = torch.tensor([[1.0, 1, 0]])
    method, model = begin(least=0, class_share=0.2, background_share=1, n_iters=80)
    logits = torch.full((1, 3, 16, 16), -20.0)
    logits[:, 0, 4, 4] = logits[:, 1, 11, 11] = 9  # one cell of each half
    give(model, logits)
    method(model, images, tags, MULTI, step())
    _, labels, _ = taught.pop()
    assert (labels[0, :, :28] == 1).float().mean() > 0.9
    assert (labels[0, :, 36:] == 2).float().mean() > 0.9


def test_masks_teach_themselves_after_5_of_24_epochs(
    begin: Callable[..., Any], images: Tensor, labels: Tensor
) -> None:
    method, model = begin(n_iters=1)
    give(model, spots())
    before = method(model, images, labels, MULTI, step((4 + 9 / 10) / 24))
    after = method(model, images, labels, MULTI, step(5 / 24))
    assert before["segmentation"] == 0 and after["segmentation"] > 0
    torch.testing.assert_close(before["loss"], before["classification"] + before["probe"])
    torch.testing.assert_close(after["loss"], before["loss"] + after["segmentation"])
    method, model = begin(segmentation_from=1)
    give(model, spots())
    assert method(model, images, labels, MULTI, step(0.99))["segmentation"] == 0


def test_the_probe_teaches_the_head_alone(
    begin: Callable[..., Any], images: Tensor, labels: Tensor
) -> None:
    method, model = begin()
    method(model, images, labels, MULTI, step())["probe"].backward()
    learning = {key for key, value in model.named_parameters() if value.grad is not None}
    assert learning == {"head.weight"}


def test_classes_weigh_in_the_classification(
    begin: Callable[..., Any], images: Tensor, labels: Tensor
) -> None:
    plain, model = begin()
    cells: list[Tensor] = []
    for column in range(3):
        only = torch.full_like(labels, math.nan)
        only[:, column] = labels[:, column]
        cells.append(plain(model, images, only, MULTI, step())["classification"])
    method, model = begin(class_weights={"tree": 10.0, "boat": 0.5})
    found = method(model, images, labels, MULTI, step())["classification"]
    torch.testing.assert_close(found, (0.5 * cells[0] + cells[1] + 10 * cells[2]) / 3)


BACKBONES = [
    BackboneSettings(model_name="mobilenetv2_050", output_stride=16, freeze_batchnorm=True),
    BackboneSettings(model_name="resnet38d", output_stride=8, timm_kwargs={"width": 1 / 32}),
    BackboneSettings(model_name="test_vit", output_stride=16),
]


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda backbone: str(backbone.model_name))
def test_other_backbones_learn_the_same_bytes_again(
    make_start: Callable[..., Start],
    images: Tensor,
    labels: Tensor,
    backbone: BackboneSettings,
    background: bool,
) -> None:
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        settings = SingleStageSettings(channels=16, rates=(1, 2))
        method = SingleStage(settings)
        parts = method.begin(make_start(has_background=background))
        model = Classifier(TimmBackbone(backbone), ("boat", "car", "tree"), parts=parts).train()
        losses = method(model, images, labels, MULTI, step())
        losses["loss"].backward()
        gradients = {key: value.grad for key, value in model.named_parameters() if "parts" in key}
        assert all(value is not None and value.abs().max() > 0 for value in gradients.values())
        found.append((losses, gradients))
    (first, one), (second, other) = found
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_reduced_precision(begin: Callable[..., Any], images: Tensor, labels: Tensor) -> None:
    method, model = begin()
    exact = method(model, images, labels, MULTI, step())
    with torch.autocast("cpu", torch.bfloat16):
        rounded = method(model, images, labels, MULTI, step())
    assert rounded["loss"].dtype == torch.float32
    torch.testing.assert_close(
        rounded["classification"], exact["classification"], rtol=0.02, atol=0.02
    )


def test_one_class_and_no_background_is_refused() -> None:
    start: Any = type("Start", (), {"class_names": ("smoke",), "has_background": False})
    method = SingleStage(SingleStageSettings())
    with pytest.raises(ValueError, match=r"no background.*'smoke'.*nothing to learn"):
        method.begin(start)
    start.has_background = True
    assert method.begin(start)
