"""The drop-in classes: against the exact CRF and by their own contract. See also test_parity."""

import statistics
import time

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


def test_kl_divergence_is_the_free_energy(problem) -> None:
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
    after = crf.inference(5)
    assert crf.klDivergence(after) < crf.klDivergence(q)
    certain = np.zeros_like(q)
    certain[0] = 1
    assert np.isfinite(crf.klDivergence(certain))


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
        lambda: crf.addPairwiseGaussian(1e-7, 3),
        lambda: crf.setUnaryEnergy(np.full_like(unary, np.nan)),
    ):
        with pytest.raises(ValueError):
            call()
    np.testing.assert_array_equal(crf.inference(3), before)
    crf.addPairwiseGaussian(3, 3)  # nor in the term that takes its place
    anew = build(image, unary)
    anew.addPairwiseGaussian(3, 3)
    np.testing.assert_array_equal(crf.inference(3), anew.inference(3))
