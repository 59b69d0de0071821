"""prepare_data on generated folders: what it keeps, converts, skips and refuses."""

import csv
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import Manifest, Paths, read_image, read_json, write_label_png
from wsss.config import ConfigError
from wsss.config.params import parse_params
from wsss.data import RawSample
from wsss.stages import _preparation, run_stage
from wsss.stages._preparation import Preparation


class Project:
    """A project folder, and beside it a source folder of images with CSV tags and masks."""

    def __init__(self, root: Path) -> None:
        self.paths = Paths(root / "project")
        self.source = root / "my söurce"
        self.tags: dict[str, str] = {}
        self.paths.root.mkdir()
        self.source.mkdir()

    def add(
        self, name: str, tag: str = "cat", *, mask: np.ndarray | None = None, **changes: object
    ) -> Path:
        """Save a 6 x 8 image, seeded by its name, under name.png unless `name` has a suffix."""
        path = self.source / "images" / (name if "." in name else f"{name}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(list(name.encode()))
        Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).save(path, **changes)
        self.tags[path.relative_to(self.source / "images").as_posix()] = tag
        if mask is not None:
            write_label_png(self.source / "masks" / f"{Path(name).with_suffix('')}.png", mask)
        return path

    def run(
        self, *, params: dict | None = None, prepare: dict | None = None, **dataset: object
    ) -> dict:
        with (self.source / "tags.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("image", "tags"), *self.tags.items()])
        settings = {
            "name": "folder",
            "root": str(self.source),
            "images": "images",
            "tags": "tags.csv",
        }
        if (self.source / "masks").is_dir():
            settings["masks"] = "masks"
        tree = {
            "prepare_data": {"dataset": settings | dataset, **(prepare or {})},
            "make_pseudo_masks": {"chain": "none", "threshold": "usual"},
            **(params or {}),
        }
        run_stage("prepare_data", parse_params(tree), self.paths)
        return read_json(self.paths.report("prepare_data"))

    def manifest(self) -> Manifest:
        return Manifest.read(self.paths.splits)

    def untouched(self) -> bool:
        """No out and no scratch."""
        paths = self.paths
        outs = (paths.images, paths.masks, paths.splits, *paths.annotations.glob("[!.]*"))
        return (
            not any(out.exists() for out in outs)
            and not (self.paths.root / "data/.prepare_data.scratch").exists()
        )


MASK = np.zeros((6, 8), np.uint8)


@pytest.fixture
def project(tmp_path):
    made = Project(tmp_path)
    for index in range(10):
        made.add(f"pic {index}", "cat" if index % 2 else "dog;cat", mask=MASK + index % 3)
    return made


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_images_masks_and_manifest_agree(project):
    before = _files(project.source)
    report = project.run()
    manifest = project.manifest()
    samples = manifest.all_samples()
    assert manifest.class_names == ("cat", "dog")
    assert sorted(sample.name for sample in samples) == [f"pic {index}" for index in range(10)]
    assert {split: len(item) for split, item in manifest.splits.items()} == {
        "train": 7,
        "selection": 1,
        "val": 2,
    }
    for sample in samples:
        assert sample.class_ids == ((1,) if int(sample.name[-1]) % 2 else (1, 2))
        assert (
            read_image(project.paths.images / sample.image).shape == (*sample.size, 3) == (6, 8, 3)
        )
        assert (project.paths.images / sample.image).read_bytes() == before[
            f"images/{sample.image}"
        ]
        assert (project.paths.masks / sample.mask).read_bytes() == before[f"masks/{sample.mask}"]
    assert _files(project.paths.images).keys() == {sample.image for sample in samples}
    assert _files(project.paths.masks).keys() == {sample.mask for sample in samples}
    assert report["splits"]["train"]["images"] == 7
    assert report["splits"]["train"]["images_per_class"]["cat"] == 7
    assert report["num_skipped"] == 0
    after = _files(project.source)
    assert {item: after[item] for item in before} == before
    assert after.keys() - before.keys() == {"tags.csv"}  # by this test
    assert {path.name for path in (project.paths.root / "data").iterdir()} == {
        "annotations",
        "images",
        "masks",
        "splits",
    }


def test_two_runs_give_the_same_bytes(project):
    project.run()
    first = _files(project.paths.root)
    project.run()
    assert _files(project.paths.root) == first


def test_names_with_spaces_letters_and_folders(project):
    project.add("süb folder/größe 日本.jpg", mask=MASK)
    project.run()
    sample = next(sample for sample in project.manifest().all_samples() if "/" in sample.name)
    assert sample.name == "süb folder/größe 日本"
    assert (project.paths.images / sample.image).is_file()
    assert (project.paths.masks / sample.mask).is_file()


def test_conversions_are_counted(project):
    Image.new("L", (8, 6)).save(project.add("grey"))
    Image.new("RGBA", (8, 6)).save(project.add("alpha"))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = project.add("turned.jpg", exif=exif)
    with Image.open(turned) as image:
        assert image.size == (8, 6)
    write_label_png(project.source / "masks/turned.png", np.zeros((8, 6), np.uint8))
    report = project.run()
    assert report["conversions"] == {"alpha": 1, "grey": 1, "rotated": 1}
    sizes = {sample.name: sample.size for sample in project.manifest().all_samples()}
    assert sizes["turned"] == (8, 6)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _spoil(project: Project, how: str) -> str:
    path = project.add("bad", mask=MASK)
    mask = project.source / "masks/bad.png"
    if how == "unreadable":
        path.write_bytes(b"no image")
    elif how == "truncated":
        _truncate(path)
    elif how == "mask of another size":
        write_label_png(mask, np.zeros((5, 8), np.uint8))
    elif how == "mask with unknown values":
        write_label_png(mask, MASK + 7)
    elif how == "mask in colour":
        Image.new("RGB", (8, 6), "red").save(mask)
    elif how == "mask unreadable":
        mask.write_bytes(b"")
    elif how == "no tags":
        del project.tags["bad.png"]
    elif how == "blank tags":
        project.tags["bad.png"] = ""
    elif how == "no image":
        path.unlink()
        return "bad.png"
    return "bad"


HOW = [
    *(
        "unreadable",
        "truncated",
        "mask of another size",
        "mask with unknown values",
        "mask in colour",
    ),
    *("mask unreadable", "no tags", "blank tags", "no image"),
]


@pytest.mark.parametrize("how", HOW)
def test_bad_ones_are_skipped_and_listed(project, how):
    name = _spoil(project, how)
    report = project.run(prepare={"max_skipped_share": 0.2})
    assert report["num_skipped"] == 1
    assert report["skipped"][0]["name"] == name
    assert report["skipped"][0]["reason"]
    assert len(project.manifest().all_samples()) == 10
    assert not [file for file in _files(project.paths.root / "data") if "bad" in file]


@pytest.mark.parametrize("how", HOW)
def test_bad_ones_can_be_errors(project, how):
    name = _spoil(project, how)
    with pytest.raises(ValueError, match=f"(?s)unusable images: 1:.*{name}.*on_bad_image"):
        project.run(prepare={"on_bad_image": "error"})
    assert project.untouched()


def test_too_many_skipped(project):
    _spoil(project, "truncated")
    with pytest.raises(ValueError, match=r"(?s)1 of 11 images.*max_skipped_share = 0.05.*bad"):
        project.run(prepare={"max_skipped_share": 0.05})
    assert project.untouched()


def test_no_usable_image_in_a_split(project):
    _truncate(project.source / "images/pic 3.png")
    (project.source / "val.txt").write_text("pic 3\n")
    with pytest.raises(ValueError, match="no usable image is left for the val split"):
        project.run(prepare={"max_skipped_share": 1}, val="val.txt")


def test_zero_images(project):
    shutil.rmtree(project.source / "images")
    (project.source / "images").mkdir()
    with pytest.raises(ValueError, match="holds no image"):
        project.run()
    assert project.untouched()


def test_one_class_with_and_without(project):
    for index, name in enumerate(project.tags):
        project.tags[name] = "none" if index % 3 else "smoke"
    for name, tag in project.tags.items():
        write_label_png(project.source / "masks" / name, MASK + (tag == "smoke"))
    report = project.run(classes=["smoke"])
    counts = report["splits"].values()
    assert sum(count["images_per_class"]["smoke"] for count in counts) == 4
    assert sum(count["without_tag"] for count in counts) == 6


def test_black_and_white_masks_are_mapped(project):
    """255 would mean ignored: all foreground would silently drop out of the scores."""
    for name in project.tags:
        project.tags[name] = "smoke"
    for path in (project.source / "masks").iterdir():
        Image.fromarray(MASK + np.where(np.arange(8) < 3, 255, 0).astype(np.uint8)).save(path)
    project.run(mask_values={"255": 1})
    for sample in project.manifest().all_samples():
        mask = np.asarray(Image.open(project.paths.masks / sample.mask))
        np.testing.assert_array_equal(mask, MASK + (np.arange(8) < 3))
    with pytest.raises(ValueError, match=r"maps 255 to 2, which is no class"):
        project.run(mask_values={"255": 2})


def test_a_class_without_training_image_is_named(project, caplog):
    project.run(classes=["cat", "dog", "yak"])
    assert any("'yak' has no training image" in record.message for record in caplog.records)


def test_single_label_needs_one_tag_each(project):
    with pytest.raises(ValueError, match=r"single_label.*5 of 10 images.*'pic 0' with 2"):
        project.run(params={"train_classifier": {"loss": "single_label"}})
    assert project.untouched()


@pytest.mark.parametrize("doubt", ["cat:0.8", "cat;?"])
def test_single_label_needs_tags_that_are_certain(project, doubt):
    for name in project.tags:
        project.tags[name] = "cat"
    project.tags["pic 3.png"] = doubt
    params = {"train_classifier": {"loss": "single_label"}}
    with pytest.raises(ConfigError, match=r"certain, but those of 1 of 10 images .*'pic 3'"):
        project.run(params=params, classes=["cat", "dog"])
    assert project.untouched()


def test_what_is_unknown_and_uncertain_reaches_manifest_and_report(project, caplog):
    project.add("doubt", "dog:0.25;?")
    project.add("likely", "cat:0.75")
    project.add("nobody knows", "?")
    caplog.set_level("INFO")
    train = [f"pic {index}" for index in range(10)]
    lists = {"val": train[:3], "selection": train[3:6]}
    for name, images in lists.items():
        (project.source / f"{name}.txt").write_text("\n".join(images))
    report = project.run(val="val.txt", selection="selection.txt")
    samples = {sample.name: sample for sample in project.manifest().splits["train"]}
    assert samples["doubt"].class_ids == () and samples["likely"].class_ids == (1,)
    assert samples["doubt"].uncertain == ((1, None), (2, 0.25))
    assert samples["likely"].uncertain == ((1, 0.75),)
    assert samples["nobody knows"].uncertain == ((1, None), (2, None))
    found = report["splits"]["train"]
    assert found["without_tag"] == 0
    assert found["unknown_per_class"] == {"cat": 2, "dog": 1}
    assert found["uncertain_per_class"] == {"cat": 1, "dog": 1}
    assert "unknown_per_class" not in report["splits"]["val"]
    assert "unknown is cat 2, dog 1, uncertain is cat 1, dog 1" in caplog.text
    assert any("2 images with classes that nobody knows of" in text for text in report["warnings"])


def test_a_given_mask_settles_what_nobody_knows_and_contradicts_no_doubt(project):
    for name in project.tags:
        project.tags[name] = "dog:0.25;?"  # masks show nothing, cats or dogs
    for index, tag in ((0, "none"), (3, "none"), (7, "cat"), (8, "dog")):
        project.tags[f"pic {index}.png"] = tag
    lists = {"val": ["pic 1"], "selection": ["pic 0", "pic 2"]}
    for name, images in lists.items():
        (project.source / f"{name}.txt").write_text("\n".join(images))
    settings = {"val": "val.txt", "selection": "selection.txt", "classes": ["cat", "dog"]}
    project.run(prepare={"pixel_labels": ["pic 2", "pic 4", "pic 5"]}, **settings)
    samples = {sample.name: sample for sample in project.manifest().all_samples()}
    assert samples["pic 2"].class_ids == (2,) and not samples["pic 2"].uncertain
    assert samples["pic 4"].class_ids == (1,) and not samples["pic 4"].uncertain
    assert samples["pic 5"].class_ids == (2,) and not samples["pic 5"].uncertain
    for name in ("pic 1", "pic 6", "pic 9"):  # val, and masks that nobody gave
        assert samples[name].uncertain == ((1, None), (2, 0.25))


def test_selecting_a_threshold_needs_masks(project):
    pseudo = {"make_pseudo_masks": {"chain": "none", "threshold": "selected"}}
    project.run(params=pseudo)
    shutil.rmtree(project.source / "masks")
    with pytest.raises(ValueError, match=r"no selection image has a mask.*set it to usual"):
        project.run(params=pseudo)
    project.run(params={"make_pseudo_masks": {"chain": "none", "threshold": "usual"}})
    assert {sample.mask for sample in project.manifest().all_samples()} == {None}
    for background in ("power", "object"):  # which have no threshold
        own = {"chain": "none", "background": background, "object_source": "maps"}
        project.run(params={"make_pseudo_masks": own, "further_cams": {"maps": {}}})


def test_full_disk_is_told_before_copying(project, monkeypatch):
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**30, 2**30 - 5, 5)
    )
    with pytest.raises(ValueError, match=r"0 MiB free, but .* takes about"):
        project.run()
    assert project.untouched()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_write_permission_by_mode(project):
    (project.paths.root / "data").mkdir()
    (project.paths.root / "data").chmod(0o555)
    with pytest.raises(ValueError, match="cannot be written to"):
        project.run()


def test_no_write_permission(project):
    """A file where a folder should be fails for root too."""
    (project.paths.root / "data").write_text("")
    with pytest.raises(ValueError, match="data cannot be written to"):
        project.run()


@pytest.mark.parametrize("kill_at", [0, 4])
def test_a_killed_run_is_continued(project, monkeypatch, kill_at):
    """Nothing half-done is taken over, and what was done is not done again."""
    project.run()
    expected = _files(project.paths.root)
    shutil.rmtree(project.paths.root / "data")
    calls: list[str] = []
    prepare_image = _preparation.prepare_image

    def dying(source, folder, name, rules):
        if len(calls) == kill_at:
            raise KeyboardInterrupt
        calls.append(name)
        return prepare_image(source, folder, name, rules=rules)

    monkeypatch.setattr(_preparation, "prepare_image", dying)
    monkeypatch.setattr(_preparation, "usable_cores", lambda: 0)  # one thread
    with pytest.raises(KeyboardInterrupt):
        project.run()
    assert project.untouched()
    first, calls[:] = set(calls), []
    monkeypatch.setattr(
        _preparation,
        "prepare_image",
        lambda *a, **k: (calls.append(a[2]), prepare_image(*a, **k))[1],
    )
    project.run()
    assert _files(project.paths.root) == expected
    assert len(first | set(calls)) == 10
    assert len(calls) <= 10 - max(0, kill_at - 1)


def test_a_source_that_changed_after_a_kill_is_read_again(project, monkeypatch):
    monkeypatch.setattr(Manifest, "write", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        project.run()
    monkeypatch.undo()
    Image.new("RGB", (8, 6), "red").save(project.source / "images/pic 5.png")
    project.run()
    assert (read_image(project.paths.images / "pic 5.png") == [255, 0, 0]).all()


def test_a_name_in_two_splits(tmp_path):
    voc = tmp_path / "VOC2012"
    for folder in ("JPEGImages", "ImageSets/Segmentation"):
        (voc / folder).mkdir(parents=True)
    for name in "abc":
        Image.new("RGB", (4, 4)).save(voc / f"JPEGImages/{name}.jpg")
    (voc / "image_labels.json").write_text('{"a": [1], "b": [2], "c": [2]}')
    (voc / "ImageSets/Segmentation/train_aug.txt").write_text("a\nb\nc\n")
    (voc / "ImageSets/Segmentation/val.txt").write_text("c\n")
    tree = {
        "prepare_data": {"dataset": {"name": "pascal_voc", "root": str(voc)}},
        "make_pseudo_masks": {"chain": "none", "threshold": "usual"},
    }
    (tmp_path / "project").mkdir()
    with pytest.raises(ValueError, match="'c' occurs twice"):
        run_stage("prepare_data", parse_params(tree), Paths(tmp_path / "project"))


def test_synthetic_set(tmp_path):
    tree = {
        "prepare_data": {
            "dataset": {"name": "synthetic", "num_train": 20, "num_val": 5, "image_size": [48, 48]}
        },
        "make_pseudo_masks": {"chain": "none"},
    }
    run_stage("prepare_data", parse_params(tree), Paths(tmp_path))
    manifest = Manifest.read(tmp_path / "data/splits")
    assert {split: len(item) for split, item in manifest.splits.items()} == {
        "train": 18,
        "selection": 2,
        "val": 5,
    }
    outs = {"annotations", "images", "masks", "splits"}
    assert {path.name for path in (tmp_path / "data").iterdir()} == outs


def _background(project: Project, *names: str) -> str:
    """Images of anything but the classes, in a folder beside the source."""
    folder = project.source.parent / "söme fields"
    for index, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (5 + index, 4), (index, 90, 0)).save(folder / name)
    return str(folder)


def test_background_images_are_a_list_of_their_own(project, monkeypatch):
    folder = _background(project, "b.png", "deep/er/a.jpg", "pic 3.png")
    monkeypatch.setenv("WSSS_TEST_FIELDS", folder)
    without = project.run()
    outs = _files(project.paths.root / "data")
    report = project.run(prepare={"background_images": "$WSSS_TEST_FIELDS"})
    manifest = project.manifest()
    names = ["background/b", "background/deep/er/a", "background/pic 3"]
    assert [item.name for item in manifest.background] == names
    assert [item.image for item in manifest.background] == [
        f"{names[0]}.png",
        f"{names[1]}.jpg",
        f"{names[2]}.png",
    ]
    assert [item.size for item in manifest.background] == [(4, 5), (4, 6), (4, 7)]
    assert {(sample.class_ids, sample.mask) for sample in manifest.background} == {((), None)}
    assert len(manifest.all_samples()) == 10
    told = {"background_images": 3, "warnings": report["warnings"]}  # that a class is everywhere
    assert report == without | told
    after = _files(project.paths.root / "data")
    assert {name: after[name] for name in outs} == outs  # the rest is as without them
    assert after.keys() - outs.keys() == {
        "splits/background.jsonl",
        *(f"images/{item.image}" for item in manifest.background),
    }


def test_background_max(project):
    folder = _background(project, *(f"{index}.png" for index in range(6)))
    report = project.run(prepare={"background_images": folder, "background_max": 2})
    assert report["background_images"] == len(project.manifest().background) == 2


def test_background_needs_no_tag_for_a_single_label(project):
    folder = _background(project, "a.png")
    for name in project.tags:
        project.tags[name] = "cat"
    project.run(
        params={"train_classifier": {"loss": "single_label"}},
        prepare={"background_images": folder},
        masks=None,
    )


def test_images_are_not_background_and_the_data_set_s_own_at_once(project, tmp_path):
    for index in range(20):
        project.add(f"field/{index}", "none")
    linked = tmp_path / "linked"
    linked.symlink_to(project.source / "images/field")
    for folder in (project.source / "images/field", linked):
        with pytest.raises(
            ConfigError,
            match=r"prepare_data.background_images has 20 images .*prepare_data.dataset.empty_tag",
        ):
            project.run(prepare={"background_images": str(folder)})


def test_bad_background_images_are_skipped_like_others(project):
    folder = Path(_background(project, "a.png", "b.png"))
    _truncate(folder / "a.png")
    prepare = {"background_images": str(folder), "max_skipped_share": 0.2}
    report = project.run(prepare=prepare)
    assert [item["name"] for item in report["skipped"]] == ["background/a"]
    assert [item.name for item in project.manifest().background] == ["background/b"]
    shutil.rmtree(project.paths.root / "data")
    (folder / "b.png").write_bytes(b"")
    with pytest.raises(ValueError, match="no usable image is left for the background"):
        project.run(prepare=prepare)


def test_a_background_folder_without_images_is_told_before_the_data_is_read(project):
    shutil.rmtree(project.source / "images")  # reading it would be an error too
    folder = project.source.parent / "nothing"
    prepare = {"background_images": str(folder)}
    with pytest.raises(
        ValueError, match=r"prepare_data.background_images: .*nothing is not a folder"
    ):
        project.run(prepare=prepare)
    folder.mkdir()
    with pytest.raises(ValueError, match="nothing holds no image"):
        project.run(prepare=prepare)
    assert project.untouched()


def test_a_data_set_with_a_folder_named_background(project):
    project.add("background/a", mask=MASK)
    project.run()
    with pytest.raises(ValueError, match=r"'background/a' occurs twice.*rename the folder"):
        project.run(prepare={"background_images": _background(project, "a.png")})


def test_no_training_image_with_a_tag(project):
    for name in project.tags:
        project.tags[name] = "none"
    (project.source / "val.txt").write_text("pic 3\npic 4\n")
    project.tags["pic 3.png"] = "cat"
    with pytest.raises(ValueError, match="none of the 7 training images has a tag"):
        project.run(val="val.txt")
    assert project.untouched()


def test_no_tag_is_left_after_skipping(project):
    for name in project.tags:
        project.tags[name] = "none"
    (project.source / "val.txt").write_text("pic 3\n")
    (project.source / "sel.txt").write_text("pic 4\n")
    project.tags["pic 1.png"] = "cat"
    project.tags["pic 3.png"] = "dog"
    _truncate(project.source / "images/pic 1.png")
    with pytest.raises(ValueError, match="no usable training image with a tag is left"):
        project.run(
            val="val.txt", selection="sel.txt", masks=None, prepare={"max_skipped_share": 1}
        )


def test_classes_with_few_images_are_named_by_what_is_left(project):
    (project.source / "val.txt").write_text("pic 3\n")
    (project.source / "sel.txt").write_text("pic 4\n")
    project.tags["pic 1.png"] = "cat;emu"
    lists = {"val": "val.txt", "selection": "sel.txt"}
    said = "\n".join(project.run(classes=["cat", "dog", "emu", "yak"], **lists)["warnings"])
    assert "class 'emu' has a single training image" in said
    assert "class 'yak' has no training image" in said
    _truncate(project.source / "images/pic 1.png")
    report = project.run(classes=["cat", "dog", "emu"], prepare={"max_skipped_share": 1}, **lists)
    said = "\n".join(report["warnings"])
    assert "class 'emu' has no training image: it cannot be learned" in said


def test_pets_get_the_class_of_their_image(tmp_path):
    pets = tmp_path / "pets"
    (pets / "images").mkdir(parents=True)
    lines = []
    trimap = np.array([[1, 1, 2, 3]] * 4, np.uint8)
    for index in range(12):
        breed, species = ("Bengal", "1 1") if index % 2 else ("beagle", "2 2")
        name = f"{breed}_{index}"
        lines.append(f"{name} {species} 1")
        Image.new("RGB", (4, 4), (index, 0, 0)).save(pets / f"images/{name}.jpg")
        write_label_png(pets / f"annotations/trimaps/{name}.png", trimap)
    Image.new("P", (4, 4)).save(pets / "images/beagle_0.jpg", format="GIF")
    write_label_png(pets / "annotations/trimaps/Bengal_1.png", trimap - 1)
    (pets / "annotations/list.txt").write_text("\n".join(lines))
    paths = Paths(tmp_path / "project")
    tree = {
        "prepare_data": {
            "dataset": {"name": "oxford_pet", "root": str(pets)},
            "max_skipped_share": 0.1,
        },
        "make_pseudo_masks": {"chain": "none"},
    }
    run_stage("prepare_data", parse_params(tree), paths)
    report = read_json(paths.report("prepare_data"))
    assert [item["name"] for item in report["skipped"]] == ["Bengal_1"]
    assert "holds the value 0" in report["skipped"][0]["reason"]
    assert report["conversions"] == {"palette": 1}
    manifest = Manifest.read(paths.splits)
    assert len(manifest.all_samples()) == 11
    for sample in manifest.all_samples():
        class_id = 1 if sample.name.startswith("Bengal") else 2
        assert sample.class_ids == (class_id,)
        expected = np.array([[class_id, class_id, 0, 255]] * 4)
        np.testing.assert_array_equal(Image.open(paths.masks / sample.mask), expected)


def test_masks_are_mapped_again_where_their_meaning_changed(tmp_path, monkeypatch):
    """A list of breeds that is mended after a kill: what the killed run did is not trusted."""
    row = RawSample("a", tmp_path / "a.png", (1,), tmp_path / "m.png", {0: 0, 9: 1})
    Image.new("RGB", (8, 6)).save(row.image)
    write_label_png(row.mask, MASK + 9)
    for value in (1, 2):
        work = Preparation(2, tmp_path / "images", tmp_path / "masks", resumed=True)
        (tmp_path / "images").mkdir(exist_ok=True)
        work.all({"train": [replace(row, mask_values={0: 0, 9: value})]})
        assert (np.asarray(Image.open(tmp_path / "masks/a.png")) == value).all()
