"""What annotators gave of the images of a folder besides tags: masks, boxes, points, scribbles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from wsss.checks import full_key
from wsss.data._base import RawBox, RawPoint
from wsss.data._boxes import read_boxes
from wsss.data._exports import draw_masks, draw_scribbles, is_export, read_export
from wsss.data._folder_settings import FolderSettings
from wsss.data._mask_pairs import pair_masks
from wsss.data._mask_values import MaskValues
from wsss.data._matching import Names
from wsss.data._points import read_points
from wsss.data.listing import missing_folder
from wsss.settings import ConfigError

__all__ = ["Given", "drawn_folders", "read_given", "values_of"]


@dataclass
class Given:
    """What there is, by image.

    Attributes:
        masks: files.
        scribbles: files.
        boxes: of each image at least one.
        points: likewise.
        offers: see `RawDataset`.
        warnings: what a person must know.
    """

    masks: dict[str, Path] = field(default_factory=dict)
    scribbles: dict[str, Path] = field(default_factory=dict)
    boxes: dict[str, tuple[RawBox, ...]] = field(default_factory=dict)
    points: dict[str, tuple[RawPoint, ...]] = field(default_factory=dict)
    offers: frozenset[str] = frozenset()
    warnings: list[str] = field(default_factory=list)


def drawn_folders(root: Path, images: Path, settings: FolderSettings) -> list[Path]:
    """The folders of masks and scribbles, none of which is that of the images; exports are none.

    Raises:
        ConfigError: one does not exist, or is the images' own.
    """
    folders = []
    for kind, name in (("masks", settings.masks), ("scribbles", settings.scribbles)):
        if not name or is_export(root / name):
            continue
        folder, key = root / name, full_key(f"dataset.{kind}")
        if not folder.is_dir():
            raise missing_folder(folder, key)
        if images.is_dir() and folder.samefile(images):
            raise ConfigError(
                f"{key} and {full_key('dataset.images')} are both {images}; put the {kind} into a "
                "folder of their own"
            )
        folders.append(folder)
    return folders


def read_given(
    root: Path,
    settings: FolderSettings,
    names: Names,
    class_names: Sequence[str],
    class_ids: Mapping[str, Sequence[int]],
    scratch: Path,
) -> Given:
    """Find masks and scribbles, or draw those of exports, and read boxes and points.

    Args:
        root: the folder that everything lies in.
        settings: of the data set.
        names: the images.
        class_names: K names.
        class_ids: the tags of the images that are used.
        scratch: the folder to draw into.

    Raises:
        ConfigError: a file or folder does not exist, or there are values for what is drawn.
        ValueError: one cannot be read; the text names the place in it.
    """
    given = Given()
    if settings.masks and is_export(root / settings.masks):
        given.masks, said = _drawn("masks", root, settings, names, class_names, scratch)
        given.warnings += said
    elif settings.masks:
        key, lossy = full_key("dataset.masks"), bool(settings.mask_values)
        given.masks, said = pair_masks(names, root / settings.masks, key, class_ids, lossy=lossy)
        given.warnings += said
    if settings.scribbles and is_export(root / settings.scribbles):
        given.scribbles, said = _drawn("scribbles", root, settings, names, class_names, scratch)
        given.warnings += said
    elif settings.scribbles:
        key, lossy = full_key("dataset.scribbles"), bool(settings.scribble_values)
        given.scribbles, said = pair_masks(names, root / settings.scribbles, key, lossy=lossy)
        given.warnings += said
    if settings.boxes:
        key = full_key("dataset.boxes")
        given.boxes, said = read_boxes(root / settings.boxes, root, names, class_names, key)
        given.warnings += said
    if settings.points:
        key, path = full_key("dataset.points"), root / settings.points
        given.points, said = read_points(path, names, class_names, settings.empty_tag, key)
        given.warnings += said
    given.offers = frozenset(
        kind for kind in ("boxes", "points", "scribbles") if getattr(settings, kind)
    )
    return given


def values_of(
    file: Path | None, meanings: MaskValues, class_ids: Sequence[int]
) -> dict[int | str, int] | None:
    """What the values of a mask mean; None where that cannot be told.

    Args:
        file: the mask, if there is one.
        meanings: of the data set's masks.
        class_ids: the tags of its image.
    """
    values = meanings.of(class_ids) if file else {}
    if file and values is not None and file.suffix.lower() != ".png":  # to be written as one
        return values or {value: value for value in range(256)}
    return values


def _drawn(
    kind: Literal["masks", "scribbles"],
    root: Path,
    settings: FolderSettings,
    names: Names,
    class_names: Sequence[str],
    scratch: Path,
) -> tuple[dict[str, Path], list[str]]:
    """Masks or scribbles of an export, and what a person must know of them."""
    key, path = full_key(f"dataset.{kind}"), root / str(getattr(settings, kind))
    values, draw = (
        ("mask_values", draw_masks) if kind == "masks" else ("scribble_values", draw_scribbles)
    )
    if getattr(settings, values):
        raise ConfigError(
            f"{full_key(f'dataset.{values}')} is for images, but {key} is {path.name}, whose "
            "labels name the classes; leave it out"
        )
    export = read_export(path, names, key)
    if export is None:
        raise ConfigError(
            f"{key}: {path} is neither Label Studio's JSON nor CVAT's XML; name one of these, or a "
            "folder of images (COCO's regions are read by the data set coco)"
        )
    files = draw(export, names, class_names, settings.empty_tag, scratch / kind)
    return files, export.warnings
