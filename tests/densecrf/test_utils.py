"""Unaries and features against hand-computed values."""

import numpy as np
import pytest

from wsss.densecrf import utils


def test_unary_from_labels_with_an_unsure_label() -> None:
    energy = utils.unary_from_labels(np.array([[0, 1], [3, 2]]), 3, gt_prob=0.8)
    expected = [[1 / 3, 0.8, 0.1, 0.1], [1 / 3, 0.1, 0.1, 0.8], [1 / 3, 0.1, 0.8, 0.1]]
    np.testing.assert_allclose(np.exp(-energy), expected, rtol=1e-5)
    assert energy.dtype == np.float32


def test_unary_from_labels_without() -> None:
    labels = np.array([2, 0, 1], np.uint8)
    energy = utils.unary_from_labels(labels, 3, gt_prob=0.5, zero_unsure=False)
    np.testing.assert_allclose(np.exp(-energy), np.full((3, 3), 0.25) + 0.25 * np.eye(3)[labels].T)


def test_unary_from_softmax() -> None:
    probs = np.array([[[0.0, 0.25]], [[1.0, 0.75]]])
    energy = utils.unary_from_softmax(probs)
    np.testing.assert_allclose(np.exp(-energy), [[1e-5, 0.25], [1, 0.75]], rtol=1e-5)
    half = utils.unary_from_softmax(probs, scale=0.5, clip=None)
    np.testing.assert_allclose(np.exp(-half), [[0.25, 0.375], [0.75, 0.625]], rtol=1e-5)
    assert np.isinf(utils.unary_from_softmax(probs, clip=None)[0, 0])


def test_gaussian_features_follow_the_axes() -> None:
    # (y, x) as in pydensecrf: sigma order is that of the shape.
    features = utils.create_pairwise_gaussian((2, 10), (2, 3))
    np.testing.assert_allclose(features[0], [0, 0, 0, 0.5, 0.5, 0.5])
    np.testing.assert_allclose(features[1], [0, 0.1, 0.2] * 2)
    assert features.dtype == np.float32


def test_bilateral_features_for_any_channel_axis() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    last = utils.create_pairwise_bilateral((2, 10), (1, 2, 4), image, chdim=2)
    first = utils.create_pairwise_bilateral((2, 10), (1, 2, 4), image.transpose(2, 0, 1), chdim=0)
    np.testing.assert_array_equal(last, first)
    np.testing.assert_allclose(last[2:], image.reshape(8, 3).T / np.array([[1], [2], [4]]))
    np.testing.assert_array_equal(last[:2], utils.create_pairwise_gaussian((2, 10), (2, 4)))
    grey = utils.create_pairwise_bilateral((2, 10), 4, image[..., 0])
    np.testing.assert_allclose(grey[2], image[..., 0].ravel() / 4)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("scale", [0.7, 0.999])
def test_unary_from_softmax_mixes_in_double_precision(dtype: type, scale: float) -> None:
    sm = np.random.default_rng(0).dirichlet(np.ones(21), 50).T.astype(dtype)
    # as pydensecrf writes it, where 1 / n of float64 decides
    expected = -np.log(np.clip(scale * sm + (1 - scale) * (np.ones(sm.shape) / 21), 1e-5, 1.0))
    found = utils.unary_from_softmax(sm, scale=scale)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_a_single_label_is_certain() -> None:
    labels = np.array([[1, 0], [1, 1]])
    expected = np.where(labels.ravel() == 1, -np.log(0.7), 0)[None]
    np.testing.assert_allclose(utils.unary_from_labels(labels, 1, 0.7), expected, rtol=1e-6)
    alone = utils.unary_from_labels(labels * 0, 1, 0.7, zero_unsure=False)
    np.testing.assert_allclose(alone, np.full((1, 4), -np.log(0.7)), rtol=1e-6)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: utils.unary_from_labels(np.array([255]), 21, 0.7), "map ignored pixels to 0"),
        (lambda: utils.unary_from_labels(np.array([-1]), 21, 0.7, False), "one is -1"),
        (lambda: utils.unary_from_labels(np.array([0]), 0, 0.7), "n_labels must be at least 1"),
        (lambda: utils.unary_from_labels(np.array([0]), 2, 1.0), "gt_prob must be strictly"),
        (lambda: utils.unary_from_labels(np.array([0.5]), 2, 0.7), "labels must be integers"),
        (lambda: utils.unary_from_softmax(np.ones((2, 3)), scale=0), "scale must be above 0"),
        (lambda: utils.unary_from_softmax(np.ones((2, 3)), clip=-0.1), r"clip must be in \[0, 1\)"),
        (lambda: utils.unary_from_softmax(np.ones((0, 3))), "n_labels"),
        (lambda: utils.create_pairwise_gaussian((1, 0), (2, 3)), r"sdims\[1\] must be finite"),
        (lambda: utils.create_pairwise_gaussian((1, 2, 3), (2, 3)), "one number or 2 numbers"),
        (
            lambda: utils.create_pairwise_bilateral((1, 2), (1, 2, 3, 4), np.zeros((2, 3, 3)), 2),
            "schan must be one number or 3",
        ),
        (
            lambda: utils.create_pairwise_bilateral((1, 2), 1, np.zeros((2, 3, 3)), 3),
            "chdim must be an axis of img",
        ),
    ],
)
def test_refuses_with_the_way_out(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()
