"""What the folders of images mean: splits, classes, or what kind of files lies in them."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from wsss.checks import did_you_mean, full_key
from wsss.data.listing import some
from wsss.settings import ConfigError

__all__ = [
    "Layout",
    "check_splits",
    "kind_of_files",
    "read_layout",
    "settle_splits",
    "split_of_word",
]

_SPLITS = {
    **dict.fromkeys(("train", "training", "trainset", "trainingset"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "valset", "validset", "validationset"), "val"),
    **dict.fromkeys(("dev", "devset", "eval", "evaluation"), "val"),
    **dict.fromkeys(("test", "testing", "testset", "testingset"), "test"),
    "selection": "selection",
}
_IMAGES = frozenset({"image", "images", "img", "imgs", "jpegimages"})
_MASKS = frozenset(
    {"anno", "annotation", "annotations", "annots", "groundtruth", "gt", "gts", "label", "labels"}
    | {"mask", "masks", "seg", "segmentation", "segmentationclass", "segmentationclassaug"}
    | {"segmentationobject", "segmentations"}
)
_FILLERS = _IMAGES | {"data", "dataset", "files", "jpg", "png", "seg", "set"}


@dataclass
class Layout:
    """What folders say of the images in them.

    Attributes:
        splits: "train", "val", "test", "selection" or "unused" by image, of those that lie in a
            folder named after a split.
        tags: the class by image, of those that lie in a folder named after one.
        called: how the folders call each split, such as {"val": "Valid"}.
    """

    splits: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    called: dict[str, str] = field(default_factory=dict)


def split_of_word(text: str, splits: Mapping[str, str] | None = None) -> str | None:
    """The split that a folder or a cell is named after, as in "Valid", "train2017" or "test_set".

    Args:
        text: the folder's name or the cell.
        splits: names that mean splits besides.

    Returns:
        "train", "val", "test", "selection", a value of `splits`, or None.
    """
    if splits and text.strip() in splits:
        return splits[text.strip()]
    words = re.findall(r"[^\W\d_]+", text.casefold())
    kept = [word for word in words if word not in _FILLERS]
    return _SPLITS.get(kept[0]) if len(kept) == 1 else None


def read_layout(
    names: Collection[str],
    *,
    classes: Collection[str],
    empty_tag: str,
    splits: Mapping[str, str],
    tagged: bool,
    listed: bool,
) -> Layout:
    """Understand the folders that images lie in, level by level.

    Folders named after splits are splits, wherever all of one level are; the first level of other
    folders are the classes, unless a level below holds only names of `classes`.

    Args:
        names: paths of images below their folder.
        classes: names that are classes, whatever else they might mean.
        splits: names that are splits, and which.
        empty_tag: the name of a folder of images without any class.
        tagged: whether tags come from a file, so that no folder is a class.
        listed: whether a file says the splits.

    Raises:
        ValueError: a level of folders has several meanings; the text says how to settle it.
    """
    folders = {name: name.split("/")[:-1] for name in names}
    depth = max(map(len, folders.values()), default=0)
    split_at: list[int] = []
    class_at: list[int] = []
    settled_at: list[int] = []
    for level in range(depth):
        words = {item[level] for item in folders.values() if len(item) > level}
        above = sorted({"/".join(item[:level]) for item in folders.values() if len(item) > level})
        if words & set(classes) and words <= {*classes, empty_tag} - splits.keys():
            settled_at.append(level)
            continue
        role = _role(words - {empty_tag}, above, classes, splits, tagged=tagged, listed=listed)
        {"split": split_at, "class": class_at}.get(role, []).append(level)
    layout = Layout()
    for name, item in folders.items():
        found = [
            (item[level], split)
            for level in split_at
            if len(item) > level and (split := split_of_word(item[level], splits))
        ]
        if len({split for _, split in found}) > 1:
            raise ValueError(
                f"'{name}' lies in {' and '.join(word for word, _ in found)}, which are different "
                "splits; leave it in one"
            )
        if found:
            layout.splits[name] = found[0][1]
            layout.called[found[0][1]] = found[0][0]
    at = next(iter(settled_at or class_at), None)
    if not tagged and at is not None:
        layout.tags = {name: item[at].strip() for name, item in folders.items() if len(item) > at}
        if not settled_at:
            _check_class_level(folders, at, split_at, empty_tag)
    return layout


def check_splits(
    splits: Mapping[str, str], names: Collection[str], values: Collection[str]
) -> None:
    """Raise ConfigError if the setting names what is neither a folder nor in a column of splits.

    Args:
        splits: what names of folders and values mean.
        names: paths of images.
        values: those of the column.
    """
    if not splits:
        return
    words = set(values).union(*(name.split("/")[:-1] for name in names))
    for word in splits.keys() - words:
        raise ConfigError(
            f"{full_key('dataset.splits')} names '{word}', but no folder and no value of a column "
            f"of splits is called so; {did_you_mean(word, words)}"
        )


def settle_splits(
    split_of: dict[str, str], tagged: Collection[str], called: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Decide what a split named test is: val where there is no val, else left out.

    Args:
        split_of: the split of each image that has one, "test" and "unused" among them.
        tagged: the images with tags; a test split without any is left out.
        called: how the data call the splits.

    Returns:
        The same without "test", and what a person must know of it.

    Raises:
        ValueError: images have splits, but none is for training.
    """
    counts = Counter(split_of.values())
    tests = {name for name, split in split_of.items() if split == "test"}
    warnings = []
    key = full_key("dataset.splits")
    meaning = "unused"
    if tests and not tests & set(tagged):
        warnings.append(f"the {len(tests)} images of the test split have no tags and are not used")
    elif tests and counts["val"]:
        warnings.append(
            f"the {len(tests)} images of the test split are not used: results are reported on val; "
            f"to report them on test, write {key}: {{{called.get('test', 'test')}: val, "
            f"{called.get('val', 'val')}: selection}}"
        )
    elif tests:
        meaning = "val"
        warnings.append(f"the test split ({len(tests)} images) is val: results are reported on it")
    settled = {name: meaning if split == "test" else split for name, split in split_of.items()}
    if counts and not counts["train"] and counts.keys() != {"unused"}:
        found = ", ".join(f"{split} ({count} images)" for split, count in sorted(counts.items()))
        raise ValueError(
            f"no image is for training: the splits found are {found}; say which is, such as "
            f"{key}: {{{called.get(min(counts), min(counts))}: train}}, or set "
            f"{full_key('dataset.images')} to the folder within"
        )
    return settled, warnings


def _role(
    words: set[str],
    above: list[str],
    classes: Collection[str],
    splits: Mapping[str, str],
    *,
    tagged: bool,
    listed: bool,
) -> str:
    """What a level of folders is: "split", "class" or "" (neither)."""
    others = words - set(classes)
    split_words = {word for word in others if split_of_word(word, splits)}
    if split_words and all(split_of_word(word, splits) for word in words):
        return "split"
    images = {word for word in others if kind_of_files(word) == "images"}
    masks = {word for word in others if kind_of_files(word) == "masks"}
    where = f" in {some(above, 2)}" if any(above) else ""
    settle = (
        f"if they are classes, list all classes in {full_key('dataset.classes')}, such as "
        f"[{', '.join(sorted(words)[:4])}]"
    )
    if masks and not (tagged and len(words) == 1):
        mask = min(masks)
        way_out = f"set {full_key('dataset.masks')} to it"
        if where or len(masks) > 1:
            part = above[0] or split_of_word(mask.casefold().replace("mask", "")) or "train"
            way_out = (
                f"lay all out as images/{part} and masks/{part}, and set "
                f"{full_key('dataset.images')} to images and {full_key('dataset.masks')} to masks"
            )
        raise ValueError(
            f"the folder '{mask}'{where} holds masks by its name, which are no images to tag: "
            f"{way_out}; {settle}"
        )
    if images and images == words:
        return ""
    odd = split_words | images
    if odd and not (tagged and (listed or not split_words)):
        beside = sorted(words - odd)
        raise ValueError(
            f"the folders {_quoted(sorted(words))}{where} are not all classes: "
            f"{_quoted(sorted(odd))} {'is' if len(odd) == 1 else 'are'} by name "
            f"{'a split' if split_words else 'a folder of all images'}"
            + (f", but {_quoted(beside)} {'is' if len(beside) == 1 else 'are'} not" * bool(beside))
            + f"; {settle}; if they are splits, say which in {full_key('dataset.splits')}, such as "
            f"{{{(beside or sorted(odd))[0]}: train}} (train, val, selection or unused), or move "
            "the others away"
        )
    return "class"


def kind_of_files(word: str) -> str:
    """What a name says of the files that bear it, or lie in it: "images", "masks" or ""."""
    word = re.sub(r"ground\W*_*truth", "groundtruth", word.casefold())
    tokens = set(re.findall(r"[^\W\d_]+", word)) - {"png", "jpg"}
    if tokens and tokens <= _IMAGES:
        return "images"
    return "masks" if tokens & _MASKS and tokens <= _MASKS | _IMAGES | _SPLITS.keys() else ""


def _check_class_level(
    folders: Mapping[str, list[str]], at: int, split_at: list[int], empty_tag: str
) -> None:
    """Raise ValueError where the folders below may as well be the classes."""
    below = [
        level for level in range(at + 1, max(map(len, folders.values()))) if level not in split_at
    ]
    inner: dict[str, set[str]] = {}
    direct = set()
    for item in folders.values():
        if len(item) > at:
            within = [item[level] for level in below[:1] if len(item) > level]
            within = [word for word in within if kind_of_files(word) != "images"]
            inner.setdefault(item[at], set()).update(within)
            if not within:
                direct.add(item[at])
    around = {word: words for word, words in inner.items() if words and word not in direct}
    repeated = Counter(word for words in around.values() for word in words)
    if around and (
        len(inner) == 1
        or max(map(len, around.values())) > 1
        or max(repeated.values()) == len(inner)
    ):
        lists = [
            f"[{', '.join([word for word in words if word != empty_tag][:4])}]"
            for words in (sorted(repeated), sorted(inner))
        ]
        raise ValueError(
            f"the classes may be {_quoted(sorted(inner))}, or the folders in them, "
            f"{_quoted(sorted(repeated))}; list what they are in {full_key('dataset.classes')}, "
            f"such as {' or '.join(lists)}"
        )


def _quoted(words: Sequence[str]) -> str:
    return some([f"'{word}'" for word in words])
