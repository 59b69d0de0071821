"""Train a segmentation network on pseudo masks and what annotators gave, never on ground truth."""

from collections.abc import Mapping

from wsss.artifacts import Annotations
from wsss.checks import full_key
from wsss.pipeline import Curve, Job, Stage


def run(job: Job) -> None:
    """Write models/segmenter, the best epoch by the selection split's pseudo masks, and the report.

    That agreement picks the epoch without ground truth; it is no estimate of the true mean IoU.
    """
    from wsss.segment.network import save_segmenter
    from wsss.stages._training import make_task, report_training, sized
    from wsss.training.segmentation import fit_segmenter

    settings, paths = job.params.train_segmenter, job.paths
    with job.staging() as staging:
        task = make_task(job, settings, staging.path)
        settings = sized(settings, task.manifest)
        annotations = Annotations.read(paths.annotations)
        model, fitted = fit_segmenter(
            settings, task, paths.pseudo_masks, annotations, paths.classifier
        )
        job.tracker.tags({"weights": model.weights_source})
        if job.is_first:
            save_segmenter(model, staging.path)
    _warn(job, fitted.history[fitted.epoch])
    report_training(job, fitted)


def _warn(job: Job, kept: Mapping[str, float]) -> None:
    """Say what the kept epoch shows: nothing to learn from, or nothing learned."""
    if "selection_pseudo_mean_iou" not in kept:
        job.warn(
            "the pseudo masks of the selection split show no class, so that no epoch is better "
            "than another and the last one was kept; see what make_pseudo_masks warns of, and "
            "change make_pseudo_masks.threshold"
        )
    elif not kept["selection_foreground"]:
        job.warn(
            "the network predicts background alone on the selection split, though its pseudo masks "
            f"show classes; raise {full_key('epochs')} or {full_key('optimizer.lr')}, and see what "
            "make_pseudo_masks warns of"
        )


STAGE = Stage(
    "train_segmenter",
    run,
    settings=("base.rng_seed", "train_segmenter"),
    reads=(
        "data/annotations/masks",
        "data/annotations/partial",
        "data/images",
        "data/pseudo_masks",
        "data/splits",
        "models/classifier",
    ),
    makes=("models/segmenter",),
    code=(
        "densecrf",
        "evaluate",
        "loading",
        "models",
        "segment",
        "stages/_training.py",
        "training",
        "windows.py",
    ),
    curve=Curve("epoch", "selection_pseudo_mean_iou"),
    devices=True,
)
