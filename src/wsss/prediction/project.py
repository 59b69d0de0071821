"""The segmenter of a project, as its predict_masks would use it."""

from pathlib import Path
from typing import Any

from wsss.artifacts import Manifest, Paths, read_classes, read_json
from wsss.config.params import Params, parse_params
from wsss.config.segmentation import PredictMasksSettings
from wsss.config.yaml_text import load_yaml, read_text
from wsss.prediction.changing import image_settings
from wsss.prediction.files import FilterFiles, ModelFiles

__all__ = ["class_filter", "project_of", "read_segmenter"]


def read_segmenter(folder: Path, accelerator: str = "auto") -> ModelFiles:
    """Find what models/segmenter of a project holds, or a copy of it anywhere.

    Settings of prediction, the filter of classes and the source of mask proposals are those of the
    project's params.yaml; of a copy that lies in no project the settings are the defaults.

    Args:
        folder: with model.json.
        accelerator: of the classifier, where the filter of classes needs it.

    Raises:
        ValueError: it is no segmenter, params.yaml has a mistake, or the project lacks what its
            filter of classes needs.
    """
    from wsss.segment.retrieval.model import is_retrieval

    spec = read_json(folder / "model.json")
    if not isinstance(spec, dict) or not {"arch", "class_names"} <= spec.keys():
        raise ValueError(
            f"{folder} holds no segmenter: its model.json has no 'arch' and 'class_names', as that "
            "of models/segmenter has; name that folder"
        )
    params, paths = project_of(folder)
    prepared = {} if params is None else params.prepare_data.model_dump(mode="json")
    about: dict[str, Any] = {
        "kind": "segmenter",
        "settings_from": "the defaults of wsss",
        "images": image_settings(prepared),
    }
    found, proposals = None, None
    background = spec.get("has_background", True)
    if params is not None:
        about["settings_from"] = str(paths.root / "params.yaml")
        if params.predict_masks.filter_recall:
            machine = params.machine.model_copy(update={"accelerator": accelerator})
            found = _filter(params.model_copy(update={"machine": machine}), paths)
    if is_retrieval(folder):
        proposals = _source(folder, spec["settings"]["proposals"], params)
        if (paths.splits / "classes.json").exists():  # of an index the data alone say it
            background = read_classes(paths.splits)[1]
    settings = PredictMasksSettings() if params is None else params.predict_masks
    names = tuple(spec["class_names"])
    return ModelFiles(folder, names, background, settings, found, proposals, about)


def class_filter(params: Params, paths: Paths, manifest: Manifest) -> FilterFiles:
    """What `predict_masks.filter_recall` leaves classes out by; the selection split is looked at.

    Raises:
        ValueError: the classifier knows other classes, or an image cannot be read.
    """
    from wsss.loading.devices import make_fabric, num_workers
    from wsss.segment.filtering import ClassFilter

    settings = params.predict_masks
    long_side = settings.filter_long_side or manifest.median_side
    found = ClassFilter(
        paths.classifier,
        manifest,
        paths.images,
        make_fabric(params.machine, settings.precision),
        recall=settings.filter_recall,
        long_side=long_side,
        batch_size=settings.batch_size,
        num_workers=num_workers(params.machine),
    )
    return FilterFiles(paths.classifier, long_side, tuple(found.thresholds.tolist()))


def project_of(folder: Path) -> tuple[Params | None, Paths]:
    """The settings of the project whose models/segmenter a folder is; None of any other."""
    paths = Paths(folder.absolute().parent.parent)
    file = paths.root / "params.yaml"
    if paths.segmenter != folder.absolute() or not file.is_file():
        return None, paths
    return parse_params(load_yaml(read_text(file), str(file)), str(file)), paths


def _filter(params: Params, paths: Paths) -> FilterFiles:
    needed = (paths.images, paths.splits / "classes.json", paths.classifier / "model.json")
    missing = [str(item) for item in needed if not item.exists()]
    if missing:
        raise ValueError(
            f"predict_masks.filter_recall of {paths.root / 'params.yaml'} leaves out classes by "
            f"the classifier and the images of the selection split, but there is no "
            f"{' and no '.join(missing)}; open a model that `wsss models register` has made, which "
            "has what it needs, or set predict_masks.filter_recall to 0"
        )
    return class_filter(params, paths, Manifest.read(paths.splits))


def _source(folder: Path, name: str, params: Params | None) -> Any:
    """The settings of the source of mask proposals that an index of regions was made with."""
    if params is None:
        raise ValueError(
            f"{folder} is an index of regions, which needs the source of mask proposals "
            f"'{name}' of its project's params.yaml; name models/segmenter within the project, or "
            "a model that `wsss models register` has made"
        )
    if name not in params.make_proposals:
        raise ValueError(
            f"{folder} was made with the source '{name}', which make_proposals of params.yaml does "
            "not have; add it there"
        )
    settings: Any = params.make_proposals[name]
    return settings.model_dump(mode="json")
