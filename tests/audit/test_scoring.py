"""Audits of folders of masks: what counts, what is left out and said, and what is refused."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from wsss.artifacts import (
    Corrections,
    ExpectedPixels,
    Manifest,
    Paths,
    Sample,
    pack_folder,
    read_label_png,
    write_label_png,
)
from wsss.audit.images import MaskSet
from wsss.audit.record import Draw, draw, known_draws, read_draw
from wsss.audit.scoring import compare, score
from wsss.evaluate import evaluate_labels

NAMES = ("cat", "dog", "cow")
SIZE = (12, 16)


@dataclass
class Project:
    """40 images of val with true masks and predictions; some are wrong, some images untagged."""

    root: Path
    images: int = 40
    has_background: bool = True
    silent: bool = False
    samples: list[Sample] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(0)
        for number in range(self.images):
            name = f"a/{number:02}"  # names may lie in folders
            label = number % 4  # 3 is an image without a tag
            gt = np.full(SIZE, 0 if self.has_background else 1 + number % 2, np.uint8)
            mask = gt.copy()
            if label < 2:
                height = int(rng.integers(3, 12))
                gt[:height, 2:12] = mask[:height, 2:12] = label + 1
                mask[: int(rng.integers(0, 5))] = mask[-1, -1]
            gt[-1] = 255 if number % 5 == 0 else gt[-1]
            ids = tuple(sorted({*np.unique(gt).tolist()} - {0, 255}))
            self.samples.append(Sample(name, f"{name}.png", SIZE, ids, f"{name}.png"))
            write_label_png(self.root / f"data/masks/{name}.png", gt)
            self.predict(name, mask)
        splits = {"train": (), "selection": (), "val": tuple(self.samples)}
        Manifest(NAMES, splits, has_background=self.has_background).write(self.paths.splits)

    @property
    def paths(self) -> Paths:
        return Paths(self.root)

    def predict(self, name: str, mask: np.ndarray, folder: str = "data/predictions/val") -> None:
        pixels = np.bincount(mask.ravel(), minlength=256)[:4]
        expected = None if self.silent else ExpectedPixels.of(pixels, pixels * 0.8)
        write_label_png(self.root / f"{folder}/{name}.png", mask, expected)

    def masks(self) -> MaskSet:
        return MaskSet.read(self.paths, "predictions", "val")

    def draw(self, number: int = 20, classes: tuple[str, ...] = ()) -> Draw:
        drawn, _ = draw(self.masks(), number, classes=classes, name="mine", rng_seed=1)
        drawn.write(self.root)
        return drawn

    def correct(self, *names: str, folder: str = "corrected") -> Path:
        for name in names:
            mask = read_label_png(self.root / f"data/masks/{name}.png")
            write_label_png(self.root / folder / f"{name}.png", mask)
        return self.root / folder


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("has_background", [False, True])
def test_all_images_give_what_evaluation_gives(
    tmp_path: Path, has_background: bool, silent: bool, packed: bool
) -> None:
    project = Project(tmp_path, has_background=has_background, silent=silent)
    if packed:
        pack_folder(project.paths.predictions / "val")
    drawn = project.draw(40)
    found = score(tmp_path, drawn, project.correct(*drawn.drawn))
    folder = project.paths.predictions / "val"
    whole = evaluate_labels(
        project.samples, folder, project.paths.masks, 3, has_background=has_background
    )
    ious = whole.labelled.correct / np.maximum(whole.labelled.union, 1)
    ids = [0, 1, 2] if has_background else [1, 2]
    assert found.class_ids.tolist() == ids
    mean = ious[ids].mean()
    assert found.mean_iou == pytest.approx((mean, mean, mean))
    report = found.report()
    for class_id in ids:
        name = ("background", *NAMES)[class_id]
        assert report["classes"][name]["value"] == pytest.approx(ious[class_id], abs=1e-6)
    assert report["images"] == report["audited"] == 40
    assert report["next_20"] is None
    assert found.silent == (40 if silent else 0)


def test_a_part_gives_an_interval_around_the_truth(project: Project) -> None:
    drawn = project.draw(15)
    found = score(project.root, drawn, project.correct(*drawn.drawn))
    whole = evaluate_labels(
        project.samples, project.paths.predictions / "val", project.paths.masks, 3
    )
    ious = whole.labelled.correct / np.maximum(whole.labelled.union, 1)
    interval, report = found.mean_iou, found.report()
    assert interval is not None and interval.low < ious[:3].mean() < interval.high
    assert report["mean_over"] == ["background", "cat", "dog"]
    assert "cow" not in report["classes"]  # no image is tagged with it
    assert interval.low < report["next_20"]["low"] < report["next_20"]["high"] < interval.high
    assert report["plain"]["low"] < report["plain"]["value"] < report["plain"]["high"]


def test_what_is_known_of_the_whole_set_is_not_foretold(project: Project) -> None:
    drawn = project.draw(30)
    assert score(project.root, drawn, project.correct(*drawn.drawn)).report()["next_20"] is None


def test_a_class_that_was_renamed_is_named(project: Project) -> None:
    drawn = project.draw(20)
    splits = Manifest.read(project.paths.splits).splits
    Manifest(("cats", *NAMES[1:]), splits).write(project.paths.splits)
    with pytest.raises(ValueError, match=r"'mine' was drawn for 'cat', .*did you mean 'cats'"):
        score(project.root, drawn, project.correct(*drawn.drawn))


def test_corrections_count_as_far_as_none_is_missing(project: Project) -> None:
    drawn = project.draw(20)
    first, gap, rest = drawn.drawn[:8], drawn.drawn[8], drawn.drawn[9:]
    folder = project.correct(*first, *rest, *drawn.names[30:33])
    found = score(project.root, drawn, folder)
    assert found.corrected.names == first
    assert found.corrected.beyond == rest
    assert found.corrected.missing == (gap,)
    assert found.corrected.strangers == 3  # corrected, and not drawn
    project.correct(gap)
    assert score(project.root, drawn, folder).corrected.names == drawn.drawn


def test_corrections_come_from_the_layer_of_the_project(project: Project) -> None:
    drawn = project.draw(20)
    for name in drawn.drawn:
        mask = read_label_png(project.paths.masks / f"{name}.png")
        Corrections.add(
            project.root, name, mask, who="ann", when="2026-03-01T09:30:00Z",
            origin="predictions", origin_hash="",
        )  # fmt: skip
    from_layer = score(project.root, drawn)
    from_folder = score(project.root, drawn, project.correct(*drawn.drawn))
    assert from_layer.report() == from_folder.report()


@pytest.mark.parametrize("number", [0, 1])
def test_without_corrections_there_is_no_interval_and_it_says_why(
    project: Project, number: int
) -> None:
    drawn = project.draw(20)
    (project.root / "corrected").mkdir()
    found = score(project.root, drawn, project.correct(*drawn.drawn[:number]))
    assert found.mean_iou is None and found.next_20 is None
    report = found.report()
    assert "mean_iou" not in report
    assert f"{number} of 20 drawn images are corrected" in report["reason"]
    assert f"'{drawn.drawn[number]}' comes next" in report["reason"]


def test_corrections_that_show_no_class_say_nothing(tmp_path: Path) -> None:
    project = Project(tmp_path)
    drawn = project.draw(20, classes=("cat",))
    shows = [name for name in drawn.drawn if 1 in np.unique(read_label_png(
        project.paths.masks / f"{name}.png"))]  # fmt: skip
    folder = project.correct(*drawn.drawn)
    for name in shows:  # a person sees nothing there
        write_label_png(folder / f"{name}.png", np.zeros(SIZE, np.uint8))
    assert "none of the classes is shown by 3" in score(tmp_path, drawn, folder).reason


def test_masks_given_to_the_training_are_no_part(project: Project) -> None:
    for sample in project.samples[:6]:
        write_label_png(
            project.paths.annotations / f"masks/{sample.name}.png", np.zeros(SIZE, "u1")
        )
    masks, drawn = project.masks(), project.draw(20)
    assert masks.given == 6 and len(masks.samples) == len(drawn.names) == 34
    assert not {sample.name for sample in project.samples[:6]} & {*drawn.names}


def test_an_audit_ends_when_its_images_are_given_to_the_training(project: Project) -> None:
    drawn = project.draw(20)
    folder = project.correct(*drawn.drawn)
    name = drawn.drawn[3]
    write_label_png(project.paths.annotations / f"masks/{name}.png", np.zeros(SIZE, np.uint8))
    with pytest.raises(ValueError, match=rf"such as '{name}', were given to the training since"):
        score(project.root, drawn, folder)


def test_other_images_are_another_set(project: Project) -> None:
    drawn = project.draw(20)
    splits = {"train": (), "selection": (), "val": tuple(project.samples[1:])}
    Manifest(NAMES, splits).write(project.paths.splits)
    with pytest.raises(ValueError, match=r"1 are gone and 0 new .'a/00' is gone.*draw anew"):
        score(project.root, drawn, project.correct(*drawn.drawn))


BAD: dict[str, tuple[Callable[[], np.ndarray], str]] = {
    "size": (lambda: np.zeros((5, 5), np.uint8), "5 x 5 pixels.*its image has 12 x 16"),
    "side": (lambda: np.zeros(SIZE[::-1], np.uint8), "lies on its side"),
    "class": (lambda: np.full(SIZE, 7, np.uint8), "holds the value 7; a mask holds 0"),
}


@pytest.mark.parametrize("kind", BAD)
def test_corrections_that_do_not_fit_are_refused(project: Project, kind: str) -> None:
    mask, message = BAD[kind]
    drawn = project.draw(20)
    folder = project.correct(*drawn.drawn)
    write_label_png(folder / f"{drawn.drawn[4]}.png", mask())
    with pytest.raises(ValueError, match=rf"{drawn.drawn[4]}\.png.*{message}"):
        score(project.root, drawn, folder)


def test_masks_that_do_not_fit_are_refused(project: Project) -> None:
    drawn = project.draw(20)
    folder = project.correct(*drawn.drawn)
    write_label_png(project.paths.predictions / "val/a/03.png", np.full(SIZE, 9, np.uint8))
    with pytest.raises(ValueError, match=r"a/03\.png holds \[9\].*rerun the stage"):
        score(project.root, drawn, folder)
    write_label_png(project.paths.predictions / "val/a/03.png", np.zeros((3, 3), np.uint8))
    with pytest.raises(ValueError, match=r"a/03\.png has 3 x 3 pixels .* rerun the stage"):
        score(project.root, drawn, folder)


def test_what_cannot_be_drawn(project: Project) -> None:
    masks = project.masks()
    for number, classes, message in (
        (41, (), "41 images cannot be drawn from a set of 40; draw 1 to 40"),
        (1, (), "an interval needs 2 images at least"),
        (20, ("cat", "horse"), "no class 'horse'; known: background, cat, cow, dog"),
        (20, ("cow",), "none of the 40 images of 'val' is tagged with 'cow'"),
    ):
        with pytest.raises(ValueError, match=message):
            draw(masks, number, classes=classes, name="mine", rng_seed=1)
    with pytest.raises(ValueError, match="no split 'test'; known: selection, train, val"):
        MaskSet.read(project.paths, "predictions", "test")
    with pytest.raises(ValueError, match="'train' has no images to audit"):
        MaskSet.read(project.paths, "predictions", "train")
    with pytest.raises(ValueError, match=r"no mask of 40 of 40 images.*make_pseudo_masks"):
        MaskSet.read(project.paths, "pseudo_masks", "val")


def test_a_record_is_read_as_it_was_written_and_grows(project: Project) -> None:
    drawn = project.draw(20)
    assert read_draw(project.root, "mine") == drawn
    assert known_draws(project.root) == ["mine"]
    listed = (project.root / "audits/mine.txt").read_text().splitlines()
    assert tuple(listed) == drawn.drawn and len(listed) == 20
    grown = drawn.grown(30)
    grown.write(project.root)
    again = read_draw(project.root, "mine")
    assert again.drawn[:20] == drawn.drawn and len(again.drawn) == 30
    assert again.probabilities(20) == pytest.approx(drawn.probabilities(20))
    with pytest.raises(ValueError, match="30 images are drawn already, and a draw only grows"):
        again.grown(20)
    with pytest.raises(ValueError, match="50 images cannot be drawn from a set of 40"):
        again.grown(50)


@pytest.mark.parametrize("damage", ["cut", "word", "odds", "empty"])
def test_a_damaged_record_is_refused(project: Project, damage: str) -> None:
    project.draw(20)
    path = project.root / "audits/mine.jsonl"
    lines = path.read_text().splitlines()
    lines = {
        "cut": lines[:-1],
        "word": [*lines[:3], "no JSON", *lines[4:]],
        "odds": [*lines[:-1], '{"image": "a/99", "odds": 0}'],
        "empty": [],
    }[damage]
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"mine\.jsonl is not the record of a draw"):
        read_draw(project.root, "mine")


def test_the_same_draw_has_the_same_bytes(project: Project) -> None:
    project.draw(20)
    before = (project.root / "audits/mine.jsonl").read_bytes()
    project.draw(20)
    assert (project.root / "audits/mine.jsonl").read_bytes() == before


def test_better_masks_are_found_to_be_better(project: Project) -> None:
    drawn = project.draw(24)
    folder = project.correct(*drawn.drawn)
    for sample in project.samples:  # half of the mistakes are gone
        mask = read_label_png(project.paths.predictions / f"val/{sample.name}.png").copy()
        gt = read_label_png(project.paths.masks / f"{sample.name}.png")
        mask[:, 7:] = np.where(gt == 255, mask, gt)[:, 7:]
        project.predict(sample.name, mask, "other")
    before, after = project.paths.predictions / "val", project.root / "other"
    found = compare(project.root, drawn, before, after, folder)
    gain = found.gain()
    assert found.verdict == "better" and gain is not None and gain.low > 0
    assert compare(project.root, drawn, after, before, folder).verdict == "worse"
    assert found.differing >= 10
    same = compare(project.root, drawn, before, before, folder)
    assert same.verdict == "open" and same.gain() is None
    assert "differ in 0 of 24 corrected images" in same.reason
    report = found.report()
    assert report["gain"]["value"] == pytest.approx(
        report["after"]["mean_iou"]["value"] - report["before"]["mean_iou"]["value"], abs=2e-6
    )
    assert {*report["classes"]} == {"background", "cat", "dog"}
