"""Train the classifiers that train_classifier learns or starts from; without any, do nothing."""

from typing import Any

from wsss.artifacts import (
    Manifest,
    Paths,
    Staging,
    drop_others,
    fingerprint,
    has_key,
    read_json,
    source_fingerprint,
    write_json,
)
from wsss.config.params import Params
from wsss.models.classifier import save_classifier
from wsss.stages._base import execute
from wsss.tracking import Tracker
from wsss.training.classification import Task, fit_classifier
from wsss.training.loop import make_fabric


def run(params: Params, paths: Paths, tracker: Tracker) -> None:
    """Read data/images and data/splits; write models/teachers/<name> and the report.

    A teacher whose settings, data and code are as they were is not trained again.
    """
    rng_seed = params.base.rng_seed
    drop_others(paths.teachers, params.train_teachers)
    report: dict[str, Any] = {}
    for name, settings in params.train_teachers.items():
        out = paths.teachers / name
        key = fingerprint(settings, rng_seed, source_fingerprint(), files=[paths.splits])
        if not has_key(out, key):
            with Staging(out, key, keep_key=True) as staging:
                task = Task(
                    Manifest.read(paths.splits),
                    paths.images,
                    params.machine,
                    rng_seed,
                    make_fabric(params.machine, settings.precision),
                    staging.path,
                    tracker,
                    f"{name}_",
                )
                model, fitted = fit_classifier(settings, task, {})
                tracker.tags({f"weights_{name}": model.backbone.weights_source})
                save_classifier(model, settings.backbone, settings.loss, staging.path)
                best = fitted.history[fitted.epoch]
                values = {k: round(value, 6) for k, value in best.items() if k != "epoch"}
                write_json(
                    staging.path / "teacher.json", {"best_epoch": fitted.epoch + 1, **values}
                )
        report[name] = read_json(out / "teacher.json")
        tracker.metrics({f"{name}_best_{k}": value for k, value in report[name].items()})
    write_json(paths.report("train_teachers"), report)


if __name__ == "__main__":
    execute("train_teachers", run, upstream=("data/images", "data/splits"))
