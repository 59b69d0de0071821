"""Training a segmentation network on pseudo masks; no ground truth is read."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from wsss.artifacts import read_label_png
from wsss.checks import full_key
from wsss.config.segmentation import TrainSegmenterSettings
from wsss.evaluate import confusion_matrix
from wsss.evaluate.metrics import Counts, iou, mean_over
from wsss.loading.devices import gather
from wsss.seeding import Step
from wsss.segment.losses import cross_entropy
from wsss.segment.network import Segmenter, make_segmenter
from wsss.segment.predict import predict_probs
from wsss.training.loop import Fitted, fit
from wsss.training.task import Task

__all__ = ["fit_segmenter"]


def fit_segmenter(
    settings: TrainSegmenterSettings, task: Task, pseudo_masks: Path, classifier: Path
) -> tuple[Segmenter, Fitted]:
    """Train a segmentation network; the epoch that agrees best with the pseudo masks is kept.

    Args:
        settings: of the network.
        task: the data, the machine and the folder for checkpoints.
        pseudo_masks: the folder of <name>.png, (H, W) uint8: 0, class ids, 255 ignored.
        classifier: the folder of the trained classifier; see `make_segmenter`.

    Returns:
        The network, on the CPU, and its fit.

    Raises:
        ValueError: the network cannot be made, or a loss is not finite.
    """
    torch.manual_seed(task.rng_seed)
    model = make_segmenter(settings.model, classifier)
    task.manifest.check_classes(model.spec.class_names, f"the classifier in {classifier}")
    _check_crop(settings.augment.crop_size, model.net)
    new = [part for name, part in model.net.named_children() if name != "encoder"]
    if model.weights_source == "none":
        new.append(model.net.encoder)
    fitted = fit(
        task,
        model,
        new,
        task.crops(
            task.manifest.splits["train"], settings, model.normalisation, masks=pseudo_masks
        ),
        _losses,
        partial(_score_selection, settings, task, pseudo_masks),
        metric="selection_pseudo_mean_iou",
        settings=settings,
        checkpoint="last",
    )
    return model.cpu(), fitted


def _check_crop(side: int, net: Any) -> None:
    """Raise ValueError if an architecture that puts stages together cannot do so."""
    stride = net.encoder.output_stride
    if net.requires_divisible_input_shape and side % stride:
        raise ValueError(
            f"{full_key('augment.crop_size')} is {side}, but {type(net).__name__} takes multiples "
            f"of {stride}; set it to {side + stride - side % stride}"
        )


def _losses(model: nn.Module, batch: Mapping[str, Any], step: Step) -> dict[str, Tensor]:
    del step
    return {"loss": cross_entropy(model(batch["image"]), batch["mask"])}


def _score_selection(
    settings: TrainSegmenterSettings, task: Task, pseudo_masks: Path, model: Segmenter
) -> dict[str, float]:
    """Agreement with the pseudo masks of the selection split, which training never saw.

    This picks the epoch without ground truth; it is no estimate of the true mean IoU.

    Returns:
        selection_pseudo_mean_iou, unless those masks hold no class, which to predict nothing would
        fit best; and selection_foreground, the share of their labelled pixels that are predicted as
        a class.
    """
    num_classes = task.manifest.num_fg_classes + 1
    matrix = np.zeros((num_classes, num_classes + 1), np.int64)
    for samples, images in task.whole_images(
        task.manifest.splits["selection"],
        model.normalisation,
        batch_size=settings.batch_size,
        long_side=settings.eval_long_side,
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
