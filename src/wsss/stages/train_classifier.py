"""Train a classifier on image tags: the only supervision the pipeline has."""

from wsss.artifacts import Manifest, Paths, Staging, fingerprint, source_fingerprint
from wsss.config.params import Params
from wsss.models.classifier import load_classifier, save_classifier
from wsss.stages._base import execute, report_training
from wsss.tracking import Tracker
from wsss.training.classification import Task, fit_classifier, score_classifier
from wsss.training.loop import make_fabric


def run(params: Params, paths: Paths, tracker: Tracker) -> None:
    """Read data/images, data/splits and models/teachers; write models/classifier and the report."""
    settings, rng_seed = params.train_classifier, params.base.rng_seed
    teachers = {name: load_classifier(paths.teachers / name)[0] for name in params.train_teachers}
    key = fingerprint(
        settings,
        rng_seed,
        source_fingerprint(),
        files=[paths.splits, *(paths.teachers / name for name in params.train_teachers)],
    )
    with Staging(paths.classifier, key) as staging:
        task = Task(
            Manifest.read(paths.splits),
            paths.images,
            params.machine,
            rng_seed,
            make_fabric(params.machine, settings.precision),
            staging.path,
            tracker,
        )
        model, fitted = fit_classifier(settings, task, teachers)
        tracker.tags({"weights": model.backbone.weights_source})
        # of an epoch and settings that were chosen without this split
        val = score_classifier(model, settings, task, "val")
        save_classifier(model.cpu(), settings.backbone, settings.loss, staging.path)
    rate = fitted.images_per_second
    report_training("train_classifier", fitted.history, fitted.epoch, rate, paths, tracker, val)


if __name__ == "__main__":
    execute("train_classifier", run, upstream=("data/images", "data/splits", "models/teachers"))
