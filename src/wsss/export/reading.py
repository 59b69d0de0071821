"""The network that a place has, as a graph, and what is known of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsss.artifacts import Paths, read_classes, read_json
from wsss.commands import run_command
from wsss.config.params import Params
from wsss.config.segmentation import PredictMasksSettings
from wsss.prediction.changing import image_settings
from wsss.prediction.description import Description
from wsss.prediction.package import PREDICTION, SEGMENTER, read_package
from wsss.prediction.project import project_of

if TYPE_CHECKING:
    from wsss.export.graphs import Graph

__all__ = ["Found", "find_network"]

_FORMS = (
    "name models/segmenter or models/classifier of a project, a package of `wsss models register`, "
    "or a registered model such as models:/wsss@champion"
)
_NOT_IN_IT = {"splits", "precision", "filter_recall", "filter_long_side"}
"""What predict_masks has, and a file cannot follow."""


@dataclass(frozen=True)
class Found:
    """A network that can be exported.

    Attributes:
        graph: with its weights.
        description: that goes with it.
        notes: what the model does in wsss and the graph does not.
    """

    graph: "Graph"
    description: Description
    notes: tuple[str, ...] = ()


def find_network(
    place: str | Path,
    folder: Path,
    *,
    scales: Sequence[float] | None = None,
    flip: bool | None = None,
) -> Found:
    """Read a segmenter or a classifier.

    Args:
        place: as of `wsss.export.export_model`.
        folder: an empty one, that what is fetched is put into.
        scales: of the views; None is as the project predicts.
        flip: likewise.

    Raises:
        ValueError: there is no network, or one that has no graph.
    """
    views: dict[str, Any] = {} if scales is None else {"scales": tuple(scales)}
    views |= {} if flip is None else {"flip": flip}
    if str(place).startswith("models:/"):
        return _registered(str(place), folder, views)
    path = Path(place).expanduser()
    if (path / PREDICTION).exists():
        return _packed(path, views)
    if not (path / "model.json").exists():
        inner = Paths(path).segmenter
        if not (inner / "model.json").exists():
            what = "holds no trained network" if path.exists() else "does not exist"
            raise ValueError(f"{place} {what}; {_FORMS}")
        path = inner
    spec = read_json(path / "model.json")
    if isinstance(spec, dict) and {"backbone", "head"} <= spec.keys():
        return _classifier(path, views)
    if not isinstance(spec, dict) or not {"arch", "class_names"} <= spec.keys():
        raise ValueError(f"{path}/model.json is none of a network of wsss; {_FORMS}")
    params, _ = project_of(path)
    settings = PredictMasksSettings() if params is None else params.predict_masks
    return _segmenter(path, settings, views, _recipe(params), {}, _images(params))


def _registered(name: str, folder: Path, views: dict[str, Any]) -> Found:
    from wsss.prediction.store import ModelStore, Wanted

    store = ModelStore(Path())
    version = store.find(Wanted.read(name))
    scores: dict[str, dict[str, float]] = {}
    for key, text in version.tags.items():
        split, _, metric = key.partition("/")
        if metric == "mean_iou":
            scores[split] = {metric: float(text)}
    return _packed(store.fetch(version, folder), views, scores)


def _packed(
    package: Path, views: dict[str, Any], scores: dict[str, dict[str, float]] | None = None
) -> Found:
    files = read_package(package)
    recipe, images = files.about.get("recipe", ""), files.about["images"]
    return _segmenter(package / SEGMENTER, files.settings, views, recipe, scores or {}, images)


def _segmenter(
    folder: Path,
    settings: PredictMasksSettings,
    views: dict[str, Any],
    recipe: str,
    scores: dict[str, Any],
    images: dict[str, Any],
) -> Found:
    from wsss.segment.retrieval.model import is_retrieval

    if is_retrieval(folder):
        raise ValueError(
            f"{folder} is an index of regions, which finds the regions of an image among those of "
            "training images and is no network that could be exported; export models/classifier, "
            "or train a network: wsss set train_segmenter.retrieval=null, "
            f"{run_command(Path(), 'train_segmenter')}"
        )
    from wsss.export.graphs import SegmenterGraph
    from wsss.segment.network import load_segmenter

    model = load_segmenter(folder)
    used = settings.model_copy(update=views)
    notes = []
    if settings.crf is not None:
        notes.append(
            "the dense CRF of predict_masks is not in the graph; wsss runs it on what an .onnx "
            "file gives, other programs do not"
        )
    if settings.window:
        notes.append(
            f"images of more than {settings.window} pixels are not cut into windows by the graph; "
            "wsss does it with an .onnx file, other programs run them whole"
        )
    if settings.filter_recall:
        notes.append(
            "the classifier that leaves out classes (predict_masks.filter_recall) is not in the "
            "file: masks may show more classes than those of predict_masks"
        )
    notes += _image_notes(images)
    spec = model.spec
    description = Description(
        "segmenter",
        spec.class_names,
        spec.has_background,
        used.model_dump(mode="json", exclude=_NOT_IN_IT),
        {"arch": spec.arch, "encoder": spec.encoder},
        recipe,
        scores,
        images,
    )
    return Found(SegmenterGraph(model, used.scales, used.flip), description, tuple(notes))


def _classifier(folder: Path, views: dict[str, Any]) -> Found:
    from wsss.config.sections import GenerateCamsSettings
    from wsss.export.graphs import ClassifierGraph
    from wsss.models.classifier import load_classifier

    model, loss = load_classifier(folder)
    params, paths = _project_of_classifier(folder)
    settings = GenerateCamsSettings() if params is None else params.generate_cams
    used = settings.model_copy(update=views)
    notes = _image_notes(_images(params))
    if settings.method.name != "cam":
        notes.append(
            f"the maps of the file are those of the CAM method cam; generate_cams.method is "
            f"{settings.method.name}, which other programs have not"
        )
    background = True
    if (paths.splits / "classes.json").exists():
        background = read_classes(paths.splits)[1]
    description = Description(
        "classifier",
        model.class_names,
        background,
        used.model_dump(mode="json", include={"scales", "flip", "align_corners"}) | {"loss": loss},
        {"backbone": read_json(folder / "model.json")["backbone"]["model_name"]},
        _recipe(params),
        images=_images(params),
    )
    graph = ClassifierGraph(model, loss, used.scales, used.flip, used.align_corners)
    return Found(graph, description, tuple(notes))


def _images(params: Params | None) -> dict[str, Any]:
    return image_settings({} if params is None else params.prepare_data.model_dump(mode="json"))


def _image_notes(images: dict[str, Any]) -> list[str]:
    """What prepare_data did to images, and whoever runs the file has to do."""
    notes = []
    if images["long_side_max"]:
        notes.append(
            f"the network has learned from images of at most {images['long_side_max']} pixels "
            "(prepare_data.long_side_max); wsss shrinks larger ones for an .onnx file, other "
            "programs have to"
        )
    usual = json.loads(json.dumps(image_settings({})))  # lists, as settings have them
    notes += [
        f"prepare_data.{key} was {images[key]}; wsss reads files so for an .onnx file, other "
        "programs have to"
        for key in ("pixel_range", "bands")
        if json.loads(json.dumps(images[key])) != usual[key]
    ]
    return notes


def _recipe(params: Params | None) -> str:
    """That params.yaml names; the default of the setting says nothing of a model."""
    named = params is not None and "recipe" in params.base.model_fields_set
    return params.base.recipe if params is not None and named else ""


def _project_of_classifier(folder: Path) -> tuple[Params | None, Paths]:
    paths = Paths(folder.absolute().parent.parent)
    params, _ = project_of(paths.segmenter)
    return (params if paths.classifier == folder.absolute() else None), paths
