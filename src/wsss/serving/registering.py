"""The project's segmenter into MLflow's registry, with its recipe, data and scores."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wsss.artifacts import (
    Manifest,
    Paths,
    Sample,
    contents,
    fingerprint,
    has_file,
    read_image,
    read_json,
    read_label_png,
)
from wsss.commands import run_command
from wsss.config.params import Params
from wsss.pipeline import Job
from wsss.pipeline.origin import committed_params, datasets, target_changes
from wsss.pipeline.outcome import report_scores
from wsss.prediction.package import RECIPE, SEGMENTER, read_package
from wsss.prediction.store import MODEL, PACKAGE, ModelStore
from wsss.serving.package import without_places, write_package
from wsss.serving.scores import EVALUATION, Scored, scored_segmenter
from wsss.stages import find_stages
from wsss.tracking import NullTracker, RunStart, experiment_name, open_run, tracking_uri
from wsss.tracking.naming import short_name
from wsss.tracking.provenance import run_record, run_start
from wsss.tracking.registered import Version

__all__ = ["register_segmenter"]

EXAMPLE_SIDE = 128
"""Pixels of the longer side of the example that goes with a model, at most."""

_MOST_DIFFERENT = 0.01
"""Share of pixels of a mask in which a model may differ from what predict_masks made of the image:
machines round differently."""

_FROM_RUN = ("git.rev", "git.dirty", "dvc.exp", "wsss", "torch", "python")


def register_segmenter(
    root: Path, params: Params, name: str, files: Mapping[str, str] | None = None
) -> tuple[Version, bool]:
    """Register models/segmenter as the next version of a model.

    Args:
        root: the project.
        params: its settings.
        name: of the model.
        files: texts that go into its package, by name, such as its card.

    Returns:
        The version, and whether it is new; the same model with the same scores is not.

    Raises:
        ValueError: there is no segmenter, or its scores are not its own, or the packed model does
            not give the masks that predict_masks made.
        ConnectionError: MLflow cannot be asked.
    """
    scored, paths = scored_segmenter(root), Paths(root)
    store = ModelStore(root)
    with tempfile.TemporaryDirectory(prefix="wsss-") as temporary:
        package = Path(temporary, "package")
        write_package(find_stages(), params, paths, package)
        for file, text in (files or {}).items():
            (package / file).write_text(text, encoding="utf-8")
        tags = _tags(package, scored, paths, params)
        for version in store.versions(name):
            if all(version.tags.get(key) == tags[key] for key in (PACKAGE, "scores")):
                return version, False
        example = _checked_example(package, params, paths)
        return _record(store, name, Path(temporary), example, tags, scored, params), True


def _tags(package: Path, scored: Scored, paths: Paths, params: Params) -> dict[str, str]:
    """What a version says of itself, but for what its run says."""
    manifest, report = Manifest.read(paths.splits), scored.report
    tags = {
        PACKAGE: contents(package),
        "segmenter": contents(package / SEGMENTER),
        "recipe": params.base.recipe,
        "arch": str(read_json(package / SEGMENTER / "model.json")["arch"]),
        "classes": ", ".join(manifest.class_names),
        "background": "true" if manifest.has_background else "false",
        "scores": fingerprint(report),
    }
    for split in scored.splits:
        of_split = report[split]
        tags[f"{split}/mean_iou"] = f"{of_split['mean_iou']:.6f}"
        tags[f"{split}/images"] = str(of_split["images"])
        tags[f"{split}/iou"] = json.dumps(of_split["iou"], ensure_ascii=False)
    for stage in ("train_segmenter", EVALUATION):
        if run_id := _run_of(paths.root, stage):
            tags[f"run.{stage}"] = run_id
    return tags | {f"upstream.{path}": md5 for path, md5 in scored.upstream.items()}


def _run_of(root: Path, stage: str) -> str:
    record = run_record(root, stage)
    try:
        return str(read_json(record)["run_id"])
    except (OSError, ValueError, KeyError, TypeError):  # not recorded, or elsewhere
        return ""


def _checked_example(package: Path, params: Params, paths: Paths) -> np.ndarray:
    """An image as an example, small; of one that is there with its mask, the model is held to it.

    Raises:
        ValueError: the model predicts something else than predict_masks did.
    """
    from wsss.prediction.served import ServedModel

    manifest = Manifest.read(paths.splits)
    split, sample = _some_sample(manifest)
    if sample is None or not has_file(paths.images / sample.image):
        return np.zeros((EXAMPLE_SIDE, EXAMPLE_SIDE, 3), np.uint8)
    image = read_image(paths.images / sample.image)
    file = paths.predictions / split / f"{sample.name}.png"
    if has_file(file):
        (found,) = ServedModel(read_package(package), params.machine).predict([image])
        different = float((found.mask != read_label_png(file)).mean())
        if different > _MOST_DIFFERENT:
            predict = run_command(paths.root, "predict_masks", alone=True)
            raise ValueError(
                f"the model gives {sample.name} another mask than {file}, in "
                f"{100 * different:.0f} % of its pixels; run `{predict}` and "
                f"`{run_command(paths.root, EVALUATION)}`, and register it again"
            )
    picture = Image.fromarray(image)
    picture.thumbnail((EXAMPLE_SIDE, EXAMPLE_SIDE))
    return np.asarray(picture)


def _some_sample(manifest: Manifest) -> tuple[str, Sample | None]:
    for split in ("val", "selection", "train"):
        for sample in manifest.splits[split]:
            return split, sample
    return "", None


def _record(
    store: ModelStore,
    name: str,
    folder: Path,
    example: np.ndarray,
    tags: Mapping[str, str],
    scored: Scored,
    params: Params,
) -> Version:
    """Make a run with the model among its artifacts, and a version of that."""
    with store.client() as client:
        from wsss.serving.mlflow_model import save_model

        known = {"recipe": params.base.recipe, "scores": _plain_scores(scored)}
        save_model(folder / "package", folder / MODEL, example, known)
        start = _start(store.root, params, name, tags, read_json(folder / "package" / RECIPE))
        with open_run(start) as tracker:
            tracker.metrics(report_scores(scored.report))
            tracker.flush()
            client.log_artifacts(tracker.run_id, str(folder / MODEL), MODEL)
        kept = {key: start.tags[key] for key in _FROM_RUN if key in start.tags}
        return _new_version(
            client, name, tracker.run_id, {**kept, **tags}, start.tags["mlflow.note.content"]
        )


def _new_version(
    client: Any, name: str, run_id: str, tags: Mapping[str, str], description: str
) -> Version:
    """Make a version of the model among the artifacts of a run; the first one makes the name."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # through the run, whose artifacts are found again when a project has moved
    made = client.create_model_version(
        name, f"runs:/{run_id}/{MODEL}", run_id, dict(tags), description=description
    )
    return Version(name, int(made.version), run_id, made.creation_timestamp, (), dict(tags))


def _plain_scores(scored: Scored) -> dict[str, float]:
    return {f"{split}/mean_iou": scored.report[split]["mean_iou"] for split in scored.splits}


def _start(
    root: Path, params: Params, name: str, tags: Mapping[str, str], recipe: dict[str, Any]
) -> RunStart:
    """What the run of a registered model says of it."""
    pipeline = find_stages()
    target = pipeline.target(EVALUATION, params)
    job = Job(pipeline, target, params, Paths(root), NullTracker())
    changes = target_changes(pipeline, target, params, committed_params(root))
    changed = short_name(without_places(changes))
    description = f"Recipe `{params.base.recipe}`" + (f", {changed}" if changed else "") + "."
    start = run_start(
        "register_model",
        root,
        tracking_uri(root),
        experiment_name(params.machine.experiment, "models"),
        recipe,
        key=fingerprint(name, tags[PACKAGE], tags["scores"]),
        name=f"{name} {changed}".strip(),
        tags={**tags, "model": name},
        datasets=datasets(job),
        description=description,
    )
    return replace(start, record="")  # no stage: nothing goes on with this run
