"""Train the networks that the refiners affinity_net and irn walk with; without any, do nothing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsss.checks import full_key
from wsss.config.sections import AffinitySettings
from wsss.pipeline import Job, Stage

SCARCE = 0.001  # share of pixels


def run(job: Job) -> None:
    """Write models/affinities/<name>, each the last epoch of a network, and the report."""

    def train(name: str, settings: AffinitySettings, folder: Path) -> dict[str, Any]:
        from wsss.models.affinity_net import save_network
        from wsss.stages._training import make_task, sized
        from wsss.training.affinity import fit_affinity, seed_shares

        task = make_task(job, settings, folder, f"{name}_")
        settings = sized(settings, task.manifest)
        model, fitted = fit_affinity(settings, task, job.paths.cams)
        job.tracker.tags({f"weights_{name}": model.backbone.weights_source})
        if job.is_first:
            save_network(model, folder)
        if fitted.images_per_second:
            job.tracker.metrics({f"{name}_images_per_second": fitted.images_per_second})
        _warn(job, seed_shares(task))
        last = fitted.history[-1]
        return {key: round(value, 6) for key, value in last.items() if key != "epoch"}

    job.make_entries(train)


def _warn(job: Job, shares: Mapping[str, float]) -> None:
    """Say when the labels have next to nothing of what is to be told apart."""
    scarce = [kind for kind in ("foreground", "background") if shares[kind] < SCARCE]
    if scarce:
        job.warn(
            f"of the pixels it learns from only {100 * shares['foreground']:.2f} % are of a class "
            f"and {100 * shares['background']:.2f} % background; {100 * shares['ignored']:.1f} % "
            f"are ignored, so it has no {' and no '.join(scarce)} to speak of; change "
            f"{full_key('method')} (its alphas or thresholds), and see what generate_cams warns of"
        )


STAGE = Stage(
    "train_affinities",
    run,
    settings=("base.rng_seed", "train_affinities"),
    reads=("data/cams", "data/images", "data/splits"),
    makes=("models/affinities",),
    code=(
        "densecrf",
        "loading",
        "models",
        "refine",
        "stages/_training.py",
        "training",
        "windows.py",
    ),
    entries="train_affinities",
    devices=True,
    spread=lambda _: "epochs",
)
