"""What a registered model holds: all that predict_masks has read, and nothing of where it lay.

A package is a folder:

- `segmenter/`: models/segmenter as train_segmenter has written it;
- `prediction.json`: how predict_masks uses it;
- `recipe.json`: all settings that the model depends on;
- `classifier/`, where `predict_masks.filter_recall` leaves out classes by it;
- `files/`, where the source of mask proposals of an index of regions has weights of its own;
- `card.md` and `card.json`: what it comes from, under which licences, and its limits.

`wsss.serving.package` writes one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from wsss.artifacts import read_json
from wsss.config.segmentation import PredictMasksSettings
from wsss.prediction.changing import image_settings
from wsss.prediction.files import FilterFiles, ModelFiles
from wsss.settings import explain

__all__ = [
    "CLASSIFIER",
    "FILES",
    "PREDICTION",
    "RECIPE",
    "SEGMENTER",
    "read_package",
    "with_files_at",
]

SEGMENTER = "segmenter"
CLASSIFIER = "classifier"
PREDICTION = "prediction.json"
RECIPE = "recipe.json"
FILES = "files"


def read_package(folder: Path) -> ModelFiles:
    """Find what a package holds.

    Raises:
        ValueError: the package is damaged, or this version of wsss does not know what it holds.
    """
    file = folder / PREDICTION
    known = read_json(file)
    try:
        settings = PredictMasksSettings.model_validate(known["settings"])
        found = known.get("filter")
        return ModelFiles(
            folder / SEGMENTER,
            tuple(known["class_names"]),
            known["has_background"],
            settings,
            found
            and FilterFiles(folder / CLASSIFIER, found["long_side"], tuple(found["thresholds"])),
            with_files_at(known.get("proposals"), folder),
            _about(folder),
        )
    except ValidationError as error:
        raise explain(error, str(file), PredictMasksSettings, known["settings"]) from None
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{file} is not what `wsss models register` writes: {error!r}; fetch it again"
        ) from None


def with_files_at(settings: Any, folder: Path) -> Any:
    """The settings that `prediction.json` has, with the places of files within a package.

    Example:
        >>> with_files_at({"checkpoint": "files/0/sam.pth", "name": "sam"}, Path("/p"))
        {'checkpoint': '/p/files/0/sam.pth', 'name': 'sam'}
    """
    if isinstance(settings, Mapping):
        return {key: with_files_at(value, folder) for key, value in settings.items()}
    if isinstance(settings, str) and settings.startswith(f"{FILES}/"):
        return str(folder / settings)
    return settings


def _about(folder: Path) -> dict[str, Any]:
    recipe = read_json(folder / RECIPE) if (folder / RECIPE).exists() else {}
    name = recipe.get("base", {}).get("recipe")
    images = image_settings(recipe.get("prepare_data", {}))
    return {"kind": "package", "images": images, **({"recipe": name} if name else {})}
