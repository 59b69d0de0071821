"""`wsss data check` on a clean data set, and on sets with one thing wrong each."""

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image
from typer.testing import CliRunner

from wsss.artifacts import Paths, read_json, write_label_png
from wsss.cli.app import app
from wsss.config.params import load_params
from wsss.stages import run_stage
from wsss.stages.data_check import FAST

SIZE = (48, 56)
SPLITS = {"train": 24, "selection": 12, "val": 16}
TAGS = ("cat", "dog", "cat;dog", "none")


class Project:
    """A project, and beside it 52 images of cats, dogs, both or neither with tags and masks."""

    def __init__(self, root: Path) -> None:
        self.root, self.source = root / "project", root / "source"
        self.tags: dict[str, str] = {}
        self.lists: dict[str, list[str]] = {}
        self.prepare: dict[str, Any] = {}
        self.params: dict[str, Any] = {
            "make_pseudo_masks": {"chain": "none", "threshold": 0.3},
            "train_classifier": {"augment": {"long_side": [0, 0]}},
            "train_segmenter": {"augment": {"long_side": [0, 0]}},
        }
        self.dataset: dict[str, Any] = {
            "name": "folder",
            "root": str(self.source),
            "images": "images",
            "tags": "tags.csv",
            "masks": "masks",
            "val": "val.txt",
            "selection": "selection.txt",
        }
        self.root.mkdir()
        for split, count in SPLITS.items():
            self.lists[split] = [f"{split}{at:02}" for at in range(count)]
            for at, name in enumerate(self.lists[split]):
                self.add(name, TAGS[at % 4])

    def add(self, name: str, tag: str, size: tuple[int, int] = SIZE) -> Path:
        path = self.source / f"images/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(list(name.encode()))
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(path, compress_level=1)
        mask = np.zeros(size, np.uint8)
        mask[4:20, 4:20] = "cat" in tag
        mask[4:20, 30:50] = 2 * ("dog" in tag)
        write_label_png(self.mask(name), mask)
        self.tags[name] = tag
        return path

    def image(self, name: str) -> Path:
        return self.source / f"images/{name}.png"

    def mask(self, name: str) -> Path:
        return self.source / f"masks/{name}.png"

    def retag(self, change: Callable[[str, str], str]) -> None:
        for name, tag in self.tags.items():
            self.tags[name] = change(name, tag)

    def without_masks(self) -> None:
        shutil.rmtree(self.source / "masks")
        del self.dataset["masks"]

    def write(self) -> None:
        with (self.source / "tags.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("image", "tags"), *self.tags.items()])
        for split in ("val", "selection"):
            (self.source / f"{split}.txt").write_text("\n".join(self.lists[split]))
        tree = {"prepare_data": {"dataset": self.dataset, **self.prepare}, **self.params}
        (self.root / "params.yaml").write_text(yaml.safe_dump(tree))

    def check(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """The exit code, and what is printed as JSON."""
        self.write()
        result = CliRunner().invoke(app, ["data", "check", "--json", *arguments])
        assert isinstance(result.exception, SystemExit | None), result.exception
        return result.exit_code, json.loads(result.stdout)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    made = Project(tmp_path)
    monkeypatch.chdir(made.root)
    return made


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-400])


# What is wrong


def truncated(project: Project) -> None:
    cut(project.image("train00"))


def many_broken(project: Project) -> None:
    for at in range(4):
        cut(project.image(f"train1{at}"))


def a_web_page(project: Project) -> None:
    project.image("val00").write_text("<!doctype html><html>not found</html>")


def mask_of_another_size(project: Project) -> None:
    write_label_png(project.mask("train00"), np.zeros((24, 28), np.uint8))


def mask_on_its_side(project: Project) -> None:
    write_label_png(project.mask("train00"), np.zeros(SIZE[::-1], np.uint8))


def mask_of_unknown_values(project: Project) -> None:
    write_label_png(project.mask("train00"), np.full(SIZE, 7, np.uint8))


def mask_in_colours(project: Project) -> None:
    Image.new("RGB", SIZE[::-1], "red").save(project.mask("train00"))


def mask_missing(project: Project) -> None:
    project.mask("train00").unlink()


def masks_black_and_white(project: Project) -> None:
    for path in (project.source / "masks").iterdir():
        with Image.open(path) as mask:
            values = np.asarray(mask)
        write_label_png(path, np.where(values > 0, 255, 0).astype(np.uint8))


def masks_against_tags(project: Project) -> None:
    write_label_png(project.mask("train00"), np.full(SIZE, 2, np.uint8))


def class_without_images(project: Project) -> None:
    project.dataset["classes"] = ["cat", "dog", "yak"]


def class_with_one_image(project: Project) -> None:
    project.without_masks()
    for name in ("train00", *project.lists["selection"][:6], *project.lists["val"][:8]):
        project.tags[name] += ";yak"
    project.tags["train03"] = project.tags["train07"] = "none"
    project.retag(lambda name, tag: tag.replace("none;", ""))


def class_with_few_images(project: Project) -> None:
    project.without_masks()
    names = [*project.lists["train"][:3], *project.lists["selection"][4:7]]
    for name in (*names, *project.lists["val"][4:7]):
        project.tags[name] = f"{project.tags[name]};yak"


def class_without_val_images(project: Project) -> None:
    project.without_masks()
    val = project.lists["val"]
    project.retag(lambda name, tag: ("none", "cat")["cat" in tag] if name in val else tag)


def class_in_every_image(project: Project) -> None:
    project.without_masks()
    project.retag(lambda name, tag: "cat;dog" if "dog" in tag else "cat")


def one_class_alone(project: Project) -> None:
    project.without_masks()
    project.retag(lambda name, tag: "cat")


def classes_always_together(project: Project) -> None:
    project.without_masks()
    train = project.lists["train"]
    project.retag(lambda name, tag: "cat;dog" if name in train and tag != "none" else tag)


def same_image_in_two_splits(project: Project) -> None:
    shutil.copy(project.image("train00"), project.image("val00"))


def same_image_with_other_tags(project: Project) -> None:
    shutil.copy(project.image("train00"), project.image("train01"))


def sixteen_bits_nearly_black(project: Project) -> None:
    for path in list((project.source / "images").iterdir()):
        rng = np.random.default_rng(list(path.name.encode()))
        values = rng.integers(0, 4096, (*SIZE, 3)).astype(np.uint16)
        tifffile.imwrite(path.with_suffix(".tif"), values, photometric="rgb")
        path.unlink()


def range_too_wide(project: Project) -> None:
    sixteen_bits_nearly_black(project)
    project.prepare["pixel_range"] = [0, 65535]


def tiny_image(project: Project) -> None:
    project.add("train03", "none", (6, 56))


def huge_image(project: Project) -> None:
    project.add("train03", "none", (64, 2100))


def boxes_outside(project: Project) -> None:
    rows = ["image,class,left,top,right,bottom", "train00,cat,4,4,200,20", "train01,dog,30,4,50,20"]
    (project.source / "boxes.csv").write_text("\n".join(rows))
    project.dataset["boxes"] = "boxes.csv"
    project.prepare["box_labels"] = "all"


def unused_boxes_outside(project: Project) -> None:
    boxes_outside(project)
    project.prepare["box_labels"] = "none"


def points_of_another_class(project: Project) -> None:
    rows = ["image,class,x,y", "train00,dog,5,5", "train02,cat,6,6"]
    (project.source / "points.csv").write_text("\n".join(rows))
    project.dataset["points"] = "points.csv"
    project.prepare["point_labels"] = "all"


def no_such_folder(project: Project) -> None:
    project.dataset["root"] = str(project.source.with_name("sorce"))


def untagged_image(project: Project) -> None:
    del project.tags["train00"]


def unknown_name_in_a_list(project: Project) -> None:
    project.lists["val"].append("val99")


def several_tags_for_exclusive_classes(project: Project) -> None:
    project.params["train_classifier"] |= {"loss": "single_label"}


def class_named_background(project: Project) -> None:
    project.without_masks()
    project.retag(lambda name, tag: tag.replace("none", "background"))


def threshold_without_masks(project: Project) -> None:
    project.without_masks()
    project.params["make_pseudo_masks"] = {"chain": "none", "threshold": "selected"}


def background_is_the_data_set_s_own(project: Project) -> None:
    project.prepare["background_images"] = str(project.source / "images")


def no_background_folder(project: Project) -> None:
    project.prepare["background_images"] = str(project.source / "fields")


def other_files_beside(project: Project) -> None:
    (project.source / "images/photo.heic").write_bytes(b"ftypheic")


BROKEN: dict[Callable[[Project], None], list[tuple[str, str, str]]] = {
    truncated: [("warning", "images", "train00.png: cannot be decoded")],
    many_broken: [("error", "images", "prepare_data.max_skipped_share")],
    a_web_page: [("warning", "images", "a web page")],
    mask_of_another_size: [("warning", "images", "without interpolation")],
    mask_on_its_side: [("warning", "images", "turn it by 90 degrees")],
    mask_of_unknown_values: [("warning", "images", "holds the value 7")],
    mask_in_colours: [("warning", "images", "mask_values")],
    mask_missing: [("warning", "data set", "prepare_data.dataset.masks: 1 of 52 images have no")],
    masks_black_and_white: [("error", "masks", "prepare_data.dataset.mask_values")],
    masks_against_tags: [("warning", "masks", "Mend whichever is wrong")],
    class_without_images: [("warning", "classes", "'yak' has no training image")],
    class_with_one_image: [("warning", "classes", "'yak' has a single training image")],
    class_with_few_images: [
        ("warning", "classes", "fewer than 5 training images of 'yak' (3)"),
        ("warning", "classes", "fewer than 5 val images of 'yak' (3)"),
    ],
    class_without_val_images: [("warning", "classes", "'dog' has no val image")],
    class_in_every_image: [("warning", "classes", "prepare_data.background_images")],
    one_class_alone: [("warning", "classes", "'cat' has its tag on all 24 training images")],
    classes_always_together: [("warning", "classes", "'cat', 'dog' are on the same training")],
    same_image_in_two_splits: [("warning", "duplicates", "'train00' (train), 'val00' (val)")],
    same_image_with_other_tags: [("warning", "duplicates", "'train00' (train), 'train01' (train)")],
    sixteen_bits_nearly_black: [("error", "images", "prepare_data.pixel_range: [0, 4095]")],
    range_too_wide: [("warning", "images", "prepare_data.pixel_range")],
    tiny_image: [("warning", "sizes", "train_classifier.backbone.output_stride")],
    huge_image: [("warning", "sizes", "generate_cams.window")],
    boxes_outside: [("error", "annotations", "boxes.csv, line 2")],
    unused_boxes_outside: [("warning", "annotations", "boxes.csv, line 2")],
    points_of_another_class: [("error", "annotations", "points.csv, line 2")],
    no_such_folder: [("error", "data set", "prepare_data.dataset.root")],
    untagged_image: [("warning", "images", "train00: no tags: tags.csv does not have it")],
    unknown_name_in_a_list: [("error", "data set", "val.txt lists 'val99'")],
    several_tags_for_exclusive_classes: [("error", "tags", "train_classifier.loss")],
    class_named_background: [
        ("error", "classes", "prepare_data.dataset.empty_tag"),
        ("warning", "classes", "fewer than 5 val images of 'background' (4)"),
    ],
    threshold_without_masks: [("error", "masks", "make_pseudo_masks.threshold")],
    background_is_the_data_set_s_own: [
        ("error", "background images", "leave background_images out")
    ],
    no_background_folder: [("error", "background images", "prepare_data.background_images")],
    other_files_beside: [("warning", "data set", "convert what is an image")],
}


def findings(values: dict[str, Any]) -> list[dict[str, str]]:
    return [item for item in values["findings"] if item["level"] != "remark"]


def test_nothing_is_said_of_a_clean_set_and_nothing_is_written_but_the_sheet(project, tmp_path):
    before = {path: path.read_bytes() for path in project.source.rglob("*.png")}
    code, values = project.check()
    assert (code, values["findings"]) == (0, [])
    assert values["data"]["splits"]["train"]["images_per_class"] == {"cat": 12, "dog": 12}
    assert values["data"]["splits"]["val"]["without_tag"] == 4
    assert values["data"]["together"] == [["cat", "dog", 6 + 3 + 4]]
    assert values["data"]["sizes"]["median"] == {"width": SIZE[1], "height": SIZE[0]}
    assert (values["images"], values["decoded"]) == (52, 52)
    written = {path.relative_to(project.root).as_posix() for path in project.root.rglob("*.*")}
    assert written == {"params.yaml", values["contact_sheet"]}
    assert values["contact_sheet"] == "reports/data_check.png"
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("spoil", BROKEN, ids=lambda spoil: spoil.__name__)
def test_what_is_wrong_is_named_and_nothing_else(project, spoil):
    spoil(project)
    code, values = project.check()
    found, wanted = findings(values), BROKEN[spoil]
    assert [(item["level"], item["about"]) for item in found] == [item[:2] for item in wanted], (
        found
    )
    for item, (_, _, words) in zip(found, wanted, strict=True):
        assert words in item["text"]
    assert code == int(any(level == "error" for level, _, _ in wanted))
    assert not (project.root / "data").exists()
    check_that_the_stage_agrees(project, values)


def check_that_the_stage_agrees(project: Project, values: dict[str, Any]) -> None:
    """prepare_data stops with one of the errors, or warns of nothing that was not found before."""
    errors = [item["text"] for item in values["findings"] if item["level"] == "error"]
    said = [item["text"] for item in values["findings"]]
    paths = Paths(project.root)
    if errors:
        with pytest.raises(ValueError) as stopped:
            run_stage("prepare_data", load_params(), paths)
        assert str(stopped.value) in errors
    else:
        run_stage("prepare_data", load_params(), paths)
        report = read_json(paths.report("prepare_data"))
        assert [text for text in report.get("warnings", []) if text not in said] == []
        counted = {key: values["data"][key] for key in ("splits", "conversions", "skipped")}
        assert counted == {key: report[key] for key in counted}


def test_all_errors_are_found_at_once_and_the_worst_stand_first(project):
    spoils = (many_broken, boxes_outside, several_tags_for_exclusive_classes)
    for spoil in (*spoils, same_image_in_two_splits, no_background_folder):
        spoil(project)
    project.lists["val"] = [name for name in project.lists["val"] if project.tags[name] != "none"]
    code, values = project.check()
    assert code == 1
    levels = [item["level"] for item in values["findings"]]
    assert levels == ["error"] * 4 + ["warning"] * levels.count("warning") + ["remark"]
    abouts = {item["about"] for item in values["findings"] if item["level"] == "error"}
    assert abouts == {"images", "annotations", "tags", "background images"}
    assert any(item["about"] == "duplicates" for item in values["findings"])


def test_false_alarms_that_are_not_counted_are_a_remark(project):
    project.without_masks()
    val = project.lists["val"]
    project.retag(lambda name, tag: "cat" if name in val and tag == "none" else tag)
    code, values = project.check()
    assert code == 0
    (said,) = values["findings"]
    assert said["level"] == "remark" and "prepare_data.dataset.empty_tag" in said["text"]


def test_a_length_by_far_another_one_is_a_remark(project):
    project.params["train_segmenter"] = {"augment": {"long_side": [4, 12]}}
    _, values = project.check()
    (said,) = values["findings"]
    assert said["level"] == "remark" and "train_segmenter.augment.long_side" in said["text"]


def test_boxes_of_val_alone_which_nothing_takes_are_no_finding(project):
    rows = ["image,class,left,top,right,bottom", "val00,cat,4,4,20,20"]
    (project.source / "boxes.csv").write_text("\n".join(rows))
    project.dataset["boxes"] = "boxes.csv"
    code, values = project.check()
    assert (code, values["findings"]) == (0, [])


def test_a_full_disk_is_an_error(project, monkeypatch):
    usage = shutil._ntuple_diskusage(2**30, 2**30 - 5, 5)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    code, values = project.check()
    assert code == 1 and "MiB free" in values["findings"][0]["text"]


def test_fast_decodes_a_sample_and_says_so(project, monkeypatch):
    assert FAST >= 100
    monkeypatch.setattr("wsss.stages.data_check.FAST", 5)
    code, values = project.check("--fast")
    assert (code, values["findings"]) == (0, [])
    assert (values["images"], values["decoded"]) == (52, 15)
    assert values["data"]["splits"]["train"]["images_per_class"] == {"cat": 12, "dog": 12}
    assert values["data"]["splits"]["train"]["with_mask"] == 24
    a_web_page(project)
    for name in project.lists["train"]:  # headers alone show what is no image at all
        project.image(name).write_bytes(b"hello")
    assert project.check("--fast")[0] == 1
    printed = CliRunner().invoke(app, ["data", "check", "--fast"]).stdout
    assert "a sample: 15 of 52 images were decoded" in printed


def test_the_text_has_the_findings_of_the_json_and_the_place_of_the_sheet(project):
    many_broken(project)
    same_image_in_two_splits(project)
    _, values = project.check("--out", "sheet.png")
    result = CliRunner().invoke(app, ["data", "check", "--out", "sheet.png"])
    assert result.exit_code == 1
    shown = " ".join(result.stdout.split())
    for item in values["findings"]:
        assert f"{item['about']}: {' '.join(item['text'].split())}" in shown
    assert "1 error " in shown and "contact sheet: sheet.png" in shown
    assert "sizes, width x height: smallest 56 x 48" in shown


def test_a_name_that_is_not_utf8_is_printed_as_it_can_be(project):
    odd = os.fsdecode(b"k\xe4tze")
    project.image("train00").rename(project.image(odd))
    project.mask("train00").unlink()
    del project.tags["train00"]
    _, values = project.check()
    assert any("k\\xe4tze" in item["text"] for item in values["findings"])
    assert "k\\xe4tze" in CliRunner().invoke(app, ["data", "check"]).stdout


def test_the_sheet_has_a_row_per_class_with_its_images(project):
    for name, tag in project.tags.items():
        colour = {"cat": "red", "dog": "blue"}.get(tag, "green")
        image = Image.new("RGB", SIZE[::-1], colour)
        image.putpixel((0, 0), tuple(np.random.default_rng(list(name.encode())).bytes(3)))
        image.save(project.image(name))
    project.retag(lambda name, tag: "none" if ";" in tag else tag)
    for name in project.tags:
        write_label_png(project.mask(name), np.full(SIZE, 255, np.uint8))
    project.check()
    with Image.open("reports/data_check.png") as sheet:
        pixels = np.asarray(sheet).astype(int)
    rows = np.array_split(pixels[6:], 3)  # cat, dog, without any class
    for row, colour in zip(rows, ([255, 0, 0], [0, 0, 255], [0, 128, 0]), strict=True):
        area = (abs(row - colour).sum(axis=2) < 60).mean()
        others = [x for x in ([255, 0, 0], [0, 0, 255], [0, 128, 0]) if x != colour]
        assert area > 0.5
        assert all((abs(row - other).sum(axis=2) < 60).mean() < 0.01 for other in others)
    first = Path("reports/data_check.png").read_bytes()
    project.check()
    assert Path("reports/data_check.png").read_bytes() == first


def beside(project: Project, count: int = 6) -> Path:
    """Set the project to score another folder of images beside val; its folder."""
    root = project.source.parent / "roofs"
    rows = [("image", "tags")]
    for at in range(count):
        rng = np.random.default_rng(1000 + at)
        path = root / f"images/roof{at}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8)).save(path)
        mask = np.zeros(SIZE, np.uint8)
        mask[4:20, 4:20] = 1 + at % 2
        write_label_png(root / f"masks/roof{at}.png", mask)
        rows.append((f"roof{at}.png", ("cat", "dog")[at % 2]))
    with (root / "tags.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    settings = {"name": "folder", "root": str(root), "tags": "tags.csv", "masks": "masks"}
    project.prepare["scored_sets"] = {"roofs": {"dataset": settings, "part": "all"}}
    return root


def test_a_clean_set_that_is_scored_beside_val_is_a_line(project):
    beside(project)
    code, values = project.check()
    assert code == 0 and not [item for item in values["findings"] if item["level"] != "remark"]
    shown = CliRunner().invoke(app, ["data", "check"]).stdout
    assert "roofs, scored beside val: 6 images, 6 with a mask" in shown


@pytest.mark.parametrize(
    ("spoil", "level", "text"),
    [
        (lambda root, project: cut(root / "images/roof0.png"), "warning", "roofs/images/roof0"),
        (
            lambda root, project: write_label_png(root / "masks/roof0.png", np.zeros((4, 4), "u1")),
            "warning",
            "4 x 4 pixels",
        ),
        (
            lambda root, project: [
                write_label_png(path, np.full(SIZE, 2 - at % 2, np.uint8))
                for at, path in enumerate(sorted((root / "masks").iterdir()))
            ],
            "error",
            "masks contradict the tags",
        ),
        (
            lambda root, project: project.prepare["scored_sets"]["roofs"]["dataset"].update(
                root=str(project.source)
            ),
            "error",
            "that are learned from",
        ),
        (
            lambda root, project: project.prepare["scored_sets"]["roofs"]["dataset"].update(
                classes=["yak"], tags="none.csv"
            ),
            "error",
            "none.csv is not a file",
        ),
    ],
    ids=["truncated", "mask of another size", "masks against tags", "learned from", "no tags"],
)
def test_what_is_wrong_with_a_set_beside_val_is_named(project, spoil, level, text):
    spoil(beside(project), project)
    code, values = project.check()
    found = [item for item in values["findings"] if item["level"] == level]
    assert any(text in item["text"] for item in found), values
    assert code == (level == "error")
