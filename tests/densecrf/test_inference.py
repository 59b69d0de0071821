"""`dense_crf`: against the exact CRF, its invariants, its errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsss.densecrf import DenseCRF2D, dense_crf, reference

SETTINGS = {
    "A": {"sigma_xy": 80, "sigma_rgb": 13, "compat_bilateral": 10},
    "B": {"sigma_xy": 50, "sigma_rgb": 5, "compat_bilateral": 10},
    "near": {"sigma_xy": 10, "sigma_rgb": 20, "compat_bilateral": 4},
}
GAUSSIAN = {"sigma_gaussian": 3, "compat_gaussian": 3}


@st.composite
def problems(draw, max_labels: int = 9):
    """Images of any small size, labels from one up, scores from certain to undecided."""
    height, width = draw(st.integers(1, 17)), draw(st.integers(1, 17))
    n_labels = draw(st.integers(1, max_labels))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([1, 4, 256]))
    image = (rng.integers(0, levels, (height, width, 3)) * (255 // levels)).astype(np.uint8)
    scores = rng.normal(size=(n_labels, height, width)) * draw(st.sampled_from([0.0, 1.0, 20.0]))
    probs = np.exp(scores - scores.max(axis=0))
    return image, (probs / probs.sum(axis=0)).astype(np.float32)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("size", [(24, 31), (30, 26)])
@pytest.mark.parametrize("n_labels", [2, 5])
def test_agrees_with_the_exact_crf(make_problem, setting, size, n_labels) -> None:
    # Catches: a wrong sign or weight of a term, a missing normalisation, an update too few. The CRF
    # changes a fifth to a half of these labels, so agreement is not for free.
    image, probs = make_problem(*size, n_labels)
    ours = dense_crf(image, probs, **SETTINGS[setting], **GAUSSIAN, n_iters=5)
    exact = reference.dense_crf(image, probs, **SETTINGS[setting], **GAUSSIAN, n_iters=5)
    assert (exact.argmax(0) != probs.argmax(0)).mean() > 0.1
    assert (ours.argmax(0) == exact.argmax(0)).mean() > 0.99
    assert np.abs(ours - exact).mean() < 0.01


@settings(max_examples=60)
@given(problems(), st.integers(0, 6))
def test_returns_probabilities(problem, n_iters) -> None:
    # Catches padding lanes that take part in the softmax, and NaN at 1x1, one label or certainty.
    image, probs = problem
    refined = dense_crf(image, probs, n_iters=n_iters)
    assert refined.shape == probs.shape
    assert refined.dtype == np.float32
    assert (refined >= 0).all()
    np.testing.assert_allclose(refined.sum(axis=0), 1, atol=1e-5)


@settings(max_examples=40)
@given(problems(), st.sampled_from([0, 4]))
def test_without_iterations_or_weights_returns_the_probabilities(problem, n_iters) -> None:
    image, probs = problem
    floored = np.maximum(probs.astype(np.float64), 1e-5)
    weight = 0.0 if n_iters else 3.0
    refined = dense_crf(
        image, probs, n_iters=n_iters, compat_bilateral=weight, compat_gaussian=weight
    )
    np.testing.assert_allclose(refined, floored / floored.sum(axis=0), rtol=2e-5)


@settings(max_examples=40)
@given(problems(), st.integers(0, 5), st.randoms(use_true_random=False))
def test_permuting_labels_permutes_the_result(problem, n_iters, random) -> None:
    # Catches a label that is treated specially, such as the last before the padding.
    image, probs = problem
    order = list(range(len(probs)))
    random.shuffle(order)
    refined = dense_crf(image, probs, n_iters=n_iters)
    permuted = dense_crf(image, probs[order], n_iters=n_iters)
    np.testing.assert_allclose(permuted, refined[order], atol=2e-4)


@settings(max_examples=30)
@given(problems(), st.integers(1, 20))
def test_an_absent_label_changes_nothing(problem, extra) -> None:
    # From 1..9 labels to 2..29: every row width must give what the others give.
    image, probs = problem
    padded = np.concatenate([probs, np.zeros((extra, *probs.shape[1:]), np.float32)])
    fewer = dense_crf(image, probs, n_iters=3, min_prob=1e-30)
    more = dense_crf(image, padded, n_iters=3, min_prob=1e-30)
    np.testing.assert_allclose(more[: len(probs)], fewer, atol=2e-4)
    assert more[len(probs) :].max() < 1e-6


@pytest.mark.parametrize("n_labels", [1, 2, 4, 5, 8, 9, 17, 25, 33, 41, 200])
def test_every_row_width_agrees_with_the_exact_crf(make_problem, n_labels) -> None:
    image, probs = make_problem(11, 13, n_labels)
    ours = dense_crf(image, probs, **SETTINGS["near"], **GAUSSIAN, n_iters=2)
    exact = reference.dense_crf(image, probs, **SETTINGS["near"], **GAUSSIAN, n_iters=2)
    assert np.abs(ours - exact).max() < 0.1
    assert np.abs(ours - exact).sum(axis=0).mean() < 0.03


def test_a_constant_image_takes_the_majority_label() -> None:
    # Catches colour features read from the wrong place, and scores that are not smoothed.
    image = np.full((20, 23, 3), 117, np.uint8)
    rng = np.random.default_rng(0)
    mostly_first = np.where(rng.uniform(size=(20, 23)) < 0.7, 0.8, 0.3).astype(np.float32)
    refined = dense_crf(image, np.stack([mostly_first, 1 - mostly_first]))
    assert (refined.argmax(0) == 0).all()


def test_mirroring_the_image_nearly_mirrors_the_result(make_problem) -> None:
    # Catches x and y exchanged. Only nearly: the lattice is not symmetric.
    image, probs = make_problem(21, 34, 3)
    refined = dense_crf(image, probs, n_iters=3)
    mirrored = dense_crf(image[:, ::-1], probs[:, :, ::-1], n_iters=3)[:, :, ::-1]
    transposed = dense_crf(image.transpose(1, 0, 2), probs.transpose(0, 2, 1), n_iters=3)
    assert (mirrored.argmax(0) == refined.argmax(0)).mean() > 0.98
    assert (transposed.transpose(0, 2, 1).argmax(0) == refined.argmax(0)).mean() > 0.98


def test_edges_stop_the_smoothing() -> None:
    # A lone wrong pixel is overruled by its own colour's side only.
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, 8:] = 200
    first = np.where(np.arange(16) < 8, 0.8, 0.2) * np.ones((16, 1))
    first[5, 3], first[5, 12] = 0.2, 0.8
    probs = np.stack([first, 1 - first]).astype(np.float32)
    refined = dense_crf(image, probs).argmax(0)
    np.testing.assert_array_equal(refined, np.arange(16) >= 8 + np.zeros((16, 1)))


def test_a_list_equals_its_images_one_by_one(make_problem) -> None:
    # Sizes and label counts shrink and grow: catches a workspace that keeps another image's values.
    problems_ = [
        make_problem(*size, n, i)
        for i, (size, n) in enumerate(
            [((9, 31), 21), ((1, 1), 2), ((40, 33), 3), ((7, 5), 30), ((33, 40), 21), ((3, 2), 1)]
        )
    ]
    images, probs = [p[0] for p in problems_], [p[1] for p in problems_]
    batched = dense_crf(images, probs, n_iters=3, num_threads=1)
    for image, image_probs, refined in zip(images, probs, batched, strict=True):
        np.testing.assert_array_equal(dense_crf(image, image_probs, n_iters=3), refined)
    assert dense_crf([], []) == []


def test_a_kept_position_lattice_is_that_of_its_sigma_and_size(make_problem) -> None:
    # Images of one size share it. Catches one kept from another sigma, shape or mode, or from the
    # appearance term of a call without smoothness. Each line follows one it could be taken for.
    for height, width, sigma, parity, compat in [
        (9, 15, 2.0, False, 3.0),
        (9, 15, 5.0, False, 3.0),
        (15, 9, 5.0, False, 3.0),
        (15, 9, 5.0, True, 3.0),
        (15, 9, 5.0, True, 7.0),
        (15, 9, 5.0, True, 0.0),
        (15, 9, 5.0, True, 3.0),
    ]:
        image, probs = make_problem(height, width, 3)
        refined = dense_crf(
            image, probs, sigma_gaussian=sigma, compat_gaussian=compat, parity=parity, n_iters=3
        )
        crf = DenseCRF2D(width, height, 3, parity=parity)
        crf.setUnaryEnergy(-np.log(np.clip(probs, 1e-5, 1)).reshape(3, -1))
        crf.addPairwiseGaussian(sigma, compat)
        crf.addPairwiseBilateral(80, 13, image, 10)
        np.testing.assert_allclose(refined.reshape(3, -1), crf.inference(3), atol=1e-5)


def test_copies_what_is_not_contiguous_float32(make_problem) -> None:
    image, probs = make_problem(10, 12, 3)
    expected = dense_crf(image, probs)
    image.setflags(write=False)
    probs.setflags(write=False)
    before = probs.copy()
    np.testing.assert_array_equal(dense_crf(image, probs), expected)
    np.testing.assert_array_equal(dense_crf(image, probs.astype(np.float64)), expected)
    np.testing.assert_array_equal(dense_crf(np.asfortranarray(image), probs), expected)
    doubled = np.repeat(probs, 2, axis=2)[:, :, ::2]
    np.testing.assert_array_equal(dense_crf(image, doubled), expected)
    np.testing.assert_array_equal(probs, before)


IMAGE = np.zeros((3, 4, 3), np.uint8)
PROBS = np.full((2, 3, 4), 0.5, np.float32)


def _with(value: float) -> np.ndarray:
    probs = PROBS.copy()
    probs[1, 2, 3] = value
    return probs


@pytest.mark.parametrize(
    "image, probs, options, message",
    [
        (IMAGE.astype(np.float32), PROBS, {}, "images must be uint8 RGB.*undo any"),
        (IMAGE[..., 0], PROBS, {}, r"\(height, width, 3\) but has \(3, 4\)"),
        (IMAGE.transpose(2, 0, 1), PROBS, {}, r"`images.transpose\(1, 2, 0\)`"),
        (IMAGE[:0], PROBS[:, :0], {}, "at least one pixel"),
        (IMAGE, PROBS[:0], {}, "at least 1, 3, 4"),
        (IMAGE, PROBS.transpose(0, 2, 1), {}, r"\(n_labels, width, height\), pass"),
        (IMAGE, PROBS.transpose(1, 2, 0), {}, r"`probs.transpose\(2, 0, 1\)`"),
        (IMAGE, PROBS[0], {}, r"probs must have shape \(n_labels, height, width\)"),
        (IMAGE, _with(np.nan), {}, "nan at label 1, row 2, column 3"),
        (IMAGE, _with(np.inf), {}, "inf at label 1, row 2, column 3"),
        (IMAGE, _with(-0.1), {}, "label 1, row 2, column 3; apply a softmax"),
        (IMAGE, _with(7.0), {}, r"probabilities in \[0, 1\] but is 7"),
        (IMAGE, PROBS.astype(np.complex64), {}, "real numbers"),
        (IMAGE, PROBS, {"sigma_xy": 0}, "sigma_xy must be finite and above 0 but is 0"),
        (IMAGE, PROBS, {"sigma_rgb": -3}, "sigma_rgb must be finite and above 0 but is -3"),
        (IMAGE, PROBS, {"sigma_gaussian": np.nan}, "sigma_gaussian must be finite"),
        (IMAGE, PROBS, {"sigma_xy": 1e-60}, "sigma_xy must be finite and above 0"),
        (IMAGE, PROBS, {"compat_bilateral": np.inf}, "compat_bilateral must be finite"),
        (IMAGE, PROBS, {"n_iters": -1}, "n_iters must be at least 0"),
        (IMAGE, PROBS, {"n_iters": 2.5}, "n_iters must be an integer"),
        (IMAGE, PROBS, {"min_prob": 0}, "min_prob must be in"),
        (IMAGE, PROBS, {"num_threads": 0}, "num_threads must be an integer of at least 1"),
    ],
)
def test_refuses_with_the_way_out(image, probs, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        dense_crf(image, probs, **options)


def test_errors_name_the_image_of_a_list() -> None:
    with pytest.raises(ValueError, match=r"probs\[1\] must be probabilities.*label 1, row 2"):
        dense_crf([IMAGE, IMAGE], [PROBS, _with(np.nan)], num_threads=2)
    with pytest.raises(ValueError, match=r"images\[1\] must be uint8"):
        dense_crf([IMAGE, IMAGE.astype(float)], [PROBS, PROBS])
    with pytest.raises(ValueError, match="2 and 1 elements"):
        dense_crf([IMAGE, IMAGE], [PROBS])


# ---- PyTorch tensors: on the CPU they go to the compiled core, elsewhere through PyTorch.


def core_settings(setting: str, n_iters: int = 5, parity: bool = False, **changes) -> dict:
    """What `dense_crf` hands on, for calls of the PyTorch path on the CPU."""
    return {
        **SETTINGS[setting],
        **GAUSSIAN,
        "n_iters": n_iters,
        "min_prob": 1e-5,
        "phantom_points": parity,
        **changes,
    }


@pytest.fixture
def mixed_batch(make_problem):
    """Images of N % 4 = 0..3, a point and lines, of 1 to 40 labels."""
    torch = pytest.importorskip("torch")
    sizes = [(1, 1), (1, 7), (9, 1), (12, 15), (13, 17), (11, 22), (9, 15), (33, 47), (66, 67)]
    counts = [1, 2, 40, 21, 3, 5, 8, 21, 2]
    problems_ = [make_problem(*s, n, i) for i, (s, n) in enumerate(zip(sizes, counts, strict=True))]
    return [[torch.from_numpy(p[k]) for p in problems_] for k in (0, 1)]


def assert_same_labels(ours, expected) -> None:
    """At most 1e-5 of the pixels differ, so none in the small images of a test."""
    for found, other in zip(ours, expected, strict=True):
        np.testing.assert_allclose(found, other, atol=2e-4)
        mismatch = np.asarray(found).argmax(0) != np.asarray(other).argmax(0)
        assert mismatch.mean() <= 1e-5


def test_cpu_tensors_give_what_arrays_give(mixed_batch) -> None:
    import torch

    images, probs = mixed_batch
    expected = dense_crf([i.numpy() for i in images], [p.numpy() for p in probs], n_iters=3)
    refined = dense_crf(images, probs, n_iters=3)
    for found, other in zip(refined, expected, strict=True):
        assert isinstance(found, torch.Tensor)
        assert found.dtype == torch.float32
        np.testing.assert_array_equal(found.numpy(), other)
    assert torch.equal(dense_crf(images[3], probs[3].double(), n_iters=3), refined[3])
    stack = dense_crf(torch.stack([images[3]] * 2), torch.stack([probs[3]] * 2), n_iters=3)
    assert torch.equal(stack[1], refined[3])
    coarse = dense_crf(images[3], probs[3].bfloat16(), n_iters=3)
    assert torch.equal(coarse, dense_crf(images[3], probs[3].bfloat16().float(), n_iters=3))


def test_cpu_tensors_are_not_copied(mixed_batch, monkeypatch) -> None:
    images, probs = mixed_batch
    seen = []
    monkeypatch.setattr(
        "wsss.densecrf._native.refine_images", lambda i, p, refined, **_: seen.extend([*i, *p])
    )
    dense_crf(images, probs)
    assert [a.ctypes.data for a in seen] == [t.data_ptr() for t in [*images, *probs]]


@pytest.mark.parametrize("parity", [False, True])
@pytest.mark.parametrize("setting", ["A", "B"])
def test_the_torch_path_answers_as_the_compiled_core(mixed_batch, setting, parity) -> None:
    # Catches: padded labels that take part, images that meet, an update too many, a wrong scale.
    from wsss.densecrf.torch_crf import refine_images

    images, probs = mixed_batch
    expected = dense_crf(
        images, probs, **SETTINGS[setting], **GAUSSIAN, n_iters=5, parity=parity, num_threads=1
    )
    refined = refine_images(images, probs, core_settings(setting, parity=parity))
    assert_same_labels(refined, expected)
    assert [r.shape for r in refined] == [p.shape for p in probs]
    again = refine_images(images, probs, core_settings(setting, parity=parity))
    assert digest(refined) == digest(again)


def test_the_torch_path_of_a_list_is_that_of_its_images(mixed_batch) -> None:
    # To the bit however the memory divides it; up to rounding one by one, as a softmax adds up
    # rows of another width in another order.
    from wsss.densecrf.torch_crf import refine_images

    images, probs = mixed_batch
    batched = refine_images(images, probs, core_settings("A"))
    for memory_bytes in (0, 1 << 20, 3 << 20, 1 << 40):
        divided = refine_images(images, probs, core_settings("A"), memory_bytes=memory_bytes)
        assert digest(divided) == digest(batched)
    for image, image_probs, refined in zip(images, probs, batched, strict=True):
        alone = refine_images([image], [image_probs], core_settings("A"))[0]
        np.testing.assert_allclose(alone, refined, atol=1e-5)
    assert refine_images([], [], core_settings("A")) == []


def test_the_torch_path_without_terms_or_updates(mixed_batch) -> None:
    from wsss.densecrf.torch_crf import refine_images

    images, probs = mixed_batch
    for changes in (
        {"n_iters": 0},
        {"compat_bilateral": 0.0, "compat_gaussian": 0.0},
        {"compat_bilateral": 0.0},
        {"compat_gaussian": 0.0},
    ):
        options = {**SETTINGS["A"], **GAUSSIAN, "n_iters": 2, **changes}
        refined = refine_images(images, probs, core_settings("A", 2) | changes)
        assert_same_labels(refined, dense_crf(images, probs, **options))


def test_the_torch_path_when_images_need_a_lattice_each(make_problem) -> None:
    torch = pytest.importorskip("torch")
    from wsss.densecrf import torch_crf
    from wsss.densecrf.torch_lattice import BatchKeyError

    image, probs = (torch.from_numpy(a) for a in make_problem(4, 5, 3))
    sigmas = {"sigma_rgb": 0.06, "sigma_xy": 80.0}  # an image may span 2^57 cells
    images = [image ^ i for i in range(64)]  # 255 is among their levels
    expected = dense_crf(images, [probs] * 64, **sigmas, n_iters=2)
    with pytest.raises(BatchKeyError):
        torch_crf._terms(images, core_settings("A", 2) | sigmas)
    refined = torch_crf.refine_images(images, [probs] * 64, core_settings("A", 2) | sigmas)
    assert_same_labels(refined, expected)


@pytest.mark.parametrize(
    "value, message",
    [
        (np.nan, r"probs\[1\] must be probabilities in \[0, 1\] but is nan at label 1, row 2, col"),
        (np.inf, "inf at label 1, row 2, column 3"),
        (-0.1, "is -0.100000 at label 1, row 2, column 3; apply a softmax to logits first"),
        (7.0, "is 7.000000 at label 1, row 2, column 3"),
    ],
)
def test_the_torch_path_words_errors_as_the_compiled_core(value, message) -> None:
    from wsss.densecrf.torch_crf import refine_images

    torch = pytest.importorskip("torch")
    images = [torch.from_numpy(IMAGE)] * 2
    probs = [torch.from_numpy(PROBS), torch.from_numpy(_with(value))]
    with pytest.raises(ValueError, match=message):
        dense_crf(images, probs)
    with pytest.raises(ValueError, match=message):
        refine_images(images, probs, core_settings("A"))
    with pytest.raises(ValueError, match=r"lattice cells.*a sigma that is larger by a factor of"):
        refine_images([images[0] + 255], probs[:1], core_settings("A", sigma_rgb=1e-15))


def test_mixtures_are_refused_with_the_way_out() -> None:
    torch = pytest.importorskip("torch")
    image, probs = torch.from_numpy(IMAGE), torch.from_numpy(PROBS)
    with pytest.raises(ValueError, match=r"images is on cpu, probs is no tensor; `torch.as_tensor"):
        dense_crf(image, PROBS)
    with pytest.raises(ValueError, match=r"images\[0\] is on cpu, probs\[1\] is on meta"):
        dense_crf([image, image], [probs, probs.to("meta")])
    with pytest.raises(ValueError, match=r"probs requires grad.*probs.detach\(\)`, or train with"):
        dense_crf(image, probs.clone().requires_grad_())


def test_tensors_of_another_device_are_checked_alike() -> None:
    # What does not look at values is checked before anything runs: no GPU is needed to see it.
    torch = pytest.importorskip("torch")
    image = torch.from_numpy(IMAGE).to("meta")
    probs = torch.from_numpy(PROBS).to("meta")
    for wrong_image, wrong_probs, message in [
        (image.float(), probs, "images must be uint8 RGB.*but has dtype torch.float32"),
        (image[..., 0], probs, r"\(height, width, 3\) but has \(3, 4\)"),
        (image, probs.transpose(1, 2), r"`probs.permute\(0, 2, 1\)`"),
        (image, probs.to(torch.complex64), "real numbers"),
    ]:
        with pytest.raises(ValueError, match=message):
            dense_crf(wrong_image, wrong_probs)


def digest(refined) -> bytes:
    return b"".join(r.cpu().numpy().tobytes() for r in refined)


@pytest.mark.parametrize("parity", [False, True])
@pytest.mark.parametrize("setting", ["A", "B"])
def test_a_gpu_answers_as_the_cpu(cuda, make_problem, mixed_batch, setting, parity) -> None:
    images, probs = mixed_batch
    image, image_probs = make_problem(375, 500, 21)
    import torch

    images, probs = [*images, torch.from_numpy(image)], [*probs, torch.from_numpy(image_probs)]
    options = {**SETTINGS[setting], **GAUSSIAN, "n_iters": 5, "parity": parity}
    expected = dense_crf(images, probs, **options)
    on_gpu = [i.to(cuda) for i in images], [p.to(cuda) for p in probs]
    refined = dense_crf(*on_gpu, **options)
    assert all(r.device.type == "cuda" for r in refined)
    labels = [np.concatenate([r.cpu().argmax(0).ravel() for r in rs]) for rs in (refined, expected)]
    assert (labels[0] != labels[1]).mean() <= 1e-5
    assert digest(refined) == digest(dense_crf(*on_gpu, **options))
    single = dense_crf(on_gpu[0][3], on_gpu[1][3], **options)
    np.testing.assert_allclose(single.cpu(), expected[3], atol=2e-4)
