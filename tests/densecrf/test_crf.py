"""The drop-in classes: against the exact CRF and by their own contract. See also test_parity."""

import copy
import itertools
import pickle
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wsss.densecrf as dcrf
from wsss.densecrf import reference
from wsss.densecrf.utils import create_pairwise_bilateral, create_pairwise_gaussian


@pytest.fixture
def problem(make_problem):
    image, probs = make_problem(14, 19, 4)
    return image, np.ascontiguousarray(-np.log(probs).reshape(4, -1))


def build(image: np.ndarray, unary: np.ndarray, compat=(3, 5), **options) -> dcrf.DenseCRF2D:
    height, width, _ = image.shape
    crf = dcrf.DenseCRF2D(width, height, len(unary), **options)
    crf.setUnaryEnergy(unary)
    crf.addPairwiseGaussian(sxy=3, compat=compat[0])
    crf.addPairwiseBilateral(sxy=20, srgb=15, rgbim=image, compat=compat[1])
    return crf


def test_agrees_with_the_exact_crf(problem) -> None:
    image, unary = problem
    exact = reference.mean_field(
        unary,
        [
            reference.PairwiseTerm(reference.position_features(14, 19, 3), 3),
            reference.PairwiseTerm(reference.bilateral_features(image, 20, 15), 5),
        ],
        n_iters=5,
    )
    ours = build(image, unary).inference(5)
    assert (ours.argmax(0) == exact.argmax(0)).mean() > 0.99
    assert np.abs(ours - exact).mean() < 0.01


def test_steps_equal_inference(problem) -> None:
    # Catches a step that starts from the wrong Q, or works on a copy.
    image, unary = problem
    crf = build(image, unary)
    q, tmp1, tmp2 = crf.startInference()
    np.testing.assert_array_equal(q, crf.inference(0))
    for n in range(1, 5):
        assert crf.stepInference(q, tmp1, tmp2) is None
        np.testing.assert_allclose(q, crf.inference(n), atol=1e-6)


def test_kl_divergence_is_the_sum_that_its_docstring_says(problem) -> None:
    # sum q log q + sum q u - sum_m w_m q K_m q, with the lattice's K by way of two inferences.
    image, unary = problem
    free = dcrf.DenseCRF2D(19, 14, 4)
    free.setUnaryEnergy(unary)
    q = free.inference(0).astype(np.float64)
    expected = (q * (np.log(q) + unary)).sum()
    assert free.klDivergence(q) == pytest.approx(expected, rel=1e-5)

    exact = [
        w * reference.normalise_symmetrically(reference.gaussian_kernel(f))
        for w, f in (
            (3, reference.position_features(14, 19, 3)),
            (5, reference.bilateral_features(image, 20, 15)),
        )
    ]
    expected -= sum((q * (q @ kernel)).sum() for kernel in exact)
    crf = build(image, unary)
    assert crf.klDivergence(q) == pytest.approx(expected, rel=0.02)
    certain = np.zeros_like(q)
    certain[0] = 1
    assert np.isfinite(crf.klDivergence(certain))


def test_kl_divergence_is_pydensecrfs_number_and_no_divergence() -> None:
    # All labellings of three points, counted out: half of the messages, and none of a point to
    # itself, is what differs from the divergence by a constant. So say the docstrings.
    rng = np.random.default_rng(0)
    features = rng.normal(size=(1, 3)) * 0.3
    unary = rng.uniform(0, 1, (2, 3))
    weight = 2.0
    kernel = reference.normalise_symmetrically(reference.gaussian_kernel(features))
    labellings = np.array(list(itertools.product(range(2), repeat=3)))
    energy = np.array(
        [
            unary[labels, range(3)].sum()
            - weight
            * sum(kernel[i, k] for i, k in ((0, 1), (0, 2), (1, 2)) if labels[i] == labels[k])
            for labels in labellings
        ]
    )
    log_p = -energy - np.log(np.exp(-energy).sum())
    crf = dcrf.DenseCRF(3, 2, parity=False)
    crf.setUnaryEnergy(unary)
    crf.addPairwiseEnergy(features, weight)
    reported, halved, divergence = [], [], []
    for _ in range(4):
        q = rng.dirichlet([1, 1], 3).T
        reported.append(crf.klDivergence(q))
        messages = weight * (q @ kernel)
        own = weight * (q * q * np.diag(kernel)).sum()
        entropy = (q * np.log(q)).sum()
        halved.append(entropy + (q * unary).sum() - 0.5 * ((q * messages).sum() - own))
        assert reported[-1] == pytest.approx(entropy + (q * (unary - messages)).sum(), abs=0.2)
        log_q = np.log(q)[labellings, range(3)].sum(axis=1)
        divergence.append((np.exp(log_q) * (log_q - log_p)).sum())
    np.testing.assert_allclose(np.diff(halved), np.diff(divergence), atol=1e-12)
    assert np.abs(np.diff(reported) - np.diff(divergence)).max() > 0.3


def test_general_features_equal_the_image_methods(problem) -> None:
    # addPairwiseEnergy with (x, y, r, g, b); utils gives (y, x, r, g, b), another lattice.
    image, unary = problem
    crf = dcrf.DenseCRF(14 * 19, 4)
    crf.setUnaryEnergy(unary)
    crf.addPairwiseEnergy(reference.position_features(14, 19, 3).astype(np.float32), compat=3)
    crf.addPairwiseEnergy(create_pairwise_bilateral((20, 20), 15, image, 2)[[1, 0, 2, 3, 4]], 5)
    np.testing.assert_allclose(crf.inference(5), build(image, unary).inference(5), atol=1e-4)

    other = dcrf.DenseCRF(14 * 19, 4)
    other.setUnaryEnergy(unary)
    other.addPairwiseEnergy(create_pairwise_gaussian((3, 3), (14, 19)), compat=3)
    other.addPairwiseEnergy(create_pairwise_bilateral((20, 20), 15, image, 2), compat=5)
    agreement = other.inference(5).argmax(0) == build(image, unary).inference(5).argmax(0)
    assert agreement.mean() > 0.98


def test_forms_of_a_potts_compat_are_one(problem) -> None:
    # pydensecrf's signs: a number attracts, the matrix and its diagonal penalise.
    image, unary = problem
    scalar = build(image, unary, (3, 5)).inference(4)
    diagonal = build(image, unary, (np.full(4, -3.0), np.full(4, -5.0))).inference(4)
    matrix = build(image, unary, (-3 * np.eye(4), -5 * np.eye(4))).inference(4)
    np.testing.assert_array_equal(diagonal, scalar)
    np.testing.assert_allclose(matrix, scalar, atol=1e-4)


@pytest.mark.parametrize("n_labels", [3, 9, 40])
def test_matrix_compat_against_the_exact_crf(make_problem, n_labels) -> None:
    # Catches a transposed or unsymmetrised matrix, and a row width without a matrix path.
    image, probs = make_problem(9, 11, n_labels)
    unary = -np.log(probs).reshape(n_labels, -1)
    matrix = np.random.default_rng(1).normal(size=(n_labels, n_labels)).astype(np.float32)
    features = reference.bilateral_features(image, 5, 40)
    kernel = reference.normalise_symmetrically(reference.gaussian_kernel(features))
    q = np.exp(-unary)
    q = np.exp(-unary - (matrix + matrix.T) / 2 @ (q @ kernel))
    crf = dcrf.DenseCRF(99, n_labels)
    crf.setUnaryEnergy(unary)
    crf.addPairwiseEnergy(features, matrix)
    assert np.abs(crf.inference(1) - q / q.sum(axis=0)).max() < 0.05


@pytest.mark.parametrize(
    "normalization, left, right",
    [
        (dcrf.NORMALIZE_SYMMETRIC, 0.5, 0.5),
        (dcrf.NORMALIZE_BEFORE, 1, 0),
        (dcrf.NORMALIZE_AFTER, 0, 1),
    ],
)
def test_normalisations_against_the_exact_kernel(problem, normalization, left, right) -> None:
    # One update reveals N_out K N_in q; before and after differ, so an exchange shows.
    image, unary = problem
    features = reference.bilateral_features(image, 20, 40)
    kernel = reference.gaussian_kernel(features)
    mass = kernel.sum(axis=0)
    q = np.exp(-unary)
    q /= q.sum(axis=0)
    expected = np.exp(-unary + 2 * ((q / mass**left) @ kernel) / mass**right)
    expected /= expected.sum(axis=0)
    crf = dcrf.DenseCRF(unary.shape[1], 4)
    crf.setUnaryEnergy(unary)
    crf.addPairwiseEnergy(features, 2, dcrf.DIAG_KERNEL, normalization)
    assert np.abs(crf.inference(1) - expected).max() < 0.04


def test_unary_alone_and_set_twice(problem) -> None:
    _, unary = problem
    crf = dcrf.DenseCRF(unary.shape[1], 4)
    crf.setUnaryEnergy(np.zeros_like(unary))
    crf.setUnaryEnergy(unary)
    probs = np.exp(-unary)
    np.testing.assert_allclose(crf.inference(3), probs / probs.sum(axis=0), rtol=1e-5)


def test_large_energies_stay_finite() -> None:
    # Catches a padding value that beats a real label, and an exponential that overflows.
    crf = dcrf.DenseCRF(3, 2)
    crf.setUnaryEnergy(np.array([[1e38, -1e38, 3e38], [1e38, 1e38, -3e38]]))
    crf.addPairwiseEnergy(np.zeros((1, 3)), 1)
    np.testing.assert_allclose(crf.inference(0), [[0.5, 1, 0], [0.5, 0, 1]])
    assert np.isfinite(crf.inference(3)).all()


IMPOSSIBLE = np.array([[np.inf, 0.5, 0.7, 0], [0, 0.9, 0.7, np.inf]])


def test_an_infinite_energy_makes_a_label_impossible_in_every_way_to_a_result() -> None:
    # -log of a hard mask. The numbers are pydensecrf's.
    expected = [[0, 0.6143, 0.5163, 1], [1, 0.3857, 0.4837, 0]]
    crf = dcrf.DenseCRF(4, 2)
    crf.setUnaryEnergy(IMPOSSIBLE)
    crf.addPairwiseEnergy(np.zeros((2, 4)), 1)
    np.testing.assert_allclose(crf.inference(5), expected, atol=5e-5)
    q, tmp1, tmp2 = crf.startInference()
    np.testing.assert_array_equal(q, crf.inference(0))
    for _ in range(5):
        crf.stepInference(q, tmp1, tmp2)
    np.testing.assert_allclose(q, crf.inference(5), atol=1e-6)
    assert np.isfinite(crf.klDivergence(q))
    assert crf.klDivergence(np.full((2, 4), 0.5)) == np.inf  # where it is not, as by definition
    terms = [reference.PairwiseTerm(np.zeros((2, 4)), 1)]
    exact = reference.mean_field(IMPOSSIBLE, terms, 5)
    np.testing.assert_array_equal(exact[:, [0, 3]], [[0, 1], [1, 0]])
    np.testing.assert_allclose(exact, expected, atol=0.02)
    image = dcrf.DenseCRF2D(2, 2, 2)
    image.setUnary(dcrf.ConstUnary(IMPOSSIBLE))
    image.addPairwiseGaussian(1e6, 1)
    np.testing.assert_allclose(image.inference(5), expected, atol=5e-5)


@pytest.mark.parametrize("n_labels", [1, 2, 3, 4, 5, 8, 9, 21, 40])
def test_impossible_labels_in_every_row_width(make_problem, n_labels) -> None:
    # An infinite energy is what padding lanes have: catches one that is taken for the other.
    image, probs = make_problem(9, 11, n_labels)
    hard = np.where(probs == probs.max(axis=0), probs, 0) if n_labels < 5 else probs * (probs > 0.1)
    hard = np.where(hard.max(axis=0) == 0, probs, hard).reshape(n_labels, -1)
    with np.errstate(divide="ignore"):
        unary = -np.log(hard)
    compat = 3 if n_labels % 2 else np.random.default_rng(0).normal(size=(n_labels, n_labels))
    crf = build(image, unary, (compat, compat))
    q = crf.inference(3)
    assert (q[hard == 0] == 0).all()
    np.testing.assert_allclose(q.sum(axis=0), 1, atol=1e-5)
    large = build(image, np.minimum(unary, 500), (compat, compat)).inference(3)
    np.testing.assert_allclose(q, large, atol=1e-6)


def test_without_a_unary_all_labels_are_alike() -> None:
    crf = dcrf.DenseCRF(4, 3)
    np.testing.assert_allclose(crf.inference(2), 1 / 3)
    crf.addPairwiseEnergy(np.arange(8.0).reshape(2, 4), 2)
    q, _, _ = crf.startInference()
    crf.stepInference(q)
    np.testing.assert_allclose(q, 1 / 3, atol=1e-6)
    assert np.isfinite(crf.klDivergence(q))
    crf.addPairwiseEnergy(np.arange(4.0)[None], np.array([-1.0, -2.0, -3.0]))
    assert crf.inference(3).argmax(0).tolist() == [2] * 4
    crf.setUnaryEnergy(np.array([[0.0] * 4, [9.0] * 4, [9.0] * 4]))
    assert crf.inference(3).argmax(0).tolist() == [0] * 4


def test_phantom_points_matter_only_off_multiples_of_four() -> None:
    # Scattered features leave the vertices around the origin unmade; the phantoms make them.
    rng = np.random.default_rng(0)
    for n in range(60, 64):
        features, unary = rng.normal(size=(5, n)), rng.uniform(0, 2, (3, n))
        on, off = (dcrf.DenseCRF(n, 3, parity=parity) for parity in (True, False))
        for crf in (on, off):
            crf.setUnaryEnergy(unary)
            crf.addPairwiseEnergy(features, 2)
        assert np.array_equal(on.inference(3), off.inference(3)) == (n % 4 == 0)
        np.testing.assert_allclose(on.inference(3), off.inference(3), atol=0.05)


def test_a_kept_position_lattice_is_that_of_its_size_sigmas_and_normalisation() -> None:
    # Each line follows one that it could be taken for. The general method keeps nothing.
    rng = np.random.default_rng(0)
    for height, width, sxy, normalization in [
        (9, 16, (3, 3), dcrf.NORMALIZE_SYMMETRIC),
        (16, 9, (3, 3), dcrf.NORMALIZE_SYMMETRIC),
        (12, 12, (3, 3), dcrf.NORMALIZE_SYMMETRIC),
        (12, 12, (9, 3), dcrf.NORMALIZE_SYMMETRIC),
        (12, 12, (9, 1), dcrf.NORMALIZE_SYMMETRIC),
        (12, 12, (9, 1), dcrf.NORMALIZE_AFTER),
        (12, 12, (9, 1), dcrf.NORMALIZE_BEFORE),
        (12, 12, (9, 1), dcrf.NO_NORMALIZATION),
        (12, 12, (3, 3), dcrf.NORMALIZE_SYMMETRIC),
    ]:
        unary = rng.uniform(0, 2, (3, height * width))
        y, x = np.mgrid[:height, :width].reshape(2, -1)
        features = np.stack([x, y]) / np.array(sxy)[:, None]
        ours, general = dcrf.DenseCRF2D(width, height, 3), dcrf.DenseCRF(height * width, 3)
        for crf in (ours, general):
            crf.setUnaryEnergy(unary)
        ours.addPairwiseGaussian(sxy, 3, normalization=normalization)
        general.addPairwiseEnergy(features, 3, normalization=normalization)
        np.testing.assert_allclose(ours.inference(2), general.inference(2), atol=1e-5)


def test_a_position_lattice_is_built_once_for_a_size() -> None:
    # Half the time of a CRF with few labels, and no result would tell.
    def taken(sxy: float) -> float:
        crf = dcrf.DenseCRF2D(400, 300, 2)
        start = time.perf_counter()
        crf.addPairwiseGaussian(sxy, 3)
        return time.perf_counter() - start

    taken(3)
    known = statistics.median(taken(3) for _ in range(7))
    unknown = statistics.median(taken(4 + 0.1 * i) for i in range(7))
    assert known < unknown / 3


def test_constants_are_pydensecrfs() -> None:
    assert [int(k) for k in (dcrf.CONST_KERNEL, dcrf.DIAG_KERNEL, dcrf.FULL_KERNEL)] == [0, 1, 2]
    names = ("NO_NORMALIZATION", "NORMALIZE_BEFORE", "NORMALIZE_AFTER", "NORMALIZE_SYMMETRIC")
    assert [int(getattr(dcrf, name)) for name in names] == [0, 1, 2, 3]


CRF = dcrf.DenseCRF2D(4, 3, 2)
IMAGE = np.zeros((3, 4, 3), np.uint8)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: CRF.addPairwiseGaussian((3, 3, 3), 3), "one number or 2 numbers"),
        (lambda: CRF.addPairwiseGaussian(3, 3, kernel=7), "kernel must be one of CONST_KERNEL"),
        (lambda: CRF.addPairwiseGaussian(3, 3, normalization=9), "normalization must be one of"),
        (lambda: CRF.addPairwiseBilateral(3, (1, 2), IMAGE, 3), "one number or 3 numbers"),
        (lambda: CRF.addPairwiseBilateral(3, 3, IMAGE / 255, 3), "rgbim must be uint8"),
        (lambda: CRF.klDivergence(np.zeros((1, 12))), "Q must have shape"),
        (lambda: CRF.setUnary(np.zeros((2, 12))), "must be a ConstUnary.*setUnaryEnergy"),
        (lambda: dcrf.LogisticUnary(np.zeros((2, 3)), np.zeros((4, 12))), r"agree in F.*\(4, 12\)"),
    ],
)
def test_refuses_with_the_way_out(call, message) -> None:
    """See test_traps for what else is refused."""
    with pytest.raises(ValueError, match=message):
        call()


def test_refused_terms_leave_no_trace(problem) -> None:
    # Catches a term that is counted before it is complete.
    image, unary = problem
    crf = build(image, unary)
    before = crf.inference(3)
    for call in (
        lambda: crf.addPairwiseEnergy(np.full((2, unary.shape[1]), np.nan), 3),
        lambda: crf.addPairwiseGaussian(3, np.full(4, np.inf)),
        lambda: crf.addPairwiseGaussian(1e-42, 3),
        lambda: crf.setUnaryEnergy(np.full_like(unary, np.nan)),
    ):
        with pytest.raises(ValueError):
            call()
    np.testing.assert_array_equal(crf.inference(3), before)
    crf.addPairwiseGaussian(3, 3)  # nor in the term that takes its place
    anew = build(image, unary)
    anew.addPairwiseGaussian(3, 3)
    np.testing.assert_array_equal(crf.inference(3), anew.inference(3))


def test_what_is_given_may_be_used_for_something_else(problem) -> None:
    """Energies and features count as they were when they were given, as in pydensecrf."""
    image, unary = problem
    features = create_pairwise_bilateral((20, 20), (15, 15, 15), image, 2)
    compat, results = np.ones(4, np.float32), []
    for spoil in (False, True):
        given = [array.copy() for array in (unary, features, compat, image)]
        crf = dcrf.DenseCRF2D(image.shape[1], image.shape[0], 4)
        kept = dcrf.ConstUnary(given[0])
        crf.addPairwiseEnergy(given[1], given[2])
        crf.addPairwiseBilateral(20, 15, given[3], 5)
        for array in given if spoil else ():
            array[:] = 0
        crf.setUnary(kept)
        results.append(crf.inference(3))
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_crf_cannot_be_copied(how: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"a DenseCRF2D cannot be copied or pickled; make a new"):
        how(dcrf.DenseCRF2D(4, 3, 2))
