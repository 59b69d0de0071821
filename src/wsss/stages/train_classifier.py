"""Train a classifier on image tags: the only supervision the pipeline has."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor, nn

from wsss.artifacts import Manifest, Staging, fingerprint, source_fingerprint
from wsss.config.params import MachineSettings, Params, TrainClassifierSettings
from wsss.methods._base import Method
from wsss.methods._objective import Objective
from wsss.models.classifier import Classifier, save_classifier
from wsss.models.timm_backbone import TimmBackbone
from wsss.registry import METHODS
from wsss.stages._base import Paths, execute, report_training
from wsss.tracking import Tracker
from wsss.training.loading import num_workers, training_batches
from wsss.training.loop import fit, make_fabric
from wsss.training.same_size import normalise, resized, same_size_batches


def run(params: Params, paths: Paths, tracker: Tracker) -> None:
    """Read data/images and data/splits; write models/classifier and the report."""
    settings, machine = params.train_classifier, params.machine
    manifest = Manifest.read(paths.splits)
    torch.manual_seed(params.base.rng_seed)
    backbone = TimmBackbone(settings.backbone)
    model = Classifier(backbone, manifest.class_names)
    tracker.tags({"weights": backbone.weights_source})
    fabric = make_fabric(machine, settings.precision)
    batches = training_batches(
        manifest.splits["train"],
        paths.images,
        settings.augment,
        mean=backbone.mean,
        std=backbone.std,
        num_fg_classes=manifest.num_fg_classes,
        batch_size=settings.batch_size,
        rng_seed=params.base.rng_seed,
        workers=num_workers(machine),
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    method = METHODS.build(settings.method)
    loss_fn = partial(_losses, method, Objective(settings.loss))
    score_fn = partial(_scores, manifest, paths, settings, machine)
    key = fingerprint(
        settings.model_dump(mode="json"),
        params.base.rng_seed,
        source_fingerprint(),
        files=[paths.splits],
    )
    with Staging(paths.classifier, key) as staging:
        fitted = fit(
            fabric,
            model,
            [model.head] + ([backbone] if backbone.weights_source == "none" else []),
            batches,
            loss_fn,
            score_fn,
            metric="selection_map",
            settings=settings,
            rng_seed=params.base.rng_seed,
            checkpoint=staging.path / ".work.last.pt",
            tracker=tracker,
        )
        save_classifier(model, settings.backbone, settings.loss, staging.path)
    rate = fitted.images_per_second
    report_training("train_classifier", fitted.history, fitted.epoch, rate, paths, tracker)


def _losses(
    method: Method,
    objective: Objective,
    model: nn.Module,
    batch: Mapping[str, Any],
    rng: np.random.Generator,
) -> dict[str, Tensor]:
    return method(model, batch["image"], batch["labels"], objective, rng)


def _scores(
    manifest: Manifest,
    paths: Paths,
    settings: TrainClassifierSettings,
    machine: MachineSettings,
    model: Any,
) -> dict[str, float]:
    """Loss and mean average precision on the selection split, over classes it has."""
    logits, labels = [], []
    device = next(model.parameters()).device
    for samples, pixels in same_size_batches(
        manifest.splits["selection"],
        paths.images,
        batch_size=settings.batch_size,
        num_workers=num_workers(machine),
        size_for=partial(resized, long_side=settings.eval_long_side),
    ):
        backbone = model.backbone
        logits.append(
            model(normalise(pixels.to(device), backbone.mean, backbone.std)).logits.float()
        )
        labels.append(torch.from_numpy(manifest.labels(samples)))
    scores, targets = torch.cat(logits).cpu(), torch.cat(labels)
    present = targets.any(dim=0)
    if not present.any():
        raise ValueError("no selection image has a tag; raise prepare_data.selection_share")
    average_precision = average_precision_score(targets[:, present], scores[:, present])
    return {
        "selection_map": float(average_precision),
        "selection_loss": float(Objective(settings.loss).classification(scores, targets)),
    }


if __name__ == "__main__":
    execute("train_classifier", run, upstream=("data/images", "data/splits"))
