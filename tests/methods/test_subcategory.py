"""Sub-labels from clusters, by name; the second head's loss; distillation's numbers."""

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError
from torch import Tensor

from wsss.loading.normalisation import Normalisation
from wsss.methods.base import Start, Teacher
from wsss.methods.cam import CamSettings
from wsss.methods.objective import Objective
from wsss.methods.subcategory import Subcategory, SubcategorySettings, soft_distillation
from wsss.models.classifier import Classifier
from wsss.registry import METHODS
from wsss.seeding import Step

MULTI = Objective("multi_label")
STEP = Step(np.random.default_rng(0), 0.5, list("abcd"))
LOGIT_PAIRS = arrays(np.float32, (2, 3, 4), elements=st.floats(-20, 20, width=32))


def make(**values: Any) -> Subcategory:
    return Subcategory(SubcategorySettings.model_validate(values))


class Asked:
    """What stands for a classifier here; its name tells which one was asked for features."""

    def __init__(self, name: str) -> None:
        self.name = name

    def eval(self) -> "Asked":
        return self

    def requires_grad_(self, _: bool) -> "Asked":
        return self


def start_of(
    features: np.ndarray, labels: np.ndarray, asked: list[Any] | None = None, **changes: Any
) -> Start:
    """A start whose images have these features, whichever classifier is asked for them."""

    def over_images(model: Any, function: Any) -> np.ndarray:
        if asked is not None:
            asked.append(model)
        return features

    teacher: Any = Asked("teacher")
    start = Start(
        0,
        tuple(f"class{index}" for index in range(labels.shape[1])),
        tuple(f"image{index:02}" for index in range(len(labels))),
        labels.astype(np.float32),
        {"teacher": Teacher(teacher, Normalisation((0, 0, 0), (1, 1, 1)))},
        None,
        over_images,
        0,
    )
    return replace(start, **changes)


def two_blobs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features and labels of 24 images and two classes, and each image's blob.

    Class 0 has all images, class 1 those of the second blob; blobs are mixed in order.
    """
    rng = np.random.default_rng(0)
    blob = rng.permutation(np.repeat([0, 1], 12))
    features = np.array([[20.0, 0, 0], [0, 20, 0]])[blob] + rng.normal(size=(24, 3))
    return features.astype(np.float32), np.stack([np.ones(24), blob], axis=1), blob


def test_two_blobs_are_the_sub_labels() -> None:
    features, labels, blob = two_blobs()
    for clustering in (
        {"name": "kmeans", "num_clusters": 2},
        {"name": "finch", "required_clusters": 2},
    ):
        method = make(clustering=clustering)
        (part,) = method.begin(start_of(features, labels))
        hot = np.stack([method.sub_labels[f"image{index:02}"] for index in range(24)])
        assert part.model_dump()["counts"] == (2, 2)
        found = hot[:, :2].argmax(axis=1)
        np.testing.assert_array_equal(found, blob if blob[0] == 0 else 1 - blob)
        assert hot.dtype == np.float32


@pytest.mark.parametrize("clustering", ["kmeans", "finch"])
def test_the_order_of_files_changes_no_sub_label(clustering: str) -> None:
    """Many clusters without clear borders, so that another order would give other ones."""
    rng = np.random.default_rng(1)
    features = rng.normal(size=(60, 4)).astype(np.float32)
    labels = rng.integers(2, size=(60, 3)).astype(np.float32)
    names = tuple(f"{index * 7919 % 1000:03}" for index in range(60))
    before, after = make(clustering={"name": clustering}), make(clustering={"name": clustering})
    before.begin(start_of(features, labels, names=names))
    order = rng.permutation(60)
    shuffled = tuple(names[index] for index in order)
    after.begin(start_of(features[order], labels[order], names=shuffled))
    assert before.sub_labels.keys() == after.sub_labels.keys() == set(names)
    for name in names:
        np.testing.assert_array_equal(before.sub_labels[name], after.sub_labels[name])


@given(
    st.tuples(st.integers(1, 20), st.integers(1, 5)).flatmap(
        lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 1))
    ),
    st.sampled_from(["kmeans", "finch"]),
)
@settings(max_examples=40)
def test_sub_labels_of_a_class_sum_to_its_label(labels: np.ndarray, clustering: str) -> None:
    if not labels.any():
        return
    features = np.random.default_rng(0).normal(size=(len(labels), 3)).astype(np.float32)
    method = make(clustering={"name": clustering})
    (part,) = method.begin(start_of(features, labels))
    counts = part.model_dump()["counts"]
    hot = np.stack([method.sub_labels[name] for name in sorted(method.sub_labels)])
    blocks = np.split(hot, np.cumsum(counts)[:-1], axis=1)
    for column, block in enumerate(blocks):
        np.testing.assert_array_equal(block.sum(axis=1), labels[:, column])
        images = labels[:, column].sum()
        assert (images > 0) <= counts[column] <= images
        if clustering == "kmeans":
            assert counts[column] == min(10, images)


@pytest.mark.parametrize(
    "clustering", [{"name": "kmeans"}, {"name": "finch", "required_clusters": 10}]
)
def test_more_clusters_than_images_are_told_by_the_class(
    clustering: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(0)
    labels = np.zeros((80, 4))
    labels[:, 0] = labels[:3, 1] = labels[5, 3] = 1
    caplog.set_level(logging.INFO)
    names = ("boat", "car", "sea", "tree")
    start = start_of(rng.normal(size=(80, 9)), labels, class_names=names)
    (part,) = make(clustering=clustering).begin(start)
    few = 3 if clustering["name"] == "kmeans" else 1  # FINCH joins each with its neighbour
    assert part.model_dump()["counts"] == (10, few, 0, 1)
    (record,) = caplog.records
    assert record.getMessage() == (
        f"round 1: {11 + few} sub-categories: boat 10, "
        + ("car 3 (as many as images)" if few == 3 else "car 1")
        + ", sea 0 (no image), tree 1 (as many as images)"
    )


def test_later_rounds_cluster_the_features_of_the_classifier_before() -> None:
    features, labels, _ = two_blobs()
    asked: list[Any] = []
    method = make()
    assert method.rounds == 3
    previous: Any = Asked("round 1")
    method.begin(start_of(features, labels, asked))
    method.begin(start_of(features, labels, asked, round=1, previous=previous))
    assert [item.name for item in asked] == ["teacher", "round 1"]


def test_features_are_means_over_cells(
    make_model: Callable[..., Classifier], make_start: Callable[..., Start], images: Tensor
) -> None:
    """In eval mode, of the teacher: images of their own, whatever else is in the batch."""
    teacher = make_model(seed=7)
    start = make_start(teacher=teacher)
    found: list[np.ndarray] = []

    def over_images(model: Any, function: Any) -> np.ndarray:
        found.append(start.over_images(model, function))
        return found[0]

    make().begin(replace(start, over_images=over_images))
    with torch.no_grad():
        for row, image in enumerate(images):
            cells = teacher.eval().backbone(image[None])[0].flatten(1)
            np.testing.assert_allclose(found[0][row], cells.mean(dim=1), rtol=1e-4, atol=1e-5)


def losses_of(
    method: Any, model: Classifier, images: Tensor, labels: Tensor, objective: Objective = MULTI
) -> dict[str, Tensor]:
    found: dict[str, Tensor] = method(model, images, labels, objective, STEP)
    return found


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_the_loss_is_that_of_both_heads(
    make_model: Callable[..., Classifier],
    make_start: Callable[..., Start],
    images: Tensor,
    labels: Tensor,
    pooling: Any,
) -> None:
    method = make(sub_weight=3)
    start = make_start()
    tags = np.array([[1, 1, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0]], np.float32)  # no tree
    model = make_model(method.begin(replace(start, labels=tags))).eval()
    model.head_settings = model.head_settings.model_copy(update={"pooling": pooling})
    assert model.parts["sub_categories"].counts == (2, 3, 0)
    losses = losses_of(method, model, images, torch.from_numpy(tags))
    features = model.backbone(images)
    # images a to d: a and c are the two of class 0; a, b and d those of class 1
    hot = [[1, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 1]]
    total = 0.0
    for row in range(4):
        for column in range(5):
            weight = model.parts["sub_categories"].head.weight[column, :, 0, 0]
            cells = (weight @ features[row].flatten(1)).tolist()
            logit = max(cells) if pooling == "max" else sum(cells) / len(cells)
            prob = 1 / (1 + math.exp(-logit))
            total -= math.log(prob if hot[row][column] else 1 - prob)
    assert losses["sub_categories"].item() == pytest.approx(total / 20, rel=1e-5)
    torch.testing.assert_close(
        losses["loss"], losses["classification"] + 3 * losses["sub_categories"]
    )


def test_names_choose_the_sub_labels(
    make_model: Callable[..., Classifier],
    make_start: Callable[..., Start],
    images: Tensor,
    labels: Tensor,
) -> None:
    method = make()
    model = make_model(method.begin(make_start())).eval()
    right = losses_of(method, model, images, labels)["sub_categories"]
    step = STEP._replace(names=list("abdc"))  # both of one class, in clusters of their own
    wrong = method(model, images, labels, MULTI, step)["sub_categories"]
    assert abs(right - wrong) > 1e-6
    order = torch.tensor([2, 0, 3, 1])
    step = STEP._replace(names=list("cadb"))
    again = method(model, images[order], labels[order], MULTI, step)["sub_categories"]
    torch.testing.assert_close(again, right)


def test_exclusive_classes_have_exclusive_sub_categories(
    make_model: Callable[..., Classifier],
    make_start: Callable[..., Start],
    images: Tensor,
    labels: Tensor,
) -> None:
    method = make()
    model = make_model(method.begin(make_start())).eval()  # a, then c and d, then b
    losses = losses_of(method, model, images, labels, Objective("single_label"))
    logits = model.parts["sub_categories"](model.backbone(images)).mean(dim=(2, 3))
    probs = logits.softmax(dim=1)
    rows = [probs[0, 0], probs[1, 3], probs[2, 1], probs[3, 2]]
    expected = -sum(row.log() for row in rows) / 4
    torch.testing.assert_close(losses["sub_categories"], expected)


def test_without_weights_it_is_cam(
    make_model: Callable[..., Classifier],
    make_start: Callable[..., Start],
    images: Tensor,
    labels: Tensor,
) -> None:
    method = make(sub_weight=0)
    parts = method.begin(make_start())
    assert parts == ()
    results = []
    for item in (method, METHODS.build(CamSettings())):
        model = make_model(parts).train()
        torch.manual_seed(3)
        loss = losses_of(item, model, images, labels)["loss"]
        loss.backward()
        results.append((loss, [parameter.grad for parameter in model.parameters()]))
    assert torch.equal(results[0][0], results[1][0])
    assert all(
        torch.equal(result, other) for result, other in zip(*[r[1] for r in results], strict=True)
    )


def test_the_main_head_starts_as_in_cam(
    make_model: Callable[..., Classifier],
    make_start: Callable[..., Start],
    images: Tensor,
    labels: Tensor,
) -> None:
    """The classification loss beside the sub-categories is that of `cam` on the same weights."""
    method = make()
    model = make_model(method.begin(make_start())).eval()
    expected = losses_of(METHODS.build(CamSettings()), make_model().eval(), images, labels)
    found = losses_of(method, model, images, labels)
    assert torch.equal(found["classification"], expected["loss"])


def test_the_teacher_is_asked_and_not_changed(
    make_model: Callable[..., Classifier],
    make_start: Callable[..., Start],
    images: Tensor,
    labels: Tensor,
) -> None:
    teacher = make_model(seed=7)
    before = {key: item.clone() for key, item in teacher.state_dict().items()}
    method = make(sub_weight=0, kd_weight=2, kd_temperature=3)
    method.begin(make_start(teacher=teacher))
    model = make_model().train()
    losses = losses_of(method, model, images, labels)
    losses["loss"].backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(before[key], item) for key, item in teacher.state_dict().items())
    with torch.no_grad():
        own = make_model().train()(images).logits.double()
        wanted = teacher(images).logits.double()
    p, q = (wanted / 3).sigmoid(), (own / 3).sigmoid()
    expected = 9 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()
    assert losses["distillation"].item() == pytest.approx(expected.item(), rel=1e-3)
    torch.testing.assert_close(
        losses["loss"], losses["classification"] + 2 * losses["distillation"]
    )


def test_distillation_has_the_published_numbers() -> None:
    teacher, student = torch.tensor([[2.0, 0, -1]]), torch.tensor([[1.0, 1, 0]])
    found = [
        soft_distillation(student, teacher, 4, name) for name in ("single_label", "multi_label")
    ]
    assert [item.item() for item in found] == pytest.approx([0.491104, 0.122781], abs=1e-6)
    assert found[0].item() / 16 == pytest.approx(0.030694, abs=1e-6)
    # the mean over images, one of which is perfect
    both = torch.cat([student, teacher]), torch.cat([teacher, teacher])
    assert soft_distillation(*both, 4, "single_label").item() == pytest.approx(0.491104 / 2)


@given(LOGIT_PAIRS, st.floats(0.5, 20))
@settings(max_examples=40)
def test_distillation_is_a_divergence(pair: np.ndarray, temperature: float) -> None:
    student, teacher = torch.from_numpy(pair)
    for loss in ("single_label", "multi_label"):
        assert soft_distillation(student, student, temperature, loss) == 0
        assert soft_distillation(student, teacher, temperature, loss) >= -1e-3
        apart = soft_distillation(50 * student, -50 * teacher, temperature, loss)
        assert torch.isfinite(apart)


def test_a_hot_distillation_compares_logits() -> None:
    student, teacher = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
    gap = teacher - student
    coins = gap.square().mean() / 8
    found = soft_distillation(student, teacher, 60, "multi_label")
    assert found.item() == pytest.approx(coins.item(), rel=0.02)
    die = (gap - gap.mean(dim=1, keepdim=True)).square().sum(dim=1).mean() / 12
    found = soft_distillation(student, teacher, 60, "single_label")
    assert found.item() == pytest.approx(die.item(), rel=0.02)


def test_settings_name_one_teacher() -> None:
    for teachers in ((), ("a", "b")):
        with pytest.raises(ValidationError, match="teachers"):
            SubcategorySettings(teachers=teachers)
    with pytest.raises(ValidationError, match="num_cluster"):
        SubcategorySettings.model_validate({"clustering": {"name": "kmeans", "num_cluster": 2}})
