"""Train the classifiers that train_classifier learns or starts from; without any, do nothing."""

from pathlib import Path
from typing import Any

from wsss.config.sections import TrainClassifierSettings
from wsss.pipeline import Job, Stage


def run(job: Job) -> None:
    """Write models/teachers/<name>, each the best epoch of a classifier, and the report."""

    def train(name: str, settings: TrainClassifierSettings, folder: Path) -> dict[str, Any]:
        from wsss.models.classifier import save_classifier
        from wsss.stages._training import best_values, make_task, sized
        from wsss.stages._warnings.classes import class_values
        from wsss.training.classification import fit_classifier, score_classes

        task = make_task(job, settings, folder, f"{name}_")
        settings = sized(settings, task.manifest)
        model, fitted = fit_classifier(settings, task, {})
        job.tracker.tags({f"weights_{name}": model.backbone.weights_source})
        if job.is_first:
            save_classifier(model, settings.backbone, settings.loss, folder)
        found = score_classes(model, settings, task, "selection")
        return best_values(fitted, class_values(job, settings, found))

    job.make_entries(train)


STAGE = Stage(
    "train_teachers",
    run,
    settings=("base.rng_seed", "train_teachers"),
    reads=("data/images", "data/splits"),
    makes=("models/teachers",),
    code=(
        "clustering",
        "loading",
        "methods",
        "models",
        "stages/_training.py",
        "stages/_warnings",
        "training",
    ),
    entries="train_teachers",
    devices=True,
    spread=lambda _: "epochs",
)
