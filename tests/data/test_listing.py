"""Listing images: what is read, what is followed, and what of the rest is said."""

import os
import sys

import pytest
from PIL import Image

from wsss.config import ConfigError
from wsss.data.listing import image_suffixes, list_images, missing_folder, some


def _touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_every_kind_of_file_that_pillow_writes_and_opens_is_listed(tmp_path):
    Image.init()
    wanted = set()
    for suffix, kind in Image.registered_extensions().items():
        if kind in Image.OPEN and kind in Image.SAVE and suffix not in (".mpg", ".mpeg"):
            name = f"of {suffix[1:]}"
            try:
                Image.new("L", (8, 8)).save(tmp_path / f"{name}{suffix}")
            except (OSError, ValueError):  # stubs, and modes that the kind cannot have
                continue
            wanted.add(name)
    assert len(wanted) > 25
    assert wanted <= list_images(tmp_path, "images").files.keys()
    assert {".jpg", ".jfif", ".tif", ".webp", ".bmp", ".pbm", ".mpo"} <= image_suffixes()


def test_names_are_paths_without_suffix_in_order(tmp_path):
    _touch(tmp_path, "b/2.x.JPG", "b/10.png", "a.webp", "c/d/é.tif", ".git/x.png", "b/.x.png")
    listing = list_images(tmp_path, "images")
    assert list(listing.files) == ["a", "b/10", "b/2.x", "c/d/é"]
    assert listing.files["b/2.x"] == tmp_path / "b/2.x.JPG"
    assert not listing.warnings


def test_what_is_passed_over_is_counted_by_suffix_and_folder(tmp_path):
    _touch(tmp_path, "cat/1.jpg", "cat/a.heic", "cat/b.HEIC", "dog/1.jpg", "dog/x.cr2", "dog/y")
    _touch(tmp_path, "dog/Thumbs.db", "notes.txt", "cat/1.xml", "dog/README", "clip.mp4")
    (warning,) = list_images(tmp_path, "images").warnings
    assert "5 files are of kinds that are not read: 2 .heic in cat, " in warning
    for part in ("1 .cr2 in dog", "1 without suffix in dog", "1 .mp4 in the folder itself"):
        assert part in warning
    assert "txt" not in warning


def test_folders_that_end_without_an_image_are_named_with_what_they_hold(tmp_path):
    _touch(tmp_path, "cat/1.jpg", "dog/a.heic", "dog/sub/b.heic", "labels/1.txt")
    (tmp_path / "bird").mkdir()
    (warning,) = list_images(tmp_path, "images").warnings
    assert "no image in 3 of its folders: bird, dog (only 2 .heic), labels (only 1 .txt)" in warning


def test_a_folder_without_any_image_says_what_it_holds(tmp_path):
    _touch(tmp_path, "cat/1.heic", "cat/2.heic", "all.zip")
    with pytest.raises(ValueError, match=r"holds no image \(only 2 .heic, 1 .zip\).*unpack or"):
        list_images(tmp_path, "images")


def test_links_are_followed_once_each_and_never_in_circles(tmp_path):
    root = tmp_path / "set"
    _touch(tmp_path, "store/cat/1.jpg", "store/cat/sub/2.jpg", "one.jpg")
    _touch(root, "dog/1.jpg")
    (root / "cat").symlink_to(tmp_path / "store/cat")
    (root / "cats").symlink_to(tmp_path / "store/cat")
    (tmp_path / "store/cat/up").symlink_to(root)
    (root / "dog/top").symlink_to("/")
    (root / "dog/2.jpg").symlink_to(tmp_path / "one.jpg")
    (root / "dog/3.jpg").symlink_to(tmp_path / "one.jpg")
    (root / "dog/4.jpg").symlink_to(root / "dog/1.jpg")
    (root / "dog/5.jpg").symlink_to(tmp_path / "gone.jpg")
    listing = list_images(root, "images")
    assert list(listing.files) == ["cat/1", "cat/sub/2", "dog/1", "dog/2"]
    (warning,) = listing.warnings
    assert "6 links are passed over" in warning
    for part in ("cats (also cat)", "dog/top (a circle)", "dog/3.jpg (also dog/2.jpg)"):
        assert part in warning
    assert "5.jpg (leads nowhere)" in list_images(root / "dog", "images").warnings[0]


def test_the_root_may_be_a_link_and_a_folder_is_left_out_by_what_it_is(tmp_path):
    _touch(tmp_path / "set", "cat/1.jpg", "masks/cat/1.png")
    (tmp_path / "link").symlink_to(tmp_path / "set")
    (tmp_path / "set/again").symlink_to(tmp_path / "set/masks")
    listing = list_images(tmp_path / "link", "images", without=[tmp_path / "set/masks"])
    assert list(listing.files) == ["cat/1"]
    assert not listing.warnings


def test_two_images_of_one_name_are_refused(tmp_path):
    _touch(tmp_path, "a/1.jpg", "a/1.png")
    with pytest.raises(ValueError, match=r"1\.jpg and .*1\.png have the same name"):
        list_images(tmp_path, "images")


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse such names")
def test_names_that_are_not_utf8_are_listed(tmp_path):
    (tmp_path / "cat").mkdir()
    name = os.fsdecode(b"cat/k\xe4tzchen")
    (tmp_path / f"{name}.jpg").touch()
    assert list(list_images(tmp_path, "images").files) == [name]


def test_a_folder_that_does_not_exist_is_suggested(tmp_path):
    for name in ("Masks", "images"):
        (tmp_path / name).mkdir()
    assert "did you mean 'Masks'?" in str(missing_folder(tmp_path / "masks", "key"))
    error = missing_folder(tmp_path / "zzz", "key")
    assert isinstance(error, ConfigError)
    assert str(error).startswith("key: ")
    assert "which has Masks, images" in str(error)


def test_long_lists_are_cut():
    assert some(["a", "b"], 2) == "a, b"
    assert some([str(at) for at in range(100)], 3) == "0, 1, 2 and 97 more"
