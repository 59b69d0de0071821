"""A package of the project's segmenter, as `wsss.prediction.package` describes it and reads it."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsss.artifacts import Manifest, Paths, read_json, write_json
from wsss.config.params import Params
from wsss.pipeline.graph import Pipeline, plain
from wsss.prediction.package import CLASSIFIER, FILES, PREDICTION, RECIPE, SEGMENTER
from wsss.prediction.project import class_filter
from wsss.settings import Settings
from wsss.sources import find_source, named_sources

__all__ = ["without_places", "write_package"]

STAGE = "predict_masks"
"""The stage whose masks a package gives, too."""


def write_package(pipeline: Pipeline, params: Params, paths: Paths, folder: Path) -> None:
    """Write the package of the project's segmenter.

    Args:
        pipeline: all stages.
        params: the settings.
        paths: of the project, of which train_segmenter and what comes before it have run.
        folder: to fill; it is made.

    Raises:
        ValueError: the segmenter is of other classes than the data, or a file is not there.
    """
    from wsss.segment.retrieval.model import is_retrieval

    folder.mkdir(parents=True, exist_ok=True)
    manifest, settings = Manifest.read(paths.splits), params.predict_masks
    spec = read_json(paths.segmenter / "model.json")
    manifest.check_classes(spec["class_names"], f"the segmenter in {paths.segmenter}")
    shutil.copytree(paths.segmenter, folder / SEGMENTER)
    write_json(folder / SEGMENTER / "model.json", without_places(spec))
    prediction: dict[str, Any] = {
        "class_names": manifest.class_names,
        "has_background": manifest.has_background,
        "settings": settings.model_dump(mode="json", exclude={"splits"}),
    }
    if settings.filter_recall:
        prediction["filter"] = _copy_filter(params, paths, manifest, folder)
    if is_retrieval(paths.segmenter):
        source = params.make_proposals[spec["settings"]["proposals"]]
        prediction["proposals"] = _with_files(source, folder)
    write_json(folder / PREDICTION, prediction)
    recipe = pipeline.settings(pipeline.target(STAGE, params), params)
    recipe["base"] = {**recipe.get("base", {}), "recipe": params.base.recipe}
    write_json(folder / RECIPE, without_places(recipe))


def without_places(tree: Any) -> Any:
    """The same tree with the last part alone of every absolute path in it.

    Example:
        >>> without_places({"root": "/home/me/photos", "masks": ["~/m.zip", "$VOC/x", "a/b"]})
        {'root': 'photos', 'masks': ['m.zip', 'x', 'a/b']}
    """
    if isinstance(tree, Mapping):
        return {key: without_places(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [without_places(value) for value in tree]
    if isinstance(tree, str) and tree.startswith(("/", "~", "$")):
        return Path(tree).name
    return tree


def _copy_filter(params: Params, paths: Paths, manifest: Manifest, folder: Path) -> dict[str, Any]:
    """Copy the classifier, and give what else the filter of classes needs.

    Its thresholds come from the selection split, which the package does not have.
    """
    found = class_filter(params, paths, manifest)
    shutil.copytree(paths.classifier, folder / CLASSIFIER)
    spec = read_json(paths.classifier / "model.json")
    write_json(folder / CLASSIFIER / "model.json", without_places(spec))
    return {"long_side": found.long_side, "thresholds": list(found.thresholds)}


def _with_files(source: Settings, folder: Path) -> Any:
    """Settings of a source of proposals; the files that they name are copied, and named there."""
    settings = plain(source)
    for number, (key, text) in enumerate(sorted(named_sources(settings).items())):
        held = find_source(text)
        if held is None:  # 'none', or the name of a download
            continue
        name = f"{FILES}/{number}/{held.name}"
        (folder / name).parent.mkdir(parents=True)
        if held.is_dir():
            shutil.copytree(held, folder / name)
        else:
            shutil.copy(held, folder / name)
        _set(settings, key, name)
    return settings


def _set(tree: Any, key: str, value: str) -> None:
    *sections, last = key.split(".")
    for section in sections:
        tree = tree[int(section)] if isinstance(tree, list) else tree[section]
    tree[int(last) if isinstance(tree, list) else last] = value
