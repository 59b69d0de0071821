"""CCAM: its losses by double loops, its symmetry, what it finds on toy images, and its targets."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms.v2.functional import gaussian_blur

from wsss.cam.ccam import CcamMaps, CcamMapsSettings
from wsss.methods._contrast import contrast_loss, negative_loss, positive_loss
from wsss.methods._erasing import erased_targets
from wsss.methods._erasing import gaussian_blur as blur_of_erasing
from wsss.methods.base import Start
from wsss.methods.ccam import Ccam, CcamSettings, edge_means
from wsss.methods.objective import Objective
from wsss.models.classifier import Classifier
from wsss.models.disentangler import DisentanglerSettings
from wsss.seeding import Step

MakeModel = Callable[..., Classifier]
MULTI, SINGLE = Objective("multi_label"), Objective("single_label")
STEP = Step(np.random.default_rng(0), 0.5, list("abcd"))
SIDES = torch.tensor([[1.0, 0], [1, 1], [0, 1]]).double()


@pytest.mark.parametrize(("alpha", "loss"), [(0.25, 1.46119), (0, 1.84329), (0.8, 0.89216)])
def test_like_sides(alpha: float, loss: float) -> None:
    assert float(positive_loss(SIDES, alpha)) == pytest.approx(loss, abs=1e-5)


def test_unlike_sides() -> None:
    others = torch.tensor([[1.0, 0], [0, 1], [1, 1]]).double()
    assert float(negative_loss(SIDES, others)) == pytest.approx(3.0795, abs=1e-5)


def cosine(first: Sequence[float], other: Sequence[float]) -> float:
    product = sum(a * b for a, b in zip(first, other, strict=True))
    length = math.sqrt(sum(a * a for a in first) * sum(b * b for b in other))
    return min(max(product / length, 5e-4), 0.9995)


def plain_contrast(features: np.ndarray, logits: np.ndarray, alpha: float) -> float:
    """Of (B, D, h, w) and (B, h, w), one number at a time."""
    probs = 1 / (1 + np.exp(-logits))
    sides = [[float((d * p).mean()) for d in f] for f, p in zip(features, probs, strict=True)]
    others = [
        [float((d * (1 - p)).mean()) for d in f] for f, p in zip(features, probs, strict=True)
    ]
    total = -sum(math.log(1 - cosine(b, f)) for b in others for f in sides)
    for group in (sides, others):
        for item in group:
            ranked = sorted((cosine(item, other) for other in group), reverse=True)
            total -= sum(
                math.exp(-alpha * (rank - 1)) * math.log(c) for rank, c in enumerate(ranked)
            )
    return total / len(features) ** 2


@given(st.integers(1, 5), st.integers(1, 3), st.integers(0, 99), st.sampled_from([0, 0.25, 0.8]))
def test_against_double_loops(images: int, channels: int, seed: int, alpha: float) -> None:
    # Channels are those of classes: each over its own images, those without any left out.
    rng = np.random.default_rng(seed)
    features = rng.random((images, 4, 2, 3)) ** 4
    logits = rng.normal(size=(images, channels, 2, 3)) * 3
    counted = rng.random((images, channels)) < 0.6
    wanted = [
        plain_contrast(features[rows], logits[rows, channel], alpha)
        for channel, rows in enumerate(counted.T)
        if rows.any()
    ]
    found = contrast_loss(*map(torch.from_numpy, (features, logits, counted)), alpha)
    assert float(found) == pytest.approx(np.mean(wanted) if wanted else 0, rel=1e-4, abs=1e-6)


def test_sides_may_change_places() -> None:
    features, logits = torch.rand(5, 8, 3, 4), torch.randn(5, 2, 3, 4)
    counted = torch.ones(5, 2, dtype=torch.bool)
    first, other = (contrast_loss(features, sign * logits, counted, 0.25) for sign in (1, -1))
    torch.testing.assert_close(first, other)


def test_full_precision_under_autocast() -> None:
    features, logits = torch.rand(4, 64, 6, 6), torch.randn(4, 1, 6, 6)
    counted = torch.ones(4, 1, dtype=torch.bool)
    wanted = contrast_loss(features, logits, counted, 0.25)
    with torch.autocast("cpu", torch.bfloat16):
        found = contrast_loss(features, logits, counted, 0.25)
    assert torch.equal(found, wanted) and found.dtype == torch.float32


@pytest.mark.parametrize("specific", [False, True])
@pytest.mark.parametrize("case", ["one image", "the same image", "no tags"])
def test_small_batches(
    make_model: MakeModel, images: Tensor, labels: Tensor, case: str, specific: bool
) -> None:
    settings = CcamSettings(class_specific=specific, ecs_weight=1)
    model = make_model([DisentanglerSettings(class_specific=specific)]).train()
    if case == "one image":
        images, labels = images[:1], labels[:1]
    elif case == "the same image":
        images, labels = images[:1].expand(4, -1, -1, -1), labels[:1].expand(4, -1)
    else:
        labels = torch.zeros_like(labels)
    loss = Ccam(settings)(model, images, labels, MULTI, STEP)["loss"]
    loss.backward()
    gradients = [parameter.grad for parameter in model.parts.parameters()]
    assert torch.isfinite(loss)
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    if case == "no tags":
        assert loss == 0 and not any(
            gradient.any() for gradient in gradients if gradient is not None
        )
    else:
        assert loss > 0.1


@pytest.mark.parametrize("specific", [False, True])
def test_images_without_the_tag_do_not_count(
    make_model: MakeModel, images: Tensor, labels: Tensor, specific: bool
) -> None:
    # An untagged image and one of an extra class, in the place of two others.
    labels = torch.cat([labels, torch.zeros(4, 1)], dim=1)
    labels[2:] = 0
    labels[3, 3] = 1
    model = make_model()
    model = Classifier(
        model.backbone,
        model.class_names,
        num_extra=1,
        parts=[DisentanglerSettings(class_specific=specific)],
    ).eval()
    method = Ccam(CcamSettings(class_specific=specific, ecs_weight=1, ecs_delta=0.1))
    first = method(model, images, labels, SINGLE, STEP)
    other = method(model, torch.cat([images[:2], images[2:] * 2]), labels, SINGLE, STEP)
    alone = method(model, images[:2], labels[:2], SINGLE, STEP)
    for key in ("contrast", "ecs", "loss"):
        torch.testing.assert_close(first[key], other[key])
        torch.testing.assert_close(first[key], alone[key])
    assert first["ecs"] > 0


def test_the_head_stays_as_it_is(make_model: MakeModel, images: Tensor, labels: Tensor) -> None:
    # Gradients of 0 instead of none would let weight decay shrink it.
    model = make_model([DisentanglerSettings()]).train()
    losses = Ccam(CcamSettings(ecs_weight=1))(model, images, labels, MULTI, STEP)
    losses["loss"].backward()
    assert model.head.weight.grad is None
    assert model.parts["disentangler"].conv.weight.grad is not None


@pytest.mark.parametrize("objective", [MULTI, SINGLE])
def test_terms_add_up(
    make_model: MakeModel, images: Tensor, labels: Tensor, objective: Objective
) -> None:
    model = make_model([DisentanglerSettings()]).eval()
    plain = objective.classification(model(images).logits, labels)
    for classify in (0, 1, 3):
        for regularise in (0, 0.5):
            settings = CcamSettings(
                classification_weight=classify, ecs_weight=2, entropy_weight=regularise
            )
            losses = Ccam(settings)(model, images, labels, objective, STEP)
            wanted = losses["contrast"] + 2 * losses["ecs"] + classify * plain
            wanted = wanted + (regularise * losses["entropy"] if regularise else 0)
            torch.testing.assert_close(losses["loss"], wanted)
            torch.testing.assert_close(losses["classification"], plain)


class Colours(nn.Module):
    """A backbone without weights: the mean colour of 4 x 4 pixels, twice."""

    num_features, output_stride = 3, 4

    def __init__(self) -> None:
        super().__init__()
        self.net: Any = nn.Sequential(nn.Identity(), nn.Identity())
        self.net.feature_info = [{"module": name, "num_chs": 3} for name in "01"]

    def stages(self) -> tuple[nn.Module, ...]:
        return tuple(self.net)

    def stage_widths(self) -> list[int]:
        return [3, 3]

    def forward(self, images: Tensor) -> Tensor:
        return functional.avg_pool2d(images, 4)

    def with_stages(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        features = self(images)
        return features, (features, features)


def squares(colours: Sequence[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images of a square of one channel's colour each on the third's; the squares, by cell."""
    rng = np.random.default_rng(seed)
    cells = np.zeros((len(colours), 1, 12, 12), np.float32)
    images = np.zeros((len(colours), 3, 12, 12), np.float32)
    for index, colour in enumerate(colours):
        top, left = rng.integers(1, 6, 2)
        height, width = rng.integers(4, 6, 2)
        cells[index, 0, top : top + height, left : left + width] = 1
        images[index, 2] = 1 - cells[index, 0]
        images[index, colour] = cells[index, 0]
    images = 0.8 * images + 0.2 * rng.random(images.shape)
    large = images.repeat(4, axis=2).repeat(4, axis=3).astype(np.float32)
    return torch.from_numpy(large), torch.from_numpy(cells)


def separate(
    images: Tensor, labels: Tensor, start: Start, specific: bool, sign: float
) -> tuple[Classifier, Tensor]:
    """Train on one batch, check the flip; the maps of the classes that are tagged."""
    torch.manual_seed(1)
    method = Ccam(CcamSettings(class_specific=specific))
    names = ("red", "green")[: labels.shape[1]]
    model = Classifier(Colours(), names, parts=method.begin(start))  # type: ignore[arg-type]
    part = model.parts["disentangler"]
    part.conv.weight.data *= sign
    optimizer = torch.optim.Adam(part.parameters(), lr=0.05)
    for _ in range(60):
        loss = method(model.train(), images, labels, MULTI, STEP)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def over_images(model: Any, function: Any) -> np.ndarray:
        with torch.inference_mode():
            values: np.ndarray = function(model.eval(), images).numpy()
        return values

    start = dataclasses.replace(start, labels=labels.numpy(), over_images=over_images)
    method.finish(model, start)
    with torch.inference_mode():
        maps, _ = CcamMaps(CcamMapsSettings())(model.eval(), images, *labels.nonzero().T)
    return model, maps


def overlap(maps: Tensor, cells: Tensor) -> float:
    found = maps > 0.5
    return float((found & (cells[:, 0] > 0)).sum() / (found | (cells[:, 0] > 0)).sum())


def test_objects_come_apart_from_the_background(make_start: Callable[..., Start]) -> None:
    # Mirrored weights end on the other side, and the flip check puts that right.
    images, cells = squares([0] * 8)
    sides = []
    for sign in (1.0, -1.0):
        model, maps = separate(images, torch.ones(8, 1), make_start(), False, sign)
        assert overlap(maps, cells) > 0.9
        assert maps[cells[:, 0] > 0].mean() > 0.8 and maps[cells[:, 0] == 0].mean() < 0.2
        sides.append(bool(model.parts["disentangler"].inverted))
    assert sorted(sides) == [False, True]


def test_each_class_comes_apart_for_itself(make_start: Callable[..., Start]) -> None:
    images, cells = squares([0, 1] * 6)
    model, maps = separate(images, torch.eye(2).repeat(6, 1), make_start(), True, 1.0)
    assert model.parts["disentangler"].inverted.shape == (2,)
    assert overlap(maps[0::2], cells[0::2]) > 0.9
    assert overlap(maps[1::2], cells[1::2]) > 0.9


def test_edges_by_hand() -> None:
    maps = torch.rand(2, 3, 10, 12)
    for size, rows, columns in (((160, 192), 1, 1), ((30, 24), 2, 2), ((80, 24), 1, 2)):
        found = edge_means(maps, size, "border")
        edge = [
            maps[:, :, y, x]
            for y in range(10)
            for x in range(12)
            if min(y, 9 - y) < rows or min(x, 11 - x) < columns
        ]
        torch.testing.assert_close(found, torch.stack(edge).mean(dim=0))
    corners = maps[:, :, 0, 0] + maps[:, :, 0, 11] + maps[:, :, 9, 0] + maps[:, :, 9, 11]
    torch.testing.assert_close(edge_means(maps, (160, 192), "corners"), corners / 4)
    assert edge_means(torch.full((1, 1, 1, 1), 0.3), (9, 9), "border").item() == pytest.approx(0.3)


@pytest.mark.parametrize("specific", [False, True])
def test_only_images_with_the_tag_are_asked_for_the_side(
    make_model: MakeModel, make_start: Callable[..., Start], specific: bool
) -> None:
    parts = [DisentanglerSettings(class_specific=specific)]
    model = Classifier(make_model().backbone, ("a", "b", "c"), num_extra=1, parts=parts)
    means = np.array([[9, 1, 9, 0], [3, 9, 9, 0], [1, 8, 9, 0], [9, 9, 9, 9]]) / 10
    labels = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], np.float32)
    asked = means if specific else means[:, :1]
    start = dataclasses.replace(make_start(), labels=labels, over_images=lambda *_: asked)
    Ccam(CcamSettings(class_specific=specific)).finish(model, start)
    # of the classes' own images 0.6, 0.45, none and 0.9; of all that have an object 0.43
    wanted = [True, False, False, True] if specific else [False]
    assert model.parts["disentangler"].inverted.tolist() == wanted


def plain_blur(image: np.ndarray, radius: int) -> np.ndarray:
    sigma = 0.3 * radius + 0.5
    at = np.arange(-radius, radius + 1)
    kernel = np.exp(-(at**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    for axis in (1, 2):
        padding = [(radius, radius) if index == axis else (0, 0) for index in range(3)]
        padded = np.pad(image, padding, mode="reflect")
        image = np.apply_along_axis(np.convolve, axis, padded, kernel, "valid")
    return image


@pytest.mark.parametrize("exclusive", [False, True])
def test_targets_by_hand(make_model: MakeModel, images: Tensor, exclusive: bool) -> None:
    tags = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]).bool()
    if exclusive:
        tags = tags[:, :2]  # the last one is an extra class
    else:
        tags[0, 2] = True
    model = make_model().eval()
    nn.init.normal_(model.head.weight)  # so that an erased image may look like another class
    model.head.weight.data[2] += 1  # most of all like the last one
    with torch.no_grad():
        maps = model(images).maps
        found = erased_targets(model, images, maps, tags, delta=0.3, radius=5, exclusive=exclusive)
        classes = set()
        for row, column in np.ndindex(*tags.shape):
            if not tags[row, column]:
                assert not found[row, column].any()
                continue
            cam = maps[row, column].clamp(min=0) / maps[row, column].max().clamp(min=1e-12)
            full = functional.interpolate(cam[None, None], (48, 32), mode="bilinear")[0, 0]
            image = images[row].numpy()
            erased = np.where(full.numpy() > 0.3, plain_blur(image, 5), image)
            output = model(torch.from_numpy(erased.astype(np.float32))[None])
            other = int(output.logits[0, :2].argmax()) if exclusive else column
            classes.add((column, other))
            there = output.maps[0, other].clamp(min=0)
            there = there / there.max().clamp(min=1e-12)
            wanted = torch.maximum(cam, there)
            torch.testing.assert_close(found[row, column], wanted, rtol=1e-3, atol=1e-4)
    assert exclusive == any(column != other for column, other in classes)


def test_nothing_erased_leaves_the_cam(make_model: MakeModel, images: Tensor) -> None:
    model = make_model().eval()
    with torch.no_grad():
        maps = model(images).maps
    tags = torch.ones(4, 3, dtype=torch.bool)
    found = erased_targets(model, images, maps, tags, delta=1, radius=7, exclusive=False)
    cams = maps.relu() / maps.relu().amax(dim=(2, 3), keepdim=True).clamp(min=1e-12)
    torch.testing.assert_close(found, cams)


@pytest.mark.parametrize("size", [(9, 20), (33, 8)])
def test_the_blur_is_that_of_torchvision(size: tuple[int, int]) -> None:
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(blur_of_erasing(images, 7), gaussian_blur(images, [15, 15]))
    with torch.autocast("cpu", torch.bfloat16):  # in which theirs takes minutes
        assert torch.equal(blur_of_erasing(images, 7), blur_of_erasing(images.clone(), 7))
        assert blur_of_erasing(images, 7).dtype == torch.float32


@pytest.mark.parametrize("specific", [False, True])
def test_maps_learn_from_the_targets(
    make_model: MakeModel, images: Tensor, labels: Tensor, specific: bool
) -> None:
    # Of several tags a map for all takes the highest target.
    labels[0] = 1
    model = make_model([DisentanglerSettings(class_specific=specific)]).eval()
    nn.init.normal_(model.head.weight)
    settings = CcamSettings(class_specific=specific, ecs_weight=1, ecs_delta=0.2, ecs_radius=3)
    found = Ccam(settings)(model, images, labels, MULTI, STEP)["ecs"]
    with torch.no_grad():
        output = model(images, with_stages=True)
        part = model.parts["disentangler"]
        probs = part(part.join(output.stages)).sigmoid()
        targets = erased_targets(
            model, images, output.maps, labels > 0, delta=0.2, radius=3, exclusive=False
        )
        assert not torch.allclose(targets.amax(dim=1), targets.sum(dim=1))
        if specific:
            differences = [
                probs[row, column] - targets[row, column] for row, column in labels.nonzero()
            ]
        else:
            differences = list(probs[:, 0] - targets.amax(dim=1))
    wanted = torch.stack(differences).square().mean()
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)
