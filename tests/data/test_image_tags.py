"""Tags of images outside of any data set, in the files that people have."""

from pathlib import Path

import pytest

from wsss.data.image_tags import read_image_tags

CLASSES = ("cat", "dog", "emu")
FILES = {name: Path(f"photos/{name}.jpg") for name in ("a", "b/c", "d")}


def write(folder: Path, text: str, name: str = "tags.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tags.csv", "image,tags\na.jpg,cat;dog\nb/c.jpg,none\nd.jpg,emu\n"),
        ("tags.csv", "file,cat,dog,emu\na,1,1,0\nc.jpg,0,0,0\nd,0,0,1\n"),
        ("tags.csv", "image,label\na.jpg,1\na.jpg,2\nd.jpg,3\nb/c.jpg,none\n"),
        ("tags.json", '{"a.jpg": ["dog", "cat"], "b/c.jpg": [], "d.jpg": "emu"}'),
        ("tags.jsonl", '{"image": "a", "tags": ["cat", "dog"]}\n{"image": "d", "tags": "emu"}\n'
         '{"image": "b/c", "tags": []}'),
    ],
)  # fmt: skip
def test_files_that_folder_reads(tmp_path: Path, name: str, text: str) -> None:
    found, _ = read_image_tags(write(tmp_path, text, name), FILES, Path("photos"), CLASSES)
    assert found == {"a": ("cat", "dog"), "b/c": (), "d": ("emu",)}


def test_what_may_be_there_is_not_left_out(tmp_path: Path) -> None:
    text = "image,cat,dog,emu\na,0.2,0,?\nd,1,0,3/5\n"
    found, said = read_image_tags(write(tmp_path, text), FILES, Path("photos"), CLASSES)
    assert found == {"a": ("cat", "emu"), "d": ("cat", "emu"), "b/c": None}
    assert any("has no tags of 1 images" in line and "'b/c'" in line for line in said)
    text = "image,tags\na,emu;?\nb/c,cat\nd,dog\n"
    found, said = read_image_tags(write(tmp_path, text), FILES, Path("photos"), CLASSES)
    assert found["a"] == CLASSES


def test_entries_of_other_images_are_said(tmp_path: Path) -> None:
    text = "image,tags\na.jpg,cat\nb/c.jpg,cat\nd.jpg,cat\nz.jpg,dog\n"
    _, said = read_image_tags(write(tmp_path, text), FILES, Path("photos"), CLASSES)
    assert any("1 entries for other images: 'z.jpg'" in line for line in said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,tags\na.jpg,cta\n", r"tags 'a' with 'cta', which is no class.* did you mean 'cat'"),
        ("image,tags\nz.jpg,cat\n", "none of the 1 entries of .* is an image below photos"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_image_tags(write(tmp_path, text), FILES, Path("photos"), CLASSES)
    with pytest.raises(ValueError, match="there is no file of tags"):
        read_image_tags(tmp_path / "none.csv", FILES, Path("photos"), CLASSES)
