"""Train a segmentation network on the pseudo masks; no ground truth is read."""

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
        model, fitted = fit_segmenter(settings, task, paths.pseudo_masks, paths.classifier)
        job.tracker.tags({"weights": model.weights_source})
        if job.is_first:
            save_segmenter(model, staging.path)
    report_training(job, fitted)


STAGE = Stage(
    "train_segmenter",
    run,
    settings=("base.rng_seed", "train_segmenter"),
    reads=("data/images", "data/pseudo_masks", "data/splits", "models/classifier"),
    makes=("models/segmenter",),
    code=(
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
