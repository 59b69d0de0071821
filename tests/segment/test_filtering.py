"""Prediction filtering and the CRF at test time: what they leave out, and what they leave alone."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning_fabric import Fabric
from torch import nn

from wsss.config.kernels import CrfKernelSettings
from wsss.segment.filtering import ClassFilter, class_probs, recall_thresholds
from wsss.segment.predict import predict_mask_in_windows, predict_probs
from wsss.segment.smoothing import smooth

PRESENT = torch.tensor([True, False, True, True])


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.float() / 127.5 - 1


@settings(max_examples=60)
@given(st.integers(0, 9), st.integers(1, 30), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_thresholds_are_the_largest_that_keep_the_recall(
    seed: int, count: int, recall: float
) -> None:
    rng = np.random.default_rng(seed)
    probs, targets = rng.random((count, 3)), (rng.random((count, 3)) < 0.5).astype(float)
    targets[:, 1] = np.where(rng.random(count) < 0.3, np.nan, targets[:, 1])  # unknown ones
    targets[:, 2] = 0
    thresholds = recall_thresholds(probs, targets, recall)
    for column in range(3):
        those = probs[targets[:, column] == 1, column]
        if not len(those):
            assert thresholds[column] == 0
            continue
        kept = (those >= thresholds[column]).mean()
        assert kept >= recall - 1e-9
        assert (those > thresholds[column]).mean() < recall or recall == 0


def test_a_class_below_its_threshold_never_occurs() -> None:
    torch.manual_seed(0)
    net = nn.Conv2d(3, 4, 1)
    nn.init.constant_(net.bias, 0)
    net.bias.data[1] = 50  # what the network is most certain of
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    pixels = normalised(torch.from_numpy(image).permute(2, 0, 1)[None])
    with torch.inference_mode():
        probs = predict_probs(net, pixels, scales=(0.5, 1), flip=True, present=PRESENT[None])
        assert (probs[:, 1] == 0).all() and probs.isfinite().all()
        torch.testing.assert_close(probs.sum(dim=1), torch.ones(1, 70, 90))
        for crf in (None, CrfKernelSettings(n_iters=2)):
            mask = predict_mask_in_windows(
                net, image, normalise=normalised, window=32, overlap=0.5, present=PRESENT, crf=crf
            )
            assert 1 not in mask and len(np.unique(mask)) > 1


def test_a_filter_that_keeps_all_changes_nothing() -> None:
    net, images = nn.Conv2d(3, 4, 1), torch.randn(2, 3, 40, 70)
    with torch.inference_mode():
        plain = predict_probs(net, images)
        kept = predict_probs(net, images, present=torch.ones(2, 4, dtype=torch.bool))
    assert torch.equal(plain, kept)


def test_the_field_follows_colours_and_sees_no_negligible_class() -> None:
    image = np.zeros((24, 24, 3), np.uint8)
    image[:, 12:] = 200
    probs = torch.full((1, 3, 24, 24), 0.0)
    probs[:, 0, :, :14], probs[:, 0, :, 14:] = 0.6, 0.395  # two columns too far
    probs[:, 2] = 0.005
    probs[:, 1] = 1 - probs[:, 0] - probs[:, 2]
    found = smooth([image], probs, CrfKernelSettings(sigma_xy=20))
    assert (found[0].argmax(dim=0)[:, 12:] == 1).all() and (
        found[0].argmax(dim=0)[:, :12] == 0
    ).all()
    assert (found[:, 2] == 0).all()
    torch.testing.assert_close(found.sum(dim=1), torch.ones(1, 24, 24))
    none = smooth([image], probs, CrfKernelSettings(n_iters=0))
    torch.testing.assert_close(none[0, :2], probs[0, :2] / probs[0, :2].sum(dim=0))


@pytest.mark.parametrize("window", [0, 16])
def test_windows_are_smoothed_one_by_one(window: int) -> None:
    """In a window as large as the image it is the field of the whole."""
    torch.manual_seed(1)
    net, image = (
        nn.Conv2d(3, 3, 1),
        np.random.default_rng(1).integers(0, 256, (32, 64, 3), np.uint8),
    )
    pixels = normalised(torch.from_numpy(image).permute(2, 0, 1)[None])
    crf = CrfKernelSettings(n_iters=3)
    with torch.inference_mode():
        whole = smooth([image], predict_probs(net, pixels), crf)[0].argmax(dim=0).numpy()
        mask = predict_mask_in_windows(
            net, image, normalise=normalised, window=window or 64, overlap=0, crf=crf
        )
    assert (mask == whole).mean() > (0.99 if not window else 0.5)


@pytest.mark.parametrize("classes", [2, 99, 101, 150])
def test_an_unsure_network_of_many_classes_is_smoothed(classes: int) -> None:
    image = np.zeros((6, 7, 3), np.uint8)
    probs = torch.full((1, classes, 6, 7), 1 / classes)
    probs[0, classes // 2, :, :3] *= 1.01
    found = smooth([image], probs, CrfKernelSettings())
    torch.testing.assert_close(found.sum(dim=1), torch.ones(1, 6, 7))
    assert (found[0].argmax(dim=0) == classes // 2).all()


class _Fixed(nn.Module):
    """A classifier whose logits are these, whatever it sees."""

    def __init__(self, logits: list[list[float]]) -> None:
        super().__init__()
        self.logits, self.class_names = torch.tensor(logits), ("a", "b")
        self.backbone = SimpleNamespace(normalisation=normalised)

    def forward(self, images: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.logits[: len(images)])


def test_probabilities_of_exclusive_classes_know_of_images_of_none() -> None:
    """A classifier that is sure of neither says so of both."""
    model, fabric = _Fixed([[0.0, -5.0, 8.0]]), Fabric(accelerator="cpu")
    pixels = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    found = class_probs(model, "single_label", fabric, pixels)  # type: ignore[arg-type]
    expected = torch.tensor([0.0, -5.0, 8.0]).softmax(dim=0)[:2]
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)
    several = class_probs(model, "multi_label", fabric, pixels)  # type: ignore[arg-type]
    np.testing.assert_allclose(several[0], torch.tensor([0.0, -5.0]).sigmoid(), rtol=1e-5)


@pytest.mark.parametrize("has_background", [True, False])
def test_where_each_pixel_has_a_class_one_is_left(
    has_background: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ClassFilter.__new__(ClassFilter)
    chosen.thresholds, chosen._has_background = np.array([0.5, 0.5]), has_background
    probs = {"unsure": np.array([0.2, 0.3]), "sure": np.array([0.9, 0.1])}
    monkeypatch.setattr(ClassFilter, "_probs", lambda *_: probs)
    found = {name: row.tolist() for name, row in chosen.present(()).items()}
    assert found["sure"] == [True, True, False]
    assert found["unsure"] == [True, False, not has_background]
