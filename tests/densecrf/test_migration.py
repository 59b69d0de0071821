"""Programs written for pydensecrf run with the imports changed, and give the same."""

import importlib
import textwrap

import numpy as np
import pytest

import wsss.densecrf  # noqa: F401

PROGRAMS = {
    "an image, step by step": """
        import numpy as np
        import pydensecrf.densecrf as dcrf
        from pydensecrf.utils import unary_from_labels

        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        labels = rng.integers(0, 5, (20, 30))
        d = dcrf.DenseCRF2D(30, 20, 4)
        d.setUnaryEnergy(unary_from_labels(labels, 4, gt_prob=0.7, zero_unsure=True))
        options = dict(kernel=dcrf.DIAG_KERNEL, normalization=dcrf.NORMALIZE_SYMMETRIC)
        d.addPairwiseGaussian(sxy=(3, 3), compat=3, **options)
        d.addPairwiseBilateral(sxy=(80, 80), srgb=(13, 13, 13), rgbim=image, compat=10, **options)
        best = np.argmax(d.inference(5), axis=0).reshape((20, 30))
        Q, tmp1, tmp2 = d.startInference()
        divergences = []
        for i in range(5):
            divergences.append(d.klDivergence(Q) / best.size)
            d.stepInference(Q, tmp1, tmp2)
        result = np.concatenate([np.array(Q).ravel(), best.ravel(), divergences])
    """,
    "a signal with features of its own": """
        import numpy as np
        import pydensecrf.densecrf as dcrf
        from pydensecrf.utils import create_pairwise_bilateral, create_pairwise_gaussian
        from pydensecrf.utils import unary_from_softmax

        t = np.linspace(0, 9, 200)
        signal = np.stack([np.sin(t), np.cos(t)]).astype(np.float32)
        probs = np.stack([0.5 + 0.4 * np.sin(t), 0.5 - 0.4 * np.sin(t)]).astype(np.float32)
        d = dcrf.DenseCRF(200, 2)
        d.setUnaryEnergy(unary_from_softmax(probs, scale=0.9))
        d.addPairwiseEnergy(create_pairwise_gaussian(sdims=(4,), shape=(200,)), compat=2)
        features = create_pairwise_bilateral(sdims=(9,), schan=(0.3, 0.5), img=signal, chdim=0)
        d.addPairwiseEnergy(features, compat=np.array([[0, 2], [2, 0]], np.float32),
                            kernel=dcrf.FULL_KERNEL, normalization=dcrf.NORMALIZE_BEFORE)
        result = np.array(d.inference(5)).ravel()
    """,
    "a volume with one channel": """
        import numpy as np
        import pydensecrf.densecrf as dcrf
        from pydensecrf.utils import compute_unary, create_pairwise_bilateral

        rng = np.random.default_rng(1)
        volume = rng.normal(size=(6, 7, 8, 1)).astype(np.float32)
        d = dcrf.DenseCRF(6 * 7 * 8, 3)
        d.setUnaryEnergy(compute_unary(rng.integers(0, 4, (6, 7, 8)).ravel(), 3, 0.6))
        features = create_pairwise_bilateral(sdims=(2, 3, 4), schan=(0.5,), img=volume, chdim=3)
        d.addPairwiseEnergy(features, compat=np.array([1, 2, 3], np.float32) * -1)
        result = np.array(d.inference(4)).ravel()
    """,
}


CALLS = {  # what people write, in one line each, as an expression
    "hard masks": "infer(-np.log(HARD))",
    "updates that are a float": "infer(U, 5.0)",
    "updates that are NumPy's": "infer(U, np.float64(5)), infer(U, np.int64(5))",
    "updates in an array": "infer(U, np.array(5))",
    "sizes that are floats": "infer(U, crf=dcrf.DenseCRF2D(6.0, np.float64(4), np.int32(3)))",
    "points that are a float": "infer(U, crf=dcrf.DenseCRF(24.0, 3.0))",
    "no unary": "np.array(dcrf.DenseCRF2D(6, 4, 3).inference(3))",
    "no unary, step by step": "steps(dcrf.DenseCRF2D(6, 4, 3))[:72]",
    "no terms": "infer(U, crf=dcrf.DenseCRF(24, 3), terms=False)",
    "sigmas in a list": "infer(U, sxy=[3, 2], srgb=[13, 12, 11])",
    "sigmas in an array": "infer(U, sxy=np.array([3, 2]), srgb=np.array([13.0, 12, 11]))",
    "sigmas that are NumPy's": "infer(U, sxy=np.int64(3), srgb=np.float32(13))",
    "weights that are NumPy's": "infer(U, compat=np.float32(3)), infer(U, compat=np.int64(3))",
    "a weight that is True": "infer(U, compat=True)",
    "a vector": "infer(U, compat=np.array([-1, -2, -3], np.float32))",
    "a matrix": "infer(U, compat=np.arange(9, dtype=np.float32).reshape(3, 3))",
    "constants by position": "infer(U, constants=(dcrf.FULL_KERNEL, dcrf.NORMALIZE_AFTER))",
    "constants as numbers": "infer(U, constants=(1, 2)), infer(U, constants=(1.0, 2.0))",
    "constants of the types": "infer(U, constants=(dcrf.KernelType.CONST_KERNEL, "
    "dcrf.NormalizationType.NO_NORMALIZATION), compat=0.1)",
    "a result as an array": "np.asarray(C.inference(3)), np.argmax(C.inference(3), axis=0)",
    "step by step": "steps(C)",
    "labels": "utils.unary_from_labels(L + 1, 3, 0.7)",
    "labels and ignored pixels": "utils.unary_from_labels(L, 2, 0.7, True)",
    "labels from 0": "utils.unary_from_labels(L, np.int64(3), np.float32(0.7), zero_unsure=0)",
    "a flat map": "utils.unary_from_labels(L.ravel(), 3, gt_prob=0.5, zero_unsure=False)",
    "a softmax": "utils.unary_from_softmax(P), utils.unary_from_softmax(P, 0.7, 1e-3)",
    "a softmax of float64": "utils.unary_from_softmax(P.astype(float), scale=1)",
    "a softmax in another order": "utils.unary_from_softmax(np.asfortranarray(P))",
    "a mask unclipped": "utils.unary_from_softmax(HARD, clip=None)",
    "a mask clipped at 0": "utils.unary_from_softmax(HARD, clip=0)",
    "a shape that is an array": "utils.create_pairwise_gaussian((3, 4), np.array([4, 6]))",
    "a shape and sigmas that are lists": "utils.create_pairwise_gaussian([3, 4], [4, 6])",
    "sigmas of a grid in an array": "utils.create_pairwise_gaussian(np.array([3, 4]), (4, 6))",
    "channels in the middle": "utils.create_pairwise_bilateral((3, 4), (9, 8, 7), "
    "np.moveaxis(I, 2, 1), chdim=-2)",
    "channels first": "utils.create_pairwise_bilateral((3, 4), (9, 8, 7), "
    "np.moveaxis(I, 2, 0), -3)",
    "one sigma of three": "utils.create_pairwise_bilateral((3, 4), (9,), I, 2)",
    "one sigma of three, by name": "utils.create_pairwise_bilateral("
    "sdims=(3, 4), schan=[9], img=I, chdim=2)",
    "one axis of two": "utils.create_pairwise_bilateral((3,), (9, 8, 7), I, 2)",
    "no channels": "utils.create_pairwise_bilateral((3, 4), (9,), I[..., 0], -1)",
    "an axis that is no channel": "utils.create_pairwise_bilateral((3, 4, 5), (9,), I, -1)",
    "a float image": "utils.create_pairwise_bilateral((3, 4), (0.1,) * 3, I / 255, 2)",
    "twelve bands": "energy(utils.create_pairwise_bilateral((9, 9), (20,) * 12, BANDS, 2))",
    "a unary set twice": "infer(U * 2), infer(U)",
    "one label": "infer(U[:1].copy(), crf=dcrf.DenseCRF2D(6, 4, 1))",
}


def evaluate(expression: str, package: str) -> list[np.ndarray]:
    """The value, or the values, of an expression of CALLS with the modules of a package."""
    names: dict[str, object] = {
        "np": np,
        "dcrf": importlib.import_module(
            "wsss.densecrf" if package == "wsss" else f"{package}.densecrf"
        ),
        "utils": importlib.import_module(
            "wsss.densecrf.utils" if package == "wsss" else f"{package}.utils"
        ),
    }
    exec(textwrap.dedent(GIVEN), names)
    value = eval(expression, names)
    return [np.asarray(v) for v in (value if isinstance(value, tuple) else (value,))]


GIVEN = """
    rng = np.random.default_rng(0)
    I = rng.integers(0, 256, (4, 6, 3)).astype(np.uint8)
    BANDS = rng.integers(0, 256, (4, 6, 12)).astype(np.uint8)
    L = rng.integers(0, 3, (4, 6))
    P = np.ascontiguousarray(rng.dirichlet(np.ones(3), (4, 6)).transpose(2, 0, 1), np.float32)
    HARD = (np.arange(3)[:, None, None] == L).astype(np.float32)
    U = utils.unary_from_softmax(P)

    def infer(u, niter=3, crf=None, sxy=3, srgb=13, compat=2, constants=(), terms=True):
        if crf is None:
            crf = dcrf.DenseCRF2D(6, 4, 3)
        crf.setUnaryEnergy(np.ascontiguousarray(u.reshape(len(u), -1)))
        if terms and hasattr(crf, "addPairwiseGaussian"):
            crf.addPairwiseGaussian(sxy, compat, *constants)
            crf.addPairwiseBilateral(sxy, srgb, I, compat, *constants)
        return np.array(crf.inference(niter))

    def steps(crf):
        Q, tmp1, tmp2 = crf.startInference()
        values = []
        for _ in range(3):
            values.append(crf.klDivergence(Q) / 24)
            crf.stepInference(Q, tmp1, tmp2)
        return np.append(np.array(Q).ravel(), values)

    def energy(features):
        crf = dcrf.DenseCRF(24, 3)
        crf.setUnaryEnergy(U)
        crf.addPairwiseEnergy(features, compat=3)
        return np.array(crf.inference(3))

    C = dcrf.DenseCRF2D(6, 4, 3)
    C.setUnaryEnergy(U)
    C.addPairwiseGaussian(2, 2)
"""


@pytest.mark.parametrize("title", CALLS)
@pytest.mark.filterwarnings("ignore:.*the others are taken for 1, as in pydensecrf:UserWarning")
def test_a_call_found_in_the_wild_gives_the_same(title) -> None:
    ours = evaluate(CALLS[title], "wsss")  # without pydensecrf, that it runs
    pytest.importorskip("pydensecrf", reason="compares with pydensecrf: pip install 'wsss[parity]'")
    with np.errstate(divide="ignore"):
        theirs = evaluate(CALLS[title], "pydensecrf")
    for found, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)


def run(program: str) -> np.ndarray:
    names: dict[str, object] = {}
    lines = program.strip("\n").splitlines()
    exec("\n".join(line[8:] for line in lines), names)
    return np.asarray(names["result"])


@pytest.mark.parametrize("title", PROGRAMS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_program_gives_the_same(title) -> None:
    pytest.importorskip("pydensecrf", reason="compares with pydensecrf: pip install 'wsss[parity]'")
    program = PROGRAMS[title]
    migrated = program.replace("pydensecrf.densecrf", "wsss.densecrf")
    migrated = migrated.replace("pydensecrf.utils", "wsss.densecrf.utils")
    assert "pydensecrf" not in migrated
    np.testing.assert_allclose(run(migrated), run(program), atol=1e-4)
