"""Train the networks that the refiners affinity_net and irn walk with; without any, do nothing."""

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
from wsss.models.affinity_net import save_network
from wsss.stages._base import execute
from wsss.tracking import Tracker
from wsss.training.affinity import AffinityTask, fit_affinity
from wsss.training.loop import make_fabric


def run(params: Params, paths: Paths, tracker: Tracker) -> None:
    """Read data/images, data/splits and data/cams; write models/affinities/<name> and the report.

    A network whose settings, CAMs and code are as they were is not trained again.
    """
    rng_seed = params.base.rng_seed
    drop_others(paths.affinities, params.train_affinities)
    report: dict[str, Any] = {}
    for name, settings in params.train_affinities.items():
        out = paths.affinities / name
        key = fingerprint(
            settings, rng_seed, source_fingerprint(), files=[paths.splits, paths.cams]
        )
        if not has_key(out, key):
            with Staging(out, key, keep_key=True) as staging:
                task = AffinityTask(
                    Manifest.read(paths.splits),
                    paths.images,
                    paths.cams,
                    params.machine,
                    rng_seed,
                    make_fabric(params.machine, settings.precision),
                    staging.path,
                    tracker,
                    f"{name}_",
                )
                model, fitted = fit_affinity(settings, task)
                tracker.tags({f"weights_{name}": model.backbone.weights_source})
                save_network(model, staging.path)
                last = fitted.history[-1]
                values = {k: round(value, 6) for k, value in last.items() if k != "epoch"}
                write_json(staging.path / "training.json", values)
                if fitted.images_per_second:
                    tracker.metrics({f"{name}_images_per_second": fitted.images_per_second})
        report[name] = read_json(out / "training.json")
        tracker.metrics({f"{name}_last_{k}": value for k, value in report[name].items()})
    write_json(paths.report("train_affinities"), report)


if __name__ == "__main__":
    execute("train_affinities", run, upstream=("data/images", "data/splits", "data/cams"))
