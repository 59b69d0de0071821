"""What every pixel loss and every form for tags alone promises, of each name in the registries."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wsss.loading.normalisation import Normalisation
from wsss.registry import PIXEL_LOSSES, TAG_FORMS
from wsss.seeding import Step
from wsss.segment.forms import Lesson, TagForm, TrainBatch
from wsss.segment.losses import LossContext, PixelBatch, PixelLoss

NAMES = ("car", "tree", "cow")
NORMALISATION = Normalisation((0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
OF_LABELS = [name for name in PIXEL_LOSSES.names() if name != "dense_crf"]
"""The losses of labelled pixels; that of the CRF regularises all."""


def loss_of(name: str, **settings: Any) -> PixelLoss[Any]:
    counts = np.array([[60, 30, 10, 0], [100, 90, 20, 0]])
    context = LossContext(NAMES, lambda: counts)
    loss: PixelLoss[Any] = PIXEL_LOSSES.build(
        PIXEL_LOSSES.settings(name).model_validate(settings), context
    )
    return loss


def pixels(masks: Tensor, image_weights: Tensor | None = None) -> PixelBatch:
    draw = torch.Generator().manual_seed(1)
    images = torch.randn(len(masks), 3, *masks.shape[1:], generator=draw)
    inside = torch.ones_like(masks, dtype=torch.bool)
    return PixelBatch(masks, images, inside, NORMALISATION, image_weights)


@pytest.fixture
def logits() -> Tensor:
    draw = torch.Generator().manual_seed(2)
    return torch.randn(3, 4, 8, 8, generator=draw).requires_grad_()


@pytest.fixture
def masks() -> Tensor:
    """Labels in most places; the class 3 nowhere, and nothing in the last image."""
    draw = torch.Generator().manual_seed(3)
    masks = torch.randint(0, 3, (3, 8, 8), generator=draw)
    masks[0, :2] = 255
    masks[2] = 255
    return masks


def gradient(loss: Tensor, logits: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(loss, logits)
    return found


VARIANTS = [(name, {}) for name in OF_LABELS] + [
    ("cross_entropy", {"class_weights": "median_frequency"}),
    ("cross_entropy", {"class_weights": {"car": 10}}),
]


@pytest.mark.parametrize(("name", "settings"), VARIANTS)
@pytest.mark.parametrize("weighted", [False, True])
def test_pixels_without_a_label_have_no_gradient(
    name: str, settings: dict[str, Any], weighted: bool, logits: Tensor, masks: Tensor
) -> None:
    weights = torch.tensor([2.0, 1.0, 1.0]) if weighted else None
    loss = loss_of(name, **settings)(logits, pixels(masks, weights))
    assert loss.shape == () and loss.dtype == torch.float32 and loss.isfinite()
    found = gradient(loss, logits).movedim(1, -1)
    assert (found[masks == 255] == 0).all()
    assert (found[masks != 255].abs().sum(dim=-1) > 0).all()


@pytest.mark.parametrize(("name", "settings"), VARIANTS)
def test_a_batch_without_a_label_costs_nothing_and_teaches_nothing(
    name: str, settings: dict[str, Any], logits: Tensor, masks: Tensor
) -> None:
    loss = loss_of(name, **settings)(logits, pixels(torch.full_like(masks, 255)))
    assert loss.item() == 0
    assert (gradient(loss, logits) == 0).all()


@pytest.mark.parametrize("name", PIXEL_LOSSES.names())
def test_a_better_prediction_costs_less(name: str, logits: Tensor, masks: Tensor) -> None:
    loss, batch = loss_of(name), pixels(masks)
    better = logits - 0.01 * gradient(loss(logits, batch), logits)
    assert loss(better, batch) < loss(logits, batch)
    right = 20 * nn.functional.one_hot(masks.where(masks < 4, 0), 4).movedim(-1, 1).float()
    if name != "dense_crf":
        assert loss(right, batch) < 0.1 * loss(logits, batch)


@pytest.mark.parametrize("name", PIXEL_LOSSES.names())
def test_weights_that_are_all_the_same_change_nothing(
    name: str, logits: Tensor, masks: Tensor
) -> None:
    plain = loss_of(name)(logits, pixels(masks))
    same = loss_of(name)(logits, pixels(masks, torch.full((3,), 4.0)))
    torch.testing.assert_close(same, plain, rtol=5e-3, atol=1e-4)


@pytest.mark.parametrize("name", PIXEL_LOSSES.names())
def test_the_order_of_a_batch_does_not_matter(name: str, logits: Tensor, masks: Tensor) -> None:
    batch = pixels(masks, torch.tensor([1.0, 2.0, 3.0]))
    turned = PixelBatch(
        masks.flip(0), batch.images.flip(0), batch.inside, NORMALISATION, torch.tensor([3.0, 2, 1])
    )
    loss = loss_of(name)
    torch.testing.assert_close(loss(logits.flip(0), turned), loss(logits, batch))


def test_cross_entropy_is_the_mean_over_labelled_pixels(logits: Tensor, masks: Tensor) -> None:
    logs = logits.detach().log_softmax(dim=1)
    by_hand = [-logs[b, masks[b, y, x], y, x] for b, y, x in np.argwhere(masks.numpy() != 255)]
    loss = loss_of("cross_entropy")(logits, pixels(masks))
    torch.testing.assert_close(loss.detach(), torch.stack(by_hand).mean())


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("cross_entropy", {"class_weights": {"tree": 10}}, 1.12695),
        ("cross_entropy", {"class_weights": "median_frequency"}, None),
        ("balanced", {}, (0.356675 + 1.203973) / 2),
    ],
)
def test_numbers_of_two_pixels(name: str, settings: dict[str, Any], expected: float | None) -> None:
    """Probabilities of 0.7 for background and of 0.3 for tree, which is class 2."""
    probs = torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.3, 0.2, 0.3, 0.2]])
    logits = probs.log().T.view(1, 4, 1, 2)
    if expected is None:  # frequencies of 0.6, 1/3 and 0.5: the median is 0.5
        weights = 0.5 / 0.6, 0.5 / 0.5
        nll = 0.356675, 1.203973
        expected = sum(w * n for w, n in zip(weights, nll, strict=True)) / sum(weights)
    found = loss_of(name, **settings)(logits, pixels(torch.tensor([[[0, 2]]])))
    assert found.item() == pytest.approx(expected, abs=1e-5)


def test_dice_of_two_pixels() -> None:
    probs = torch.tensor([[0.75, 0.25, 0, 0], [0.5, 0.5, 0, 0]]).clamp(min=1e-12)
    logits = probs.log().T.view(1, 4, 1, 2)
    found = loss_of("dice", smooth=0)(logits, pixels(torch.tensor([[[0, 1]]])))
    background, car = 2 * 0.75 / (1 + 1.25), 2 * 0.5 / (1 + 0.75)
    assert found.item() == pytest.approx(1 - (background + car) / 2, abs=1e-6)


def test_class_balanced_weighs_by_what_others_cover() -> None:
    logits = torch.zeros(1, 4, 1, 4)
    found = loss_of("class_balanced")(logits, pixels(torch.tensor([[[0, 0, 1, 255]]])))
    weights = (3 - 2) / 4, (3 - 2) / 4, (3 - 1) / 4  # of four pixels, of which three are labelled
    assert found.item() == pytest.approx(np.log(4) * sum(weights) / 4)


def test_confidence_guided_fades_cross_entropy_by_the_probability(logits: Tensor) -> None:
    masks = torch.randint(0, 4, (3, 8, 8), generator=torch.Generator().manual_seed(0))
    plain = gradient(loss_of("cross_entropy")(logits, pixels(masks)), logits)
    guided = gradient(loss_of("confidence_guided", power=0.5)(logits, pixels(masks)), logits)
    of_label = logits.detach().softmax(dim=1).gather(1, masks[:, None])
    torch.testing.assert_close(guided, plain * of_label.sqrt())


def test_the_crf_sees_levels_of_images_and_no_padding(logits: Tensor, masks: Tensor) -> None:
    batch = pixels(masks)
    inside = batch.inside.clone()
    inside[:, :, 6:] = False
    loss = loss_of("dense_crf", scale_factor=1.0)
    padded = PixelBatch(masks, batch.images, inside, NORMALISATION)
    found = gradient(loss(logits, padded), logits)
    assert (found[..., 6:] == 0).all() and (found[..., :6] != 0).any()
    # a step of 15 levels is one sigma: the same image in another normalisation is the same loss
    other = Normalisation((0.5, 0.5, 0.5), (1.0, 1.0, 1.0))
    converted = PixelBatch(masks, other.convert(batch.images, NORMALISATION), inside, other)
    torch.testing.assert_close(loss(logits, converted), loss(logits, padded), rtol=1e-3, atol=0)


# Forms


class Network(nn.Module):
    """Sees nothing but colours, and has batch norm, whose statistics a form could spoil."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.head = nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1)
        nn.init.normal_(self.head.weight, std=2)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.head(self.norm(images))
        return found


def form_of(name: str, **settings: Any) -> TagForm[Any]:
    model = TAG_FORMS.settings(name)
    known = {key: value for key, value in settings.items() if key in model.model_fields}
    form: TagForm[Any] = TAG_FORMS.build(model.model_validate(known), NAMES, NORMALISATION)
    return form


def crops(given: list[bool], labels: list[list[float]]) -> TrainBatch:
    """Whole masks where given; elsewhere a point of class 1 in the corner. Padding on the right."""
    draw = torch.Generator().manual_seed(4)
    count = len(given)
    masks = torch.randint(0, 4, (count, 16, 16), generator=draw)
    inside = torch.ones(count, 16, 16, dtype=torch.bool)
    inside[:, :, 14:] = False
    for row, whole in enumerate(given):
        if not whole:
            masks[row] = 255
            masks[row, 0, 0] = 1
    masks[~inside] = 255
    images = torch.randn(count, 3, 16, 16, generator=draw) * inside[:, None]
    return TrainBatch(images, masks, torch.tensor(labels).float(), torch.tensor(given), inside)


def lesson_of(
    form: TagForm[Any], batch: TrainBatch, seed: int = 0
) -> tuple[Lesson, Network, Callable[[], list[Tensor]]]:
    torch.manual_seed(0)
    model, asked = Network().train(), []

    def predict(images: Tensor) -> Tensor:
        asked.append(images)
        model.eval()
        with torch.no_grad():
            logits: Tensor = model(images)
        model.train()
        return logits

    step = Step(np.random.default_rng(seed), 0.5, list("abcd")[: len(batch.images)])
    lesson = form(model.train(), predict, batch, step)
    return lesson, model, lambda: asked


@pytest.mark.parametrize("name", TAG_FORMS.names())
def test_given_masks_alone_are_taught_the_same_by_every_form(name: str) -> None:
    """An empty N2 is the pure case: the network sees the crops, once, and nothing is added."""
    batch = crops([True, True], [[1, 1, 0]] * 2)
    lesson, _, asked = lesson_of(form_of(name), batch)
    assert torch.equal(lesson.images, batch.images) and torch.equal(lesson.masks, batch.masks)
    assert torch.equal(lesson.inside, batch.inside)
    assert all(term.item() == 0 for term in lesson.terms.values()) and not asked()
    plain, *_ = lesson_of(form_of("pseudo_masks"), batch)
    assert torch.equal(lesson.logits, plain.logits)


@pytest.mark.parametrize("name", TAG_FORMS.names())
def test_a_given_mask_is_used_unchanged_beside_images_with_tags_alone(name: str) -> None:
    batch = crops([True, False, True, False], [[1, 0, 0]] * 4)
    for seed in range(4):
        lesson, *_ = lesson_of(form_of(name), batch, seed)
        assert torch.equal(lesson.masks[batch.given], batch.masks[batch.given])
        assert torch.equal(lesson.images[batch.given], batch.images[batch.given])


@pytest.mark.parametrize("name", TAG_FORMS.names())
def test_every_form_learns_in_reduced_precision_as_in_full(name: str) -> None:
    """Terms are float32 under autocast, near those of full precision, and reach the network.

    Lightning hands over images and tags in reduced precision, too.
    """
    batch = crops([True, False, False], [[1, 1, 1], [1, 0, 1], [0, 1, float("nan")]])
    exact, *_ = lesson_of(form_of(name, confidence=0.3), batch)
    images, labels = batch.images.bfloat16(), batch.labels.bfloat16()
    reduced = replace(batch, images=images, labels=labels)
    with torch.autocast("cpu", torch.bfloat16):
        lesson, model, _ = lesson_of(form_of(name, confidence=0.3), reduced)
    for term, value in lesson.terms.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, exact.terms[term], rtol=0.1, atol=0.05)
    total = sum(lesson.terms.values(), lesson.logits.float().logsumexp(dim=1).mean())
    total.backward()
    assert model.head.weight.grad is not None and model.head.weight.grad.isfinite().all()


@pytest.mark.parametrize("name", PIXEL_LOSSES.names())
def test_every_pixel_loss_learns_in_reduced_precision_as_in_full(
    name: str, logits: Tensor, masks: Tensor
) -> None:
    loss = loss_of(name)
    exact = loss(logits, pixels(masks))
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(logits.bfloat16(), pixels(masks))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0.01)
    assert gradient(found, logits).isfinite().all()


@pytest.mark.parametrize("name", ["self_training", "consistency"])
def test_an_absent_class_is_never_taught_by_own_labels(name: str) -> None:
    """Not even where the network is certain of it; an unknown one may be."""
    for labels, allowed in (([1, 0, 0], {0, 1}), ([0, 0.2, float("nan")], {0, 2, 3})):
        batch = crops([False] * 4, [labels] * 4)
        form: Any = form_of(name, confidence=0.0)
        _, model, _ = lesson_of(form, batch)
        with torch.no_grad():
            logits = 9 * model.eval()(batch.images)
        own = form.own(lambda _, logits=logits: logits, batch, batch.rows())
        assert set(own.unique().tolist()) == allowed | {255}
        assert (own[~batch.inside] == 255).all() and (own[:, 0, 0] == 255).all()


@pytest.mark.parametrize("name", ["self_training", "consistency", "corrected"])
def test_no_own_label_is_learned_before_the_start(name: str) -> None:
    """A step is half of the way through: by then all other images were taught as ever."""
    batch = crops([True, False], [[1, 1, 0]] * 2)
    lesson, _, asked = lesson_of(form_of(name, start=0.6, confidence=0.0), batch)
    assert not asked()
    assert torch.equal(lesson.images, batch.images) and torch.equal(lesson.masks, batch.masks)
    assert all(term == 0 for term in lesson.terms.values())
    lesson, _, asked = lesson_of(form_of(name, start=0.5, confidence=0.0), batch)
    assert asked()


@pytest.mark.parametrize("name", ["self_training", "consistency"])
def test_own_labels_need_the_confidence_of_their_class(name: str) -> None:
    batch = crops([False], [[1, 1, 1]])
    probs = torch.tensor([0.02, 0.8, 0.1, 0.08]).view(1, 4, 1, 1).expand(1, 4, 16, 16)
    for settings, sure in (
        ({}, False),
        ({"class_confidence": {"car": 0.7}}, True),
        ({"confidence": 0.7, "class_confidence": {"car": 0.81}}, False),
    ):
        form: Any = form_of(name, **settings)
        own = form.own(lambda _: probs.log(), batch, batch.rows())
        assert (own[0, 5, 5] == 1) == sure


@pytest.mark.parametrize("name", ["self_training", "consistency"])
def test_no_own_label_is_a_background_that_the_data_do_not_have(name: str) -> None:
    """Not even in a crop whose tags deny every class, where it alone is left."""
    batch = crops([False], [[0, 0, 0]])
    form: Any = form_of(name, confidence=0.0)
    form.has_background = False
    own = form.own(lambda images: images.new_zeros(len(images), 4, 16, 16), batch, batch.rows())
    assert (own == 255).all()


def test_corrected_labels_are_those_that_the_network_contradicts_with_certainty() -> None:
    """From its start on; a class that is absent, and a given mask, never change."""
    batch = crops([False, True], [[1, 0, 1]] * 2)
    batch.masks[0, :, :14] = 3  # the pseudo mask: cow
    logits = torch.zeros(1, 4, 16, 16)
    logits[:, 2] = 9  # tree, which the tags deny
    logits[:, 1, :, :4] = 4  # car, certain
    logits[:, 1, :, 4:8] = 0.5  # car, doubtful
    form: Any = form_of("corrected", start=0.5)
    for progress, left in ((0.4, 3), (0.5, 1)):
        step = Step(np.random.default_rng(0), progress, ["a", "b"])
        lesson = form(lambda images: images.new_zeros(2, 4, 16, 16), lambda _: logits, batch, step)
        assert (lesson.masks[0, :, :4] == left).all() and (lesson.masks[0, :, 4:14] == 3).all()
        assert torch.equal(lesson.masks[1], batch.masks[1])


@pytest.mark.parametrize("name", TAG_FORMS.names())
def test_padding_and_unlabelled_pixels_have_no_gradient_from_masks(name: str) -> None:
    batch = crops([True, False], [[1, 0, 1]] * 2)
    lesson, *_ = lesson_of(form_of(name), batch)
    logits = lesson.logits.detach().requires_grad_()
    seen = PixelBatch(lesson.masks, lesson.images, lesson.inside, NORMALISATION)
    found = gradient(loss_of("cross_entropy")(logits, seen), logits).movedim(1, -1)
    assert (found[lesson.masks == 255] == 0).all() and (found[lesson.masks != 255] != 0).any()
    assert (lesson.masks[~lesson.inside] == 255).all()


@pytest.mark.parametrize("name", TAG_FORMS.names())
def test_all_that_is_drawn_comes_from_the_step(name: str) -> None:
    batch = crops([True, False, False], [[1, 0, 1]] * 3)
    results = []
    for seed in range(2):
        np.random.seed(seed)  # noqa: NPY002
        lesson, *_ = lesson_of(form_of(name), batch, 5)
        drawn = torch.get_rng_state()
        torch.manual_seed(0)
        Network()
        assert torch.equal(torch.get_rng_state(), drawn)
        results.append(lesson)
    first, again = results
    assert torch.equal(first.images, again.images) and torch.equal(first.logits, again.logits)
    assert all(torch.equal(first.terms[key], again.terms[key]) for key in first.terms)


@pytest.mark.parametrize("name", TAG_FORMS.names())
def test_statistics_come_from_the_pass_that_learns_alone(name: str) -> None:
    batch = crops([True, False], [[1, 0, 1]] * 2)
    lesson, model, _ = lesson_of(form_of(name), batch)
    expected = nn.BatchNorm2d(3)
    expected.train()(lesson.images)
    assert torch.equal(model.norm.running_mean, expected.running_mean)  # type: ignore[arg-type]
