"""Folders as people bring them, combined: layouts, tag files, ways to write paths, masks, oddities.

Whatever is combined has one of two outcomes: each image has the tags, the split and the mask that
it was generated with, or there is an error (or a listed problem) that names a value and a way out.
Files are empty: no data set decodes an image to find it.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import pytest

from wsss.data import RawDataset
from wsss.data.folder import Folder, FolderSettings

KINDS = ("cat", "dog", "none")
PER_KIND = 6
WAY_OUT = re.compile(
    r"\b(set|write|name|list|move|rename|mend|keep|put|add|save|export|lay|use|say|leave)\b|did you"
)


@dataclass
class Picture:
    """An image as it was generated.

    Attributes:
        path: within the images' folder, without suffix.
        tags: its classes.
        split: what the layout, or a column, says; None where nothing does.
        mask: its mask's path within the masks' folder, or None.
        suffix: of its file.
    """

    path: str
    tags: frozenset[str]
    split: str | None = None
    mask: str | None = None
    suffix: str = ".jpg"


@dataclass
class Tree:
    """A folder and what is true of it."""

    root: Path
    images: str
    pictures: list[Picture]
    masks: Path = Path()
    settings: dict[str, object] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.root / self.images

    def build(self) -> None:
        _touch(self.folder / f"{item.path}{item.suffix}" for item in self.pictures)

    def collect(self) -> RawDataset:
        settings = {"root": str(self.root), "images": self.images, **self.settings}
        return Folder(FolderSettings(**settings)).collect(self.root / "scratch", 0)


def _touch(paths: Iterable[Path]) -> None:
    made = set()
    for path in paths:
        if path.parent not in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.add(path.parent)
        path.touch()


def _split(index: int) -> str:
    return ("train", "train", "train", "train", "val", "test")[index]


@dataclass(frozen=True)
class Layout:
    """Where images lie.

    Attributes:
        path: of an image, given its kind, a name and its split.
        images: the setting.
        folder_tags: whether folders say the class.
        splits: whether they say the split; "test" of which is not used beside val.
        stops: whether it has to be refused without a file of tags.
    """

    path: Callable[[str, str, str], str]
    images: str = "."
    folder_tags: bool = True
    splits: bool = False
    stops: bool = False


VALID = {"train": "train", "val": "valid", "test": "test"}
LONG = {"train": "Training", "val": "Validation", "test": "Testing"}
KAGGLE = {"train": "training_set", "val": "validation_set", "test": "test_set"}
LAYOUTS = {
    "flat": Layout(lambda kind, name, split: name, "images", folder_tags=False),
    "classes": Layout(lambda kind, name, split: f"{kind}/{name}"),
    "classes in images": Layout(lambda kind, name, split: f"{kind}/{name}", "images"),
    "classes below images": Layout(lambda kind, name, split: f"images/{kind}/{name}"),
    "sub-folders": Layout(lambda kind, name, split: f"{kind}/of {kind}/{name}"),
    "splits": Layout(lambda kind, name, split: f"{VALID[split]}/{kind}/{name}", splits=True),
    "long splits": Layout(lambda kind, name, split: f"{LONG[split]}/{kind}/{name}", splits=True),
    "years": Layout(lambda kind, name, split: f"{split}2017/{kind}/{name}", splits=True),
    "kaggle": Layout(
        lambda kind, name, split: f"{KAGGLE[split]}/{KAGGLE[split]}/{kind}/{name}", splits=True
    ),
    "splits in images": Layout(
        lambda kind, name, split: f"{split}/{kind}/{name}", "images", splits=True
    ),
    "splits with images": Layout(
        lambda kind, name, split: f"{VALID[split]}/images/{name}", folder_tags=False, splits=True
    ),
    "splits, images, classes": Layout(
        lambda kind, name, split: f"{VALID[split]}/images/{kind}/{name}", splits=True
    ),
    "splits below classes": Layout(lambda kind, name, split: f"{kind}/{split}/{name}", splits=True),
    "splits alone": Layout(
        lambda kind, name, split: f"{split}/{name}", folder_tags=False, splits=True
    ),
    "an archive": Layout(lambda kind, name, split: f"archive/{kind}/{name}", stops=True),
    "an archive of splits": Layout(
        lambda kind, name, split: f"archive/{split}/{kind}/{name}", splits=True, stops=True
    ),
}


def _tree(root: Path, layout: Layout, *, repeated: bool = False) -> Tree:
    """A tree of 18 images; `repeated` names are the same for all classes."""
    pictures = []
    for kind, index in product(KINDS, range(PER_KIND)):
        split = _split(index)
        name = f"IMG {index}" if repeated else f"{kind}_{index}"
        path = layout.path(kind, name, split)
        tags = frozenset({kind} - {"none"})
        pictures.append(Picture(path, tags, split if layout.splits else None))
    if repeated and len({picture.path for picture in pictures}) < len(pictures):
        return _tree(root, layout)
    return Tree(root, layout.images, pictures)


# Files of tags, given entries, tags and splits.

Rows = list[tuple[str, list[str], str]]


def _csv(rows: list[list[str]], delimiter: str = ",", encoding: str = "utf-8") -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode(encoding)


def _listed(mark: str, header: tuple[str, str] = ("image", "tags"), **how: str):
    return lambda rows: _csv(
        [list(header), *([entry, mark.join(tags) or "none"] for entry, tags, _ in rows)], **how
    )


def _long(rows: Rows) -> bytes:
    lines = [[entry, tag, "640"] for entry, tags, _ in rows for tag in tags or ["none"]]
    return _csv([["filename", "class", "width"], *lines])


def _columns(rows: Rows) -> bytes:
    lines = [[entry, *(str(int(k in tags)) for k in KINDS[:2])] for entry, tags, _ in rows]
    return _csv([["filename", " cat", " dog"], *lines])


def _signs(rows: Rows) -> bytes:
    lines = [[entry, *(str(2 * (k in tags) - 1) for k in KINDS[:2])] for entry, tags, _ in rows]
    return _csv([["image_id", "cat", "dog"], *lines])


def _python(write: Callable[[list[str]], str]) -> Callable[[Rows], bytes]:
    return lambda rows: _csv([["image", "labels"], *([e, write(tags)] for e, tags, _ in rows)])


def _json(make: Callable[[Rows], object], encoding: str = "utf-8") -> Callable[[Rows], bytes]:
    return lambda rows: json.dumps(make(rows)).encode(encoding)


def _coco(rows: Rows) -> object:
    images = [{"id": at, "file_name": entry} for at, (entry, _, _) in enumerate(rows)]
    annotations = [
        {"image_id": at, "category_id": 3 + KINDS.index(tag)}
        for at, (_, tags, _) in enumerate(rows)
        for tag in (*tags, *tags)
    ]
    categories = [{"id": 3 + at, "name": name} for at, name in enumerate(KINDS[:2])]
    return {"images": images, "annotations": annotations, "categories": categories}


def _inverted(rows: Rows) -> object:
    return {kind: [e for e, tags, _ in rows if (tags or ["none"])[0] == kind] for kind in KINDS}


TAG_FILES: dict[str, tuple[str, Callable[[Rows], bytes]]] = {
    "csv": ("t.csv", _listed(";")),
    "commas in a cell": ("t.csv", _listed(", ")),
    "bars in a cell": ("t.csv", _listed("|")),
    "lines in a cell": ("t.csv", _listed("\n")),
    "semicolons": ("t.csv", _listed(",", delimiter=";")),
    "semicolons, bom": ("t.csv", _listed(",", delimiter=";", encoding="utf-8-sig")),
    "excel's utf-16": ("t.txt", _listed(";", delimiter="\t", encoding="utf-16")),
    "tabs": ("t.tsv", _listed(";", ("file_name", "label"), delimiter="\t")),
    "bars": ("t.csv", _listed(";", ("Image Path", "Category"), delimiter="|")),
    "sep=": ("t.csv", lambda rows: b"sep=;\r\n" + _listed(",", delimiter=";")(rows)),
    "no header": ("t.csv", lambda rows: _csv([[e, ";".join(t) or "none"] for e, t, _ in rows])),
    "other headers": ("t.csv", _listed(";", ("ID", "Labels"))),
    "an unknown header of images": ("t.csv", _listed(";", ("pic", "tags"))),
    "ids and names": (
        "t.csv",
        lambda rows: _csv(
            [
                ["id", "filename", "species"],
                *([str(at), e, ";".join(t) or "none"] for at, (e, t, _) in enumerate(rows, 900)),
            ]
        ),
    ),
    "a line per tag": ("t.csv", _long),
    "columns": ("t.csv", _columns),
    "columns of signs": ("t.csv", _signs),
    "python": ("t.csv", _python(repr)),
    "json in csv": ("t.csv", _python(json.dumps)),
    "numpy": ("t.csv", _python(lambda tags: f"[{' '.join(map(repr, tags))}]")),
    "label studio": ("t.csv", _python(lambda tags: json.dumps({"choices": tags or ["none"]}))),
    "json": ("t.json", _json(lambda rows: {e: tags for e, tags, _ in rows})),
    "json, bom": ("t.json", _json(lambda rows: {e: tags for e, tags, _ in rows}, "utf-8-sig")),
    "json, utf-16": ("t.json", _json(lambda rows: {e: tags for e, tags, _ in rows}, "utf-16")),
    "json texts": ("t.json", _json(lambda rows: {e: ", ".join(t) or "none" for e, t, _ in rows})),
    "json marks": (
        "t.json",
        _json(lambda rows: {e: {k: int(k in tags) for k in KINDS[:2]} for e, tags, _ in rows}),
    ),
    "json objects": (
        "t.json",
        _json(lambda rows: [{"image": e, "tags": t, "w": 8} for e, t, _ in rows]),
    ),
    "json objects by image": (
        "t.json",
        _json(lambda rows: {e: {"labels": t, "w": [8]} for e, t, _ in rows}),
    ),
    "json below a key": (
        "t.json",
        _json(lambda rows: {"data": [{"path": e, "label": t or "none"} for e, t, _ in rows]}),
    ),
    "json lines": (
        "t.jsonl",
        lambda rows: b"\n".join(
            json.dumps({"file_name": e, "label": t}).encode() for e, t, _ in rows
        ),
    ),
    "json by tag": ("t.json", _json(_inverted)),
    "coco": ("t.json", _json(_coco)),
}

ENTRIES: dict[str, Callable[[Tree, Picture], str]] = {
    "path": lambda tree, item: item.path,
    "path with suffix": lambda tree, item: f"{item.path}{item.suffix}",
    "dotted": lambda tree, item: f"./{item.path}{item.suffix}",
    "file name": lambda tree, item: f"{Path(item.path).name}{item.suffix}",
    "stem": lambda tree, item: Path(item.path).name,
    "from the root": lambda tree, item: f"{tree.images}/{item.path}{item.suffix}",
    "absolute": lambda tree, item: str(tree.folder.resolve() / f"{item.path}{item.suffix}"),
    "of another machine": lambda tree, item: f"/home/me/set/{item.path}{item.suffix}",
    "windows": lambda tree, item: (
        "C:\\Users\\me\\" + f"{item.path}{item.suffix}".replace("/", "\\")
    ),
    "url": lambda tree, item: f"https://host/bucket/{item.path}{item.suffix}?x=1".replace(
        " ", "%20"
    ),
    "uploaded": lambda tree, item: (
        f"/data/upload/1/1a2b3c4d-{Path(item.path).name.replace(' ', '_')}{item.suffix}"
    ),
    "local files": lambda tree, item: (
        f"/data/local-files/?d={tree.root.name}/{tree.images}/{item.path}{item.suffix}"
    ),
    "other case": lambda tree, item: f"{item.path}{item.suffix}".upper(),
    "other suffix": lambda tree, item: f"{item.path}.png",
}


def _write_tags(tree: Tree, file: str, entry: str, *, several: bool = True) -> None:
    """Tags beside the layout's: the first cat is a dog, too."""
    name, write = TAG_FILES[file]
    if several and file != "json by tag":
        first = tree.pictures[0]
        tree.pictures[0] = Picture(
            first.path, frozenset(KINDS[:2]), first.split, first.mask, first.suffix
        )
    rows = [
        (ENTRIES[entry](tree, item), sorted(item.tags), item.split or "") for item in tree.pictures
    ]
    (tree.root / name).write_bytes(write(rows))
    tree.settings["tags"] = name


def outcome(tree: Tree) -> str:
    """What became of a tree: "read", "listed" (read but for problems), or the error's text.

    Raises:
        AssertionError: an image has other tags, another split or mask, or is gone.
    """
    try:
        raw = tree.collect()
    except ValueError as error:
        text = str(error)
        assert len(text.splitlines()) <= 20, text
        assert len(text) < 2000, text
        assert WAY_OUT.search(text), text
        assert re.search(r"'|/|\d", text), f"names no value: {text}"
        return text
    found = {}
    for split, samples in raw.splits.items():
        for sample in samples:
            tags = frozenset(raw.class_names[c - 1] for c in sample.class_ids)
            found[sample.name] = (tags, split, sample.mask)
    problems = {problem.name for problem in raw.problems}
    listed = False
    for item in tree.pictures:
        if item.split in ("test", "unused") and item.path not in found:
            assert _said(raw, "the test split") or item.split == "unused"
        elif item.path not in found:
            assert item.path in problems, f"{item.path} is lost"
            listed = True
        else:
            tags, split, mask = found.pop(item.path)
            wanted = tree.masks / item.mask if item.mask else None
            assert tags == item.tags, (item, tags)
            assert split == item.split or item.split is None, (item, split)
            assert mask == wanted or (mask is None and _said(raw, "have no mask")), (item, mask)
    assert not found, f"images that are none: {list(found)}"
    used = {tag for item in tree.pictures for tag in item.tags if item.path not in problems}
    assert set(raw.class_names) >= used
    assert set(raw.class_names) <= set(KINDS[:2]), raw.class_names
    return "listed" if listed or problems else "read"


def _said(raw: RawDataset, word: str) -> bool:
    return any(word in text for text in raw.warnings)


@pytest.mark.parametrize("repeated", [False, True], ids=["names", "repeated names"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_with_every_tag_file_and_every_way_to_write_paths(tmp_path, layout, repeated):
    made = LAYOUTS[layout]
    tree = _tree(tmp_path / "set", made, repeated=repeated)
    tree.build()
    given = list(tree.pictures)
    result = outcome(tree)
    assert (result == "read") == (made.folder_tags and not made.stops), result
    wrong = []
    combinations = [
        (file, entry)
        for file, entry in product(TAG_FILES, ENTRIES)
        if file in ("csv", "no header") or (not repeated and entry in ("absolute", "file name"))
    ]
    for file, entry in combinations:
        tree.pictures, tree.settings = list(given), {}
        _write_tags(tree, file, entry)
        try:
            result = outcome(tree)
        except AssertionError as error:
            wrong.append((file, entry, str(error)))
            continue
        unclear = entry in ("file name", "stem", "uploaded") and not _unique(given)
        if (result == "read") == unclear:
            wrong.append((file, entry, result))
    assert wrong == []


def _unique(pictures: list[Picture]) -> bool:
    return len({Path(item.path).name for item in pictures}) == len(pictures)


# Masks, given an image's path within the images' folder.

MASKS: dict[str, tuple[Callable[[str], str], bool]] = {
    "alike": (lambda path: f"{path}.png", True),
    "tif": (lambda path: f"{path}.tif", True),
    "bmp": (lambda path: f"{path}.bmp", True),
    "behind": (lambda path: f"{path}_mask.png", True),
    "dotted": (lambda path: f"{path}.mask.png", True),
    "seg": (lambda path: f"{path}-seg.png", True),
    "camvid": (lambda path: f"{path}_L.png", True),
    "isic": (lambda path: f"{path}_Segmentation.png", True),
    "glued": (lambda path: f"{path}mask.png", True),
    "with the image's suffix": (lambda path: f"{path}.jpg.png", True),
    "before": (lambda path: re.sub(r"([^/]+)$", r"mask_\1.png", path), True),
    "unknown words": (lambda path: re.sub(r"([^/]+)$", r"v2-\1-final.png", path), True),
    "other case": (lambda path: f"{path.upper()}.PNG", True),
    "all in one folder": (lambda path: f"{Path(path).name}.png", True),
    "deeper": (lambda path: f"png/{path}_gt.png", True),
    "jpeg": (lambda path: f"{path}.jpg", False),
    "others": (lambda path: re.sub(r"([^/]+)$", r"frame.png", path), False),
    "numbers alone": (lambda path: re.sub(r"([^/]+)$", r"\g<1>_0.png", path), False),
}


@pytest.mark.parametrize("repeated", [False, True], ids=["names", "repeated names"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_with_every_kind_of_masks(tmp_path, layout, repeated):
    made = LAYOUTS[layout]
    tree = _tree(tmp_path / "set", made, repeated=repeated)
    tree.build()
    given = tree.pictures
    wrong = []
    for (kind, (mask, fits)), share in product(
        MASKS.items(), ("all",) if repeated else ("all", "half")
    ):
        tree.masks = tmp_path / f"masks {kind} {share}"
        names = [mask(item.path) for item in given]
        kept = [share == "all" or at % PER_KIND in (0, 1, 4, 5) for at in range(len(given))]
        tree.pictures = [
            replace(item, mask=name if keep else None)
            for item, name, keep in zip(given, names, kept, strict=True)
        ]
        _touch(tree.masks / item.mask for item in tree.pictures if item.mask)
        unclear = len(set(names)) < len(names) or (
            kind == "all in one folder" and not _unique(given)
        )
        for tagged in (False, True):
            tree.settings = {"masks": str(Path("..") / tree.masks.name)}
            if tagged:
                _write_tags(tree, "csv", "path with suffix", several=False)
            elif made.stops or not made.folder_tags:
                continue
            tree.masks = tree.root / ".." / tree.masks.name
            try:
                result = outcome(tree)
            except AssertionError as error:
                wrong.append((kind, share, tagged, str(error)))
                continue
            if (result == "read") != (fits and not unclear):
                wrong.append((kind, share, tagged, result))
    assert wrong == []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_of_masks_that_does_not_exist_is_an_error_with_every_layout(tmp_path, layout):
    tree = _tree(tmp_path / "set", LAYOUTS[layout])
    tree.build()
    tree.settings = {"masks": "masks"}
    assert "masks is not a folder; set it to one of" in outcome(tree)
    (tmp_path / "set/Mask").mkdir()
    assert "masks is not a folder; did you mean 'Mask'?" in outcome(tree)
    _write_tags(tree, "csv", "path with suffix")
    tree.settings["masks"] = "Mask"
    assert "Mask holds no image" in outcome(tree)


# Oddities: what else lies there, which changes nothing, or is said.


def _link_class(tree: Tree) -> str:
    """The folder of the first image is a link to one elsewhere."""
    folder = (tree.folder / tree.pictures[0].path).parent
    if folder == tree.folder:
        return ""
    store = tree.root.with_name(f"{tree.root.name} store")
    folder.rename(store)
    folder.symlink_to(store)
    return ""


def _link_files(tree: Tree) -> str:
    for item in tree.pictures[:9]:
        path = tree.folder / f"{item.path}{item.suffix}"
        store = tree.root.with_name(f"{tree.root.name}_{path.name}")
        path.rename(store)
        path.symlink_to(store)
    return ""


def _link_in_circles(tree: Tree) -> str:
    folder = (tree.folder / tree.pictures[0].path).parent
    (folder / "again").symlink_to(tree.root)
    (folder / "above").symlink_to(tree.root.parent)
    (folder / "itself").symlink_to(folder / "itself")
    return "3 links are passed over"


def _link_twice(tree: Tree) -> str:
    first = tree.folder / f"{tree.pictures[0].path}{tree.pictures[0].suffix}"
    first.with_name("copy.jpg").symlink_to(first)
    if first.parent != tree.folder:
        first.parent.with_name("zz").symlink_to(first.parent)
        return "2 links are passed over"
    return "1 links are passed over"


def _suffixes(tree: Tree) -> str:
    suffixes = (".JPG", ".jfif", ".bmp", ".ppm", ".jp2", ".tga", ".TIFF", ".webp", ".dib", ".mpo")
    for at, item in enumerate(tree.pictures):
        old = tree.folder / f"{item.path}{item.suffix}"
        item.suffix = suffixes[at % len(suffixes)]
        old.rename(tree.folder / f"{item.path}{item.suffix}")
    return ""


def _clutter(tree: Tree) -> str:
    folder = (tree.folder / tree.pictures[0].path).parent
    names = ("Thumbs.db", ".DS_Store", "._cat_0.jpg", "desktop.ini", "notes.txt", "README", "x.xml")
    folders = ("@eaDir/a.jpg", "__MACOSX/._a.jpg", ".ipynb_checkpoints/a.jpg")
    _touch(folder / name for name in (*names, *folders))
    return ""


def _other_kinds(tree: Tree) -> str:
    folder = (tree.folder / tree.pictures[0].path).parent
    _touch(folder / name for name in ("a.heic", "b.HEIC", "c.mp4", "d", "e.npy"))
    return "5 files are of kinds that are not read: 2 .heic in"


def _all_of_a_kind(tree: Tree) -> str:
    """All dogs are photographs of a kind that is not read: the class vanishes."""
    for item in tree.pictures:
        if item.tags == {"dog"}:
            path = tree.folder / f"{item.path}{item.suffix}"
            path.rename(path.with_suffix(".heic"))
    tree.pictures = [item for item in tree.pictures if item.tags != {"dog"}]
    return ".heic"


def _masks_beside(tree: Tree) -> str:
    first = tree.folder / tree.pictures[0].path
    _touch([first.with_name(f"{first.name}_mask.png")])
    return "stop: 1 images look like the masks of others"


def _same_name(tree: Tree) -> str:
    _touch([(tree.folder / tree.pictures[0].path).with_name(f"{_name(tree, 0)}.webp")])
    return "stop: have the same name; rename or remove one"


def _name(tree: Tree, at: int) -> str:
    return Path(tree.pictures[at].path).name


ODDITIES = (
    *(_link_class, _link_files, _link_in_circles, _link_twice, _suffixes, _clutter, _other_kinds),
    *(_all_of_a_kind, _masks_beside, _same_name),
)


@pytest.mark.parametrize("oddity", ODDITIES, ids=lambda oddity: oddity.__name__.strip("_"))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_with_every_oddity(tmp_path, layout, oddity):
    made = LAYOUTS[layout]
    if made.images == ".":  # so that the file of tags is no file among the images
        made = replace(made, images="set of images")
    tree = _tree(tmp_path / "set", made)
    tree.build()
    said = oddity(tree)
    for tagged in (False, True):
        if tagged:
            _write_tags(tree, "csv", "path with suffix", several=False)
        elif made.stops or not made.folder_tags:
            continue
        if said.startswith("stop: "):
            assert said.removeprefix("stop: ") in outcome(tree)
            continue
        assert outcome(tree) == "read"
        warnings = [text for text in tree.collect().warnings if "the test split" not in text]
        assert len(warnings) == (said != ""), warnings
        assert all(said in text for text in warnings)
