"""What stages that train a network share: what is given to training, and what is reported of it."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from wsss.artifacts import Manifest
from wsss.config.sections import TrainSettings
from wsss.pipeline import Job
from wsss.training.loop import Fitted
from wsss.training.task import Task

__all__ = ["best_values", "make_task", "report_training", "sized"]

log = logging.getLogger(__name__)

Sized = TypeVar("Sized", bound=TrainSettings)


def make_task(job: Job, settings: TrainSettings, folder: Path, prefix: str = "") -> Task:
    """The images, the machine and the place for checkpoints of one training.

    Args:
        job: the stage that trains.
        settings: of what is trained.
        folder: of checkpoints, from which a killed run goes on.
        prefix: of the names of metrics.
    """
    return Task(
        Manifest.read(job.paths.splits),
        job.paths.images,
        job.params.machine,
        job.params.base.rng_seed,
        job.fabric(settings.precision, folder, prefix.removesuffix("_")),
        folder,
        job.tracker,
        prefix,
    )


def sized(settings: Sized, manifest: Manifest) -> Sized:
    """Fill in the sizes that follow the images, those that are 0.

    Args:
        settings: of a training.
        manifest: whose training images are measured; their median longer side counts.
    """
    side = manifest.median_side
    augment = settings.augment
    crop = augment.crop_size or max(32, 32 * round(augment.crop_share * side / 32))
    low, high = (max(1, round(share * side)) for share in augment.long_side_shares)
    long_side = augment.long_side if augment.long_side[1] else (low, high)
    augment = augment.model_copy(update={"crop_size": crop, "long_side": long_side})
    update: dict[str, Any] = {"augment": augment}
    if getattr(settings, "eval_long_side", None) == 0:
        update["eval_long_side"] = side
    return settings.model_copy(update=update)


def best_values(fitted: Fitted, further: Mapping[str, float] | None = None) -> dict[str, Any]:
    """The losses and scores of the epoch that was kept, six digits each, and its number from 1.

    Args:
        fitted: what training gave.
        further: values of the finished network.
    """
    kept = fitted.history[fitted.epoch] | dict(further or {})
    values = {key: round(value, 6) for key, value in kept.items() if key != "epoch"}
    return {"best_epoch": fitted.epoch + 1, **values}


def report_training(
    job: Job,
    fitted: Fitted,
    further: Mapping[str, float] | None = None,
) -> None:
    """Write the report with the best epoch, and the curve of all epochs for DVC's plots.

    Args:
        job: the stage.
        fitted: what training gave.
        further: values of the finished network, reported beside those of the epoch.
    """
    history, epochs = fitted.history, len(fitted.history)
    job.curve(history, ["epoch", *sorted(set(history[0]) - {"epoch"})])
    job.report(best_values(fitted, further))
    if fitted.images_per_second:
        rates = {name: getattr(fitted, name) for name in ("images_per_second", "loader_wait_share")}
        job.tracker.metrics(rates, step=epochs)
        log.info(
            "trained at %.1f images/s; %.0f %% of the time went to waiting for images",
            fitted.images_per_second,
            100 * fitted.loader_wait_share,
        )
