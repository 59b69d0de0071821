"""Distillation: each form against loops, frozen teachers, and what the other terms compute."""

import copy
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional

import wsss.methods.distillation as distillation
from wsss.config.sections import BackboneSettings
from wsss.loading.normalisation import Normalisation
from wsss.methods._transfer import boundary_loss, logits_loss, map_loss, randomly_projected
from wsss.methods.base import Start, Teacher
from wsss.methods.cam import CamSettings
from wsss.methods.distillation import DistillationSettings, another_view
from wsss.methods.objective import Objective
from wsss.models.classifier import Classifier, ClassifierOutput
from wsss.models.timm_backbone import TimmBackbone
from wsss.registry import METHODS, PARTS
from wsss.seeding import Step

MakeModel = Callable[..., Classifier]
MakeStart = Callable[..., Start]
MULTI, SINGLE = Objective("multi_label"), Objective("single_label")
ALLOWED = {
    "global": {"cosine"},
    "spatial": {"cosine"},
    "channel": {"cosine"},
    "map": {"cosine", "l1", "l2"},
    "gram": {"cosine", "l1", "l2"},
    "logits": {"cosine", "l1", "l2", "kl"},
}
COMBINATIONS = [(form, item) for form, distances in ALLOWED.items() for item in sorted(distances)]
VIT = BackboneSettings(
    model_name="test_vit",
    output_stride=16,
    timm_kwargs={"depth": 2, "dynamic_img_size": True},
)


def make_step(seed: int = 0) -> Step:
    return Step(np.random.default_rng(seed), 0.5, list("abcd"))


def maps_of(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make_coarse() -> Classifier:
    """A CNN whose grid is half as fine as that of the others."""
    torch.manual_seed(4)
    settings = BackboneSettings(
        model_name="resnet10t", output_stride=32, timm_kwargs={"zero_init_last": False}
    )
    return Classifier(TimmBackbone(settings), ("boat", "car", "tree"))


def make_vit(names: tuple[str, ...] = ("boat", "car", "tree")) -> Classifier:
    torch.manual_seed(3)
    return Classifier(TimmBackbone(VIT), names)


def run(
    model: Classifier,
    start: Start,
    images: Tensor,
    labels: Tensor,
    objective: Objective = MULTI,
    seed: int = 0,
    **values: Any,
) -> dict[str, Tensor]:
    """The losses, with a projection added to the model if the method asks for it."""
    method = METHODS.build(DistillationSettings(**values))
    for item in method.begin(start):
        torch.manual_seed(5)
        model.parts[item.name] = PARTS.build(item, model.backbone, len(start.class_names))
    found: dict[str, Tensor] = method(model, images, labels, objective, make_step(seed))
    return found


# --- settings


@pytest.mark.parametrize("form", ALLOWED)
@pytest.mark.parametrize("distance", ["cosine", "l1", "l2", "kl"])
def test_a_form_has_its_distances(form: Any, distance: Any) -> None:
    if distance in ALLOWED[form]:
        DistillationSettings(transfer=form, distance=distance)
    else:
        with pytest.raises(ValidationError, match=f"{form} has no distance '{distance}'; choose"):
            DistillationSettings(transfer=form, distance=distance)


@pytest.mark.parametrize(
    "values",
    [
        {"transfer": "logits", "project": True},
        {"compat_random_projection": True, "project": True},
        {"compat_random_projection": True, "transfer": "channel"},
        {"compat_channel_pairs": True},
        {"teachers": ()},
    ],
)
def test_what_does_not_go_together_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DistillationSettings(**values)


# --- forms of transfer


def loop(first: np.ndarray, other: np.ndarray, form: str, distance: str, all_pairs: bool) -> float:
    """The form for (B, C, h, w) arrays, vector by vector."""
    values = []
    for s, t in zip(first, other, strict=True):
        pairs: list[tuple[Any, Any]] = []
        if form == "global":
            pairs = [(s.ravel(), t.ravel())]
        elif form == "spatial":
            cells = [(y, x) for y in range(s.shape[1]) for x in range(s.shape[2])]
            pairs = [(s[:, y, x], t[:, y, x]) for y, x in cells]
        elif form == "channel":
            pairs = [
                (s[i].ravel(), t[j].ravel())
                for i in range(len(s))
                for j in range(len(t))
                if all_pairs or i == j
            ]
        elif form == "map":
            pairs = [(sum(s).ravel() / len(s), sum(t).ravel() / len(t))]
        else:
            grams = []
            for one_map in (s, t):
                gram = [[(a * b).sum() for b in one_map] for a in one_map]
                grams.append(np.ravel(gram) / np.sqrt(np.square(gram).sum()))
            pairs = [(grams[0], grams[1])]
        for a, b in pairs:
            if distance == "cosine":
                values.append(1 - a @ b / np.sqrt((a @ a) * (b @ b)))
            elif distance == "l1":
                values.append(sum(abs(a - b)) / len(a))
            else:
                values.append(sum((a - b) ** 2) ** 0.5)
    return float(np.mean(values))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("form", "distance"),
    [combination for combination in COMBINATIONS if combination[0] != "logits"],
)
def test_a_form_by_hand(form: Any, distance: Any, channels: int) -> None:
    first, other = maps_of(0, 2, channels, 2, 4), maps_of(1, 2, channels, 2, 4)
    for all_pairs in (False, True):
        expected = loop(first.double().numpy(), other.double().numpy(), form, distance, all_pairs)
        found = float(map_loss(first, other, form, distance, all_pairs=all_pairs))
        assert found == pytest.approx(expected, abs=1e-5)


def test_all_pairs_take_other_numbers_of_channels() -> None:
    first, other = maps_of(0, 2, 5, 2, 4), maps_of(1, 2, 3, 2, 4)
    expected = loop(first.double().numpy(), other.double().numpy(), "channel", "cosine", True)
    assert float(map_loss(first, other, "channel", all_pairs=True)) == pytest.approx(expected)


@pytest.mark.parametrize(("form", "distance"), COMBINATIONS)
def test_a_student_like_its_teacher_has_no_loss(form: Any, distance: Any) -> None:
    teacher = maps_of(0, 3, 4, 2, 5)
    if form == "logits":
        for kind in ("multi_label", "single_label"):
            scores = teacher[:, :, 0, 0]
            assert logits_loss(scores, scores, distance, kind).abs() < 1e-6
    else:
        assert map_loss(teacher, teacher, form, distance).abs() < 1e-6


def test_what_each_cosine_does_not_see() -> None:
    teacher = maps_of(0, 3, 4, 2, 5)
    for form, shape in (("global", (3, 1, 1, 1)), ("spatial", (3, 1, 2, 5))):
        assert map_loss(teacher * (0.1 + torch.rand(shape)), teacher, form).abs() < 1e-6
    scaled = teacher * (0.1 + torch.rand(3, 4, 1, 1))
    assert map_loss(scaled, teacher, "channel").abs() < 1e-6
    assert map_loss(scaled, teacher, "global") > 1e-3
    assert map_loss(-teacher, teacher, "global") == pytest.approx(2)


def test_the_gram_does_not_see_where_things_are() -> None:
    teacher = maps_of(0, 2, 3, 2, 4)
    turn, _ = torch.linalg.qr(maps_of(1, 8, 8))
    student = -2 * (teacher.flatten(2) @ turn).view_as(teacher)
    assert map_loss(student, teacher, "gram", "l2") < 1e-5
    assert map_loss(student, teacher, "global") > 0.1
    # but it sees which channel is which
    assert map_loss(teacher.flip(1), teacher, "gram", "l2") > 1e-2


def test_the_gradient_of_global_is_orthogonal_to_the_student() -> None:
    student = maps_of(0, 4, 3, 2, 5).requires_grad_()
    map_loss(student, maps_of(1, 4, 3, 2, 5), "global").backward()
    assert student.grad is not None
    assert (student.grad * student).sum(dim=(1, 2, 3)).abs().max() < 1e-7
    assert student.grad.abs().amax(dim=(1, 2, 3)).min() > 1e-3


def test_products_are_exact_under_autocast() -> None:
    first, other = maps_of(0, 2, 3, 4, 4), maps_of(1, 2, 3, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        found = map_loss(first, other, "gram", "l1")
    assert torch.equal(found, map_loss(first, other, "gram", "l1"))


@pytest.mark.parametrize("distance", ["cosine", "l1", "l2"])
def test_logits_by_hand(distance: Any) -> None:
    first, other = maps_of(0, 3, 4), maps_of(1, 3, 4)
    as_maps = (first.double().numpy()[:, :, None, None], other.double().numpy()[:, :, None, None])
    form = "global"  # of one cell
    expected = loop(*as_maps, form, distance, False)
    assert float(logits_loss(first, other, distance, "multi_label")) == pytest.approx(expected)


def test_kl_of_logits() -> None:
    student, teacher = torch.tensor([[1.0, 1, 0]]), torch.tensor([[2.0, 0, -1]])
    assert float(logits_loss(student, teacher, "kl", "single_label", 4)) == pytest.approx(0.491104)
    assert float(logits_loss(student, teacher, "kl", "multi_label", 4)) == pytest.approx(
        0.122781, abs=5e-7
    )
    p, q = teacher.sigmoid(), student.sigmoid()
    coins = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    assert float(logits_loss(student, teacher, "kl", "multi_label")) == pytest.approx(
        float(coins.mean())
    )


# --- one class


IDLE = {("spatial", "cosine"), ("logits", "cosine"), *(("gram", item) for item in ALLOWED["gram"])}


@pytest.mark.parametrize("objective", [MULTI, SINGLE], ids=["multi_label", "single_label"])
@pytest.mark.parametrize(("form", "distance"), COMBINATIONS)
def test_one_class(
    form: Any, distance: Any, objective: Objective, images: Tensor, caplog: Any
) -> None:
    """All forms run; those that can teach nothing have no gradient, and say so before."""
    student, labels = make_vit(("smoke",)), torch.tensor([[1.0], [0], [1], [0]])
    normalisation = student.backbone.normalisation
    torch.manual_seed(1)
    teacher = Classifier(TimmBackbone(BackboneSettings(model_name="resnet10t")), ("smoke",))
    start = Start(
        0,
        ("smoke",),
        tuple("abcd"),
        labels.numpy(),
        {"teacher": Teacher(teacher, normalisation)},
        None,
        lambda model, function: np.zeros(0),
        0,
    )
    with caplog.at_level(logging.WARNING):
        losses = run(student, start, images, labels, objective, transfer=form, distance=distance)
    losses["transfer"].backward()
    grad = student.head.weight.grad
    assert grad is not None and grad.isfinite().all()
    assert losses["transfer"].isfinite()
    idle = (form, distance) in IDLE
    assert ("teaches nothing of one class" in caplog.text) == idle
    if idle or (distance == "kl" and objective is SINGLE):
        assert grad.abs().max() < 1e-4
    else:
        assert grad.abs().max() > 1e-3


# --- the method


def test_without_weights_it_is_cam(
    make_model: MakeModel, make_start: MakeStart, images: Tensor, labels: Tensor
) -> None:
    model = make_model().eval()
    regularised = {"entropy_weight": 0.02, "concentration_weight": 2e-4}
    for values in ({}, regularised):
        plain = METHODS.build(CamSettings(**values))(model, images, labels, MULTI, make_step())
        found = run(model, make_start(), images, labels, transfer_weight=0, **values)
        assert found.keys() == plain.keys()
        assert all(torch.equal(found[key], plain[key]) for key in plain)


def test_terms_add_by_their_weights(
    make_model: MakeModel, make_start: MakeStart, images: Tensor, labels: Tensor
) -> None:
    model = make_model().eval()
    nn.init.normal_(model.head.weight)
    weights = {"transfer_weight": 0.3, "consistency_weight": 0.7, "boundary_weight": 2}
    found = run(model, make_start(), images, labels, entropy_weight=0.1, **weights)
    plain = MULTI(model(images), [(1.0, labels)], CamSettings())
    torch.testing.assert_close(found["classification"], plain["loss"])
    total = found["classification"] + 0.1 * found["entropy"]
    total = total + 0.3 * found["transfer"] + 0.7 * found["consistency"] + 2 * found["boundary"]
    torch.testing.assert_close(found["loss"], total)
    assert all(found[name] > 1e-4 for name in ("transfer", "consistency", "boundary"))
    assert set(run(model, make_start(), images, labels)) == {"loss", "classification", "transfer"}


@pytest.mark.parametrize("student", ["cnn", "vit"])
@pytest.mark.parametrize("values", [{}, {"project": True}, {"compat_random_projection": True}])
def test_the_teacher_stays_as_it_was(
    make_model: MakeModel,
    make_start: MakeStart,
    images: Tensor,
    labels: Tensor,
    student: str,
    values: Any,
) -> None:
    model = (make_model() if student == "cnn" else make_vit()).train()
    teacher = make_model(seed=7).train()
    before = copy.deepcopy(teacher.state_dict())
    start = make_start(teacher=teacher)
    method = METHODS.build(DistillationSettings(**values, boundary_weight=1))
    for item in method.begin(start):
        model.parts[item.name] = PARTS.build(item, model.backbone, 3)
    optimizer = torch.optim.SGD([*model.parameters(), *teacher.parameters()], lr=0.1)
    for seed in range(2):
        optimizer.zero_grad()
        method(model, images, labels, MULTI, make_step(seed))["loss"].backward()
        optimizer.step()
    assert not any(module.training for module in teacher.modules())
    assert all(
        parameter.grad is None and not parameter.requires_grad for parameter in teacher.parameters()
    )
    for key, value in teacher.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert not teacher._forward_pre_hooks
    moved = [
        parameter.grad is not None and bool(parameter.grad.any())
        for parameter in model.parameters()
    ]
    assert all(moved)


def test_the_student_is_compared_on_the_grid_of_its_teacher(
    make_model: MakeModel, make_start: MakeStart, labels: Tensor
) -> None:
    images = maps_of(2, 4, 3, 96, 64)
    pairs = (
        (make_vit(), make_coarse()),
        (make_coarse(), make_vit()),
        (make_model(), make_coarse()),
    )
    for student, teacher in pairs:
        student.eval()
        start = make_start(teacher=teacher)
        found = run(student, start, images, labels)["transfer"]
        maps, wanted = student(images).maps, start.teachers["teacher"](images).maps
        assert maps.shape[2:] != wanted.shape[2:]
        maps = functional.interpolate(maps, wanted.shape[2:], mode="bilinear")
        torch.testing.assert_close(found, map_loss(maps, wanted, "global"))


def test_a_teacher_gets_images_as_it_knows_them(
    make_model: MakeModel, images: Tensor, labels: Tensor, make_start: MakeStart
) -> None:
    """Its own mean and std, where those of the student differ."""
    torch.manual_seed(7)
    own = BackboneSettings(
        model_name="resnet10t",
        mean=(0.5, 0.4, 0.3),
        std=(0.1, 0.2, 0.5),
        timm_kwargs={"zero_init_last": False},
    )
    teacher = Classifier(TimmBackbone(own), ("boat", "car", "tree"))
    student = make_model().eval()
    start = make_start(teacher=teacher)
    found = run(student, start, images, labels)["transfer"]
    mean, std = (
        torch.tensor(var).view(3, 1, 1) for var in vars(student.backbone.normalisation).values()
    )
    renormalised = torch.stack(
        [((images * std + mean)[:, i] - own.mean[i]) / own.std[i] for i in range(3)],
        dim=1,
    )
    wanted = map_loss(student(images).maps, teacher(renormalised).maps, "global")
    torch.testing.assert_close(found, wanted)
    assert (found - map_loss(student(images).maps, teacher(images).maps, "global")).abs() > 1e-3


@pytest.mark.parametrize("values", [{}, {"transfer": "logits", "distance": "kl"}])
def test_two_teachers_count_half_each(
    make_model: MakeModel, make_start: MakeStart, images: Tensor, labels: Tensor, values: Any
) -> None:
    model = make_model().eval()
    start = make_start(one=make_coarse(), two=make_vit())
    for item in (model, *(teacher.model for teacher in start.teachers.values())):
        nn.init.normal_(item.head.weight)  # strong maps, so that differences show
    both, found, two = (
        run(model, start, images, labels, teachers=names, boundary_weight=1, **values)
        for names in (("one", "two"), ("one",), ("two",))
    )
    for term in ("transfer", "boundary"):
        assert (found[term] - two[term]).abs() > 1e-4
        torch.testing.assert_close(both[term], (found[term] + two[term]) / 2)


def test_a_projection_of_features_is_compared(
    make_model: MakeModel, make_start: MakeStart, images: Tensor, labels: Tensor
) -> None:
    model, start = make_vit().eval(), make_start(one=make_coarse(), two=make_model(seed=9))
    losses = run(model, start, images, labels, teachers=("one", "two"), project=True)
    wanted = []
    for conv, name in zip(model.parts["projection"].convs, ("one", "two"), strict=True):
        target = start.teachers[name](images).maps
        maps = functional.interpolate(
            conv(model(images).features), target.shape[2:], mode="bilinear"
        )
        wanted.append(map_loss(maps, target, "global"))
    torch.testing.assert_close(losses["transfer"], sum(wanted) / 2)
    losses["transfer"].backward()
    assert model.head.weight.grad is None
    assert all(parameter.grad.any() for parameter in model.parts["projection"].parameters())


def test_a_random_projection_is_drawn_anew_and_never_learned(
    make_model: MakeModel, make_start: MakeStart, images: Tensor, labels: Tensor
) -> None:
    model, start = make_vit().eval(), make_start(teacher=make_coarse())
    random = {"compat_random_projection": True}
    first, again, other = (
        run(model, start, images, labels, seed=seed, **random)["transfer"] for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert (first - other).abs() > 1e-4
    assert not model.parts
    first.backward()
    assert model.head.weight.grad is None
    target = start.teachers["teacher"](images).maps
    drawn = randomly_projected(target, 64, np.random.default_rng(0))
    features = functional.interpolate(model(images).features, drawn.shape[2:], mode="bilinear")
    torch.testing.assert_close(first, map_loss(features, drawn, "global"))


def test_a_random_projection_is_a_fresh_linear_layer() -> None:
    maps = maps_of(0, 2, 3, 1, 2)
    found = randomly_projected(maps, 20000, np.random.default_rng(0))
    zero = randomly_projected(torch.zeros_like(maps), 20000, np.random.default_rng(0))
    layer = nn.Linear(3, 20000)
    assert found.shape == (2, 20000, 1, 2)
    for values, peer in ((zero[0, :, 0, 0], layer.bias), (found, layer(maps.transpose(1, 3)))):
        assert float(values.std()) == pytest.approx(peer.std().item(), rel=0.03)
    assert zero.abs().max() <= 3**-0.5


# --- teachers with a pixel correlation module


def pcm_teacher(mean: tuple[float, float, float] | None) -> Classifier:
    torch.manual_seed(11)
    settings = BackboneSettings(
        model_name="resnet10t", timm_kwargs={"zero_init_last": False}, mean=mean
    )
    return Classifier(
        TimmBackbone(settings), ("boat", "car", "tree"), parts=[PARTS.settings("pcm")()]
    )


@pytest.mark.parametrize("mean", [None, (0.2, 0.6, 0.9)])
def test_the_map_of_a_refining_teacher_is_the_sum(
    make_model: MakeModel, make_start: MakeStart, labels: Tensor, mean: Any
) -> None:
    images = maps_of(4, 4, 3, 96, 64)
    model, teacher = make_model().eval(), pcm_teacher(mean)
    start = make_start(teacher=teacher)
    maps = model(images).maps
    own = images
    if mean:
        student_mean, std = (
            torch.tensor(var).view(3, 1, 1) for var in vars(model.backbone.normalisation).values()
        )
        own = images + (student_mean - torch.tensor(mean).view(3, 1, 1)) / std
    output = teacher(own, with_stages=True)
    target = output.maps + teacher.parts["pcm"](own, output.stages, output.maps)
    for kind, wanted in (("auto", target), ("pcm", target), ("cam", output.maps)):
        found = run(model, start, images, labels, teacher_map=kind)["transfer"]
        torch.testing.assert_close(found, map_loss(maps, wanted, "global"), atol=2e-5, rtol=1e-4)
        values = {"transfer": "logits", "distance": "l1"}
        found = run(model, start, images, labels, teacher_map=kind, **values)["transfer"]
        scores = wanted.mean(dim=(2, 3))
        torch.testing.assert_close(found, (model(images).logits - scores).abs().mean())
    assert not teacher._forward_pre_hooks


def test_teachers_that_do_not_fit_are_refused(make_model: MakeModel, make_start: MakeStart) -> None:
    method = METHODS.build(DistillationSettings(teacher_map="pcm"))
    with pytest.raises(ValueError, match="teacher_map: pcm needs a classifier with the part"):
        method.begin(make_start())
    method = METHODS.build(DistillationSettings())
    with pytest.raises(ValueError, match="'teacher' has 1 classes, but the student has 3"):
        method.begin(make_start(teacher=make_vit(("boat",))))


# --- consistency


class CellByCell(nn.Module):
    """A classifier that looks at single pixels, so that it turns with the image."""

    def __init__(self, mean: float = 0.4, std: float = 0.25) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        normalisation = Normalisation((mean,) * 3, (std,) * 3)
        self.backbone = SimpleNamespace(normalisation=normalisation)

    def forward(self, images: Tensor) -> ClassifierOutput:
        maps = self.conv(images).square()
        return ClassifierOutput(maps.mean(dim=(2, 3)), maps, images)


@pytest.mark.parametrize("of", ["logits", "maps"])
def test_consistency_of_what_turns_with_the_image(
    of: Any, labels: Tensor, make_start: MakeStart, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model: Any = CellByCell()
    images = (torch.rand(4, 3, 6, 5) - 0.4) / 0.25
    values: dict[str, Any] = {"transfer_weight": 0, "consistency_weight": 1, "consistency_of": of}
    view = another_view(images, Normalisation((0.4,) * 3, (0.25,) * 3), make_step().rng)
    result, two = model(images), model(view)
    wanted = (result.logits - two.logits).square().mean()
    if of == "maps":
        wanted = (result.maps - two.maps.flip(3)).square().mean()
    found = run(model, make_start(), images, labels, **values)["consistency"]
    torch.testing.assert_close(found, wanted)
    monkeypatch.setattr(distillation, "JITTER", (0, 0, 0, 0))
    assert run(model, make_start(), images, labels, **values)["consistency"] < 1e-9 < wanted


def test_another_view_is_an_image_drawn_from_the_generator() -> None:
    normalisation = Normalisation((0.5, 0.4, 0.3), (0.3, 0.2, 0.1))
    shift, scale = (torch.tensor(var).view(3, 1, 1) for var in vars(normalisation).values())
    images = (torch.rand(2, 3, 4, 6) - shift) / scale
    views = [another_view(images, normalisation, np.random.default_rng(s)) for s in (0, 0, 1)]
    assert torch.equal(views[0], views[1])
    assert not torch.allclose(views[0], views[2])
    for view in views:
        pixels = view * scale + shift
        assert pixels.min() > -1e-6 and pixels.max() < 1 + 1e-6
        assert (view.flip(3) - images).abs().mean() < (view - images).abs().mean()
    red = (torch.tensor([0.8, 0.3, 0.3]).view(1, 3, 1, 1).expand(1, 3, 2, 2) - shift) / scale
    _, green, blue = (another_view(red, normalisation, make_step().rng) * scale + shift)[0, :, 0, 0]
    assert (green - blue).abs() > 0.01  # only the hue tells them apart
    grey = (torch.full((1, 3, 2, 2), 0.5) - shift) / scale
    bright = [
        float((another_view(grey, normalisation, np.random.default_rng(s)) * scale + shift).mean())
        for s in range(200)
    ]
    assert 0.4 <= min(bright) < 0.41 and 0.59 < max(bright) <= 0.6 + 1e-6


# --- the boundary term


def boundary_by_hand(student: np.ndarray, teacher: np.ndarray, labels: np.ndarray) -> float:
    push, agree = [], []
    for b, c in zip(*np.nonzero(labels), strict=True):
        s, t = (np.maximum(item[b, c], 0) for item in (student, teacher))
        s, t = s / max(s.max(), 1), t / max(t.max(), 1)  # weak maps are not stretched
        height, width = s.shape
        cells = [(y, x) for y in range(height) for x in range(width)]
        edges = [
            (y, x)
            for y, x in cells
            if any(
                (s[v, u] > 0.5) != (s[y, x] > 0.5)
                for v, u in cells
                if max(abs(v - y), abs(u - x)) <= 1
            )
        ]
        for y, x in cells:
            if any(max(abs(v - y), abs(u - x)) <= 3 for v, u in edges):
                q, p = (min(max(item[y, x], 1e-3), 1 - 1e-3) for item in (s, t))
                agree.append(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))
                push.append(0.0)
            else:
                push.append(max(s[y, x] - t[y, x] - 0.2, 0))
    return float((np.mean(push) if push else 0) + (np.mean(agree) if agree else 0))


@pytest.mark.parametrize("tags", [[[1, 0], [1, 1]], [[0, 0], [0, 0]]])
def test_the_boundary_term_by_hand(tags: Any) -> None:
    y, x = torch.meshgrid(torch.arange(13.0), torch.arange(17.0), indexing="ij")
    student, teacher = (0.05 * maps_of(seed, 2, 2, 13, 17) for seed in (0, 1))
    for b, c, v, u in ((0, 0, 2, 2), (0, 1, 9, 9), (1, 0, 12, 16), (1, 1, 6, 3)):
        student[b, c] += 3 * torch.exp(-((y - v) ** 2 + (x - u) ** 2) / 8)
        student[b, c, :, 12:] += 1.3  # weak, but far from its edge
        teacher[b, c] += torch.exp(-((y - v - 1) ** 2 + (x - u) ** 2) / 8)
    student[1, 1, :, :10] += 9  # with an inside beyond the band
    found = float(boundary_loss(student, teacher, torch.tensor(tags).float()))
    wanted = boundary_by_hand(student.numpy(), teacher.numpy(), np.array(tags))
    assert found == pytest.approx(wanted, rel=1e-4)
    assert (found > 0.05) == bool(np.any(tags))


def test_the_boundary_term_lets_go_of_a_map_that_is_hardly_there() -> None:
    """Divided by a maximum of 1e-4, its gradient would be ten thousand times as large."""
    teacher, student = maps_of(0, 1, 1, 8, 8).abs(), 1e-4 * maps_of(1, 1, 1, 8, 8)
    student.requires_grad_()
    boundary_loss(student, 9 * teacher, torch.ones(1, 1)).backward()
    assert student.grad is not None and student.grad.abs().max() < 1


def test_the_boundary_term_is_zero_for_like_maps_and_lowers_what_is_alone() -> None:
    teacher = torch.zeros(1, 1, 8, 24)
    teacher[..., :4] = 1
    assert boundary_loss(7 * teacher, teacher, torch.ones(1, 1)) < 1e-6
    student = teacher.clone()
    student[..., 16:20] = 0.45  # below 0.5, so without an edge, and nowhere in the teacher
    student.requires_grad_()
    loss = boundary_loss(student, teacher, torch.ones(1, 1))
    assert loss.item() == pytest.approx(0.25 * 4 / 24, abs=1e-4)
    loss.backward()
    assert student.grad is not None
    assert (student.grad[..., 16:20] > 0).all()
    assert (student.grad[..., 8:16] == 0).all() and (student.grad[..., 20:] == 0).all()
