"""Training a classifier on tags, in as many rounds as its method asks for."""

import itertools
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor, nn

from wsss.artifacts import Manifest, Sample, atomic_path, single_label_fault
from wsss.checks import full_key
from wsss.config.sections import TrainClassifierSettings
from wsss.cores import is_first
from wsss.loading.devices import broadcast, gather, gather_shares
from wsss.methods.base import Method, Start, Teacher
from wsss.methods.losses import Losses
from wsss.methods.objective import Objective, present
from wsss.models.classifier import Classifier
from wsss.models.dilated_depthwise import quick_dilated_depthwise
from wsss.models.frozen_batchnorm import folded_batchnorm
from wsss.models.timm_backbone import TimmBackbone
from wsss.registry import METHODS
from wsss.seeding import Step
from wsss.training.loop import Fitted, fit
from wsss.training.task import Task

__all__ = [
    "ClassScores",
    "compare_with_guess",
    "fit_classifier",
    "score_classes",
    "score_classifier",
]

log = logging.getLogger(__name__)

BACKGROUND = "background_images"
"""The name of the extra class of `Manifest.background`."""


def fit_classifier(
    settings: TrainClassifierSettings, task: Task, teachers: Mapping[str, Classifier]
) -> tuple[Classifier, Fitted]:
    """Train a classifier.

    Args:
        settings: of this classifier.
        task: the data, the machine and the folder for checkpoints.
        teachers: finished classifiers by name.

    Returns:
        The classifier of the last round, on the CPU; the last round's fit, with the history of
        all rounds.

    Raises:
        ValueError: the backbone or a teacher does not fit the method, no image has a tag, or a
            loss is not finite.
    """
    manifest = task.manifest
    method: Method[Any] = METHODS.build(settings.method)
    samples, num_extra = _training_samples(manifest)
    width = manifest.num_fg_classes + num_extra
    labels = np.stack([sample.targets(width) for sample in samples])
    if not any(sample.class_ids for sample in manifest.splits["train"]):
        raise ValueError("no training image has a tag, so there is nothing to learn; add tags")
    if settings.loss == "single_label":
        scored = [*manifest.splits["selection"], *manifest.splits["val"]]
        if wrong := single_label_fault([*samples, *scored], full_key("loss")):
            raise ValueError(wrong)
    for name, teacher in teachers.items():
        manifest.check_classes(teacher.class_names, f"the teacher '{name}'")
    if not manifest.labels(manifest.splits["selection"]).any():
        raise ValueError("no selection image has a tag; raise prepare_data.selection_share")
    previous: Classifier | None = None
    history: list[dict[str, float]] = []
    for index in range(method.rounds):
        torch.manual_seed(task.rng_seed)
        backbone = TimmBackbone(settings.backbone)
        asked = {
            name: Teacher(task.fabric.to_device(teacher), backbone.normalisation)
            for name, teacher in teachers.items()
        }
        start = Start(
            index,
            (*manifest.class_names, *[BACKGROUND] * num_extra),
            tuple(sample.name for sample in samples),
            labels,
            asked,
            previous,
            partial(_over_images, samples, task, settings),
            task.rng_seed,
            manifest.has_background,
        )
        kept = task.work / f".work.round{index}.npy"
        parts = method.begin(replace(start, over_images=_once(start.over_images, kept)))
        torch.manual_seed(task.rng_seed)  # whatever begin() did, the head starts alike
        model = Classifier(
            backbone, manifest.class_names, settings.head, num_extra=num_extra, parts=parts
        )
        new_modules = _start_weights(model, settings, teachers)
        with quick_dilated_depthwise(model), folded_batchnorm(backbone):
            fitted = fit(
                task,
                model,
                new_modules,
                task.crops(
                    samples, settings, backbone.normalisation, num_fg_classes=labels.shape[1]
                ),
                partial(_losses, method, Objective(settings.loss)),
                partial(score_classifier, settings=settings, task=task, split="selection"),
                metric="selection_map" if method.keep == "best" else None,
                settings=settings,
                checkpoint=f"round{index}",
                epochs_before=len(history),
            )
        history += [row | {"epoch": len(history) + row["epoch"]} for row in fitted.history]
        previous = model.eval()
        method.finish(model, start)
        if method.rounds > 1:
            log.info("round %d of %d is done", index + 1, method.rounds)
    fitted.epoch += len(history) - len(fitted.history)
    fitted.history = history
    return model.cpu(), fitted


def _training_samples(manifest: Manifest) -> tuple[list[Sample], int]:
    """The images to train on, and how many extra classes they bring."""
    extra = (manifest.num_fg_classes + 1,)
    background = [replace(sample, class_ids=extra) for sample in manifest.background]
    return [*manifest.splits["train"], *background], int(bool(background))


def _start_weights(
    model: Classifier, settings: TrainClassifierSettings, teachers: Mapping[str, Classifier]
) -> list[nn.Module]:
    """Copy backbone and head of `start_from`, a head only where it has the same shape.

    Returns:
        What starts from random values.
    """
    new: list[nn.Module] = list(model.parts.values())
    name = settings.start_from
    if not name:
        scratch = model.backbone.weights_source == "none"
        return [*new, model.head, *[model.backbone] * scratch]
    source = teachers[name]
    own, other = model.backbone.state_dict(), source.backbone.state_dict()
    if {key: weights.shape for key, weights in own.items()} != {
        k: weights.shape for k, weights in other.items()
    }:
        raise ValueError(
            f"{full_key('start_from')}: the backbone of '{name}' is another one; give both the "
            "same backbone"
        )
    model.backbone.load_state_dict(other)
    model.backbone.weights_source = f"teacher:{name}"
    if source.head.weight.shape != model.head.weight.shape:
        return [*new, model.head]
    model.head.load_state_dict(source.head.state_dict())
    return new


def _losses(
    method: Method[Any],
    objective: Objective,
    model: Classifier,
    batch: Mapping[str, Any],
    step: Step,
) -> Losses:
    return method(model, batch["image"], batch["labels"], objective, step)


def _over_images(
    samples: list[Sample],
    task: Task,
    settings: TrainClassifierSettings,
    model: Any,
    function: Callable[[Classifier, Tensor], Tensor],
) -> np.ndarray:
    """See `Start.over_images`."""
    training = model.training
    model = task.fabric.to_device(model).eval()
    rows = {id(sample): row for row, sample in enumerate(samples)}
    found: dict[int, np.ndarray] = {}  # by row
    for batch, images in task.whole_images(
        samples,
        model.backbone.normalisation,
        batch_size=settings.batch_size,
        long_side=settings.eval_long_side,
        description="training images",
    ):
        with torch.inference_mode(), task.fabric.autocast():
            values = function(model, images).float().cpu().numpy()
        for sample, value in zip(batch, values, strict=True):
            found[rows[id(sample)]] = value
    model.train(training)
    everything = {row: value for part in gather(found) for row, value in part.items()}
    return np.stack([everything[row] for row in range(len(samples))])


def _once(over_images: Callable[..., np.ndarray], file: Path) -> Callable[..., np.ndarray]:
    """`Start.over_images` whose values stay: what goes on elsewhere would find others.

    A network gives other values on another device, and a method other targets and parts for them.
    """
    calls = itertools.count()

    def kept(*asked: Any) -> np.ndarray:
        own = file.with_suffix(f".{next(calls)}.npy")
        values = broadcast(np.load(own) if is_first() and own.exists() else None)
        if values is None:
            values = over_images(*asked)
            if is_first():
                with atomic_path(own) as temporary, temporary.open("wb") as opened:
                    np.save(opened, values)
        return values

    return kept


def score_classifier(
    model: Classifier, settings: TrainClassifierSettings, task: Task, split: str
) -> dict[str, float]:
    """Mean average precision and loss on a split.

    The mean is over the classes that some of its images have and others have not: of those that all
    have, any order of the images is a perfect one.

    What nobody knows of an image is left out, and a probability of 0.5 counts as a tag.

    Returns:
        <split>_map, without it where there is no such class, and <split>_loss, without it where
        classes are exclusive and images of a scored set do not have one tag each; nothing for a
        split without a tag.
    """
    scores, targets = _class_logits(model, settings, task, split)
    if not present(targets).any():
        return {}
    values = {}
    exclusive = settings.loss == "single_label"
    if not (exclusive and single_label_fault(task.manifest.splits[split], full_key("loss"))):
        values[f"{split}_loss"] = float(Objective(settings.loss).classification(scores, targets))
    found = [
        average_precision_score(there, known)
        for known, there in _known_columns(scores.numpy(), targets.numpy())
        if there.any() and not there.all()
    ]
    if found:
        values = {f"{split}_map": float(np.mean(found))} | values
    return values


@dataclass(frozen=True)
class ClassScores:
    """How well a classifier knows each class, of those that some images have and others have not.

    Attributes:
        average_precision: by class.
        prevalence: by class, the share of images that have it, of those of which that is known: the
            average precision of a guess.
        at_chance: classes whose images do not come before the others by more than a guess brings
            about now and then.
    """

    average_precision: dict[str, float]
    prevalence: dict[str, float]
    at_chance: tuple[str, ...]


def score_classes(
    model: Classifier, settings: TrainClassifierSettings, task: Task, split: str
) -> ClassScores:
    """Compare a classifier with a guess, class by class."""
    scores, targets = _class_logits(model, settings, task, split)
    return compare_with_guess(scores.numpy(), targets.numpy(), task.manifest.class_names)


def compare_with_guess(
    scores: np.ndarray, targets: np.ndarray, class_names: Sequence[str]
) -> ClassScores:
    """See `ClassScores`.

    A guess puts an image of a class before one without it in half of the cases, and is seldom more
    than two standard deviations of that share (Mann & Whitney, 1947) above. With so few images that
    this is 0.9 or more, a class is at chance where its average precision is no higher than its
    prevalence.

    Args:
        scores: (N, K) float32, any increasing function of the probabilities.
        targets: (N, K) float32, `Manifest.targets`: images of which nobody knows are left out of a
            class, and those that have it with a probability of 0.5 and more have it.
        class_names: K names.

    Example:
        >>> scores = np.arange(20.0)[:, None]
        >>> compare_with_guess(scores, (scores > 14).astype(float), ["cat"])
        ClassScores(average_precision={'cat': 1.0}, prevalence={'cat': 0.25}, at_chance=())
        >>> compare_with_guess(scores, np.arange(20)[:, None] % 4 < 1, ["cat"]).at_chance
        ('cat',)
    """
    precision, prevalence, at_chance = {}, {}, []
    columns = _known_columns(scores, targets)
    for name, (score, target) in zip(class_names, columns, strict=True):
        those, others = int(target.sum()), int(len(target) - target.sum())
        if not those or not others:
            continue
        precision[name] = float(average_precision_score(target, score))
        prevalence[name] = those / len(target)
        limit = 0.5 + 2 * math.sqrt((those + others + 1) / (12 * those * others))
        if limit < 0.9:
            guessed = roc_auc_score(target, score) < limit
        else:
            guessed = precision[name] <= prevalence[name]
        at_chance += [name] * guessed
    return ClassScores(precision, prevalence, tuple(at_chance))


def _known_columns(
    scores: np.ndarray, targets: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each class the scores, and whether it is there, of images of which that is known."""
    for score, target in zip(scores.T, targets.T, strict=True):
        known = ~np.isnan(target)
        yield score[known], target[known] >= 0.5


def _class_logits(
    model: Classifier, settings: TrainClassifierSettings, task: Task, split: str
) -> tuple[Tensor, Tensor]:
    """Logits of a split and `Manifest.targets`, each (N, K) float32 on the CPU.

    Of exclusive classes they are logarithms of the probabilities: what softmax leaves out of a
    logit differs from image to image, so that logits have no order among images.
    """
    found = []
    manifest = task.manifest
    model = task.fabric.to_device(model).eval()
    for samples, images in task.whole_images(
        manifest.splits[split],
        model.backbone.normalisation,
        batch_size=settings.batch_size,
        long_side=settings.eval_long_side,
        description=f"score {split}",
    ):
        with torch.inference_mode(), task.fabric.autocast():
            output = model(images)
        logits = output.logits.float()
        if settings.loss == "single_label":
            logits = logits.log_softmax(dim=1)
        logits = logits[:, : manifest.num_fg_classes]
        found.append((logits.cpu(), torch.from_numpy(manifest.targets(samples))))
    logits_of_all, labels_of_all = zip(*gather_shares(found), strict=True)
    scores = torch.cat(logits_of_all)
    if not scores.isfinite().all():
        raise ValueError(
            f"the classifier gives values that are not finite on {split} images; lower "
            f"{full_key('optimizer.lr')}, or set {full_key('precision')} to 32-true"
        )
    return scores, torch.cat(labels_of_all)
