"""Train a classifier on image tags: the only supervision the pipeline has."""

from wsss.pipeline import Curve, Job, Stage


def run(job: Job) -> None:
    """Write models/classifier, the best epoch by the selection split, and the report."""
    from wsss.models.classifier import load_classifier, save_classifier
    from wsss.stages._training import make_task, report_training, sized
    from wsss.stages._warnings.classes import class_values
    from wsss.training.classification import fit_classifier, score_classes, score_classifier

    settings = job.params.train_classifier
    names = job.params.train_teachers
    teachers = {name: load_classifier(job.paths.teachers / name)[0] for name in names}
    with job.staging() as staging:
        task = make_task(job, settings, staging.path)
        settings = sized(settings, task.manifest)
        model, fitted = fit_classifier(settings, task, teachers)
        job.tracker.tags({"weights": model.backbone.weights_source})
        # of an epoch and settings that were chosen without these splits
        scores: dict[str, float] = {}
        for split in ("val", *task.manifest.scored_sets):
            scores |= score_classifier(model, settings, task, split)
        found = score_classes(model, settings, task, "selection")
        if job.is_first:
            save_classifier(model.cpu(), settings.backbone, settings.loss, staging.path)
    report_training(job, fitted, scores | class_values(job, settings, found))


STAGE = Stage(
    "train_classifier",
    run,
    settings=("base.rng_seed", "train_classifier", "train_teachers"),
    reads=("data/images", "data/splits", "models/teachers"),
    makes=("models/classifier",),
    code=(
        "clustering",
        "loading",
        "methods",
        "models",
        "stages/_training.py",
        "stages/_warnings",
        "training",
    ),
    curve=Curve("epoch", "selection_map"),
    devices=True,
    spread=lambda _: "epochs",
)
