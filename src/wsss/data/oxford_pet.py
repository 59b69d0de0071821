"""Oxford-IIIT Pet: cats and dogs of 37 breeds, with trimaps of pet, background and border."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import PositiveInt

from wsss.artifacts import IGNORE_INDEX
from wsss.checks import full_key
from wsss.data._base import Problem, RawDataset, RawPoint, RawSample, source_folder
from wsss.data._mask_pairs import missing_masks
from wsss.data._voc_xml import read_voc_xml, with_origin
from wsss.data.listing import missing_folder, similar_folder
from wsss.data.splits import hold_out, subset
from wsss.registry import DATASETS
from wsss.settings import ConfigError, Named

__all__ = ["OxfordPet", "OxfordPetSettings"]

_SPECIES = ("cat", "dog")
_VAL_SHARE = 0.2
_PET, _BACKGROUND, _BORDER = 1, 2, 3  # values of a trimap


class OxfordPetSettings(Named):
    name: Literal["oxford_pet"] = "oxford_pet"
    root: str = "$PETS_ROOT"
    """The folder that holds images and annotations; $VARS are expanded."""
    classes: Literal["species", "breed"] = "species"
    """Cat and dog, or the 37 breeds."""
    border: Literal["ignore", "pet", "background"] = "ignore"
    """What the trimaps' third value, the seam around a pet, is in the ground truth."""
    split: Literal["random", "official"] = "random"
    """A fifth of all images for validation, chosen by rng_seed and the same for both kinds of
    classes; or trainval.txt and test.txt."""
    heads: Literal["unused", "points"] = "unused"
    """The boxes of annotations/xmls, which bound heads and not the pets: the middle of each as a
    point of its class, for prepare_data.point_labels. prepare_data.box_labels never takes them."""
    max_train: PositiveInt | None = None
    """Only so many training images, chosen by rng_seed; none takes all."""


@DATASETS.register(OxfordPetSettings)
class OxfordPet:
    """Images and tags come from annotations/trainval.txt and test.txt together, or from list.txt
    where one of them is missing, so other files in images (.mat, photographs that nobody
    annotated) do not matter. A few of the set's .jpg files are GIF or PNG inside: prepare_data
    converts them.

    A trimap only tells pet from background; its pet pixels get the class of its image.

    The set's boxes are of heads. A box bounds its class here, so that all outside of it would be
    taken for background, which is most of the pet: they are offered as points alone (`heads`), and
    boxes are taken from trimaps, as of every set without any.

    References:
        Parkhi, Vedaldi, Zisserman and Jawahar: Cats and Dogs (CVPR 2012).
    """

    def __init__(self, settings: OxfordPetSettings) -> None:
        self.settings = settings

    def collect(self, scratch: Path, rng_seed: int) -> RawDataset:
        """Read the lists; see `Dataset.collect`."""
        del scratch
        settings = self.settings
        root = source_folder(settings.root)
        lists = _read_lists(root / "annotations", official=settings.split == "official")
        rows = [row for found in lists.values() for row in found]
        names = Counter(row.name for row in rows)
        if len(names) < len(rows):
            name = names.most_common(1)[0][0]
            raise ValueError(f"the lists in {root / 'annotations'} have '{name}' twice; keep one")
        species = settings.classes == "species"
        class_names = _SPECIES if species else _breeds(rows)
        trimaps = root / "annotations/trimaps"
        for folder in (root / "images", trimaps):
            if not folder.is_dir() and (folder != trimaps or similar_folder(folder)):
                raise missing_folder(folder, full_key("dataset.root"))
        splits: dict[str, list[RawSample]] = {}
        problems: list[Problem] = []
        for split, found in lists.items():
            splits[split] = []
            for row in found:
                image = root / "images" / f"{row.name}.jpg"
                if image.is_file():
                    mask = trimaps / f"{row.name}.png"
                    splits[split].append(
                        RawSample(row.name, image, (row.breed,), mask if mask.is_file() else None)
                    )
                else:
                    problems.append(Problem(row.name, f"{image} does not exist"))
        if settings.split == "random" and splits["train"]:
            # by breed even when the classes are species: both then validate on the same images
            splits["train"], splits["val"] = hold_out(
                splits["train"], _VAL_SHARE, len(rows), rng_seed, "val"
            )
        if settings.max_train is not None:
            splits["train"] = subset(splits["train"], settings.max_train, rng_seed)
        class_of = {row.name: row.species if species else row.breed for row in rows}
        splits = {
            split: [self._with_class(sample, class_of[sample.name]) for sample in samples]
            for split, samples in splits.items()
        }
        warnings = missing_masks(splits, trimaps)
        if settings.heads == "unused":
            return RawDataset(class_names, splits, problems, warnings)
        kinds = {row.name: _SPECIES[row.species - 1] for row in rows}
        xmls = root / "annotations/xmls"
        splits = {
            split: [_with_heads(sample, xmls, kinds[sample.name]) for sample in samples]
            for split, samples in splits.items()
        }
        if not any(sample.points for found in splits.values() for sample in found):
            raise ConfigError(
                f"{full_key('dataset.heads')} is points, but {xmls} has the box of no image's "
                "head; unpack annotations/xmls there, or set it to unused"
            )
        offers = frozenset({"points"})
        return RawDataset(class_names, splits, problems, warnings, offers=offers)

    def _with_class(self, sample: RawSample, class_id: int) -> RawSample:
        border = {"ignore": IGNORE_INDEX, "pet": class_id, "background": 0}[self.settings.border]
        values: dict[int | str, int] = {_PET: class_id, _BACKGROUND: 0, _BORDER: border}
        return replace(sample, class_ids=(class_id,), mask_values=values)


def _with_heads(sample: RawSample, xmls: Path, kind: str) -> RawSample:
    """A sample with a point in the middle of each head of its XML; one without an XML has none."""
    path = xmls / f"{sample.name}.xml"
    if not path.is_file():
        return sample
    points = []
    for item in with_origin(read_voc_xml(path)):
        if item.name != kind:
            raise ValueError(
                f"{item.where} is a '{item.name}', but the lists say that '{sample.name}' shows a "
                f"{kind}; mend whichever is wrong"
            )
        if item.corners is None or not item.corners[0] < item.corners[2]:
            raise ValueError(f"{item.where} has no box with xmin below xmax; remove the file")
        left, top, right, bottom = item.corners
        x, y = (left + right) / 2, (top + bottom) / 2
        points.append(RawPoint(sample.class_ids[0], x, y, item.where))
    return replace(sample, points=tuple(points))


@dataclass(frozen=True)
class _Row:
    """A line of a list, such as "great_pyrenees_12 16 2 9": breed of 37, species, breed of it."""

    name: str
    breed: int
    species: int


def _read_lists(folder: Path, *, official: bool) -> dict[str, list[_Row]]:
    """The rows of train and val; all in train where the split is yet to be drawn."""
    trainval, test, everything = (folder / f"{name}.txt" for name in ("trainval", "test", "list"))
    if trainval.is_file() and test.is_file():
        lists = {"train": _read_list(trainval), "val": _read_list(test)}
        return lists if official else {"train": lists["train"] + lists["val"], "val": []}
    if official or not everything.is_file():
        raise ConfigError(
            f"{folder} has no {' and '.join(item.name for item in (trainval, test))}"
            + (
                f"; set {full_key('dataset.split')} to random"
                if official
                else f", nor a {everything.name}"
            )
            + f", or set {full_key('dataset.root')} to the folder with images and annotations"
        )
    return {"train": _read_list(everything), "val": []}


def _read_list(path: Path) -> list[_Row]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        words = line.split()
        if not words or line.startswith("#"):
            continue
        try:
            name, breed, species, _ = words
            row = _Row(name, int(breed), int(species))
        except ValueError:
            row = None
        if row is None or not 1 <= row.breed < IGNORE_INDEX or row.species not in (1, 2):
            raise ValueError(
                f"{path}, line {number}: '{line}', but a line is a name, the number of its breed "
                "from 1 on, 1 (cat) or 2 (dog), and a number within these"
            )
        rows.append(row)
    return rows


def _breeds(rows: Iterable[_Row]) -> tuple[str, ...]:
    """Names of the breeds in the order of their numbers: an image's name without its number."""
    names: dict[int, str] = {}
    for row in rows:
        name = row.name.rpartition("_")[0]
        if names.setdefault(row.breed, name) != name:
            raise ValueError(
                f"breed {row.breed} is both '{names[row.breed]}' and '{name}' by the names of its "
                "images; mend the lists in annotations"
            )
    missing = sorted(set(range(1, max(names, default=1) + 1)) - names.keys())
    if missing:
        raise ValueError(f"no image in the lists has breed {missing[0]}; breeds count from 1 on")
    return tuple(name for _, name in sorted(names.items()))
