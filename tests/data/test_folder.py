"""Folders of images: every way to give tags and splits, and every way to get them wrong."""

import json
import unicodedata

import pytest
from PIL import Image

from wsss.config import ConfigError
from wsss.data.folder import Folder, FolderSettings


def _images(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3)).save(path)


def _collect(root, **settings):
    return Folder(FolderSettings(root=str(root), **settings)).collect(root / "scratch", 0)


def _tags(raw):
    return {
        sample.name: {raw.class_names[c - 1] for c in sample.class_ids}
        for samples in raw.splits.values()
        for sample in samples
    }


def test_tags_from_sub_folders(tmp_path):
    _images(
        tmp_path,
        "dog/1.jpg",
        "dog/old ones/2.png",
        "cät/1.JPG",
        "none/1.png",
        "loose.png",
        "dog/.hidden.png",
    )
    (tmp_path / "dog/notes.txt").write_text("no image")
    raw = _collect(tmp_path)
    assert raw.class_names == ("cät", "dog")
    assert _tags(raw) == {
        "dog/1": {"dog"},
        "dog/old ones/2": {"dog"},
        "cät/1": {"cät"},
        "none/1": set(),
    }
    assert [problem.name for problem in raw.problems] == ["loose"]


def test_splits_from_sub_folders(tmp_path):
    _images(tmp_path, "train/dog/1.png", "val/dog/1.png", "selection/cat/1.png")
    raw = _collect(tmp_path)
    assert {
        split: [sample.name for sample in samples] for split, samples in raw.splits.items()
    } == {
        "train": ["train/dog/1"],
        "val": ["val/dog/1"],
        "selection": ["selection/cat/1"],
    }
    assert raw.class_names == ("cat", "dog")


def test_splits_from_lists(tmp_path):
    _images(tmp_path / "images", "a.png", "b.png", "c.png", "sub/ü d.png")
    (tmp_path / "tags.json").write_text(
        json.dumps({name: ["x"] for name in ("a", "b", "c", "sub/ü d")})
    )
    decomposed = unicodedata.normalize("NFD", "sub/ü d.png")
    (tmp_path / "val.txt").write_text(f"{decomposed}\n\n")
    (tmp_path / "sel.txt").write_text("b\r\n")
    raw = _collect(tmp_path, images="images", tags="tags.json", val="val.txt", selection="sel.txt")
    assert {
        split: [sample.name for sample in samples] for split, samples in raw.splits.items()
    } == {
        "train": ["a", "c"],
        "val": ["sub/ü d"],
        "selection": ["b"],
    }
    (tmp_path / "val.txt").write_text("nobody.png\n")
    with pytest.raises(ValueError, match="nobody"):
        _collect(tmp_path, images="images", tags="tags.json", val="val.txt")
    (tmp_path / "val.txt").write_text("b.png\n")
    with pytest.raises(ValueError, match="in the val and in the selection list"):
        _collect(tmp_path, images="images", tags="tags.json", val="val.txt", selection="sel.txt")


def test_val_share(tmp_path):
    _images(tmp_path, *(f"x/{i}.png" for i in range(20)))
    raw = _collect(tmp_path, val_share=0.25)
    assert (len(raw.splits["train"]), len(raw.splits["val"])) == (15, 5)


CSV_LIST = "image,tags\na.png,dog; cat\nb,none\nsub/c.png,cat\n"
CSV_COLUMNS = "cat,image,dog\n1,a.png,1\n0,b,0\ntrue,c.png,\n"
JSON = '{"a": ["dog", "cat"], "b.png": [], "sub/c.png": ["cat"]}'


@pytest.mark.parametrize(
    ("file", "text"),
    [("t.csv", CSV_LIST), ("t.csv", "\ufeff" + CSV_LIST), ("t.csv", CSV_COLUMNS), ("t.json", JSON)],
)
def test_tags_from_a_file(tmp_path, file, text):
    _images(tmp_path, "a.png", "b.png", "sub/c.png")
    (tmp_path / file).write_text(text, encoding="utf-8")
    raw = _collect(tmp_path, tags=file)
    assert _tags(raw) == {"a": {"cat", "dog"}, "b": set(), "sub/c": {"cat"}}
    assert raw.class_names == ("cat", "dog")
    assert not raw.problems


def test_classes_fix_the_ids_and_one_class_will_do(tmp_path):
    _images(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "t.csv").write_text("image,tags\na,smoke\nb,none\nc,smoke\n")
    raw = _collect(tmp_path, tags="t.csv", classes=["smoke"])
    assert raw.class_names == ("smoke",)
    assert _tags(raw) == {"a": {"smoke"}, "b": set(), "c": {"smoke"}}
    raw = _collect(tmp_path, tags="t.csv", classes=["fire", "smoke"])
    assert {sample.class_ids for samples in raw.splits.values() for sample in samples} == {(2,), ()}


def test_images_and_rows_without_one_another_are_listed(tmp_path):
    _images(tmp_path, "a.png", "b.png", "c.png", "d.png")
    (tmp_path / "t.csv").write_text("image,tags\na,x\nghost.png,x\nc,\nd,x\n")
    raw = _collect(tmp_path, tags="t.csv")
    reasons = {problem.name: problem.reason for problem in raw.problems}
    assert reasons.keys() == {"b", "c", "ghost.png"}
    assert "does not have it" in reasons["b"]
    assert "write 'none'" in reasons["c"]  # blank may mean forgotten
    assert "no such image" in reasons["ghost.png"]
    assert _tags(raw).keys() == {"a", "d"}


def test_unknown_tag(tmp_path):
    _images(tmp_path, "a.png", "b.png")
    (tmp_path / "t.csv").write_text("image,tags\na,dgo\nb,dog\n")
    with pytest.raises(ValueError, match=r"'dgo' .*'a'.*did you mean 'dog'"):
        _collect(tmp_path, tags="t.csv", classes=["cat", "dog"])


def test_same_name_twice(tmp_path):
    _images(tmp_path, "x/a.png", "x/a.jpg", "x/b.png")
    with pytest.raises(ValueError, match=r"a\.jpg and .*a\.png have the same name"):
        _collect(tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must begin with a header"),
        ("what,else,more\n1,2,3\n", "its columns, what, else, more, none is called image"),
        ("image,tags\na,x;y\na,z\n", "line 3: 'a' has other tags .* 'a', x, y"),
        ("image,tags\na,x;y\na.png,y\n", "line 3: 'a.png' has other tags .* 'a', x, y"),
        ("image,x,y\na,1,0\na,0,1\n", "line 3: 'a' has a line already"),
        ("image,tags\na,x,y\n", "line 2: 3 values, but 2 columns"),
        ("image,dog\na,2\n", "line 2: column 'dog' holds '2'"),
    ],
)
def test_bad_csv(tmp_path, text, reason):
    _images(tmp_path, "a.png", "b.png")
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=reason):
        _collect(tmp_path, tags="t.csv")


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"a": {"b": "c"}}', '{"a": [1]}', '{"a": [["x"]]}', '{"a": true}']
)
def test_bad_json(tmp_path, text):
    _images(tmp_path, "a.png")
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(ValueError, match=r"t\.json"):
        _collect(tmp_path, tags="t.json")


def test_a_file_name_that_two_images_share_means_neither(tmp_path):
    _images(tmp_path, "x/a.png", "y/a.png", "z.png", "sub/w.png")
    (tmp_path / "t.json").write_text('{"a.png": ["t"], "z": ["t"], "w.png": ["t"]}')
    raw = _collect(tmp_path, tags="t.json")
    assert {problem.name for problem in raw.problems} == {"a.png", "x/a", "y/a"}
    assert _tags(raw).keys() == {"z", "sub/w"}


def test_masks_lie_parallel(tmp_path):
    _images(tmp_path, "dog/1.jpg", "dog/2.jpg", "masks/dog/1.png")
    raw = _collect(tmp_path, masks="masks")
    masks = {sample.name: sample.mask for samples in raw.splits.values() for sample in samples}
    assert masks == {"dog/1": tmp_path / "masks/dog/1.png", "dog/2": None}


def _mask_values(raw):
    return {
        sample.name: sample.mask_values for samples in raw.splits.values() for sample in samples
    }


def test_mask_values_leave_ids_as_they_are(tmp_path):
    _images(tmp_path, "dog/1.jpg", "dog/2.jpg", "masks/dog/1.png", "masks/dog/2.png")
    wanted = {0: 0, 1: 1, 255: 1}
    for meaning in (1, "dog"):
        raw = _collect(tmp_path, masks="masks", mask_values={255: meaning})
        assert _mask_values(raw) == {"dog/1": wanted, "dog/2": wanted}
    assert _mask_values(_collect(tmp_path, masks="masks")) == {"dog/1": {}, "dog/2": {}}


def test_mask_values_may_mean_each_image_s_own_tag(tmp_path):
    images = ("cat/1", "dog/1", "none/1")
    _images(tmp_path, *(f"{name}.jpg" for name in images), *(f"m/{name}.png" for name in images))
    raw = _collect(tmp_path, masks="m", mask_values={1: "tag"})
    assert _mask_values(raw) == {
        "cat/1": {0: 0, 1: 1, 2: 2, 255: 255},
        "dog/1": {0: 0, 1: 2, 2: 2, 255: 255},
        "none/1": {0: 0, 2: 2, 255: 255},  # where 1 may not occur
    }
    raw = _collect(tmp_path, masks="m", mask_values={255: "tag", 7: "cat", 8: 0, 9: 255})
    assert _mask_values(raw)["dog/1"] == {0: 0, 1: 1, 2: 2, 7: 1, 8: 0, 9: 255, 255: 2}
    (tmp_path / "t.json").write_text('{"cat/1": ["cat", "dog"], "dog/1": ["dog"], "none/1": []}')
    raw = _collect(tmp_path, images=".", masks="m", mask_values={1: "tag"}, tags="t.json")
    (problem,) = raw.problems
    assert problem.name == "cat/1"
    assert "it has 2 (cat, dog)" in problem.reason


@pytest.mark.parametrize("meaning", ["bird", 3, 254])
def test_mask_values_that_mean_no_class_are_refused(tmp_path, meaning):
    _images(tmp_path, "cat/1.jpg", "dog/1.jpg", "m/cat/1.png")
    with pytest.raises(ConfigError, match=rf"maps 255 to {meaning!r}.* 1 \(cat\), 2 \(dog\)"):
        _collect(tmp_path, masks="m", mask_values={255: meaning})


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(ConfigError, match="nowhere"):
        _collect(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="images"):
        _collect(tmp_path, images="images")
    with pytest.raises(ValueError, match="holds no image"):
        _collect(tmp_path)
    _images(tmp_path, "a.png")
    with pytest.raises(ConfigError, match=r"t\.csv"):
        _collect(tmp_path, tags="t.csv")
    with pytest.raises(ValueError, match=r"no image .* has a tag"):
        _collect(tmp_path)
    with pytest.raises(ConfigError, match="export WSSS_NO_SUCH"):
        _collect(tmp_path / "$WSSS_NO_SUCH")


@pytest.mark.parametrize("classes", [["a", "a"], ["none", "a"], [" "]])
def test_class_names_must_be_usable(classes):
    with pytest.raises(ValueError, match="classes"):
        FolderSettings(root=".", classes=classes)
