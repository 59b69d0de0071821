"""What prepare_data says of data that it takes, and refuses before the work is done."""

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image, ImageOps

from wsss.artifacts import Manifest, Paths, read_image, read_json, read_label_png
from wsss.config.params import parse_params
from wsss.data import RawDataset, RawSample
from wsss.pipeline.outcome import report_scores
from wsss.stages import _data_checks, _preparation, prepare_data, run_stage

NAMES = [f"{kind}/{kind}{at}" for kind in ("cat", "dog", "none") for at in range(8)]


class Folder:
    """Images in folders by class, and what prepare_data makes of them."""

    def __init__(self, root: Path, names: list[str] | None = None) -> None:
        self.data, self.paths = root / "data set", Paths(root / "project")
        self.paths.root.mkdir(parents=True)
        for name in NAMES if names is None else names:
            self.add(f"{name}.png")

    def add(self, name: str | bytes) -> Path:
        path = self.data / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(list(os.fsencode(name)))
        Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).save(path)
        return path

    def run(
        self,
        prepare: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        **dataset: Any,
    ) -> dict[str, Any]:
        settings = {"name": "folder", "root": str(self.data)} | dataset
        tree = {
            "prepare_data": {"dataset": settings, **(prepare or {})},
            "make_pseudo_masks": {"chain": "none", "threshold": 0.3},
            **(params or {}),
        }
        run_stage("prepare_data", parse_params(tree), self.paths)
        report: dict[str, Any] = read_json(self.paths.report("prepare_data"))
        return report

    def samples(self) -> dict[str, Any]:
        return {sample.name: sample for sample in Manifest.read(self.paths.splits).all_samples()}


# Names of files


NAMES_OF_FILES = {
    "of 250 bytes": b"n" * 246,
    "of 255 bytes": b"n" * 251,
    "with a line break": b"a\nb",
    "with control characters": b"a\x01b\x7f",
    "with blanks at its ends": b" a ",
    "with dots at its end": b"a..",
    "with quotes and signs": b"a'\"%?#*&|<>",
    "in another alphabet": "größe 日本 👍".encode(),
    "of decomposed letters": b"gro\xcc\x88sse",
}


@pytest.mark.parametrize("kind", NAMES_OF_FILES)
def test_every_legal_name_of_a_file_passes(kind, tmp_path):
    folder = Folder(tmp_path)
    name = NAMES_OF_FILES[kind]
    folder.add(b"cat/" + name + b".png")
    report = folder.run()
    assert report["num_skipped"] == 0
    sample = folder.samples()["cat/" + os.fsdecode(name)]
    assert (folder.paths.images / sample.image).is_file()


@pytest.mark.parametrize(
    ("name", "shown", "reason"),
    [
        (b"k\xe4tzchen.png", "cat/k\\xe4tzchen", "not UTF-8"),
        (b"\xff\xfe.png", "cat/\\xff\\xfe", "not UTF-8"),
        (b"n" * 252 + b".gz", None, None),  # no image
        (b"n" * 250 + b".jpeg", None, None),
    ],
)
def test_a_name_that_no_stage_can_write_is_skipped_and_listed(name, shown, reason, tmp_path):
    folder = Folder(tmp_path)
    path = folder.add("cat/plain.jpg")
    path.rename(path.parent / os.fsdecode(name))
    report = folder.run()
    assert [item["name"] for item in report["skipped"]] == ([shown] if shown else [])
    if shown:
        assert reason in report["skipped"][0]["reason"]
        assert any(shown in text for text in report["warnings"])


def test_a_name_is_as_long_as_stages_need(tmp_path):
    """A suffix of two letters leaves a name to which .npz cannot be added."""
    lists = {"train": [RawSample(f"a/{'n' * length}", tmp_path, ()) for length in (251, 252)]}
    kept, problems = _data_checks.without_unwritable(lists, tmp_path)
    assert [len(sample.name) for sample in kept["train"]] == [253]
    assert "252 bytes, but stages append 4" in problems[0].reason


def test_a_path_that_is_not_utf8_stops_no_message(tmp_path):
    """The folder's own name goes into reasons, the report and the log."""
    folder = Folder(tmp_path)
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/d\xe4ta")
    folder.data.rename(odd)
    folder.data = Path(odd)
    (folder.data / "cat/cat0.png").write_bytes(b"hello")
    report = folder.run()
    assert "d\\xe4ta/cat/cat0.png" in report["skipped"][0]["reason"]


# Names of classes


class Made:
    """A data set with the classes that a test wants."""

    def __init__(self, root: Path, *class_names: str) -> None:
        path = root / "a.png"
        Image.new("RGB", (8, 6)).save(path)
        everyone = range(1, len(class_names) + 1)
        tags = [(*everyone,), (), (*everyone,), (), (*everyone,), ()]
        samples = [RawSample(f"{at}", path, ids) for at, ids in enumerate(tags)]
        self.raw = RawDataset(class_names, {"train": samples[:4], "val": samples[4:]}, [])

    def collect(self, *_: Any) -> RawDataset:
        return self.raw


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """Runs prepare_data on a data set of classes."""

    def run(*class_names: str, **params: Any) -> Paths:
        made, paths = Made(tmp_path, *class_names), Paths(tmp_path / "project")
        monkeypatch.setattr(prepare_data.DATASETS, "build", lambda _: made)
        dataset = {"name": "folder", "root": str(tmp_path)}
        tree = {
            "prepare_data": {"dataset": dataset},
            "make_pseudo_masks": {"chain": "none", "threshold": 0.3},
        }
        run_stage("prepare_data", parse_params(tree | params), paths)
        return paths

    return run


@pytest.mark.parametrize("name", ["background", "Background", " background ", "ignored"])
def test_a_class_with_a_name_that_reports_use_is_refused(name, prepared):
    with pytest.raises(ValueError, match=r"a class is named .* prepare_data\.dataset\.empty_tag"):
        prepared("cat", name)


def test_a_folder_of_the_background_is_read_as_told(tmp_path):
    folder = Folder(tmp_path, [name.replace("none", "background") for name in NAMES])
    with pytest.raises(ValueError, match="a class is named 'background'") as refused:
        folder.run()
    line = re.search(r"set prepare_data\.dataset\.(empty_tag: '\w+')", str(refused.value))
    assert line
    report = folder.run(**yaml.safe_load(line[1]))
    assert report["splits"]["train"]["images_per_class"].keys() == {"cat", "dog"}


@pytest.mark.parametrize("name", ["a\nb", "a\x07", "a\u2028b", os.fsdecode(b"k\xe4tze")])
def test_a_class_with_a_name_that_no_report_can_hold_is_refused(name, prepared):
    with pytest.raises(ValueError, match="control characters"):
        prepared("cat", name)


@pytest.mark.parametrize("pair", [("cat", "Cat"), ("tv set", "tv  set"), ("ä", "Ä")])
def test_classes_that_differ_in_case_or_blanks_are_refused(pair, prepared):
    with pytest.raises(ValueError, match="differ in case or blanks only"):
        prepared(*pair)


WORDS = [
    *("mean", "mean_iou", "iou", "dice", "strict", "images", "threshold", "val", "train"),
    *("coverage", "all", "total", "name", "c++", "c--", "a/b", "..", "0", "true", "null", "🐈"),
]


def test_classes_named_as_words_of_reports_stay_apart(prepared):
    paths = prepared(*WORDS)
    report = read_json(paths.report("prepare_data"))
    assert list(report["splits"]["train"]["images_per_class"]) == sorted(WORDS)
    assert set(report["splits"]["train"]["images_per_class"].values()) == {1}
    assert Manifest.read(paths.splits).class_names == tuple(WORDS)
    values = {"protocol": {}, "val": {"mean_iou": 0.5, "iou": dict.fromkeys(WORDS, 0.25)}}
    assert len(report_scores(values)) == len(WORDS) + 1


# Settings that name classes


SETTINGS_OF_CLASSES: dict[str, dict[str, Any]] = {
    "evaluate.class_groups.pets": {"evaluate": {"class_groups": {"pets": ["cat", "dgo"]}}},
    "generate_cams.method.class_texts": {
        "generate_cams": {"method": {"name": "clip_es", "class_texts": {"dgo": "dog puppy"}}}
    },
    "further_cams.more.method.prompts": {
        "further_cams": {
            "more": {"method": {"name": "sam3", "checkpoint": "x", "prompts": {"dgo": "dog"}}}
        }
    },
}


@pytest.mark.parametrize("key", SETTINGS_OF_CLASSES)
def test_settings_that_name_no_class_stop_before_the_work(key, prepared, monkeypatch):
    monkeypatch.setattr(_preparation, "prepare_image", lambda *a, **k: 1 / 0)
    with pytest.raises(ValueError, match=rf"{key} names 'dgo', .* did you mean 'dog'\?"):
        prepared("cat", "dog", **SETTINGS_OF_CLASSES[key])


@pytest.mark.parametrize("group", [[], ["cat", "cat"]])
def test_a_group_without_classes_or_with_one_twice_is_refused(group, prepared):
    with pytest.raises(ValueError, match=r"class_groups\.odd must name each .* once"):
        prepared("cat", "dog", evaluate={"class_groups": {"odd": group}})


def test_many_mistakes_are_no_longer_than_a_screen(prepared):
    groups = {f"g{at}": [f"no class {at}"] for at in range(50)}
    with pytest.raises(ValueError, match="and 40 more") as refused:
        prepared(*(f"class {at}" for at in range(200)), evaluate={"class_groups": groups})
    assert len(str(refused.value)) < 8000
    assert len(str(refused.value).splitlines()) <= 20


# Numbers of images


def test_a_class_that_all_images_have_is_said(tmp_path):
    report = Folder(tmp_path, NAMES[:8]).run()
    assert any("class 'cat' has its tag on all" in text for text in report["warnings"])
    background = tmp_path / "fields"
    background.mkdir()
    Image.new("RGB", (8, 6)).save(background / "a.png")
    report = Folder(tmp_path / "with", NAMES[:8]).run({"background_images": str(background)})
    assert "warnings" not in report


def test_one_of_several_classes_that_all_images_have_is_said():
    counts = {"images": 9, "images_per_class": {"cat": 4, "dog": 9}}
    splits = {"train": counts, "selection": counts, "val": counts}
    (said,) = _data_checks.class_warnings(splits, background=False)
    assert said.startswith("class 'dog' has its tag on all 9 training images")
    assert _data_checks.class_warnings(splits, background=True) == []


def test_an_average_precision_that_means_nothing_is_said_of_its_split(tmp_path):
    folder = Folder(tmp_path)
    (folder.data / "sel.txt").write_text("cat/cat0.png\ncat/cat1.png\n")
    said = "\n".join(folder.run(selection="sel.txt")["warnings"])
    assert "class 'dog' has no selection image" in said
    assert "class 'cat' has its tag on all 2 selection images" in said


def test_the_last_lines_name_classes_with_their_counts(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    folder = Folder(tmp_path)
    (folder.data / "cat/cat0.png").write_bytes(b"hello")
    folder.run({"max_skipped_share": 0.5})
    lines = [record.message for record in caplog.records]
    at = next(at for at, line in enumerate(lines) if line.startswith("train: "))
    counts = re.compile(r"\d+ images, 0 with a mask; cat \d+, dog \d+, without any class \d+")
    for split, line in zip(("train", "selection", "val"), lines[at : at + 3], strict=True):
        assert counts.fullmatch(line.removeprefix(f"{split}: ")), line
    assert lines[-1].startswith("prepare_data: skipped images: 1:\n  cat/cat0: ")


def test_many_classes_are_cut_in_the_last_lines(prepared, caplog):
    caplog.set_level(logging.INFO)
    prepared(*(f"class {at}" for at in range(100)))
    (line,) = [item.message for item in caplog.records if item.message.startswith("train: ")]
    assert re.search(r"class 19 \d, and 80 more classes, without any class \d$", line)


# Pixels


def deep(folder: Folder, *names: str, factor: int = 1) -> None:
    """Let these images be TIFFs of 16 bits, with values up to 4095 times a factor."""
    for name in names:
        (folder.data / f"{name}.png").unlink(missing_ok=True)
        rng = np.random.default_rng(list(name.encode()))
        values = rng.integers(0, 4096, (6, 8, 3)).astype(np.uint16)
        values[0, 0] = 4095
        tifffile.imwrite(folder.data / f"{name}.tif", values * factor, photometric="rgb")


def test_sixteen_bits_of_which_few_are_used_stop_with_a_range_that_works(tmp_path):
    folder = Folder(tmp_path)
    deep(folder, *NAMES)
    with pytest.raises(ValueError, match="values up to 4095 only") as refused:
        folder.run()
    assert not folder.paths.images.exists()
    line = re.search(r"(pixel_range: \[.*?\])", str(refused.value))
    assert line
    report = folder.run(yaml.safe_load(line[1]))
    assert report["conversions"] == {"16-bit": len(NAMES)}
    assert not any("bits" in text for text in report.get("warnings", []))
    image = read_image(folder.paths.images / folder.samples()["cat/cat0"].image)
    assert image.max() == 255


def test_one_image_of_few_bits_is_skipped_and_listed(tmp_path):
    folder = Folder(tmp_path)
    deep(folder, "cat/cat0")
    report = folder.run()
    assert [item["name"] for item in report["skipped"]] == ["cat/cat0"]
    assert "cat/cat0" not in folder.samples()
    assert not (folder.paths.images / "cat/cat0.png").exists()


def test_a_dark_image_among_bright_ones_of_sixteen_bits_is_kept_and_said(tmp_path):
    folder = Folder(tmp_path)
    deep(folder, *NAMES[1:], factor=16)
    deep(folder, NAMES[0])
    report = folder.run()
    assert report["num_skipped"] == 0
    assert any(
        "1 of 24 images of more than 8 bits are nearly black or white" in w
        for w in report["warnings"]
    )


def test_a_range_too_wide_is_said(tmp_path):
    folder = Folder(tmp_path)
    deep(folder, *NAMES)
    report = folder.run({"pixel_range": [0, 65535]})
    assert any("24 of 24 images" in text and "to 4095;" in text for text in report["warnings"])


def test_a_range_below_all_values_is_said(tmp_path):
    folder = Folder(tmp_path)
    for name in NAMES:
        (folder.data / f"{name}.png").unlink()
        tifffile.imwrite(folder.data / f"{name}.tif", np.full((6, 8), 9000, np.uint16))
    report = folder.run({"pixel_range": [0, 255]})
    assert any(
        "24 of 24 images" in text and "black or white" in text for text in report["warnings"]
    )


def test_a_range_for_all_is_named_where_each_image_has_its_own(tmp_path):
    folder = Folder(tmp_path)
    for at, name in enumerate(NAMES):
        (folder.data / f"{name}.png").unlink()
        values = np.linspace(-at, 500 + at, 48, dtype=np.float32).reshape(6, 8)
        tifffile.imwrite(folder.data / f"{name}.tif", values)
    with pytest.raises(ValueError, match="no usable image") as refused:
        folder.run()
    assert "prepare_data.pixel_range: [-23, 523]" in str(refused.value).splitlines()[-1]
    assert folder.run({"pixel_range": [-23, 523]})["num_skipped"] == 0


def of_bands(folder: Folder, counts: Mapping[str, int]) -> None:
    """Let images be TIFFs with so many bands of 16 bits."""
    for name, count in counts.items():
        (folder.data / f"{name}.png").unlink(missing_ok=True)
        values = np.random.default_rng(count).integers(0, 10000, (6, 8, count), np.uint16)
        tifffile.imwrite(
            folder.data / f"{name}.tif", values, photometric="minisblack", planarconfig="contig"
        )


def test_files_without_the_bands_stop_before_any_image_is_read(tmp_path, monkeypatch):
    folder = Folder(tmp_path)
    of_bands(folder, dict.fromkeys(NAMES, 4))
    monkeypatch.setattr(_preparation, "prepare_image", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(
        ValueError, match=r"(?s)24 of 24 .*4 bands of uint16.*prepare_data.bands: \[0, 1"
    ):
        folder.run()
    with pytest.raises(
        ValueError,
        match=r"(?s)24 of 24 images cannot be used, as their headers tell:.*cat1.tif: it has the "
        r"bands 0 to 3, but prepare_data.bands is \[7, 2, 1\] and names 7",
    ):
        folder.run({"bands": [7, 2, 1]})


def test_a_file_without_the_bands_is_skipped_as_other_bad_ones_are(tmp_path):
    folder = Folder(tmp_path)
    of_bands(folder, {name: 4 if name == "cat/cat0" else 13 for name in NAMES})
    settings = {"bands": [7, 2, 1], "pixel_range": [0, 10000]}
    report = folder.run(settings)
    assert [item["name"] for item in report["skipped"]] == ["cat/cat0"]
    assert report["conversions"] == {"16-bit": 23, "TIFF": 23}
    with pytest.raises(ValueError, match=r"1 of 24 images cannot be used, as their headers tell"):
        folder.run({**settings, "on_bad_image": "error"})


@pytest.mark.parametrize(
    ("prepare", "rule"),
    [
        ({"pixel_range": [5, 5]}, "white is the larger"),
        ({"pixel_range": "all"}, "pixel_range"),
        ({"bands": [0, 1]}, "three bands"),
        ({"bands": []}, "bands"),
        ({"bands": [-1]}, "bands"),
        ({"turned_masks": "sideways"}, "turned_masks"),
    ],
)
def test_settings_of_pixels_that_mean_nothing_are_refused(prepare, rule, tmp_path):
    with pytest.raises(ValueError, match=rule):
        Folder(tmp_path, []).run(prepare)


# Images that EXIF turns


def turned_folder(
    root: Path, size: tuple[int, int], orientation: int, drawn: str, others: str = ""
) -> Folder:
    """Images that EXIF turns with boxes on them, whose masks show stored or upright pixels.

    With `others`, half of the images are not square, and their masks are drawn so.
    """
    folder = Folder(root, [])
    exif = Image.Exif()
    exif[0x0112] = orientation
    for at, name in enumerate(NAMES):
        kind = name.partition("/")[0]
        odd = bool(others) and at % 2 == 1
        height, width = (size[0] + 4, size[1]) if odd else size
        mask = np.zeros((height, width), np.uint8)
        rng = np.random.default_rng(at)
        top, left = rng.integers(0, height // 3), rng.integers(0, width // 2)
        mask[top : top + 5, left : left + 7] = {"cat": 1, "dog": 2, "none": 0}[kind]
        pixels = np.where(mask[..., None] > 0, 230, rng.integers(0, 90, (height, width, 3)))
        image = Image.fromarray(pixels.astype(np.uint8))
        for sub in ("images", "masks"):
            (folder.data / sub / kind).mkdir(parents=True, exist_ok=True)
        image.save(folder.data / f"images/{name}.png", exif=exif)
        if (others if odd else drawn) == "upright":
            mask = as_pillow_turns(mask, orientation)
        Image.fromarray(mask).save(folder.data / f"masks/{name}.png")
    return folder


def as_pillow_turns(mask: np.ndarray, orientation: int) -> np.ndarray:
    image = Image.fromarray(mask)
    image.getexif()[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


def check_on_objects(folder: Folder) -> None:
    """Each mask lies on the bright box of its image."""
    for sample in folder.samples().values():
        mask = read_label_png(folder.paths.masks / sample.mask)
        bright = read_image(folder.paths.images / sample.image).mean(axis=2) > 150
        np.testing.assert_array_equal(mask > 0, bright)


@pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("drawn", ["stored", "upright"])
@pytest.mark.parametrize("size", [(20, 20), (18, 26)])
def test_masks_of_turned_images_lie_on_the_objects(orientation, drawn, size, tmp_path):
    folder = turned_folder(tmp_path, size, orientation, drawn)
    report = folder.run(images="images", masks="masks")
    check_on_objects(folder)
    either = orientation <= 4 or size[0] == size[1]
    said = [text for text in report.get("warnings", []) if "EXIF" in text]
    if either:
        assert len(said) == 1
        assert "24 fit either way" in said[0]
        assert "set prepare_data.turned_masks" in said[0]
    else:
        assert len(said) == (drawn == "stored")


@pytest.mark.parametrize("drawn", ["stored", "upright"])
def test_square_images_follow_the_others_of_the_set(drawn, tmp_path):
    """Where sizes tell of some how they were drawn, the outlines of the rest are not asked."""
    folder = turned_folder(tmp_path, (20, 20), 6, drawn, others=drawn)
    said = "\n".join(folder.run(images="images", masks="masks")["warnings"])
    check_on_objects(folder)
    assert "as the others of the set are" in said


@pytest.mark.parametrize("drawn", ["stored", "upright"])
def test_a_setting_says_how_square_masks_were_drawn(drawn, tmp_path):
    folder = turned_folder(tmp_path, (20, 20), 6, drawn)
    folder.run({"turned_masks": drawn}, images="images", masks="masks")
    check_on_objects(folder)
    other = "upright" if drawn == "stored" else "stored"
    folder.run({"turned_masks": other}, images="images", masks="masks")
    with pytest.raises(AssertionError):
        check_on_objects(folder)


# Places


def test_data_that_is_a_link_stops_before_the_work(tmp_path, monkeypatch):
    """DVC keeps nothing behind it, and would say so after the work."""
    folder = Folder(tmp_path)
    (folder.paths.root / ".dvc").mkdir()
    elsewhere = tmp_path / "another disk"
    elsewhere.mkdir()
    (folder.paths.root / "data").symlink_to(elsewhere)
    monkeypatch.setattr(_preparation, "prepare_image", lambda *a, **k: 1 / 0)
    with pytest.raises(ValueError, match=r"data is a link to .*another disk.* dvc cache dir"):
        folder.run()
    (folder.paths.root / ".dvc").rmdir()  # a folder of its own, such as a study's
    monkeypatch.undo()
    folder.run()
    assert (elsewhere / "images/cat/cat0.png").is_file()
