"""Settings that are changed for a prediction, by the keys that params.yaml has for them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from wsss.checks import did_you_mean
from wsss.config.params import Params, parse_params
from wsss.config.preparation import PrepareDataSettings
from wsss.config.recipes import with_settings
from wsss.config.segmentation import PredictMasksSettings
from wsss.prediction.files import ModelFiles

__all__ = ["IMAGE_SETTINGS", "changed_images", "image_settings", "with_changes"]

IMAGE_SETTINGS = ("pixel_range", "bands", "long_side_max")
"""Those of prepare_data that say what a network has seen of a file."""

_FIXED = {"splits", "filter_recall", "filter_long_side"}
"""Those of predict_masks that are for a project's own images alone."""


def image_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Of the section prepare_data what says how files become images; defaults where it does not.

    Example:
        >>> image_settings({"bands": [0, 1, 2], "selection_share": 0.2})
        {'pixel_range': 'auto', 'bands': [0, 1, 2], 'long_side_max': 0}
    """
    fields = PrepareDataSettings.model_fields
    return {key: values.get(key, fields[key].get_default()) for key in IMAGE_SETTINGS}


def with_changes(files: ModelFiles, settings: Mapping[str, Any]) -> ModelFiles:
    """A model with some of its settings changed.

    Args:
        files: of the model.
        settings: values by dotted key, such as {"predict_masks.window": 1024}.

    Raises:
        ConfigError: a value does not fit; a key is none, or cannot be changed.
    """
    known = [f"predict_masks.{key}" for key in PredictMasksSettings.model_fields.keys() - _FIXED]
    params = _changed(
        {"predict_masks": files.settings.model_dump(mode="json")},
        files.about["images"],
        settings,
        known,
    )
    about = files.about | {"images": _images_of(params)}
    return replace(files, settings=params.predict_masks, about=about)


def changed_images(images: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `image_settings` gives, with some of it changed; as of `with_changes`."""
    return _images_of(_changed({}, images, settings, []))


def _changed(
    tree: Mapping[str, Any],
    images: Mapping[str, Any],
    settings: Mapping[str, Any],
    known: Sequence[str],
) -> Params:
    known = [*known, *(f"prepare_data.{key}" for key in IMAGE_SETTINGS)]
    for key in settings:
        if ".".join(key.split(".")[:2]) not in known:
            raise ValueError(
                f"'{key}' is no setting that a prediction can change; {did_you_mean(key, known)}"
            )
    whole = {**tree, "prepare_data": dict(images)}
    return parse_params(with_settings(whole, settings), "the settings")


def _images_of(params: Params) -> dict[str, Any]:
    return image_settings(params.prepare_data.model_dump(mode="json", include={*IMAGE_SETTINGS}))
