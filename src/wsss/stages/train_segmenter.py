"""Train a segmentation network on the pseudo masks; no ground truth is read."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from wsss.artifacts import (
    Manifest,
    Paths,
    Staging,
    fingerprint,
    read_label_png,
    source_fingerprint,
)
from wsss.config.params import MachineSettings, Params, TrainSegmenterSettings
from wsss.evaluate import confusion_matrix
from wsss.evaluate.metrics import Counts, iou, mean_over
from wsss.seeding import Step
from wsss.segment.losses import cross_entropy
from wsss.segment.network import make_segmenter, save_segmenter
from wsss.segment.predict import predict_probs
from wsss.stages._base import execute, report_training
from wsss.tracking import Tracker
from wsss.training.loading import num_workers, training_batches
from wsss.training.loop import fit, make_fabric
from wsss.training.same_size import normalise, resized, same_size_batches


def run(params: Params, paths: Paths, tracker: Tracker) -> None:
    """Read data/images and data/pseudo_masks; write models/segmenter and the report."""
    settings, machine = params.train_segmenter, params.machine
    manifest = Manifest.read(paths.splits)
    torch.manual_seed(params.base.rng_seed)
    model = make_segmenter(settings.model, paths.classifier)
    tracker.tags({"weights": model.weights_source})
    fabric = make_fabric(machine, settings.precision)
    batches = training_batches(
        manifest.splits["train"],
        paths.images,
        settings.augment,
        mean=model.spec.mean,
        std=model.spec.std,
        num_fg_classes=manifest.num_fg_classes,
        masks=paths.pseudo_masks,
        batch_size=settings.batch_size,
        rng_seed=params.base.rng_seed,
        workers=num_workers(machine),
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    key = fingerprint(
        settings,
        params.base.rng_seed,
        source_fingerprint(),
        files=[paths.splits, paths.pseudo_masks, paths.classifier],
    )
    head = [part for name, part in model.net.named_children() if name != "encoder"]
    new = [model.net.encoder] if model.weights_source == "none" else []
    with Staging(paths.segmenter, key) as staging:
        fitted = fit(
            fabric,
            model,
            head + new,
            batches,
            _losses,
            partial(_scores, manifest, paths, settings, machine),
            metric="selection_pseudo_mean_iou",
            settings=settings,
            rng_seed=params.base.rng_seed,
            checkpoint=staging.path / ".work.last.pt",
            tracker=tracker,
        )
        save_segmenter(model, staging.path)
    rate = fitted.images_per_second
    report_training("train_segmenter", fitted.history, fitted.epoch, rate, paths, tracker)


def _losses(model: nn.Module, batch: Mapping[str, Any], step: Step) -> dict[str, Tensor]:
    return {"loss": cross_entropy(model(batch["image"]), batch["mask"])}


def _scores(
    manifest: Manifest,
    paths: Paths,
    settings: TrainSegmenterSettings,
    machine: MachineSettings,
    model: Any,
) -> dict[str, float]:
    """Agreement with the pseudo masks of the selection split, which training never saw.

    This picks the epoch without ground truth; it is no estimate of the true mean IoU.
    """
    num_classes = manifest.num_fg_classes + 1
    matrix = np.zeros((num_classes, num_classes + 1), np.int64)
    device = next(model.parameters()).device
    for samples, pixels in same_size_batches(
        manifest.splits["selection"],
        paths.images,
        batch_size=settings.batch_size,
        num_workers=num_workers(machine),
        size_for=partial(resized, long_side=settings.eval_long_side),
    ):
        probs = predict_probs(model, normalise(pixels.to(device), model.spec.mean, model.spec.std))
        for sample, prob in zip(samples, probs, strict=True):
            full = functional.interpolate(prob[None], sample.size, mode="bilinear")[0]
            predicted = full.argmax(dim=0).to(torch.uint8).cpu().numpy()
            pseudo = read_label_png(paths.pseudo_masks / f"{sample.name}.png")
            matrix += confusion_matrix(pseudo, predicted, num_classes)
    return {"selection_pseudo_mean_iou": float(mean_over(iou(Counts.of(matrix))))}


if __name__ == "__main__":
    execute(
        "train_segmenter",
        run,
        upstream=("data/images", "data/splits", "data/pseudo_masks", "models/classifier"),
    )
