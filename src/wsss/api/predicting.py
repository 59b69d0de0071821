"""A trained segmenter on images."""

from collections.abc import Iterable
from pathlib import Path
from typing import overload

from wsss.api.choices import ManyTags, tag_ids, tag_names
from wsss.api.classifiers import Classifier
from wsss.api.pictures import OneImage, picture_list
from wsss.api.results import Mask
from wsss.prediction import Model, open_model
from wsss.prediction.at_learned_size import enlarged

__all__ = ["load_segmenter", "predict"]

TOGETHER = 16  # images that are in memory together


def load_segmenter(place: str | Path, device: str = "auto") -> Model:
    """Read a trained segmenter, with which `wsss.predict` finds masks.

    Args:
        place: models/segmenter of a project, or the project: it predicts as predict_masks of its
            params.yaml; a package, or "models:/NAME@ALIAS", "runs:/RUN/PATH", as
            `wsss models register` has put it into MLflow; or an .onnx file.
        device: auto takes a GPU if there is one; or cpu, cuda, mps.

    Raises:
        ValueError: there is no model, it is damaged, or there is no such device.
        ConnectionError: MLflow cannot be asked.
    """
    return open_model(place, device)


@overload
def predict(  # type: ignore[overload-overlap]  # a text is one image
    model: Model, images: OneImage, tags: ManyTags = ..., *, probs: bool = ..., crf: bool = ...
) -> Mask: ...
@overload
def predict(
    model: Model,
    images: Iterable[OneImage],
    tags: ManyTags = ...,
    *,
    probs: bool = ...,
    crf: bool = ...,
) -> list[Mask]: ...
def predict(
    model: Model,
    images: OneImage | Iterable[OneImage],
    tags: ManyTags = None,
    *,
    probs: bool = False,
    crf: bool = True,
) -> Mask | list[Mask]:
    """Masks of images, as predict_masks makes them of those of a project.

    Args:
        model: as `wsss.load_segmenter` gives it.
        images: one, which gives its mask, or many, which give a list.
        tags: names of the classes that an image shows: all others are left out there. None of an
            image, or of all, leaves out none but those that the model itself does.
        probs: whether `Mask.probs` has the probabilities, too: 4 bytes per class and pixel.
        crf: whether a dense CRF follows, where the model's settings have one.

    Raises:
        ValueError: an image cannot be read, or a tag is no class.
    """
    if isinstance(model, Classifier | str | Path):
        raise ValueError(
            f"{type(model).__name__} is no segmenter; take wsss.load_segmenter(place). Masks of a "
            "classifier are those of its maps: wsss.mask(wsss.cams(classifier, images, tags))"
        )
    pictures, alone = picture_list(images, model.about.get("images"))
    names = tag_names(tags, len(pictures), alone=alone)
    for picture, of_image in zip(pictures, names, strict=True):
        tag_ids(of_image, model.class_names, f"image '{picture.name}'")
    found: list[Mask] = []
    for start in range(0, len(pictures), TOGETHER):
        part = pictures[start : start + TOGETHER]
        predicted = model.predict(
            [picture.pixels() for picture in part],
            tags=names[start : start + TOGETHER],
            probs=probs,
            crf=crf,
        )
        found += [
            Mask(
                picture,
                enlarged(one.mask, picture.size),
                tuple(model.class_names),
                None if one.probs is None else enlarged(one.probs, picture.size),
                has_background=model.has_background,
            )
            for picture, one in zip(part, predicted, strict=True)
        ]
    return found[0] if alone else found
