"""A registered segmenter to where it is used: models/segmenter of a project, or any folder."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from wsss.artifacts import Manifest, Paths, read_json
from wsss.config.params import Params
from wsss.config.segmentation import PredictMasksSettings
from wsss.pipeline.staging import Staging
from wsss.prediction.package import PREDICTION, SEGMENTER
from wsss.prediction.store import PACKAGE, ModelStore
from wsss.tracking.naming import changed_settings
from wsss.tracking.provenance import flatten
from wsss.tracking.registered import Version

__all__ = ["fetch_segmenter"]

_FILES = frozenset({"model.json", "weights.safetensors", "index.npz"})
"""What train_segmenter writes."""


def fetch_segmenter(
    root: Path, version: Version, to: Path, params: Params | None = None
) -> dict[str, str]:
    """Put the segmenter of a version into a folder, whole or not at all.

    Args:
        root: the project whose registry is asked.
        version: of the model.
        to: the folder; a segmenter that is there is replaced.
        params: the settings of the project that the folder is in; None of none.

    Returns:
        The settings of predict_masks that the version was scored with, where those of `params` are
        others.

    Raises:
        ValueError: the folder holds something else, the project has other classes, or what was
            fetched is damaged.
        ConnectionError: MLflow cannot be asked.
    """
    if to.exists() and not to.is_dir():
        raise ValueError(f"{to} is a file; name a folder")
    if to.is_dir() and any(to.iterdir()):
        _check_segmenter(to)
    with tempfile.TemporaryDirectory(prefix="wsss-") as temporary:
        package = ModelStore(root).fetch(version, Path(temporary))
        known = read_json(package / PREDICTION)
        splits = Paths(root).splits
        if params is not None and (splits / "classes.json").exists():
            own = Manifest.read(splits).class_names
            if tuple(known["class_names"]) != own:
                raise ValueError(
                    f"{version.label} knows the classes {', '.join(known['class_names'])}, but the "
                    f"data of this project has {', '.join(own)}; fetch it into another folder with "
                    "--to"
                )
        with Staging(to, version.tags[PACKAGE]) as staging:
            shutil.copytree(package / SEGMENTER, staging.path, dirs_exist_ok=True)
    return _other_settings(known["settings"], params) if params is not None else {}


def _check_segmenter(folder: Path) -> None:
    """Raise ValueError unless a folder holds a segmenter and nothing else."""
    spec = read_json(folder / "model.json") if (folder / "model.json").is_file() else None
    others = [item.name for item in folder.iterdir() if item.name not in _FILES]
    if not isinstance(spec, dict) or not {"arch", "class_names"} <= spec.keys() or others:
        what = f", such as {min(others)}" if others else ""
        raise ValueError(
            f"{folder} holds something else than a segmenter{what}; name another folder"
        )


def _other_settings(settings: dict[str, Any], params: Params) -> dict[str, str]:
    registered = PredictMasksSettings.model_validate(settings)
    left_out = {"splits", "batch_size"}
    own = params.predict_masks.model_dump(mode="json", exclude=left_out)
    theirs = registered.model_dump(mode="json", exclude=left_out)
    found = changed_settings(dict(flatten(theirs)), dict(flatten(own)))
    return {f"predict_masks.{key}": value for key, value in found.items()}
