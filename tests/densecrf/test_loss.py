"""`DenseCrfLoss`: the published numbers, the exact kernel, its own finite differences."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from wsss.densecrf import DenseCrfLoss, bilateral_filter, loss  # noqa: E402
from wsss.densecrf.reference import bilateral_features, gaussian_kernel  # noqa: E402

# Two pixels of two classes, one pixel and 30 levels apart: A12 = exp(-1 / 5000 - 2) = 0.135308.
TWO_IMAGE = torch.tensor([[[[100.0, 130.0]], [[100.0, 100.0]], [[100.0, 100.0]]]])
TWO_PROBS = torch.tensor([[[[0.9, 0.2]], [[0.1, 0.8]]]], dtype=torch.float64)
TWO = {"weight": 1.0, "sigma_rgb": 15, "sigma_xy": 50, "scale_factor": 1.0, "exact": True}


@pytest.fixture
def make_batch(make_problem):
    """(batch, height, width, n_classes) -> uint8 images and float32 probabilities, as tensors."""

    def make(batch: int, height: int, width: int, n_classes: int, rng_seed: int = 0):
        problems = [make_problem(height, width, n_classes, rng_seed + b) for b in range(batch)]
        images = torch.stack([torch.from_numpy(p[0]).permute(2, 0, 1) for p in problems])
        return images, torch.stack([torch.from_numpy(p[1]) for p in problems])

    return make


def value_and_gradient(criterion, images, probs, *args, **kwargs):
    probs = probs.detach().clone().requires_grad_()
    value = criterion(images, probs, *args, **kwargs)
    value.backward()
    return value.detach(), probs.grad


def test_published_numbers() -> None:
    # Catches a missing 2 in the exponent or the gradient, i = j left out, a wrong sign.
    value, gradient = value_and_gradient(DenseCrfLoss(**TWO), TWO_IMAGE, TWO_PROBS)
    assert value.item() == pytest.approx(-1.570360, abs=1e-6)
    expected = torch.tensor([[-1.854123, -0.643555], [-0.416493, -1.627062]], dtype=torch.float64)
    torch.testing.assert_close(gradient[0, :, 0], expected, rtol=0, atol=1e-6)
    potts, potts_gradient = value_and_gradient(
        DenseCrfLoss(**TWO, potts=True), TWO_IMAGE, TWO_PROBS
    )
    assert potts.item() == pytest.approx(0.700256, abs=1e-6)
    assert (potts - value).item() == pytest.approx(2.270616, abs=1e-6)
    assert torch.equal(potts_gradient, gradient)


def test_the_exact_value_is_that_of_the_reference_kernel(make_batch) -> None:
    images, probs = make_batch(2, 7, 9, 3)
    roi = torch.rand(2, 7, 9, dtype=torch.float64)
    criterion = DenseCrfLoss(0.5, sigma_rgb=20, sigma_xy=4, scale_factor=1, exact=True)
    potts = DenseCrfLoss(0.5, sigma_rgb=20, sigma_xy=4, scale_factor=1, exact=True, potts=True)
    expected = expected_potts = 0.0
    for image, image_probs, inside in zip(images, probs, roi, strict=True):
        kernel = gaussian_kernel(bilateral_features(image.permute(1, 2, 0).numpy(), 4, 20))
        region = inside.numpy().reshape(-1)
        s = image_probs.numpy().reshape(3, -1) * region
        expected -= 0.5 / 2 * np.einsum("ki,ij,kj", s, kernel, s)
        expected_potts += 0.5 / 2 * np.einsum("ki,ij,kj", s, kernel, region - s)
    assert criterion(images, probs.double(), roi).item() == pytest.approx(expected, rel=1e-9)
    # As the probabilities sum to one:
    assert potts(images, probs.double(), roi).item() == pytest.approx(expected_potts, rel=1e-6)


@pytest.mark.parametrize("scale_factor", [1.0, 0.5])
@pytest.mark.parametrize("potts", [False, True])
def test_gradcheck(make_batch, scale_factor, potts) -> None:
    images, probs = make_batch(2, 5, 6, 3)
    roi = torch.rand(2, 5, 6) > 0.3
    probs = (probs.double() * 0.9 + 0.03).requires_grad_()
    criterion = DenseCrfLoss(
        0.01, sigma_rgb=30, sigma_xy=5, scale_factor=scale_factor, potts=potts, exact=True
    )
    torch.autograd.gradcheck(lambda p: criterion(images, p, roi), probs, atol=1e-7)


def test_the_lattice_loss_is_the_filter_of_its_probabilities(make_batch) -> None:
    # The bytes of R = -w/B sum S (A S): catches a kernel normalised or scaled on the way.
    images, probs = make_batch(2, 8, 9, 4)
    criterion = DenseCrfLoss(0.1, sigma_rgb=12, sigma_xy=30, scale_factor=1)
    value, gradient = value_and_gradient(criterion, images, probs)
    for image, image_probs, g in zip(images, probs, gradient, strict=True):
        features = bilateral_features(image.permute(1, 2, 0).numpy(), 30, 12)
        filtered = bilateral_filter(features, image_probs.flatten(1).numpy())
        np.testing.assert_allclose(g.flatten(1), -2 * 0.1 / 2 * filtered, rtol=1e-5)
    assert value.item() == pytest.approx(0.5 * (gradient * probs).sum().item(), rel=1e-6)


@pytest.mark.parametrize("sigma_xy, sigma_rgb", [(100, 15), (20, 15), (10, 30)])
@pytest.mark.parametrize("scale_factor", [1.0, 0.5])
def test_the_lattice_is_close_to_the_exact_kernel(
    make_batch, sigma_xy, sigma_rgb, scale_factor
) -> None:
    # In five dimensions the lattice is 0.52 to 0.61 times the kernel over these settings, and the
    # gradients' cosine at least 0.9980.
    images, probs = make_batch(1, 48, 60, 4, 1)
    options = {"sigma_xy": sigma_xy, "sigma_rgb": sigma_rgb, "scale_factor": scale_factor}
    value, gradient = value_and_gradient(DenseCrfLoss(1.0, **options), images, probs)
    exact = DenseCrfLoss(1.0, **options, exact=True)
    exact_value, exact_gradient = value_and_gradient(exact, images, probs.double())
    assert 0.5 < value.item() / exact_value.item() < 0.65
    cosine = torch.cosine_similarity(gradient.double().flatten(), exact_gradient.flatten(), dim=0)
    assert cosine > 0.997


@pytest.mark.parametrize("sigma_xy, sigma_rgb", [(100, 15), (10, 30)])
def test_the_lattice_gradient_is_nearly_that_of_its_value(make_batch, sigma_xy, sigma_rgb) -> None:
    # Not exactly: where vertices are missing A is not symmetric. The value's own derivative is
    # -(A + A') S, which is 0.9 to 2.5 per cent of its length away over the settings of the test
    # above and several images. Float64, for the differences.
    images, probs = make_batch(1, 12, 14, 2, 1)
    probs = probs.double() * 0.9 + 0.05
    criterion = DenseCrfLoss(1.0, sigma_xy=sigma_xy, sigma_rgb=sigma_rgb, scale_factor=1)
    _, gradient = value_and_gradient(criterion, images, probs)
    differences = torch.zeros_like(probs)
    for i in range(probs.numel()):
        step = torch.zeros_like(probs).view(-1)
        step[i] = 1e-4
        up, down = (criterion(images, probs + sign * step.view_as(probs)) for sign in (1, -1))
        differences.view(-1)[i] = (up - down) / 2e-4
    assert (differences - gradient).norm() < 0.03 * gradient.norm()


def test_float32_is_close_to_float64(make_batch) -> None:
    # The compiled lattice and that in PyTorch.
    images, probs = make_batch(2, 24, 30, 5)
    criterion = DenseCrfLoss(1.0, sigma_xy=40)
    value, gradient = value_and_gradient(criterion, images, probs)
    double, double_gradient = value_and_gradient(criterion, images, probs.double())
    assert (value.dtype, double.dtype) == (torch.float32, torch.float64)
    assert value.item() == pytest.approx(double.item(), rel=1e-5)
    torch.testing.assert_close(gradient.double(), double_gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("exact", [False, True])
def test_outside_the_region_nothing_matters(make_batch, exact) -> None:
    images, probs = make_batch(1, 10, 12, 3)
    roi = torch.ones(1, 10, 12)
    roi[:, 6:] = 0
    criterion = DenseCrfLoss(1.0, scale_factor=0.5, exact=exact)
    value, gradient = value_and_gradient(criterion, images, probs, roi)
    assert (gradient[:, :, 6:] == 0).all()
    assert (gradient[:, :, :6] != 0).all()
    changed = probs.clone()
    changed[:, :, 6:] = changed[:, :, 6:].flip(1)
    assert criterion(images, changed, roi) == value
    assert criterion(images, changed, roi.bool()) == value
    assert criterion(images, changed) != value
    nothing, no_gradient = value_and_gradient(criterion, images, probs, torch.zeros(1, 10, 12))
    assert nothing == 0
    assert (no_gradient == 0).all()
    if exact:  # the lattice has vertices from there
        images[:, :, 6:] = 0
        assert criterion(images, probs, roi).item() == pytest.approx(value.item(), rel=1e-6)


def test_downscaling(make_batch) -> None:
    # Blocks of 2 x 2 equal pixels: half the size is the small image, at half the sigma.
    images, probs = make_batch(2, 7, 9, 3)
    roi = torch.rand(2, 7, 9)
    large = [t.repeat_interleave(2, -1).repeat_interleave(2, -2) for t in (images, probs, roi)]
    half, half_gradient = value_and_gradient(DenseCrfLoss(1.0, sigma_xy=20), *large)
    criterion = DenseCrfLoss(1.0, sigma_xy=10, scale_factor=1)
    whole, whole_gradient = value_and_gradient(criterion, images, probs, roi)
    assert half.item() == pytest.approx(whole.item(), rel=1e-6)
    # A small pixel is the mean of its four.
    torch.testing.assert_close(half_gradient[..., ::2, ::2] * 4, whole_gradient)


def test_nearest_images_and_bilinear_probabilities(make_batch) -> None:
    # rloss' choice, on an odd size.
    images, probs = make_batch(1, 9, 7, 2)
    criterion = DenseCrfLoss(1.0, sigma_xy=20)
    small_images = images[:, :, [0, 2, 4, 6]][..., [0, 2, 4]]
    small_probs = 0.25 * sum(
        probs[:, :, i : 8 + i : 2, j : 6 + j : 2] for i in (0, 1) for j in (0, 1)
    )
    expected = DenseCrfLoss(1.0, sigma_xy=10, scale_factor=1)(small_images, small_probs)
    assert criterion(images, probs).item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_gate_by_hand() -> None:
    # ToCo: A S times max(roi - max_k S, 0), and 1 where unlabelled. The gate has no gradient.
    roi = torch.tensor([[[1.0, 0.5]]])
    criterion = DenseCrfLoss(**TWO, gated=True)
    a = np.array([[1, 0.135308], [0.135308, 1]])
    s = np.array([[0.9, 0.2 * 0.5], [0.1, 0.8 * 0.5]])
    for unlabelled, gate in [
        (None, [1 - 0.9, 0]),  # 0.5 - 0.8 < 0
        ([[[False, True]]], [1 - 0.9, 1]),
        ([[[True, False]]], [1, 0]),
    ]:
        mask = None if unlabelled is None else torch.tensor(unlabelled)
        value, gradient = value_and_gradient(criterion, TWO_IMAGE, TWO_PROBS, roi, mask)
        filtered = (s @ a) * np.array(gate)
        assert value.item() == pytest.approx(-(s * filtered).sum(), abs=1e-6)
        np.testing.assert_allclose(gradient[0, :, 0], -2 * filtered * [1, 0.5], atol=2e-6)


def test_without_region_the_gate_takes_one() -> None:
    gated = DenseCrfLoss(**TWO, gated=True)
    ones = torch.ones(1, 1, 2)
    assert gated(TWO_IMAGE, TWO_PROBS) == gated(TWO_IMAGE, TWO_PROBS, ones)
    everywhere = torch.ones(1, 1, 2, dtype=torch.bool)
    ungated = DenseCrfLoss(**TWO)(TWO_IMAGE, TWO_PROBS)
    assert gated(TWO_IMAGE, TWO_PROBS, unlabelled=everywhere) == ungated


@pytest.mark.parametrize("exact", [False, True])
def test_a_batch_is_the_mean_of_its_images(make_batch, exact) -> None:
    images, probs = make_batch(3, 12, 10, 4)
    roi = torch.rand(3, 12, 10)
    criterion = DenseCrfLoss(1.0, exact=exact)
    value, gradient = value_and_gradient(criterion, images, probs, roi)
    singles = [value_and_gradient(criterion, images[[b]], probs[[b]], roi[[b]]) for b in range(3)]
    assert value.item() == pytest.approx(sum(v.item() for v, _ in singles) / 3, rel=1e-6)
    torch.testing.assert_close(gradient, torch.cat([g for _, g in singles]) / 3)


@settings(max_examples=25)
@given(
    st.integers(1, 3), st.integers(1, 12), st.integers(1, 12), st.integers(1, 9),
    st.sampled_from([0.5, 1.0]), st.booleans(), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_permuting_classes_permutes_the_gradient(
    batch, height, width, n_classes, scale_factor, gated, rng_seed
) -> None:
    height, width = (max(side, round(1 / scale_factor)) for side in (height, width))
    generator = torch.Generator().manual_seed(rng_seed)
    images = torch.randint(0, 256, (batch, 3, height, width), generator=generator)
    images = images.to(torch.uint8)
    probs = torch.randn(batch, n_classes, height, width, generator=generator).softmax(1)
    order = torch.randperm(n_classes, generator=generator)
    criterion = DenseCrfLoss(1.0, scale_factor=scale_factor, gated=gated)
    value, gradient = value_and_gradient(criterion, images, probs)
    permuted, permuted_gradient = value_and_gradient(criterion, images, probs[:, order])
    assert value <= 0
    assert torch.isfinite(gradient).all()
    assert permuted.item() == pytest.approx(value.item(), rel=1e-5)
    torch.testing.assert_close(permuted_gradient, gradient[:, order])


def test_one_class_everywhere_costs_least(make_batch) -> None:
    # A symmetric A >= 0 is assumed, so the exact one.
    images, probs = make_batch(1, 9, 8, 3)
    criterion = DenseCrfLoss(1.0, potts=True, exact=True)
    one_class = torch.zeros_like(probs)
    one_class[:, 1] = 1
    assert criterion(images, one_class).item() == pytest.approx(0, abs=1e-3)
    assert criterion(images, probs) > 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("exact", [False, True])
def test_half_precision_computes_in_float32(make_batch, dtype, exact) -> None:
    images, probs = make_batch(2, 10, 12, 3)
    roi = torch.rand(2, 10, 12)
    criterion = DenseCrfLoss(1e-3, exact=exact)
    half = probs.to(dtype)
    value, gradient = value_and_gradient(criterion, images, half, roi)
    expected, expected_gradient = value_and_gradient(criterion, images, half.float(), roi)
    assert value.dtype == torch.float32
    assert gradient.dtype == dtype
    assert value == expected
    assert torch.equal(gradient, expected_gradient.to(dtype))


def test_under_autocast(make_batch) -> None:
    # Catches a filter of rounded features, and a gradient in another dtype than its input's.
    images, _ = make_batch(2, 10, 12, 3)
    network = torch.nn.Conv2d(3, 4, 1)
    criterion = DenseCrfLoss(1.0)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(images / 255)
        probs = logits.softmax(1)
        probs.retain_grad()
        value = criterion(images, probs)
    assert probs.dtype == torch.bfloat16
    assert value == criterion(images, probs.detach().float())
    value.backward()
    assert probs.grad.dtype == torch.bfloat16
    assert torch.isfinite(network.weight.grad).all()
    assert network.weight.grad.abs().sum() > 0


def test_gradient_scales_with_what_follows(make_batch) -> None:
    images, probs = make_batch(1, 8, 8, 3)
    _, gradient = value_and_gradient(DenseCrfLoss(1.0), images, probs)
    _, tripled = value_and_gradient(lambda *a: 3 * DenseCrfLoss(1.0)(*a), images, probs)
    torch.testing.assert_close(tripled, 3 * gradient)
    value, none = value_and_gradient(DenseCrfLoss(0.0), images, probs)
    assert value == 0
    assert (none == 0).all()


@pytest.mark.parametrize("roi", [False, True])
@pytest.mark.parametrize("gated, potts", [(False, False), (True, False), (False, True)])
def test_second_order_gradients_are_those_of_the_gradient(make_batch, roi, gated, potts) -> None:
    # Catches a graph of the gradient that ends at it: what follows would miss a term, silently.
    images, probs = make_batch(2, 5, 6, 3)
    inside = torch.rand(2, 5, 6, dtype=torch.float64) if roi else None
    options = {"sigma_rgb": 30, "sigma_xy": 5, "gated": gated, "potts": potts}
    criterion = DenseCrfLoss(0.1, **options, exact=True)
    probs = (probs.double() * 0.9 + 0.03).requires_grad_()

    def gradient(p, factor):
        (first,) = torch.autograd.grad(factor * criterion(images, p, inside), p, create_graph=True)
        return first

    factor = torch.ones((), dtype=torch.float64, requires_grad=True)
    (value_gradient,) = torch.autograd.grad(criterion(images, probs, inside), probs)
    torch.testing.assert_close(gradient(probs, factor), value_gradient)
    if gated:  # of the gate, which moves with p, they know nothing: compare with p times a number
        scaled = gradient(probs, factor)
        (by_factor,) = torch.autograd.grad(scaled.square().sum(), factor)
        assert by_factor.item() == pytest.approx(2 * value_gradient.square().sum().item())
    else:
        torch.autograd.gradcheck(gradient, (probs, factor), atol=1e-7)


def test_second_order_gradients_through_the_lattice(make_batch) -> None:
    # They too take A as symmetric, which it is to a few per cent.
    images, probs = make_batch(1, 12, 14, 2, 1)
    probs = (probs.double() * 0.9 + 0.05).requires_grad_()
    criterion = DenseCrfLoss(1.0, sigma_xy=10, sigma_rgb=30, scale_factor=1)
    (first,) = torch.autograd.grad(criterion(images, probs), probs, create_graph=True)
    direction = torch.rand_like(probs)
    (second,) = torch.autograd.grad((first * direction).sum(), probs)
    moved = [
        value_and_gradient(criterion, images, probs.detach() + step * direction)[1]
        for step in (0.01, -0.01)
    ]
    difference = (moved[0] - moved[1]) / 0.02
    assert (second - difference).norm() < 0.03 * second.norm()


def test_has_no_state_and_survives_copies(make_batch) -> None:
    images, probs = make_batch(1, 8, 8, 3)
    criterion = DenseCrfLoss(1.0, gated=True)
    assert not list(criterion.parameters())
    assert not list(criterion.buffers())
    assert not criterion.state_dict()
    assert "gated=True" in repr(criterion)
    value = criterion(images, probs)
    assert copy.deepcopy(criterion)(images, probs) == value
    assert pickle.loads(pickle.dumps(criterion))(images, probs) == value
    with torch.no_grad():
        assert not criterion(images, probs.requires_grad_()).requires_grad


def test_same_bytes_whatever_the_threads_and_the_image_dtype(make_batch) -> None:
    images, probs = make_batch(4, 20, 22, 5)
    value, gradient = value_and_gradient(DenseCrfLoss(1.0, num_threads=1), images, probs)
    for num_threads in (1, 2, None):
        again, g = value_and_gradient(
            DenseCrfLoss(1.0, num_threads=num_threads), images.float(), probs
        )
        assert again == value
        assert torch.equal(g, gradient)


def test_exact_blocks_make_no_difference(make_batch, monkeypatch) -> None:
    images, probs = make_batch(1, 9, 11, 2)
    criterion = DenseCrfLoss(1.0, exact=True)
    value = criterion(images, probs.double()).item()
    for block_bytes in (1, 3000):
        monkeypatch.setattr(loss, "_EXACT_BLOCK_BYTES", block_bytes)
        assert criterion(images, probs.double()).item() == pytest.approx(value, rel=1e-12)


WORKER = """
import sys
import torch
from torch import distributed, nn
from wsss.densecrf import DenseCrfLoss

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.network, self.loss = nn.Conv2d(3, 3, 1), DenseCrfLoss(1.0, num_threads=1)
    def forward(self, images):
        return self.loss(images, self.network(images / 255).softmax(1))

rank, where = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
distributed.init_process_group("gloo", init_method=where, rank=rank, world_size=2)
images = torch.randint(0, 256, (2, 3, 8, 8), generator=torch.Generator().manual_seed(1)).float()
model = nn.parallel.DistributedDataParallel(Model())
model(images[[rank]]).backward()
alone = Model()
alone(images).backward()
torch.testing.assert_close(model.module.network.weight.grad, alone.network.weight.grad)
assert alone.network.weight.grad.abs().max() > 0
distributed.destroy_process_group()
"""


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
def test_distributed_data_parallel(tmp_path) -> None:
    # Two processes with an image each have the gradient of one with both.
    where = (tmp_path / "rendezvous").as_uri()
    processes = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(rank), where]) for rank in (0, 1)
    ]
    try:
        assert [process.wait(120) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()


IMAGES = torch.full((2, 3, 4, 6), 100.0)
PROBS = torch.full((2, 5, 4, 6), 0.2)


def _with(tensor, value: float):
    changed = tensor.clone()
    changed[1, 2, 3, 4] = value
    return changed


@pytest.mark.parametrize(
    "images, probs, options, message",
    [
        (IMAGES, PROBS[0], {}, r"probs must be floats of shape \(B, K, H, W\).*\(5, 4, 6\)"),
        (IMAGES, PROBS[:, :0], {}, "none of them 0"),
        (IMAGES, PROBS.long(), {}, "dtype torch.int64"),
        (IMAGES[:1], PROBS, {}, r"\(2, C, 4, 6\) as in probs but has \(1, 3, 4, 6\)"),
        (IMAGES[:, :0], PROBS, {}, r"images must have 1 to 253 channels but have 0$"),
        (IMAGES.repeat(1, 85, 1, 1), PROBS, {}, r"1 to 253 channels but have 255; `exact=True`"),
        (IMAGES.permute(0, 2, 3, 1), PROBS, {}, "move the channels first"),
        (IMAGES[..., :3], PROBS, {}, r"\(2, C, 4, 6\) as in probs but has \(2, 3, 4, 3\)"),
        (IMAGES.long(), PROBS, {}, "images must be uint8 or float"),
        (_with(IMAGES, torch.nan), PROBS, {}, r"images must lie in \[0, 255\] but is nan at"),
        (_with(IMAGES, -2.1), PROBS, {}, r"-2.1 at \[1, 2, 3, 4\]; undo any normalisation"),
        (_with(IMAGES, 256), PROBS, {}, r"images must lie in \[0, 255\] but is 256"),
        (IMAGES, _with(PROBS, torch.nan), {}, r"probs must lie in.*nan at \[1, 2, 3, 4\]"),
        (IMAGES, _with(PROBS, torch.inf), {}, r"inf at \[1, 2, 3, 4\]; apply a softmax"),
        (IMAGES, _with(PROBS, -3), {}, r"-3 at \[1, 2, 3, 4\]; apply a softmax"),
        (IMAGES, PROBS, {"roi": torch.ones(2, 6, 4)}, r"roi must have shape.*\(2, 4, 6\)"),
        (IMAGES, PROBS, {"roi": torch.full((2, 4, 6), 255.0)}, "roi must lie in.*255"),
        (IMAGES, PROBS, {"unlabelled": torch.ones(2, 4, 6) > 0}, "pass `gated=True`"),
        (IMAGES.clone().requires_grad_(), PROBS, {}, r"images requires grad.*images.detach\(\)"),
        (IMAGES.to("meta"), PROBS, {}, r"images is on meta but probs on cpu; pass `images.to"),
        (IMAGES[..., :1], PROBS[..., :1], {}, "leaves no pixel of 4 x 1; pass `scale_factor=1`"),
    ],
)
def test_refuses_with_the_way_out(images, probs, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        DenseCrfLoss()(images, probs, **options)


def test_unlabelled_must_be_a_mask() -> None:
    with pytest.raises(ValueError, match=r"unlabelled must be bool.*`unlabelled == 255`"):
        DenseCrfLoss(gated=True)(IMAGES, PROBS, unlabelled=torch.full((2, 4, 6), 255))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"weight": -1e-9}, "weight must be at least 0 but is -1e-09"),
        ({"weight": float("nan")}, "weight must be finite"),
        ({"sigma_xy": 0}, "sigma_xy must be finite and above 0"),
        ({"sigma_rgb": -15}, "sigma_rgb must be finite and above 0 but is -15"),
        ({"scale_factor": 2}, r"scale_factor must be in \(0, 1\] but is 2"),
        ({"scale_factor": 0}, "scale_factor must be finite and above 0"),
        ({"image_max": 0}, "image_max must be above 0 but is 0; 255 or 1 is usual"),
        ({"num_threads": 0}, "num_threads must be an integer of at least 1"),
    ],
)
def test_refuses_settings(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        DenseCrfLoss(**options)


def test_the_scale_of_images_is_set_and_never_guessed(make_batch) -> None:
    # A batch may be black, or dark: that is no reason to stop, nor to take another scale for it.
    images, probs = make_batch(2, 8, 9, 3)
    assert DenseCrfLoss()(torch.zeros_like(IMAGES), PROBS) < 0
    dark = images // 128
    expected = value_and_gradient(DenseCrfLoss(1.0), dark, probs)
    with pytest.warns(UserWarning, match=r"none is above 1; if they are in 0..1.*`image_max=1`"):
        found = value_and_gradient(DenseCrfLoss(1.0), dark.float(), probs)
    assert found[0] == expected[0]
    assert torch.equal(found[1], expected[1])
    value, gradient = value_and_gradient(DenseCrfLoss(1.0), images, probs)
    unit, unit_gradient = value_and_gradient(
        DenseCrfLoss(1.0, image_max=1), images.double() / 255, probs.double()
    )
    assert unit.item() == pytest.approx(value.item(), rel=1e-5)
    torch.testing.assert_close(unit_gradient.float(), gradient, rtol=1e-4, atol=1e-6)
    assert DenseCrfLoss(1.0, image_max=1)(images, probs) == value  # uint8 has one scale
    with pytest.raises(ValueError, match=r"images must lie in \[0, 1\].*`image_max=255`"):
        DenseCrfLoss(1.0, image_max=1)(images.float(), probs)


@pytest.mark.parametrize("channels", [1, 2, 4, 13, 20, 260])
def test_images_of_any_number_of_channels(make_batch, channels) -> None:
    # A channel that is the same everywhere adds nothing to a distance.
    _, probs = make_batch(2, 7, 8, 3)
    images = torch.randint(0, 256, (2, channels, 7, 8), generator=torch.Generator().manual_seed(0))
    images = images.to(torch.uint8)
    exact = DenseCrfLoss(1.0, sigma_rgb=100, sigma_xy=20, scale_factor=1, exact=True)
    position = np.mgrid[:7, :8].reshape(2, -1) / 20
    kernels = [
        gaussian_kernel(np.concatenate([position, image.double().flatten(1) / 100]))
        for image in images
    ]
    s = probs.double().flatten(2).numpy()
    expected = -sum(np.einsum("ki,ij,kj", q, k, q) for q, k in zip(s, kernels, strict=True)) / 2
    assert exact(images, probs.double()).item() == pytest.approx(expected, rel=1e-9)
    if channels <= 20:
        lattice = DenseCrfLoss(1.0, sigma_rgb=100, sigma_xy=20, scale_factor=1)
        value, gradient = value_and_gradient(lattice, images, probs)
        _, exact_gradient = value_and_gradient(exact, images, probs)
        assert value < 0
        cosine = torch.cosine_similarity(gradient.flatten(), exact_gradient.flatten(), dim=0)
        assert cosine > 0.95


def test_without_pytorch_the_error_says_what_to_install() -> None:
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np, wsss.densecrf as d\n"
        "d.bilateral_filter(np.zeros((2, 4)), np.ones((1, 4)))\n"
        "try:\n    d.DenseCrfLoss\n"
        "except ImportError as error:\n    assert 'pip install torch' in str(error), error\n"
        "else:\n    sys.exit('no error')\n"
        "try:\n    d.DenseCrfLos\n"
        "except AttributeError:\n    pass\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.parametrize("gated", [False, True])
def test_a_gpu_answers_as_the_cpu(cuda, make_batch, gated) -> None:
    images, probs = make_batch(4, 64, 80, 21)
    roi = torch.ones(4, 64, 80)
    roi[1:, 50:] = 0
    criterion = DenseCrfLoss(1e-3, gated=gated)
    value, gradient = value_and_gradient(criterion, images, probs, roi)
    on_gpu = [t.to(cuda) for t in (images, probs, roi)]
    gpu_value, gpu_gradient = value_and_gradient(criterion, *on_gpu)
    assert gpu_gradient.device.type == "cuda"
    assert gpu_value.item() == pytest.approx(value.item(), rel=1e-5)
    torch.testing.assert_close(gpu_gradient.cpu(), gradient, rtol=1e-4, atol=1e-6)
    again, gradient_again = value_and_gradient(criterion, *on_gpu)
    assert torch.equal(again, gpu_value)
    assert torch.equal(gradient_again, gpu_gradient)
    with torch.autocast("cuda", torch.float16):
        half, half_gradient = value_and_gradient(criterion, on_gpu[0], on_gpu[1].half(), on_gpu[2])
    assert half.item() == pytest.approx(value.item(), rel=1e-2)
    assert half_gradient.dtype == torch.float16
