"""Training a segmentation network on pseudo masks; no ground truth is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from wsss.artifacts import Annotations, Sample, read_label_png
from wsss.config.segmentation import TrainSegmenterSettings
from wsss.evaluate import confusion_matrix
from wsss.evaluate.metrics import Counts, iou, mean_over
from wsss.loading.devices import gather
from wsss.loading.normalisation import Normalisation
from wsss.models.dilated_depthwise import quick_dilated_depthwise
from wsss.models.frozen_batchnorm import folded_batchnorm
from wsss.registry import PIXEL_LOSSES, TAG_FORMS
from wsss.seeding import Step
from wsss.segment.forms import Predict, TagForm, TrainBatch
from wsss.segment.losses import LossContext, PixelBatch, PixelLoss
from wsss.segment.network import Segmenter, check_crop, make_segmenter
from wsss.segment.predict import predict_probs
from wsss.training.average import WeightAverage
from wsss.training.label_maps import find_label_maps
from wsss.training.loop import Fitted, fit
from wsss.training.task import Task

__all__ = ["fit_segmenter"]


def fit_segmenter(
    settings: TrainSegmenterSettings,
    task: Task,
    pseudo_masks: Path,
    annotations: Annotations,
    classifier: Path,
) -> tuple[Segmenter, Fitted]:
    """Train a segmentation network, and keep the epoch that its form asks for.

    Args:
        settings: of the network.
        task: the data, the machine and the folder for checkpoints.
        pseudo_masks: the folder of <name>.png, (H, W) uint8: 0, class ids, 255 ignored; a given
            mask stands there unchanged.
        annotations: what people gave besides tags.
        classifier: the folder of the trained classifier; see `make_segmenter`.

    Returns:
        The network, on the CPU, and its fit.

    Raises:
        ValueError: the network cannot be made, the settings ask for masks that nobody gave, or a
            loss is not finite.
    """
    train, names = task.manifest.splits["train"], task.manifest.class_names
    torch.manual_seed(task.rng_seed)
    model = make_segmenter(settings.model, classifier, has_background=task.manifest.has_background)
    task.manifest.check_classes(model.spec.class_names, f"the classifier in {classifier}")
    check_crop(settings.augment.crop_size, model.net)
    form: TagForm[Any] = TAG_FORMS.build(
        settings.tags_only,
        names,
        model.normalisation,
        has_background=task.manifest.has_background,
    )
    maps = find_label_maps(settings, form, train, pseudo_masks, annotations, len(names))
    context = LossContext(names, maps.class_pixels)
    average = WeightAverage(model, settings.ema_decay) if settings.ema_decay else None
    mixed = any(maps.given) and not all(maps.given)
    lessons = _Lessons(
        form,
        [PIXEL_LOSSES.build(loss, context) for loss in settings.losses],
        settings.given_weight if mixed else 1,
        model.normalisation,
        None if average is None else average.model,
    )
    judged = task.manifest.splits["selection"]
    given = [sample for sample in judged if sample.name in annotations.masks]
    if given and not form.takes_pseudo_masks:  # what nothing is learned from tells no epoch apart
        judged = tuple(given)
    last = form.keep == "last" and not all(maps.given)
    metric = None if last else "selection_pseudo_mean_iou"
    new = [part for name, part in model.net.named_children() if name != "encoder"]
    if model.weights_source == "none":
        new.append(model.net.encoder)
    with quick_dilated_depthwise(model), folded_batchnorm(model.net.encoder):
        fitted = fit(
            task,
            model,
            new,
            task.crops(
                maps.samples,
                settings,
                model.normalisation,
                label_maps=maps.paths,
                given=maps.given,
                mixture=maps.mixture(settings, names),
            ),
            lessons,
            partial(_score_selection, settings, task, pseudo_masks, judged),
            metric=metric,
            settings=settings,
            checkpoint="last",
            average=average,
        )
    return model.cpu(), fitted


@dataclass(frozen=True)
class _Lessons:
    """The losses of a batch: those of labelled pixels, and what the form adds.

    Attributes:
        form: what images without a whole mask teach.
        losses: of labelled pixels, summed by their weights.
        given_weight: of pixels of given masks, where others count 1.
        normalisation: of the images.
        teacher: who is asked for labels; None is the network itself.
    """

    form: TagForm[Any]
    losses: Sequence[PixelLoss[Any]]
    given_weight: float
    normalisation: Normalisation
    teacher: nn.Module | None

    def __call__(self, model: nn.Module, batch: Mapping[str, Any], step: Step) -> dict[str, Tensor]:
        """The losses by name; of one alone, "loss" is all there is to say."""
        crops = TrainBatch.of(batch)
        lesson = self.form(model, _predictor(self.teacher or model), crops, step)
        image_weights = None
        if self.given_weight != 1:
            image_weights = crops.given.float() * (self.given_weight - 1) + 1
        pixels = PixelBatch(
            lesson.masks, lesson.images, lesson.inside, self.normalisation, image_weights
        )
        terms = {
            loss.settings.name: loss.settings.weight * loss(lesson.logits, pixels)
            for loss in self.losses
        }
        terms |= lesson.terms
        loss = torch.stack([*terms.values()]).sum()
        return {"loss": loss} | (terms if len(terms) > 1 else {})


def _predictor(model: nn.Module) -> Predict:
    """See `Predict`: the network is left in the mode that it is in."""

    def predict(images: Tensor) -> Tensor:
        training = model.training
        model.eval()
        with torch.no_grad():
            logits: Tensor = model(images).float()
        model.train(training)
        return logits

    return predict


def _score_selection(
    settings: TrainSegmenterSettings,
    task: Task,
    pseudo_masks: Path,
    judged: Sequence[Sample],
    model: Segmenter,
) -> dict[str, float]:
    """Agreement with the pseudo masks of images of the selection split, which training never saw.

    Those of an image with a mask of an annotator are that mask. Where a form learns from no other
    pseudo masks, and some such images are there, they are the ones that are judged.

    This picks the epoch without ground truth; it is no estimate of the true mean IoU.

    Returns:
        selection_pseudo_mean_iou, unless those masks hold no class, which to predict nothing would
        fit best; and selection_foreground, the share of their labelled pixels that are predicted as
        a class.
    """
    num_classes = task.manifest.num_fg_classes + 1
    matrix = np.zeros((num_classes, num_classes + 1), np.int64)
    for samples, images in task.whole_images(
        judged,
        model.normalisation,
        batch_size=settings.batch_size,
        long_side=settings.eval_long_side,
        description="score selection",
    ):
        with task.fabric.autocast():
            probs = predict_probs(model, images)
        for sample, prob in zip(samples, probs, strict=True):
            full = functional.interpolate(prob[None], sample.size, mode="bilinear")[0]
            predicted = full.argmax(dim=0).to(torch.uint8).cpu().numpy()
            pseudo = read_label_png(pseudo_masks / f"{sample.name}.png")
            matrix += confusion_matrix(pseudo, predicted, num_classes)
    matrix = np.sum(gather(matrix), axis=0)
    counts = Counts.of(matrix)
    share = counts.predicted[1:].sum() / max(1, counts.predicted.sum())
    values = {"selection_foreground": float(share)}
    if counts.gt[1:].any():
        values["selection_pseudo_mean_iou"] = float(mean_over(iou(counts)))
    return values
