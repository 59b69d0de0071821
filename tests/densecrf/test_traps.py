"""What pydensecrf answers with NaN, a wrapped number or a crash: here one row of it is one test.

Whatever is refused is refused with `ValueError`, in words that say what to do; see test_inference
and test_utils for the rows of `dense_crf` and of the helpers.
"""

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

import wsss.densecrf as dcrf
from wsss.densecrf import reference, utils

HEIGHT, WIDTH, LABELS = 3, 4, 2
POINTS = HEIGHT * WIDTH
IMAGE = np.arange(HEIGHT * WIDTH * 3, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3)
UNARY = np.linspace(0, 2, LABELS * POINTS, dtype=np.float32).reshape(LABELS, POINTS)
FEATURES = np.linspace(0, 3, 2 * POINTS, dtype=np.float32).reshape(2, POINTS)


def new_crf() -> dcrf.DenseCRF2D:
    crf = dcrf.DenseCRF2D(WIDTH, HEIGHT, LABELS)
    crf.setUnaryEnergy(UNARY)
    return crf


def unary_with(value: float, *at: int | slice) -> np.ndarray:
    unary = UNARY.astype(np.float64)
    unary[at] = value
    return unary


def filled(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def row(name: str, call: Callable[[dcrf.DenseCRF2D], object], message: str):
    return pytest.param(call, message, id=name)


SIGMAS = {
    "gaussian-sxy": (lambda crf, s: crf.addPairwiseGaussian(s, 3), "sxy"),
    "gaussian-sxy-y": (lambda crf, s: crf.addPairwiseGaussian((3, s), 3), "sxy"),
    "bilateral-sxy": (lambda crf, s: crf.addPairwiseBilateral(s, 13, IMAGE, 3), "sxy"),
    "bilateral-srgb": (lambda crf, s: crf.addPairwiseBilateral(80, s, IMAGE, 3), "srgb"),
    "bilateral-blue": (lambda crf, s: crf.addPairwiseBilateral(80, (9, 9, s), IMAGE, 3), "srgb"),
    "features-sdims": (lambda _, s: utils.create_pairwise_gaussian((s, 3), (3, 4)), "sdims"),
    "features-schan": (lambda _, s: utils.create_pairwise_bilateral((3, 3), s, IMAGE, 2), "schan"),
}


@pytest.mark.parametrize(
    "sigma", [0, -0.0, -3, np.nan, np.inf, -np.inf, 1e-60, 1e60, 10**400, None, "wide", 3j]
)
@pytest.mark.parametrize("where", SIGMAS)
def test_a_sigma_is_finite_and_above_0(where: str, sigma: object) -> None:
    call, name = SIGMAS[where]
    with pytest.raises(ValueError, match=rf"^{name}(\[\d\])? must (be finite|hold real)"):
        call(new_crf(), sigma)


@pytest.mark.parametrize(
    "call, message",
    [
        row("unary-nan", lambda c: c.setUnaryEnergy(unary_with(np.nan, 1, 7)), "label 1, point 7"),
        row(
            "unary--inf", lambda c: c.setUnaryEnergy(unary_with(-np.inf, 1, 0)), "label 1, point 0"
        ),
        row("unary-beyond-float32", lambda c: c.setUnaryEnergy(unary_with(-1e39, 1, 3)), "point 3"),
        row(
            "unary-nan-after-inf",
            lambda c: c.setUnaryEnergy(np.where(UNARY < 1, np.inf, unary_with(np.nan, 1, 7))),
            "nan at label 1, point 7",
        ),
        row(
            "unary-all-inf-pixel",
            lambda c: c.setUnaryEnergy(unary_with(np.inf, slice(None), 5)),
            "inf for every label of point 5; clip probabilities away from 0",
        ),
        row(
            "unary-of-a-point-without-label",
            lambda c: c.setUnaryEnergy(utils.unary_from_softmax(np.eye(2, 12), clip=None)),
            "inf for every label of point 2",
        ),
        row("unary-shape", lambda c: c.setUnaryEnergy(filled(2, 3, 4)), r"u.reshape\(n_labels, -1"),
        row("unary-transposed", lambda c: c.setUnaryEnergy(UNARY.T), r"\(2, 12\) but has \(12, 2"),
        row("unary-complex", lambda c: c.setUnaryEnergy(UNARY + 1j), "real numbers"),
        row("unary-text", lambda c: c.setUnaryEnergy(UNARY.astype(str)), "real numbers"),
        row(
            "sigma-denormal",
            lambda c: c.addPairwiseGaussian(1e-42, 3),
            r"2\^40 lattice cells.*a sigma that is larger by a factor of",
        ),
        row("features-3e38", lambda c: c.addPairwiseEnergy(FEATURES * 1e38, 3), "lattice cells"),
        row("features-nan", lambda c: c.addPairwiseEnergy(FEATURES * np.nan, 3), "component 0 of"),
        row("features-inf", lambda c: c.addPairwiseEnergy(FEATURES + np.inf, 3), "point 0 is inf"),
        row("features-0-dims", lambda c: c.addPairwiseEnergy(filled(0, 12), 3), "1 to 255"),
        row(
            "features-256-dims",
            lambda c: c.addPairwiseEnergy(filled(256, 12), 3),
            "1 to 255 .* 256",
        ),
        row("features-11-points", lambda c: c.addPairwiseEnergy(filled(2, 11), 3), r"\(d, 12\)"),
        row("features-image", lambda c: c.addPairwiseEnergy(filled(2, 3, 4), 3), r"\(d, 12\)"),
        row("compat-3-weights", lambda c: c.addPairwiseGaussian(3, filled(3)), r"\(2,\) vector"),
        row("compat-1-weight", lambda c: c.addPairwiseGaussian(3, filled(1)), r"has shape \(1,\)"),
        row("compat-3x3", lambda c: c.addPairwiseGaussian(3, filled(3, 3)), r"shape \(3, 3\)"),
        row("compat-2x3", lambda c: c.addPairwiseGaussian(3, filled(2, 3)), r"shape \(2, 3\)"),
        row("compat-cube", lambda c: c.addPairwiseGaussian(3, filled(2, 2, 2)), r"\(2, 2, 2\)"),
        row("compat-none", lambda c: c.addPairwiseGaussian(3, None), "compat"),
        row("compat-nan", lambda c: c.addPairwiseGaussian(3, np.nan), "compat must be finite"),
        row("compat-inf", lambda c: c.addPairwiseGaussian(3, [1, np.inf]), "compat must be finite"),
        row("compat-1e39", lambda c: c.addPairwiseGaussian(3, 1e39), "compat must be finite"),
        # A weight times a sum of probabilities, and a unary on top, must not reach infinity.
        row("compat-3e38", lambda c: c.addPairwiseGaussian(3, 3e38), "compat .* within 1e20"),
        row("compat--3e38", lambda c: c.addPairwiseGaussian(3, -3e38), "compat .* within 1e20"),
        row(
            "compat-3e38-dense-crf",
            lambda _: dcrf.dense_crf(IMAGE, filled(2, 3, 4) / 2, compat_bilateral=3e38),
            "compat .* within 1e20",
        ),
        row("step-of-nan", lambda c: c.stepInference(filled(2, 12) * np.nan), "nan at label 0"),
        row("step-of-energies", lambda c: c.stepInference(UNARY * 3), r"probabilities in \[0, 1\]"),
        row("kl-of-nan", lambda c: c.klDivergence(filled(2, 12) * np.nan), "nan at label 0"),
        row("iterations--1", lambda c: c.inference(-1), "niter must be at least 0"),
        row("iterations-2.5", lambda c: c.inference(2.5), "niter must be an integer"),
        row("iterations-2^40", lambda c: c.inference(2**40), "niter must be .* below 2\\^31"),
        row("points--1", lambda _: dcrf.DenseCRF(-1, 2), "nvar must be at least 1"),
        row("labels--1", lambda _: dcrf.DenseCRF(12, -1), "nlabels must be at least 1"),
        row("labels-0", lambda _: dcrf.DenseCRF(12, 0), "nlabels must be at least 1"),
        row("height--3", lambda _: dcrf.DenseCRF2D(4, -3, 2), "h must be at least 1"),
        row("both--3", lambda _: dcrf.DenseCRF2D(-4, -3, 2), "w must be at least 1"),
        row("0x0-crf", lambda _: dcrf.DenseCRF2D(0, 0, 2), "w must be at least 1"),
        row(
            "0x0-dense-crf",
            lambda _: dcrf.dense_crf(np.zeros((0, 0, 3), np.uint8), filled(2, 0, 0)),
            "at least one pixel",
        ),
        row(
            "0-labels-dense-crf",
            lambda _: dcrf.dense_crf(IMAGE, filled(0, HEIGHT, WIDTH)),
            "at least 1, 3, 4",
        ),
        row("0-points-features", lambda _: utils.create_pairwise_gaussian((3, 3), (0, 4)), "shape"),
        row(
            "swapped-image",
            lambda c: c.addPairwiseBilateral(80, 13, IMAGE.transpose(1, 0, 2), 3),
            r"\(height, width\) = \(3, 4\) but has \(4, 3\); height and width are swapped",
        ),
        row(
            "swapped-size",
            lambda _: dcrf.DenseCRF2D(HEIGHT, WIDTH, 2).addPairwiseBilateral(80, 13, IMAGE, 3),
            r"DenseCRF2D is \(w, h\)",
        ),
        row(
            "swapped-probs",
            lambda _: dcrf.dense_crf(IMAGE, filled(2, WIDTH, HEIGHT)),
            r"if it is \(n_labels, width, height\), pass `probs.transpose\(0, 2, 1\)`",
        ),
        row(
            "cropped-image",
            lambda c: c.addPairwiseBilateral(80, 13, IMAGE[:2], 3),
            r"\(3, 4\) but has \(2, 4\)",
        ),
        row("step-of-float64", lambda c: c.stepInference(UNARY.astype(float)), "in place"),
        row("step-of-a-view", lambda c: c.stepInference(np.asfortranarray(UNARY)), "in place"),
        row(
            "step-read-only", lambda c: c.stepInference(np.broadcast_to(UNARY, (2, 12))), "in place"
        ),
    ],
)
def test_is_refused(call, message: str) -> None:
    crf = new_crf()
    crf.addPairwiseGaussian(3, 3)
    before = crf.inference(2)
    with pytest.raises(ValueError, match=message):
        call(crf)
    np.testing.assert_array_equal(crf.inference(2), before)  # and leaves nothing behind


def _unaligned(array: np.ndarray) -> np.ndarray:
    shifted = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    shifted[...] = array
    return shifted


def _frozen(array: np.ndarray) -> np.ndarray:
    frozen = array.copy()
    frozen.setflags(write=False)
    return frozen


@pytest.mark.parametrize(
    "disguise",
    [
        pytest.param(_frozen, id="read-only"),
        pytest.param(np.asfortranarray, id="column-major"),
        pytest.param(lambda a: np.repeat(a, 2, axis=-1)[..., ::2], id="every-second"),
        pytest.param(lambda a: a[..., ::-1].copy()[..., ::-1], id="backwards"),
        pytest.param(_unaligned, id="unaligned"),
        pytest.param(lambda a: a.tolist() if a.dtype != np.uint8 else a, id="list"),
        pytest.param(lambda a: a.astype(np.float64) if a.dtype != np.uint8 else a, id="float64"),
        pytest.param(lambda a: a.astype(">f4") if a.dtype != np.uint8 else a, id="big-endian"),
    ],
)
def test_is_accepted_by_copy(disguise) -> None:
    image, unary, features = disguise(IMAGE), disguise(UNARY), disguise(FEATURES)
    results = []
    for i, u, f in ((IMAGE, UNARY, FEATURES), (image, unary, features)):
        crf = dcrf.DenseCRF2D(WIDTH, HEIGHT, LABELS)
        crf.setUnaryEnergy(u)
        crf.addPairwiseBilateral(20, 15, i, 5)
        crf.addPairwiseEnergy(f, 2)
        results.append(crf.inference(3))
    np.testing.assert_array_equal(*results)
    probs = np.exp(-UNARY) / np.exp(-UNARY).sum(axis=0)
    probs = probs.reshape(LABELS, HEIGHT, WIDTH)
    disguised = disguise(probs)
    before = np.array(disguised)
    if isinstance(disguised, np.ndarray):
        np.testing.assert_array_equal(
            dcrf.dense_crf(image, disguised), dcrf.dense_crf(IMAGE, probs)
        )
    np.testing.assert_array_equal(disguised, before)


def test_features_1e6_apart_do_not_meet() -> None:
    # An int16 key would wrap them into one another's cells.
    features = np.array([[0.0, 0.1, 1e6, 1e6], [0.0, 0.1, -1e6, -1e6]])
    unary = np.array([[0.0, 3.0, 3.0, 3.0], [3.0, 0.0, 0.0, 0.0]])
    joined, apart = dcrf.DenseCRF(4, 2), dcrf.DenseCRF(2, 2)
    joined.setUnaryEnergy(unary)
    joined.addPairwiseEnergy(features, 3)
    apart.setUnaryEnergy(unary[:, :2])
    apart.addPairwiseEnergy(features[:, :2], 3)
    np.testing.assert_allclose(joined.inference(3)[:, :2], apart.inference(3), atol=1e-5)


@pytest.mark.parametrize("n_labels", [1, 2, 2000])
@pytest.mark.parametrize("height, width", [(1, 1), (1, 5), (5, 1), (2, 3)])
def test_small_images_and_many_labels_are_defined(make_problem, height, width, n_labels) -> None:
    image, probs = make_problem(height, width, n_labels)
    unary = -np.log(probs.reshape(n_labels, -1))
    crf = dcrf.DenseCRF2D(width, height, n_labels, parity=False)
    crf.setUnaryEnergy(unary)
    crf.addPairwiseGaussian(2, 3)
    exact = reference.mean_field(
        unary, [reference.PairwiseTerm(reference.position_features(height, width, 2), 3)], n_iters=2
    )
    q = crf.inference(2)
    np.testing.assert_allclose(q.sum(axis=0), 1, atol=1e-5)
    assert np.abs(q - exact).max() < (1e-5 if height == width == 1 else 0.1)
    refined = dcrf.dense_crf(image, probs)
    np.testing.assert_allclose(refined.sum(axis=0), 1, atol=1e-5)


HUGE = """
import resource
import numpy as np
import wsss.densecrf as dcrf

peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
small = np.zeros((2, 12), np.float32)
calls = {
    "2^16 x 2^16 x 1000": lambda: dcrf.DenseCRF2D(2**16, 2**16, 1000),
    "2^31 each": lambda: dcrf.DenseCRF2D(2**31 - 1, 2**31 - 1, 2**31 - 1),
    "2^64 each": lambda: dcrf.DenseCRF(2**64, 2**64),
    "rows": lambda: dcrf.DenseCRF(2**31 - 1, 2**31 - 1),
    "corners": lambda: dcrf.DenseCRF2D(46340, 46340, 2).addPairwiseGaussian(3, 3),
    "unary": lambda: dcrf.DenseCRF2D(46340, 46340, 1000).setUnaryEnergy(small),
    "features": lambda: dcrf.DenseCRF2D(46340, 46340, 1000).addPairwiseEnergy(small, 3),
    "step": lambda: dcrf.DenseCRF2D(46340, 46340, 1000).stepInference(small),
}
for name, call in calls.items():
    try:
        call()
    except ValueError as error:
        print(f"{name}: {error}")
    else:
        raise SystemExit(f"{name}: accepted")
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
assert grown < 100_000, f"{grown} KiB were used to refuse"
"""


def test_sizes_that_overflow_are_refused_without_allocating() -> None:
    pytest.importorskip("resource")
    run = subprocess.run(
        [sys.executable, "-c", HUGE], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "corners: a lattice of 2 dimensions takes 1 to" in run.stdout
