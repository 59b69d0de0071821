"""Class activation maps of images."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, overload

import numpy as np
from PIL import Image

from wsss.api.choices import ManyTags, MethodLike, chosen, tag_ids, tag_names, validated
from wsss.api.classifiers import Classifier
from wsss.api.pictures import OneImage, picture_list
from wsss.api.results import Maps, Origin
from wsss.artifacts import ScoreMap
from wsss.cam.making import FOUND, CamMaker
from wsss.checks import naming
from wsss.config.sections import GenerateCamsSettings
from wsss.registry import CAM_METHODS

__all__ = ["cams"]

WAITING = 32  # decoded images that wait for others of their size

Ids = tuple[int, ...] | None
Made = tuple[int, tuple[int, int], Any, Any]
"""The number of an image, its size, its (P, h, w) maps and (K,) logits."""


@overload
def cams(  # type: ignore[overload-overlap]  # a text is one image
    model: Classifier,
    images: OneImage,
    tags: ManyTags = ...,
    method: MethodLike | None = ...,
    *,
    scales: Sequence[float] | None = ...,
    flip: bool | None = ...,
    window: int | None = ...,
    good: Iterable[OneImage] = ...,
) -> Maps: ...
@overload
def cams(
    model: Classifier,
    images: Iterable[OneImage],
    tags: ManyTags = ...,
    method: MethodLike | None = ...,
    *,
    scales: Sequence[float] | None = ...,
    flip: bool | None = ...,
    window: int | None = ...,
    good: Iterable[OneImage] = ...,
) -> list[Maps]: ...
def cams(
    model: Classifier,
    images: OneImage | Iterable[OneImage],
    tags: ManyTags = None,
    method: MethodLike | None = None,
    *,
    scales: Sequence[float] | None = None,
    flip: bool | None = None,
    window: int | None = None,
    good: Iterable[OneImage] = (),
) -> Maps | list[Maps]:
    """Class activation maps, as generate_cams makes them of the images of a project.

    Args:
        model: as `wsss.load_classifier` gives it.
        images: one, which gives its maps, or many, which give a list.
        tags: names of the classes that an image shows; of many images a list with those of each.
            None of an image, or of all, stands for the classes that the classifier finds with a
            probability of a half at least.
        method: a CAM method, such as "layer_cam" or {"name": "layer_cam", "layers": [...]};
            None is that of the classifier's project, or else "cam".
        scales: of the image's sides; None as the project, or else 0.5, 1, 1.5 and 2.
        flip: whether the mirrored image counts, too; None as the project, or else yes.
        window: side in pixels of the windows that larger images are run in, 0 runs any whole; None
            as the project, or else 0.
        good: images of no class, for a method that learns from these, such as patch_memory.

    Returns:
        Maps of the tags, each divided by its maximum unless the method's mean the same in every
        image. Memory grows with the maps alone: images of files are read when they are needed.

    Raises:
        ValueError: an image cannot be read, a tag is no class, or a method or setting does not fit.
    """
    if not isinstance(model, Classifier):
        raise ValueError(
            f"{type(model).__name__} is no classifier; take wsss.load_classifier(place), whose "
            "layers give maps"
        )
    pictures, alone = picture_list(images, model.image_settings)
    names = tag_names(tags, len(pictures), alone=alone)
    ids = [
        tag_ids(of_image, model.class_names, f"image '{picture.name}'")
        for picture, of_image in zip(pictures, names, strict=True)
    ]
    given = {"scales": scales, "flip": flip, "window": window}
    settings = _settings(model, method, {key: v for key, v in given.items() if v is not None})
    found: list[Maps | None] = [None] * len(pictures)
    origin = _origin(model, settings)
    with naming("cams"):
        maker = model.maker(settings)
        _learn(maker, model, good)
        arrays = ((at, picture.pixels()) for at, picture in enumerate(pictures))
        for at, size, maps, logits in _made(maker, arrays, ids, settings.batch_size, model):
            probs = logits.sigmoid() if model.loss == "multi_label" else logits.softmax(dim=0)
            scores = _score_map(ids[at], maps, probs.cpu().numpy(), size, model)
            found[at] = Maps(pictures[at], scores, model.class_names, model.has_background, origin)
    result = [maps for maps in found if maps is not None]
    return result[0] if alone else result


def _settings(
    model: Classifier, method: MethodLike | None, given: dict[str, Any]
) -> GenerateCamsSettings:
    checked = validated(GenerateCamsSettings, given, "cams")
    update = {key: getattr(checked, key) for key in given}
    if method is not None:
        update["method"] = chosen(CAM_METHODS, method, "cams: method")
    return model.settings.model_copy(update=update)


def _origin(model: Classifier, settings: GenerateCamsSettings) -> Origin:
    """That of maps which the project would make just so has its threshold."""
    project = model.project
    if project is None or not model.is_the_projects or settings != model.settings:
        return Origin(project)
    return Origin(project, None, project.threshold(None))


def _learn(maker: CamMaker, model: Classifier, good: Iterable[OneImage]) -> None:
    pictures = picture_list(list(good), model.image_settings)[0] if good else []
    if not maker.learns:
        if pictures:
            raise ValueError("good images are for a method that learns from them; leave them out")
        return
    if not pictures and maker.learned:
        return
    if not pictures:
        raise ValueError(
            "the method learns from images without any class before its first map; give some: "
            "good=[...]"
        )
    seed = model.project.params.base.rng_seed if model.project else 0
    maker.learn((picture.pixels() for picture in pictures), len(pictures), seed)


def _made(
    maker: CamMaker,
    arrays: Iterator[tuple[int, np.ndarray]],
    ids: Sequence[Ids],
    batch_size: int,
    model: Classifier,
) -> Iterator[Made]:
    """Run images, those of one size together, as far as few of them have to wait."""
    everything = tuple(range(1, len(model.class_names) + 1))
    wanted = [everything if of_image is None else of_image for of_image in ids]
    waiting: dict[tuple[int, int], list[tuple[int, np.ndarray]]] = {}
    for at, pixels in arrays:
        size = (pixels.shape[0], pixels.shape[1])
        if maker.is_large(size):
            maps, logits = maker.in_windows(pixels, wanted[at])
            yield at, size, maps, logits
            continue
        group = waiting.setdefault(size, [])
        group.append((at, pixels))
        if len(group) == batch_size:
            yield from _of_group(maker, waiting.pop(size), wanted)
        elif sum(map(len, waiting.values())) == WAITING:
            for size in list(waiting):
                yield from _of_group(maker, waiting.pop(size), wanted)
    for group in waiting.values():
        yield from _of_group(maker, group, wanted)


def _of_group(
    maker: CamMaker, group: Sequence[tuple[int, np.ndarray]], wanted: Sequence[tuple[int, ...]]
) -> Iterator[Made]:
    """Images of one size in one batch."""
    import torch

    size = (group[0][1].shape[0], group[0][1].shape[1])
    height, width = maker.resized(size)
    arrays = [pixels for _, pixels in group]
    if (height, width) != size:
        bilinear = Image.Resampling.BILINEAR
        arrays = [
            np.asarray(Image.fromarray(pixels).resize((width, height), bilinear))
            for pixels in arrays
        ]
    batch = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)
    maps, logits = maker.whole(batch, [wanted[at] for at, _ in group])
    for (at, _), of_image, row in zip(group, maps, logits, strict=True):
        yield at, size, of_image, row


def _score_map(
    ids: Ids, maps: Any, probs: np.ndarray, size: tuple[int, int], model: Classifier
) -> ScoreMap:
    """Of the tags, or of what the classifier finds where nobody said any."""
    known = range(1, len(model.class_names) + 1) if ids is None else ids
    numbers = np.array(known, np.uint8)
    of_ids = probs[numbers.astype(int) - 1].astype(np.float32)
    scores = np.ascontiguousarray(maps.float().cpu().numpy())
    found = ScoreMap(numbers, scores, size, of_ids)
    if ids is None:
        kept = of_ids >= FOUND
        found = replace(
            found, class_ids=numbers[kept], scores=scores[kept], class_probs=of_ids[kept]
        )
    return found
