"""Train a segmentation network on pseudo masks and what annotators gave, never on ground truth."""

from collections.abc import Mapping

import numpy as np

from wsss.artifacts import Annotations
from wsss.checks import full_key
from wsss.config.params import Params
from wsss.config.segmentation import RetrievalSettings
from wsss.pipeline import Curve, Job, Stage


def run(job: Job) -> None:
    """Write models/segmenter, the best epoch by the selection split's pseudo masks, and the report.

    With `train_segmenter.retrieval` it is an index of regions instead; see `_index_regions`.

    That agreement picks the epoch without ground truth; it is no estimate of the true mean IoU.
    """
    from wsss.segment.network import save_segmenter
    from wsss.stages._training import make_task, report_training, sized
    from wsss.training.segmentation import fit_segmenter

    settings, paths = job.params.train_segmenter, job.paths
    if settings.retrieval is not None:
        _index_regions(job, settings.retrieval)
        return
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


def _index_regions(job: Job, settings: RetrievalSettings) -> None:
    """Write an index of training regions in place of a network.

    The curve that DVC plots has no score: nothing was trained, epoch by epoch.
    """
    from wsss.segment.retrieval import save_retrieval
    from wsss.stages._training import make_task
    from wsss.training.retrieval import fit_retrieval

    paths, batch_size = job.paths, job.params.train_segmenter.batch_size
    with job.staging() as staging:
        task = make_task(job, job.params.train_segmenter, staging.path)
        model = fit_retrieval(settings, task, paths.pseudo_masks, paths.classifier, batch_size)
        job.tracker.tags({"weights": model.backbone.weights_source})
        if job.is_first:
            save_retrieval(model, staging.path)
    names = ("background", *model.class_names)
    counts = np.bincount(model.index.class_ids, minlength=len(names)).tolist()
    missing = [name for name, count in zip(names, counts, strict=True) if not count]
    if missing:
        job.warn(
            f"no region of {', '.join(missing)} is in the index, so that none is ever predicted; "
            "see what make_pseudo_masks warns of, and lower "
            f"{full_key('retrieval.erosions')} or {full_key('retrieval.min_area')}"
        )
    job.curve([{"epoch": 0}], ["epoch", "selection_pseudo_mean_iou"])
    by_class = {f"num_regions/{name}": count for name, count in zip(names, counts, strict=True)}
    job.report({"num_regions": sum(counts)} | by_class)


def _warn(job: Job, kept: Mapping[str, float]) -> None:
    """Say what the kept epoch shows: nothing to learn from, or nothing learned."""
    if "selection_pseudo_mean_iou" not in kept:
        key, how = job.params.make_pseudo_masks.towards(background=False)
        job.warn(
            "the pseudo masks of the selection split show no class, so that no epoch is better "
            "than another and the last one was kept; see what make_pseudo_masks warns of, and "
            f"{how} {key}"
        )
    elif not kept["selection_foreground"]:
        job.warn(
            "the network predicts background alone on the selection split, though its pseudo masks "
            f"show classes; raise {full_key('epochs')} or {full_key('optimizer.lr')}, and see what "
            "make_pseudo_masks warns of"
        )


def _check(params: Params) -> None:
    from wsss.segment.network import check_segmenter

    settings = params.train_segmenter
    if settings.retrieval is None:
        crop_size = settings.augment.crop_size
        check_segmenter(settings.model, params.train_classifier.backbone, crop_size)


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
    check=_check,
    devices=True,
    # an index of regions has no epochs
    spread=lambda params: "epochs" if params.train_segmenter.retrieval is None else "",
)
