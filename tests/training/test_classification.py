"""Rounds of training: what a method is shown, what weights they start from, and resuming."""

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from wsss import progress
from wsss.artifacts import Manifest, Paths, Sample, read_image
from wsss.checks import naming
from wsss.config.params import parse_params
from wsss.config.sections import TrainClassifierSettings
from wsss.loading.devices import make_fabric
from wsss.methods.base import Start
from wsss.methods.cam import Cam
from wsss.methods.subcategory import Subcategory
from wsss.models.classifier import Classifier
from wsss.models.timm_backbone import TimmBackbone
from wsss.stages import run_stage
from wsss.tracking import NullTracker
from wsss.training import classification
from wsss.training.classification import compare_with_guess, fit_classifier
from wsss.training.loop import Fitted
from wsss.training.task import Task

VALUES: dict[str, Any] = {
    "batch_size": 8,
    "epochs": 2,
    "augment": {"crop_size": 32, "long_side": [32, 40]},
    "eval_long_side": 32,
    "backbone": {"model_name": "resnet10t"},
}
TWO_ROUNDS = {"method": {"name": "subcategory", "rounds": 2, "clustering": {"name": "finch"}}}


def settings_of(**values: Any) -> TrainClassifierSettings:
    return TrainClassifierSettings.model_validate(VALUES | values)


@dataclass
class Tracker:
    """Keeps what it is told, and ends the run after so many epochs."""

    stop_after: int = 1000
    told: list[tuple[int, set[str]]] = field(default_factory=list)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        self.told.append((step, set(values)))

    def flush(self) -> None:
        if len(self.told) == self.stop_after:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """A task of 24 training images; tests change what they need."""
    dataset = {"name": "synthetic", "num_train": 30, "num_val": 4, "image_size": [48, 64]}
    params = parse_params(
        {
            "machine": {"accelerator": "cpu", "num_workers": 0},
            "prepare_data": {"dataset": dataset, "selection_share": 0.2},
        }
    )
    paths = Paths(tmp_path_factory.mktemp("data"))
    run_stage("prepare_data", params, paths)
    fabric = make_fabric(params.machine, "32-true")
    manifest = Manifest.read(paths.splits)
    return Task(manifest, paths.images, params.machine, 3, fabric, paths.root, NullTracker())


@pytest.fixture
def task(data: Task, tmp_path: Path) -> Task:
    return replace(data, work=tmp_path)


@pytest.fixture
def with_background(task: Task) -> Task:
    """The task with four of the training images as images of anything else."""
    train = task.manifest.splits["train"]
    untagged = tuple(replace(item, class_ids=(), mask=None) for item in train[:4])
    splits = task.manifest.splits | {"train": train[4:]}
    return replace(task, manifest=replace(task.manifest, splits=splits, background=untagged))


@pytest.fixture(scope="module")
def teacher(data: Task, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    settings = settings_of(epochs=1)
    return fit_classifier(settings, replace(data, work=tmp_path_factory.mktemp("t")), {})[0]


@dataclass
class Begun:
    """What `fit` was given, in place of training."""

    state: dict[str, Tensor]
    new: set[str]
    source: str


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Begun]:
    """Leaves training out, and keeps what each round would have started from."""
    found: list[Begun] = []

    def fit(task: Any, model: Any, new_modules: Any, *args: Any, **kwargs: Any) -> Fitted:
        ids = {id(parameter) for module in new_modules for parameter in module.parameters()}
        new = {name for name, item in model.named_parameters() if id(item) in ids}
        state = {key: item.clone() for key, item in model.state_dict().items()}
        found.append(Begun(state, new, model.backbone.weights_source))
        with torch.no_grad():
            model.head.weight.add_(1)  # something was learned
        return Fitted(0, 0.0, [{"epoch": 0}])

    monkeypatch.setattr(classification, "fit", fit)
    return found


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[Start]:
    """Keeps what `Subcategory.begin` is shown."""
    found: list[Start] = []
    begin = Subcategory.begin

    def keep(self: Subcategory, start: Start) -> Any:
        found.append(start)
        torch.rand(1 + start.round)  # a method may draw, which must not change the weights
        return begin(self, start)

    monkeypatch.setattr(Subcategory, "begin", keep)
    return found


@pytest.fixture(scope="module")
def whole(
    data: Task, teacher: Classifier, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Classifier, Fitted, Tracker]:
    """Two rounds without a break."""
    tracker = Tracker()
    task = replace(data, work=tmp_path_factory.mktemp("whole"), tracker=tracker, prefix="own_")
    return *fit_classifier(settings_of(**TWO_ROUNDS), task, {"teacher": teacher}), tracker


def test_rounds_count_their_epochs_together(whole: tuple[Classifier, Fitted, Tracker]) -> None:
    model, fitted, tracker = whole
    assert [row["epoch"] for row in fitted.history] == [0, 1, 2, 3]
    assert [step for step, _ in tracker.told] == [0, 1, 2, 3]
    assert fitted.epoch in (2, 3)
    assert fitted.history[fitted.epoch]["selection_map"] == fitted.score
    assert all({"own_train_loss", "own_train_sub_categories"} <= names for _, names in tracker.told)
    assert sum(model.parts["sub_categories"].counts) >= 5
    assert {parameter.device.type for parameter in model.parameters()} == {
        "cpu"
    } and not model.training


@pytest.mark.parametrize("stop_after", [2, 3])
def test_a_killed_run_ends_in_the_same_weights(
    whole: tuple[Classifier, Fitted, Tracker], task: Task, teacher: Classifier, stop_after: int
) -> None:
    """Killed between the rounds, and within the second."""
    settings = settings_of(**TWO_ROUNDS)
    with pytest.raises(KeyboardInterrupt):
        fit_classifier(settings, replace(task, tracker=Tracker(stop_after)), {"teacher": teacher})
    tracker = Tracker()
    model, fitted = fit_classifier(settings, replace(task, tracker=tracker), {"teacher": teacher})
    assert [step for step, _ in tracker.told] == list(range(stop_after, 4))
    assert fitted.history == whole[1].history
    assert fitted.epoch == whole[1].epoch
    assert model.state_dict().keys() == whole[0].state_dict().keys()
    for key, value in whole[0].state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key


def test_a_run_that_goes_on_elsewhere_learns_what_it_began_with(
    whole: tuple[Classifier, Fitted, Tracker],
    task: Task,
    teacher: Classifier,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On another device networks give other values, from which a method draws other targets."""
    settings = settings_of(**TWO_ROUNDS)
    with pytest.raises(KeyboardInterrupt):
        fit_classifier(settings, replace(task, tracker=Tracker(3)), {"teacher": teacher})

    def of_another_device(samples: list[Sample], *_: Any) -> np.ndarray:
        return np.random.default_rng(0).normal(size=(len(samples), 8)).astype(np.float32)

    monkeypatch.setattr(classification, "_over_images", of_another_device)
    model, fitted = fit_classifier(settings, task, {"teacher": teacher})
    assert fitted.history == whole[1].history
    for key, value in whole[0].state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key


def test_every_round_starts_from_the_same_weights(
    task: Task, teacher: Classifier, begun: list[Begun], starts: list[Start]
) -> None:
    model, _ = fit_classifier(settings_of(**TWO_ROUNDS), task, {"teacher": teacher})
    first, second = begun
    own = [key for key in first.state if not key.startswith("parts.")]
    assert all(torch.equal(first.state[key], second.state[key]) for key in own)
    assert first.new == {name for name, _ in model.named_parameters()}
    assert starts[0].previous is None
    previous = starts[1].previous
    assert previous is not None and not previous.training and previous is not model
    assert torch.equal(previous.head.weight, first.state["head.weight"] + 1)


def test_a_method_is_shown_training_images_alone(
    task: Task, teacher: Classifier, begun: list[Begun], starts: list[Start]
) -> None:
    other = Classifier(teacher.backbone, teacher.class_names)
    settings = settings_of(**TWO_ROUNDS | {"eval_long_side": 16})
    # of two sizes in turn, which are run one after the other
    train = tuple(
        replace(sample, size=(48, 64) if index % 2 else (32, 64))
        for index, sample in enumerate(task.manifest.splits["train"])
    )
    manifest = replace(task.manifest, splits=task.manifest.splits | {"train": train})
    task = replace(task, manifest=manifest)
    fit_classifier(settings, task, {"teacher": teacher, "other": other})
    for index, start in enumerate(starts):
        assert start.round == index
        assert start.class_names == task.manifest.class_names
        assert start.names == tuple(item.name for item in train)
        np.testing.assert_array_equal(start.labels, task.manifest.labels(train))
        assert start.labels.dtype == np.float32
        assert start.teachers["teacher"].model is teacher
        assert start.teachers["other"].model is other

    def means(model: Classifier, images: Tensor) -> Tensor:
        assert not model.training and not torch.is_grad_enabled()
        assert images.shape[2:] in ((12, 16), (8, 16))
        return images.mean(dim=(2, 3))

    teacher.train()
    found = starts[0].over_images(teacher, means)
    assert teacher.training  # as it was
    teacher.eval()
    mean, std = (np.array(var) for var in vars(teacher.backbone.normalisation).values())
    expected = [read_image(task.images / item.image).mean(axis=(0, 1)) / 255 for item in train]
    np.testing.assert_allclose(found, (np.array(expected) - mean) / std, atol=0.02)


def test_start_from_copies_a_teacher(task: Task, teacher: Classifier, begun: list[Begun]) -> None:
    settings = settings_of(start_from="other")
    fit_classifier(settings, task, {"teacher": make_other(teacher), "other": teacher})
    assert begun[0].new == set()
    assert begun[0].source == "teacher:other"
    for key, value in teacher.state_dict().items():
        assert torch.equal(begun[0].state[key], value), key


def make_other(teacher: Classifier) -> Classifier:
    """A classifier like `teacher` with weights of its own."""
    torch.manual_seed(99)
    backbone = type(teacher.backbone)(settings_of().backbone)
    return Classifier(backbone, teacher.class_names).eval()


def test_a_head_that_can_not_be_copied_is_new(
    task: Task, teacher: Classifier, begun: list[Begun]
) -> None:
    settings = settings_of(start_from="teacher", head={"kernel_size": 3}, **TWO_ROUNDS)
    fit_classifier(settings, task, {"teacher": teacher})
    for item in begun:
        assert item.new == {"head.weight", "parts.sub_categories.head.weight"}
        key = "backbone.net.layer4.0.conv1.weight"
        assert torch.equal(item.state[key], teacher.state_dict()[key])


def test_start_from_needs_the_same_backbone(task: Task, teacher: Classifier) -> None:
    settings = settings_of(start_from="teacher", backbone={"model_name": "resnet14t"})
    with pytest.raises(ValueError, match="start_from: the backbone of 'teacher' is another"):
        fit_classifier(settings, task, {"teacher": teacher})


@pytest.mark.parametrize(("keep", "epoch"), [("best", 1), ("last", 2)])
def test_the_epoch_that_stays(
    task: Task, monkeypatch: pytest.MonkeyPatch, keep: str, epoch: int
) -> None:
    scores = iter([0.1, 0.9, 0.4])
    monkeypatch.setattr(
        classification, "score_classifier", lambda *_, **__: {"selection_map": next(scores)}
    )
    monkeypatch.setattr(Cam, "keep", keep)
    model, fitted = fit_classifier(settings_of(epochs=3), task, {})
    assert fitted.epoch == epoch
    state = torch.load(task.work / ".work.round0.pt", weights_only=True)
    last = torch.equal(state["model"]["head.weight"], model.head.weight.detach())
    assert last == (keep == "last")


def test_a_class_that_all_images_have_scores_nothing(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any order of such images is perfect: its average precision would be 1."""
    scores = torch.tensor([[3.0, 0.1, 0.0], [2.0, 0.3, 0.0], [1.0, 0.2, 0.0]])
    targets = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    monkeypatch.setattr(classification, "_class_logits", lambda *_: (scores, targets))
    found = classification.score_classifier(Any, settings_of(), task, "val")  # type: ignore[arg-type]
    assert found["val_map"] == 1  # of the second class alone
    scores[:, 1] = torch.tensor([3.0, 1.0, 2.0])
    found = classification.score_classifier(Any, settings_of(), task, "val")  # type: ignore[arg-type]
    assert found["val_map"] == pytest.approx(1 / 3)
    monkeypatch.setattr(classification, "_class_logits", lambda *_: (scores, torch.ones(3, 3)))
    found = classification.score_classifier(Any, settings_of(), task, "val")  # type: ignore[arg-type]
    assert set(found) == {"val_loss"}
    classes = classification.score_classes(Any, settings_of(), task, "val")  # type: ignore[arg-type]
    assert not classes.average_precision


def test_exclusive_classes_are_ranked_by_their_probabilities(
    task: Task, teacher: Classifier
) -> None:
    """Softmax leaves out what is added to all logits of an image."""
    number = len(task.manifest.splits["train"])
    logits = torch.randn(number, task.manifest.num_fg_classes + 1)
    given = logits + 100 * torch.randn(number, 1)
    at = iter(range(number))

    class Given(torch.nn.Module):
        backbone = teacher.backbone

        def forward(self, images: torch.Tensor) -> Any:
            return SimpleNamespace(logits=given[[next(at) for _ in images]])

    settings = settings_of(loss="single_label")
    scores, _ = classification._class_logits(Given(), settings, task, "train")  # type: ignore[arg-type]
    torch.testing.assert_close(scores, logits.log_softmax(dim=1)[:, :-1], atol=1e-4, rtol=1e-4)


def test_without_a_class_to_tell_apart_the_last_epoch_stays(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        classification, "score_classifier", lambda *_, **__: {"selection_loss": 0.1}
    )
    _, fitted = fit_classifier(settings_of(epochs=3), task, {})
    assert fitted.epoch == 2


@pytest.mark.parametrize(("those", "others"), [(4, 21), (12, 24), (60, 300)])
def test_a_guess_is_taken_for_one_and_what_was_learned_is_not(those: int, others: int) -> None:
    """Over many draws: of guesses nearly all, of a classifier that is usually right nearly none."""
    rng = np.random.default_rng(0)
    targets = np.repeat([1.0, 0.0], [those, others])[:, None].repeat(200, axis=1)
    names = [str(number) for number in range(200)]
    guesses = rng.random(targets.shape)
    found = compare_with_guess(guesses, targets, names)
    assert len(found.at_chance) > 185
    assert set(found.prevalence.values()) == {those / (those + others)}
    learned = compare_with_guess(guesses + 0.8 * targets, targets, names)
    assert len(learned.at_chance) < 10
    level = compare_with_guess(np.zeros_like(targets), targets, names)
    assert level.average_precision == level.prevalence
    assert len(level.at_chance) == 200


def test_what_nobody_knows_is_left_out_of_every_score(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    targets = rng.choice([0, 0.25, 0.5, 0.75, 1], (40, 3)).astype(np.float32)
    scores = rng.normal(0, 1, (40, 3)).astype(np.float32) + 2 * targets
    unknown = rng.random((40, 3)) < 0.3
    given = np.where(unknown, np.float32(np.nan), targets)
    names = ["a", "b", "c"]
    found = compare_with_guess(scores, given, names)
    for at, name in enumerate(names):
        known = ~unknown[:, at]
        there = (targets[known, at] >= 0.5).astype(float)
        alone = compare_with_guess(scores[known][:, [at]], there[:, None], [name])
        assert found.average_precision[name] == alone.average_precision[name]
        assert found.prevalence[name] == alone.prevalence[name] == there.mean()
    monkeypatch.setattr(
        classification,
        "_class_logits",
        lambda *_: (torch.from_numpy(scores), torch.from_numpy(given)),
    )
    values = classification.score_classifier(None, settings_of(), None, "x")  # type: ignore[arg-type]
    assert values["x_map"] == np.mean(list(found.average_precision.values()))
    probs = 1 / (1 + np.exp(-scores.astype(float)))
    losses = -(targets * np.log(probs) + (1 - targets) * np.log(1 - probs))
    assert values["x_loss"] == pytest.approx(losses[~unknown].mean(), rel=1e-5)


def test_exclusive_classes_have_no_loss_on_a_set_in_which_images_do_not_have_one_tag(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an image without a tag, cross-entropy would take the first class for the right one."""
    targets = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    monkeypatch.setattr(classification, "_class_logits", lambda *_: (targets - 0.5, targets))
    samples = tuple(
        Sample(f"far/{at}", "x.png", (4, 4), ids) for at, ids in enumerate([(1,), (), (2,)])
    )
    settings = settings_of(loss="single_label")
    for own, wanted in ((samples, {"far_map"}), (samples[::2], {"far_map", "far_loss"})):
        splits = task.manifest.splits | {"far": own}
        beside = replace(task, manifest=replace(task.manifest, splits=splits))
        found = classification.score_classifier(None, settings, beside, "far")  # type: ignore[arg-type]
        assert found.keys() == wanted


def test_training_and_scores_see_what_is_uncertain(
    task: Task, starts: list[Start], begun: list[Begun], teacher: Classifier
) -> None:
    sample, *others = task.manifest.splits["train"]
    doubtful = replace(sample, class_ids=(1,), uncertain=((1, 0.75), (2, None)))
    splits = task.manifest.splits | {"train": (doubtful, *others), "selection": (doubtful,)}
    unsure = replace(task, manifest=replace(task.manifest, splits=splits))
    settings = settings_of(**TWO_ROUNDS)
    fit_classifier(settings, unsure, {"teacher": teacher})
    labels = starts[0].labels[0]
    assert labels[0] == 0.75 and np.isnan(labels[1]) and not labels[2:].any()
    scores = classification.score_classifier(teacher, settings, unsure, "selection")
    assert scores.keys() == {"selection_loss"} and np.isfinite(scores["selection_loss"])


@pytest.mark.parametrize("split", ["train", "selection", "val"])
@pytest.mark.parametrize("prob", [None, 0.9])
def test_exclusive_classes_need_tags_that_are_certain(
    task: Task, begun: list[Begun], split: str, prob: float | None
) -> None:
    ids = (1,) if prob else ()
    splits = {
        name: tuple(replace(sample, class_ids=(1,)) for sample in samples)
        for name, samples in task.manifest.splits.items()
    }
    first, *others = splits[split]
    splits[split] = (replace(first, class_ids=ids, uncertain=((1, prob),)), *others)
    manifest = replace(task.manifest, splits=splits)
    with pytest.raises(ValueError, match=rf"tags that are certain, but .* 1 of .*'{first.name}'"):
        fit_classifier(settings_of(loss="single_label"), replace(task, manifest=manifest), {})
    assert not begun


def test_too_few_images_to_tell_are_no_guess_unless_they_come_last() -> None:
    targets = np.array([[1.0], [0.0], [0.0]])
    assert not compare_with_guess(np.array([[0.9], [0.5], [0.1]]), targets, ["x"]).at_chance
    assert compare_with_guess(np.array([[0.1], [0.5], [0.9]]), targets, ["x"]).at_chance == ("x",)


def test_finish_gets_the_trained_classifier(
    task: Task, begun: list[Begun], monkeypatch: pytest.MonkeyPatch
) -> None:
    def finish(self: Cam, model: Classifier, start: Start) -> None:
        assert not model.training
        assert torch.equal(model.head.weight, begun[0].state["head.weight"] + 1)
        means = start.over_images(model, lambda model, images: model(images).logits)
        assert means.shape == (24, len(start.class_names))
        with torch.no_grad():
            model.head.weight.fill_(5)

    monkeypatch.setattr(Cam, "finish", finish)
    model, _ = fit_classifier(settings_of(), task, {})
    assert (model.head.weight == 5).all()


def test_background_images_are_one_more_class(
    with_background: Task, teacher: Classifier, starts: list[Start]
) -> None:
    manifest = with_background.manifest
    count = manifest.num_fg_classes
    settings = settings_of(**TWO_ROUNDS | {"epochs": 1})
    model, fitted = fit_classifier(settings, with_background, {"teacher": teacher})
    assert model.num_extra == 1 and model.class_names == manifest.class_names
    assert starts[0].class_names == (*manifest.class_names, "background_images")
    train = manifest.splits["train"]
    names = [item.name for item in (*train, *manifest.background)]
    assert list(starts[0].names) == names
    np.testing.assert_array_equal(starts[0].labels[: len(train), :count], manifest.labels(train))
    assert starts[0].labels[: len(train), count].sum() == 0
    np.testing.assert_array_equal(starts[0].labels[len(train) :], [[0] * count + [1]] * 4)
    counts = model.parts["sub_categories"].counts
    assert len(counts) == count + 1 and 1 <= counts[-1] <= 4
    assert model(torch.zeros(1, 3, 32, 32)).logits.shape == (1, count + 1)
    assert 0 <= fitted.score <= 1


def untag(samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
    return tuple(replace(sample, class_ids=()) for sample in samples)


@pytest.mark.parametrize("split", ["train", "selection"])
@pytest.mark.parametrize("background", [False, True])
def test_a_split_without_tags_is_an_error(
    task: Task,
    with_background: Task,
    begun: list[Begun],
    split: str,
    background: bool,
) -> None:
    """Images of the background have a label of their own, but are nothing to learn alone."""
    chosen = with_background if background else task
    splits = chosen.manifest.splits | {split: untag(chosen.manifest.splits[split])}
    cut = replace(chosen, manifest=replace(chosen.manifest, splits=splits))
    named = "training" if split == "train" else "selection"
    with pytest.raises(ValueError, match=f"no {named} image has a tag"):
        fit_classifier(settings_of(), cut, {})
    assert not begun


@pytest.mark.parametrize("split", ["train", "selection", "val"])
@pytest.mark.parametrize("tags", [(), (1, 2)])
def test_exclusive_classes_are_checked_where_the_loss_takes_them_for_granted(
    task: Task, begun: list[Begun], split: str, tags: tuple[int, ...]
) -> None:
    """The loss may have been set after the data were prepared, and a teacher has its own."""
    one_tag = {
        name: tuple(replace(sample, class_ids=(1,)) for sample in samples)
        for name, samples in task.manifest.splits.items()
    }
    settings = settings_of(loss="single_label")
    fit_classifier(settings, replace(task, manifest=replace(task.manifest, splits=one_tag)), {})
    first, *others = one_tag[split]
    splits = one_tag | {split: (replace(first, class_ids=tags), *others)}
    manifest = replace(task.manifest, splits=splits)
    with (
        pytest.raises(ValueError, match=rf"^x.loss is 'single.*'{first.name}' with {len(tags)}"),
        naming("x"),
    ):
        fit_classifier(settings, replace(task, manifest=manifest), {})
    assert len(begun) == 1


def test_background_images_have_one_tag_each(with_background: Task, begun: list[Begun]) -> None:
    splits = {
        name: tuple(replace(sample, class_ids=(1,)) for sample in samples)
        for name, samples in with_background.manifest.splits.items()
    }
    manifest = replace(with_background.manifest, splits=splits)
    task = replace(with_background, manifest=manifest)
    fit_classifier(settings_of(loss="single_label"), task, {})
    assert begun


def test_a_teacher_of_other_classes_is_refused(
    task: Task, teacher: Classifier, begun: list[Begun]
) -> None:
    names = tuple(reversed(task.manifest.class_names))
    manifest = replace(task.manifest, class_names=names)
    with pytest.raises(ValueError, match="the teacher 'old' was trained on the classes"):
        fit_classifier(settings_of(), replace(task, manifest=manifest), {"old": teacher})
    assert not begun


def test_a_teacher_has_its_own_normalisation(
    task: Task, teacher: Classifier, begun: list[Begun], starts: list[Start]
) -> None:
    backbone = {"model_name": "resnet10t", "mean": [0.2, 0.3, 0.4], "std": [0.5, 0.6, 0.7]}
    settings = settings_of(backbone=backbone, **TWO_ROUNDS)
    fit_classifier(settings, task, {"teacher": teacher})
    student = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(backbone[key]).view(3, 1, 1) for key in ("mean", "std"))
    own_mean, own_std = (
        torch.tensor(values).view(3, 1, 1)
        for values in vars(teacher.backbone.normalisation).values()
    )
    pixels = student * std + mean
    with torch.no_grad():
        expected = teacher((pixels - own_mean) / own_std).logits
    torch.testing.assert_close(starts[0].teachers["teacher"](student).logits, expected)


def test_values_that_are_not_finite_stop_the_scoring_with_a_setting(
    task: Task, teacher: Classifier
) -> None:
    model = deepcopy(teacher)
    with torch.no_grad():
        model.head.weight.fill_(float("inf"))
    with (
        naming("train_classifier"),
        pytest.raises(ValueError, match=r"not finite on val images.*train_classifier\.precision"),
    ):
        classification.score_classifier(model, settings_of(), task, "val")


def test_scoring_tells_how_far_it_is(
    data: Task, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Val may have many more images than an epoch."""
    monkeypatch.setattr(progress, "_note", progress._Note())
    monkeypatch.setenv("WSSS_PROGRESS", str(tmp_path / "note"))
    settings = settings_of(batch_size=1)
    model = Classifier(TimmBackbone(settings.backbone), data.manifest.class_names)
    classification.score_classifier(model, settings, data, "val")
    count = len(data.manifest.splits["val"])
    told = json.loads((tmp_path / "note").read_text())
    assert told == {"what": "score val", "done": count, "total": count}
