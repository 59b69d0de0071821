"""Settings of the data set `folder`."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from wsss.data._mask_values import MaskKey
from wsss.settings import Named

__all__ = ["FolderSettings", "SplitName"]

SplitName = Literal["train", "val", "selection", "unused"]


class FolderSettings(Named):
    name: Literal["folder"] = "folder"
    root: str
    """The folder that everything lies in; $VARS are expanded."""
    images: str = "."
    """The images' folder within root. Sub-folders named after splits, such as train, valid and
    test, are the splits; others are the tags unless `tags` names a file. Links are followed."""
    tags: str | None = None
    """A .csv, .tsv, .json or .jsonl file within root, or a pattern such as */labels.csv; none takes
    an image's sub-folder as its tag. Tables have a column of images and one of tags (several tags
    separated by ';', or an image on several lines), or a column of 0 and 1 per class, and perhaps
    one of splits. JSON: {image: [tags]}, or objects with an image and its tags. As the settings
    below, it may be an export: Label Studio's .json or CVAT's .xml."""
    masks: str | None = None
    """A folder within root with masks of class ids (255: ignored), laid out and named as the
    images; text around their names, such as _mask, is found. JPEGs need `mask_values`. Or an
    export, whose polygons, brushes and masks are drawn."""
    mask_values: dict[MaskKey, int | str] = Field(default_factory=dict)
    """What other values in the masks mean: a class id or a class's name, 0 (background), 255
    (ignored), or `tag`, the one tag of the mask's image. {255: 1} is for masks of black and white
    of a single class, {255: tag} for such masks where each image has a class of its own. Keys may
    be several values, {"128-255": 1}, or, where masks have colours, all of these,
    {"#000000": 0, "#ff0000": 1}."""
    boxes: str | None = None
    """Boxes within root: COCO's .json, an export, a table (.csv, .tsv, .jsonl) with the columns
    image, class, left, top, right and bottom in pixels, or a folder of PASCAL VOC's XMLs or of
    YOLO's texts, named as the images. See prepare_data.box_labels."""
    points: str | None = None
    """A table within root (.csv, .tsv, .jsonl) with the columns image, class, x and y in pixels, or
    an export; the class `empty_tag` is the background. See prepare_data.point_labels."""
    scribbles: str | None = None
    """A folder within root with scribbles, images like masks: 0 where somebody drew on the
    background, class ids, and 255 elsewhere. Or an export, of which polylines and what was painted
    are drawn. See prepare_data.scribble_labels."""
    scribble_values: dict[MaskKey, int | str] = Field(default_factory=dict)
    """As mask_values, of scribbles; {0: 255, 1: 0, 2: cat} where 0 is what nobody drew on."""
    classes: tuple[str, ...] | str | None = Field(default=None, min_length=1)
    """The classes in the order of their ids in masks, from 1 on, or a file within root that lists
    them: a name a line, or JSON or YAML with a list or {id: name}; none takes all tags that occur,
    sorted. Settles what is a class where folders and tags may mean something else."""
    background: bool = True
    """Whether a pixel may show none of the classes; false where these divide all of each image
    among them, as in maps of the ground. Masks then hold no 0."""
    empty_tag: str = "none"
    """A tag or sub-folder that says: none of the classes is there."""
    unknown_tags: tuple[Annotated[str, BeforeValidator(str)], ...] = ()
    """What says, as '?' does, that nobody knows: [unsure, ""], where "" is an empty cell."""
    splits: dict[Annotated[str, BeforeValidator(str)], SplitName] = Field(default_factory=dict)
    """What folders or the values of a column of splits mean where their names do not say it, such
    as {test: val, valid: selection, extra: unused}. Without it, test is val where there is no
    val, and unused where there is."""
    val: str | None = None
    """A text file within root with the validation images, one a line; none takes the splits of
    folders or of the tags' file or else holds out `val_share`."""
    selection: str | None = None
    """The same for choosing thresholds; none takes the images that folders or the tags' file call
    selection, if any."""
    val_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of the images held out for validation where nothing else says so."""
    max_train: PositiveInt | None = None
    """Only so many training images, chosen by rng_seed; none takes all."""

    @model_validator(mode="after")
    def _usable_values(self) -> Self:
        names = self.classes if isinstance(self.classes, tuple) else ()
        if (
            len(set(names)) < len(names)
            or self.empty_tag in names
            or not all(map(str.strip, names))
        ):
            raise ValueError(
                f"classes must be different names, none of them blank or '{self.empty_tag}'"
            )
        for key, meanings in (
            ("mask_values", self.mask_values),
            ("scribble_values", self.scribble_values),
        ):
            if any(isinstance(item, int) and not 0 <= item <= 255 for item in meanings.values()):
                raise ValueError(f"{key} maps values to class ids, names of classes, tag, 0 or 255")
            coloured = [str(value).startswith("#") for value in meanings]
            if any(coloured) and not all(coloured):
                raise ValueError(f"{key} maps colours or values, and not some of both")
        return self
