"""Programs written for pydensecrf run with the imports changed, and give the same."""

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
