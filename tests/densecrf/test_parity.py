"""The same answers as pydensecrf, to the last pixel."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

import wsss.densecrf as ours
from wsss.densecrf import dense_crf
from wsss.densecrf import utils as our_utils

theirs = pytest.importorskip(
    "pydensecrf.densecrf",
    reason="compares with pydensecrf: pip install 'wsss[parity]' (Python 3.11 and 3.12)",
)
their_utils = pytest.importorskip("pydensecrf.utils")

# N % 4 = 0..3, lines, a point, and something larger.
SIZES = [(1, 1), (1, 7), (9, 1), (2, 3), (12, 15), (13, 17), (11, 22), (9, 15), (33, 47), (66, 67)]
SETTINGS = {"A": (80, 13, 10), "B": (50, 5, 10)}
MAX_DIFFERENCE = 1e-4


def infer(module, image, unary, setting, n_iters) -> np.ndarray:
    sxy, srgb, compat = setting
    crf = module.DenseCRF2D(image.shape[1], image.shape[0], len(unary))
    crf.setUnaryEnergy(unary)
    crf.addPairwiseGaussian(sxy=3, compat=3)
    crf.addPairwiseBilateral(sxy=sxy, srgb=srgb, rgbim=image, compat=compat)
    return np.array(crf.inference(n_iters))


def assert_same(
    ours_q: np.ndarray, theirs_q: np.ndarray, tolerance: float = MAX_DIFFERENCE
) -> None:
    assert np.abs(ours_q - theirs_q).max() <= tolerance
    # A tie within the tolerance may fall either way; anything else may not.
    differs = ours_q.argmax(0) != theirs_q.argmax(0)
    top_two = np.sort(theirs_q, axis=0)[-2:]
    assert not (differs & (np.ptp(top_two, axis=0) > 1e-5)).any()


def rounding_noise(image, unary, setting, n_iters) -> float:
    """How far pydensecrf's own answer moves when energies move by one unit in the last place.

    Mean field is unstable where two labels are about to part: differences grow fourfold an update,
    and from rounding alone reach 4e-3 in ten. No two programs agree better than this there.
    """
    expected = infer(theirs, image, unary, setting, n_iters)
    rng = np.random.default_rng(0)
    moved = 0.0
    for _ in range(3):
        nudged = np.where(rng.random(unary.shape) < 0.5, np.nextafter(unary, np.float32(99)), unary)
        moved = max(moved, np.abs(infer(theirs, image, nudged, setting, n_iters) - expected).max())
    return moved


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("setting", SETTINGS)
def test_inference(make_problem, size, setting) -> None:
    for n_labels, n_iters in itertools.product((2, 3, 8, 21, 64), (0, 1, 5, 10)):
        image, probs = make_problem(*size, n_labels, n_iters)
        unary = our_utils.unary_from_softmax(probs)
        problem = (image, unary, SETTINGS[setting], n_iters)
        expected = infer(theirs, *problem)
        refined = infer(ours, *problem)
        tolerance = MAX_DIFFERENCE
        if np.abs(refined - expected).max() > MAX_DIFFERENCE:
            tolerance = rounding_noise(*problem)
        assert_same(refined, expected, tolerance)
        batch = dense_crf(
            image,
            probs,
            sigma_xy=SETTINGS[setting][0],
            sigma_rgb=SETTINGS[setting][1],
            n_iters=n_iters,
            parity=True,
        )
        assert_same(batch.reshape(n_labels, -1), expected, tolerance)


def photographs() -> Iterator[np.ndarray]:
    """Those that come with scikit-image, and some of WSSS_SHARED where that is set."""
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        yield getattr(data, name)()[::2, ::2, :3].copy()
    if "WSSS_SHARED" in os.environ:
        folder = Path(os.environ["WSSS_SHARED"], "data", "voc_animals")
        for path in sorted(folder.rglob("*.jpg"))[:60:10]:
            yield np.array(Image.open(path).convert("RGB"))


@pytest.mark.parametrize("setting", SETTINGS)
def test_photographs(setting) -> None:
    # No mismatch among millions of pixels; with a black frame, whose features are all alike.
    rng = np.random.default_rng(0)
    for index, image in enumerate(photographs()):
        image[:9] = image[:, :7] = 0
        n_labels, n_iters = (2, 21, 5)[index % 3], (10, 5)[index % 2]
        height, width, _ = image.shape
        blobs = rng.normal(size=(n_labels, height // 16 + 1, width // 16 + 1)) * 1.5
        scores = np.repeat(np.repeat(blobs, 16, axis=1), 16, axis=2)[:, :height, :width]
        probs = np.exp(scores + rng.normal(size=scores.shape) * 0.5)
        unary = our_utils.unary_from_softmax((probs / probs.sum(axis=0)).astype(np.float32))
        problem = (image, unary, SETTINGS[setting], n_iters)
        assert_same(infer(ours, *problem), infer(theirs, *problem))


def test_a_noisy_image_of_many_vertices() -> None:
    # Few pixels share a simplex here, so the vertex table grows and most vertices lie apart.
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (121, 150, 3)).astype(np.uint8)
    unary = -np.log(rng.dirichlet(np.ones(5), 121 * 150).T.astype(np.float32) + 1e-5)
    unary = np.ascontiguousarray(unary)
    for setting in SETTINGS.values():
        assert_same(infer(ours, image, unary, setting, 5), infer(theirs, image, unary, setting, 5))


@pytest.mark.parametrize("size", [(301, 449), (513, 520)])
def test_images_in_strips(make_problem, size) -> None:
    # Two strips and four. Catches a ghost that is not gathered or not given its blurred value.
    image, probs = make_problem(*size, 3)
    unary = our_utils.unary_from_softmax(probs)
    for setting in SETTINGS.values():
        assert_same(infer(ours, image, unary, setting, 5), infer(theirs, image, unary, setting, 5))


@pytest.mark.parametrize("dim", [1, 2, 3, 4, 5, 6, 8, 12, 15, 16, 31])
def test_scattered_features_of_any_dimension(dim) -> None:
    # Vertices around the origin are pydensecrf's phantoms alone: this fails without them.
    rng = np.random.default_rng(dim)
    for n in range(40, 44):
        features = rng.normal(size=(dim, n)).astype(np.float32)
        unary = rng.uniform(0, 2, (3, n)).astype(np.float32)
        results = []
        for module in (ours, theirs):
            crf = module.DenseCRF(n, 3)
            crf.setUnaryEnergy(unary)
            crf.addPairwiseEnergy(features, 2)
            results.append(np.array(crf.inference(4)))
        assert_same(*results)


@pytest.mark.parametrize("form", ["number", "vector", "matrix"])
@pytest.mark.parametrize(
    "normalization",
    ["NO_NORMALIZATION", "NORMALIZE_BEFORE", "NORMALIZE_AFTER", "NORMALIZE_SYMMETRIC"],
)
def test_compat_normalisation_steps_and_divergence(make_problem, form, normalization) -> None:
    # Catches an exchange of before and after, a matrix's sign, or a term left out of klDivergence.
    image, probs = make_problem(13, 17, 4)
    unary = our_utils.unary_from_softmax(probs)
    rng = np.random.default_rng(0)
    compat = {
        "number": 3,
        "vector": rng.uniform(-5, 5, 4).astype(np.float32),
        "matrix": rng.normal(size=(4, 4)).astype(np.float32),
    }[form]
    if normalization == "NO_NORMALIZATION":
        compat = compat / 50  # a whole kernel's mass; keep the updates from jumping
        compat = float(compat) if form == "number" else compat.astype(np.float32)
    results = []
    for module in (ours, theirs):
        crf = module.DenseCRF2D(17, 13, 4)
        crf.setUnaryEnergy(unary)
        options = {"kernel": module.FULL_KERNEL, "normalization": getattr(module, normalization)}
        crf.addPairwiseGaussian((3, 2), compat, **options)
        crf.addPairwiseBilateral((8, 5), (30, 20, 10), image, compat, **options)
        features = their_utils.create_pairwise_bilateral((5, 7), (20, 30, 40), image, 2)
        crf.addPairwiseEnergy(np.ascontiguousarray(features), compat, **options)
        q, tmp1, tmp2 = crf.startInference()
        divergences = [crf.klDivergence(q)]
        for _ in range(3):
            crf.stepInference(q, tmp1, tmp2)
            divergences.append(crf.klDivergence(q))
        results.append((np.array(q), divergences))
    assert_same(results[0][0], results[1][0])
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-5)


def test_other_ways_to_a_unary() -> None:
    rng = np.random.default_rng(0)
    weights, features = (rng.normal(size=s).astype(np.float32) for s in ((3, 4), (4, 30)))
    energy = weights @ features
    results = []
    for module, call, arguments in (
        (theirs, "setUnaryEnergy", (energy,)),  # with features it refuses all but N = F
        (theirs, "setUnary", (theirs.ConstUnary(energy),)),
        (theirs, "setUnary", (theirs.LogisticUnary(weights, features),)),
        (ours, "setUnaryEnergy", (energy,)),
        (ours, "setUnaryEnergy", (weights, features)),
        (ours, "setUnary", (ours.ConstUnary(energy),)),
        (ours, "setUnary", (ours.LogisticUnary(weights, features),)),
    ):
        crf = module.DenseCRF(30, 3)
        getattr(crf, call)(*arguments)
        crf.addPairwiseEnergy(features, 2)
        results.append(np.array(crf.inference(3)))
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_names_of_utils(make_problem) -> None:
    _, probs = make_problem(6, 9, 5)
    labels = probs.argmax(0)
    for name, arguments in (
        ("compute_unary", (labels, 5)),
        ("compute_unary", (labels, 5, 0.7)),
        ("softmax_to_unary", (probs,)),
        ("softmax_to_unary", (probs, 0.6)),
    ):
        expected = getattr(their_utils, name)(*arguments)
        np.testing.assert_allclose(getattr(our_utils, name)(*arguments), expected, rtol=1e-6)


def test_utils(make_problem) -> None:
    image, probs = make_problem(6, 9, 5)
    labels = probs.argmax(0)
    for zero_unsure in (True, False):
        np.testing.assert_array_equal(
            our_utils.unary_from_labels(labels, 5, 0.7, zero_unsure),
            their_utils.unary_from_labels(labels, 5, 0.7, zero_unsure),
        )
    for options in ({}, {"scale": 0.5}, {"clip": None}, {"clip": 0.1}):
        np.testing.assert_allclose(
            our_utils.unary_from_softmax(probs, **options),
            their_utils.unary_from_softmax(probs, **options),
            rtol=1e-6,
        )
    for arguments in [((3, 4), (6, 9)), ((1, 2, 3), (2, 3, 4))]:
        np.testing.assert_array_equal(
            our_utils.create_pairwise_gaussian(*arguments),
            their_utils.create_pairwise_gaussian(*arguments),
        )
    for arguments in [
        ((3, 4), (5, 6, 7), image, 2),
        ((3, 4), 5.0, image, 2),
        ((3, 4), 5, image[..., 0], -1),
        ((3, 4), (5,), image[..., 0], -1),
    ]:
        np.testing.assert_array_equal(
            our_utils.create_pairwise_bilateral(*arguments),
            their_utils.create_pairwise_bilateral(*arguments),
        )
