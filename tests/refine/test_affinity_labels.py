"""Confident pixels by hand where the CRF does nothing, pairs by loops, the loss by its numbers."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from wsss.artifacts import ScoreMap
from wsss.refine.affinity_labels import (
    AffinityLabelSettings,
    PairMasks,
    affinity_labels,
    affinity_loss,
    affinity_terms,
    pair_labels,
)
from wsss.refine.dense_crf import PRESETS
from wsss.refine.random_walk import pair_offsets

KINDS = ["psa", "irn"]


def one_map(scores: np.ndarray, ids: list[int]) -> ScoreMap:
    return ScoreMap(
        np.array(ids, np.uint8),
        scores.astype(np.float32),
        scores.shape[1:],
        np.ones(len(ids), np.float32),
    )


def without_pairwise(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Let the CRF give its unary back, and record its keywords."""
    calls: list[dict[str, Any]] = []

    def crf(images: Any, probs: Any, **values: Any) -> Any:
        calls.append(values)
        return probs

    monkeypatch.setattr("wsss.densecrf.dense_crf", crf)
    return calls


# one class of 7: what it beats (1 - s)^4 with is s > .2755, and (1 - s)^32 with s > .0775
BY_HAND = {
    "psa": ([0.0, 0.07, 0.08, 0.27, 0.28, 1.0], [0, 0, 255, 255, 7, 7]),
    "irn": ([0.0, 0.04, 0.06, 0.29, 0.31, 1.0], [0, 0, 255, 255, 7, 7]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_labels_by_hand(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = without_pairwise(monkeypatch)
    row, expected = BY_HAND[kind]
    image = np.zeros((1, 6, 3), np.uint8)
    settings = AffinityLabelSettings(kind=kind)
    (labels,) = affinity_labels([image], [one_map(np.array([[row]]), [7])], settings)
    assert labels.dtype == np.uint8
    assert labels.tolist() == [expected]
    for call in calls:
        assert call == {key: PRESETS[kind][key] for key in call}
        assert {"sigma_xy", "sigma_rgb", "compat_bilateral", "n_iters"} <= call.keys()


def test_the_strongest_class_is_the_label(monkeypatch: pytest.MonkeyPatch) -> None:
    without_pairwise(monkeypatch)
    scores = np.array([[[0.9, 0.4, 0.01]], [[0.2, 0.5, 0.02]]])
    image = np.zeros((1, 3, 3), np.uint8)
    for kind in KINDS:
        settings = AffinityLabelSettings(kind=kind)  # type: ignore[arg-type]
        (labels,) = affinity_labels([image], [one_map(scores, [3, 12])], settings)
        assert labels.tolist() == [[3, 12, 0]]


@pytest.mark.parametrize(("kind", "label"), [("psa", 0), ("irn", 5)])
def test_a_contradiction_is_resolved_as_published(
    kind: Any, label: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CRF can make a pixel background only where the background is the weak one."""
    answers = iter([np.array([[[0.1]], [[0.9]]]), np.array([[[0.9]], [[0.1]]])])
    monkeypatch.setattr("wsss.densecrf.dense_crf", lambda *_, **__: [next(answers)])
    cam = one_map(np.full((1, 1, 1), 0.5), [5])
    settings = AffinityLabelSettings(kind=kind)
    (labels,) = affinity_labels([np.zeros((1, 1, 3), np.uint8)], [cam], settings)
    assert labels.tolist() == [[label]]


@pytest.mark.parametrize("kind", KINDS)
def test_labels_keep_to_the_edges_of_the_image(kind: Any) -> None:
    """A bright square of which the scores know the middle alone."""
    image = np.full((40, 48, 3), 30, np.uint8)
    image[10:30, 12:36] = 220
    scores = np.full((1, 40, 48), 0.04)
    scores[0, 12:28, 14:34] = 0.9
    settings = AffinityLabelSettings(kind=kind, sigma_xy=20)
    (labels,) = affinity_labels([image], [one_map(scores, [4])], settings)
    np.testing.assert_array_equal(labels, np.where(image[..., 0] == 220, 4, 0))


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_its_images_and_no_tag_is_background(kind: Any) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((9, 7), (1, 5), (6, 1))]
    maps = [
        one_map(rng.random((2, 9, 7)), [2, 9]),
        one_map(np.zeros((0, 1, 5)), []),
        one_map(rng.random((1, 6, 1)), [20]),
    ]
    settings = AffinityLabelSettings(kind=kind)
    found = affinity_labels(images, maps, settings)
    for image, cam, labels in zip(images, maps, found, strict=True):
        np.testing.assert_array_equal(affinity_labels([image], [cam], settings)[0], labels)
        assert labels.shape == cam.size
        assert set(np.unique(labels)) <= {0, 255, *cam.class_ids.tolist()}
    assert not found[1].any()


def test_permuting_classes_permutes_labels() -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)
    cam = one_map(rng.random((3, 8, 10)), [1, 2, 3])
    swapped = one_map(cam.scores[[2, 0, 1]], [1, 2, 3])
    names = np.zeros(256, np.uint8)
    names[[1, 2, 3, 255]] = 2, 3, 1, 255
    for kind in KINDS:
        settings = AffinityLabelSettings(kind=kind)  # type: ignore[arg-type]
        labels, renamed = affinity_labels([image, image], [cam, swapped], settings)
        np.testing.assert_array_equal(names[labels], renamed)


def test_settings_reach_the_crf() -> None:
    settings = AffinityLabelSettings(kind="irn", fg_threshold=0.5, sigma_xy=25, sigma_rgb=9)
    of_classes, of_background = settings.crfs()
    assert (of_classes.threshold, of_background.threshold) == (0.5, 0.05)
    assert of_classes.unary == of_background.unary == "labels"
    assert (of_background.sigma_xy, of_background.sigma_rgb) == (25, 9)
    of_classes, of_background = AffinityLabelSettings(low_alpha=2, high_alpha=24).crfs()
    assert (of_classes.alpha, of_background.alpha) == (2, 24)
    assert of_classes.background == of_background.background == "power"
    assert (of_classes.sigma_xy, of_classes.sigma_rgb) == (80, 13)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"low_alpha": 32}, "low_alpha must be below high_alpha, but they are 32.0 and 32"),
        ({"fg_threshold": 0.01}, "bg_threshold must be below fg_threshold"),
    ],
)
def test_backgrounds_out_of_order_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AffinityLabelSettings(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(2, 6, 7), (1, 1, 6), (1, 5, 1), (3, 2, 2)])
def test_pairs_by_loops(shape: tuple[int, int, int]) -> None:
    offsets = pair_offsets(5)
    labels = np.random.default_rng(0).choice(np.array([0, 3, 8, 255], np.uint8), shape)
    masks = pair_labels(torch.from_numpy(labels), offsets)
    count, height, width = shape
    for b in range(count):
        for k, (dy, dx) in enumerate(offsets):
            for y in range(height):
                for x in range(width):
                    inside = 0 <= y + dy < height and 0 <= x + dx < width
                    pair = {labels[b, y, x], labels[b, y + dy, x + dx]} if inside else {255}
                    found = [bool(mask[b, k, y, x]) for mask in masks]
                    assert found == [
                        pair in ({3}, {8}),
                        pair == {0},
                        len(pair) == 2 and 255 not in pair,
                    ]


def loss_input() -> tuple[torch.Tensor, PairMasks]:
    """Background .9, .8; a class .7; unlike .2, .4; and a pair that nothing is said about."""
    affinities = torch.tensor([0.9, 0.8, 0.7, 0.2, 0.4, torch.nan]).view(1, 1, 1, 6)
    kinds = torch.tensor([1, 1, 0, 2, 2, 3]).view(1, 1, 1, 6)
    return affinities, PairMasks(kinds == 0, kinds == 1, kinds == 2)


def test_the_loss_has_its_published_form() -> None:
    affinities, masks = loss_input()
    affinities.requires_grad_()
    loss = affinity_loss(affinities, masks)
    assert loss.item() == pytest.approx(0.313710, abs=3e-6)  # without the 1e-5 of the counts
    eps = 1e-5
    bg = -(math.log(0.9 + eps) + math.log(0.8 + eps)) / (2 + eps)
    fg = -math.log(0.7 + eps) / (1 + eps)
    neg = -(math.log(0.8 + eps) + math.log(0.6 + eps)) / (2 + eps)
    assert loss.item() == pytest.approx(bg / 4 + fg / 4 + neg / 2, abs=2e-7)
    terms = [term.item() for term in affinity_terms(affinities, masks)]
    assert terms == pytest.approx([fg, bg, neg], abs=2e-7)
    as_irn_has_it = ((terms[0] + terms[1]) / 2 + terms[2]) / 2
    assert as_irn_has_it == pytest.approx(loss.item(), abs=1e-6)
    loss.backward()
    expected = torch.tensor([-1 / 7.2, -1 / 6.4, -1 / 2.8, 1 / 3.2, 1 / 2.4, 0])
    torch.testing.assert_close(affinities.grad.flatten(), expected, atol=1e-4, rtol=0)


def test_the_loss_is_finite_without_pairs_and_where_an_affinity_is_certain() -> None:
    affinities = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2).requires_grad_()
    yes, no = torch.ones(1, 1, 1, 2, dtype=torch.bool), torch.zeros(1, 1, 1, 2, dtype=torch.bool)
    loss = affinity_loss(affinities, PairMasks(yes, no, yes))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(affinities.grad).all()
    assert affinity_loss(affinities, PairMasks(no, no, no)).item() == 0
