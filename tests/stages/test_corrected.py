"""Corrections reach the training as given masks, tags follow them, and none changes nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import (
    CORRECTIONS,
    Annotations,
    Corrections,
    Manifest,
    Paths,
    contents,
    pack_folder,
    read_json,
    write_label_png,
)
from wsss.config.params import parse_params
from wsss.settings import ConfigError
from wsss.sources import LISTING, write_listing
from wsss.stages import run_stage
from wsss.stages.data_check import check_data

SIZE = (6, 8)
TAGS = {"a": "cat", "sub/b": "dog", "val": "cat", "val2": "dog"}
TAGS |= {f"c{n}": "cat;dog" for n in range(1, 7)}
NOON = "2026-03-01T12:00:00Z"


class Project:
    """Ten images of cats and dogs, of which val and val2 score; the current folder is its root."""

    def __init__(self, root: Path) -> None:
        self.set, self.root, self.paths = root / "set", root, Paths(root)
        (self.set / "images/sub").mkdir(parents=True)
        for name in TAGS:
            self.image(name, SIZE)
        lines = "".join(f"{name},{tags}\n" for name, tags in TAGS.items())
        (self.set / "tags.csv").write_text(f"image,tags\n{lines}")
        (self.set / "val.txt").write_text("val\nval2\n")

    def image(self, name: str, size: tuple[int, int]) -> None:
        pixels = np.random.default_rng(list(name.encode())).integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(self.set / f"images/{name}.png")

    def params(self, dataset: dict[str, Any] | None = None, **prepare: Any) -> Any:
        settings = {"name": "folder", "root": str(self.set), "images": "images"}
        settings |= {"tags": "tags.csv", "val": "val.txt", **(dataset or {})}
        tree = {
            "prepare_data": {"dataset": settings, "selection_share": 0.2, **prepare},
            "make_pseudo_masks": {"chain": "none", "threshold": 0.3},
        }
        return parse_params(tree)

    def run(self, dataset: dict[str, Any] | None = None, **prepare: Any) -> Annotations:
        run_stage("prepare_data", self.params(dataset, **prepare), self.paths)
        return Annotations.read(self.paths.annotations)

    def correct(self, name: str, mask: np.ndarray, **said: str) -> Path:
        given = {"who": "Ada", "when": NOON, "origin": "pseudo_masks", "origin_hash": "", **said}
        names = ("cat", "dog")
        return Corrections.add(self.root, name, mask.astype(np.uint8), class_names=names, **given)

    def tags(self, name: str) -> tuple[int, ...]:
        samples = Manifest.read(self.paths.splits).all_samples()
        return next(sample.class_ids for sample in samples if sample.name == name)

    def warnings(self) -> list[str]:
        return read_json(self.paths.report("prepare_data"))["warnings"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)


def drawn(*ids: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Random pixels of the background and some ids."""
    return np.random.default_rng(sum(ids)).choice([0, *ids], size).astype(np.uint8)


def test_without_any_all_is_as_without_the_layer(project: Project) -> None:
    assert project.run(corrections="none").masks == frozenset()
    before = contents(project.root / "data")
    assert project.run().masks == frozenset()
    assert contents(project.root / "data") == before
    assert "corrections" not in read_json(project.paths.report("prepare_data"))


def test_the_newest_of_each_image_is_given_to_learn_from(project: Project) -> None:
    project.correct("a", drawn(1, 255))
    newer = drawn(1, 255)[::-1].copy()
    project.correct("a", newer, who="Grace", when="2026-03-02T00:00:00Z")
    project.correct("sub/b", drawn(2))
    found = project.run()
    assert found.masks == {"a", "sub/b"}
    given = found.mask("a")
    assert given is not None
    assert (given == newer).all()
    report = read_json(project.paths.report("prepare_data"))["corrections"]
    assert report["by"] == {"Ada": 1, "Grace": 1}
    assert report["train"] + report["selection"] == 2 and report["drawn"] == 0
    assert project.run(corrections="none").masks == frozenset()


def test_a_correction_goes_before_a_mask_that_is_given(project: Project) -> None:
    ids = {"cat": (1,), "dog": (2,), "cat;dog": (1, 2)}
    for name, tags in TAGS.items():
        write_label_png(project.set / f"masks/{name}.png", drawn(*ids[tags]))
    settings = {"masks": "masks"}
    project.correct("a", np.ones(SIZE))
    found = project.run(settings, pixel_labels="all", box_labels="all")
    assert read_json(project.paths.report("prepare_data"))["corrections"]["drawn"] == 1
    mask, other = found.mask("a"), found.mask("sub/b")
    assert mask is not None
    assert (mask == 1).all()
    assert other is not None
    assert (other == drawn(2)).all()
    assert [tuple(box) for box in found.boxes["a"]] == [(1, 0, 0, 6, 8)]
    # what is scored stays what the annotators of the data set drew
    assert (np.asarray(Image.open(project.paths.masks / "a.png")) == drawn(1)).all()


def test_images_of_val_teach_nothing(project: Project) -> None:
    project.correct("val", drawn(1))
    assert project.run().masks == frozenset()
    assert not [text for text in project.warnings() if "correction" in text]


def test_tags_follow_what_a_correction_shows(project: Project) -> None:
    project.correct("a", drawn(1, 2))
    project.correct("sub/b", np.zeros(SIZE))
    project.run()
    assert project.tags("a") == (1, 2)
    assert project.tags("sub/b") == (2,)
    text = " ".join(project.warnings())
    assert (
        "corrections show 1 classes that the tags of their images deny, such as 'dog' in 'a'"
        in text
    )
    assert (
        "no pixel of 1 classes that the tags of their images name, such as 'dog' in 'sub/b'" in text
    )


def test_classes_are_meant_by_name(project: Project) -> None:
    project.correct("a", drawn(1))
    mask = project.run({"classes": ["dog", "cat"]}).mask("a")
    assert mask is not None
    assert (mask == 2 * drawn(1)).all()


@pytest.mark.parametrize(
    ("size", "long_side", "wanted"),
    [((12, 16), 8, (6, 8)), ((6, 8), 8, (6, 8)), ((12, 16), 0, (12, 16)), ((6, 8), 0, (12, 16))],
)
def test_of_the_size_of_the_original_or_of_the_shrunken_image(
    project: Project, size: tuple[int, int], long_side: int, wanted: tuple[int, int]
) -> None:
    project.image("a", (12, 16))
    mask = drawn(1, size=size)
    project.correct("a", mask)
    given = project.run(long_side_max=long_side).mask("a")
    assert given is not None
    nearest = Image.fromarray(mask).resize(wanted[::-1], Image.Resampling.NEAREST)
    assert (given == np.asarray(nearest)).all()
    coarse = [text for text in project.warnings() if "drawn on smaller images" in text]
    assert bool(coarse) == (size < wanted)


@pytest.mark.parametrize(
    ("name", "mask", "said"),
    [
        ("a", np.zeros((8, 6)), "has 8 x 6 pixels .* lies on its side"),
        ("a", np.zeros((5, 8)), "which is another shape; draw it on this image"),
        ("a", np.full(SIZE, 9), r"holds 9, but masks hold 0 \(background\), 1\.\.2"),
    ],
)
def test_what_does_not_fit_stops_before_images_are_read(
    project: Project, name: str, mask: np.ndarray, said: str
) -> None:
    project.correct(name, mask)
    with pytest.raises(ValueError, match=rf"1 corrections do not fit their images:(.|\n)*{said}"):
        project.run()
    assert not project.paths.images.exists()
    check = check_data(project.params(), project.root, project.root / "sheet.png")
    assert [finding.about for finding in check.of("error")] == ["corrections"]


def test_a_correction_of_an_image_that_is_gone_is_kept_and_said(project: Project) -> None:
    file = project.correct("gone", drawn(1))
    project.run()
    assert file.exists()
    said = [text for text in project.warnings() if "'gone'" in text]
    assert len(said) == 1
    check = check_data(project.params(), project.root, project.root / "sheet.png")
    assert said[0] in [finding.text for finding in check.of("warning")]


def test_packed_projects_take_them_too(project: Project) -> None:
    project.correct("a", drawn(1))
    found = project.run(pack_above=0)
    assert found.masks == {"a"}
    mask = found.mask("a")
    assert mask is not None
    assert (mask == drawn(1)).all()
    assert not list((project.root / CORRECTIONS).rglob("*.zip"))
    project.run()
    pack_folder(project.paths.annotations / "masks")
    again = Annotations.read(project.paths.annotations).mask("a")
    assert again is not None
    assert (again == drawn(1)).all()


def test_another_folder_has_to_be_there(project: Project) -> None:
    with pytest.raises(ConfigError, match=r"prepare_data\.corrections is 'mine', .*or to none"):
        project.run(corrections="mine")


def test_the_listing_tells_dvc_of_each_change_and_of_none_without(project: Project) -> None:
    (project.root / "params.yaml").write_text("prepare_data: {selection_share: 0.2}\n")

    def listing() -> str:
        write_listing(project.root)
        return (project.root / LISTING / "prepare_data.json").read_text()

    assert listing() == "{}\n"
    project.correct("a", drawn(1))
    first = listing()
    assert CORRECTIONS in first
    project.correct("a", drawn(1), who="Grace")
    second = listing()
    assert second != first
    (project.root / "data/corrections.dvc").touch()
    for file in (project.root / CORRECTIONS).rglob("*.png"):
        file.unlink()
    (project.root / CORRECTIONS / "a").rmdir()
    (project.root / CORRECTIONS).rmdir()
    assert listing() == second  # DVC has them: results made with them stay
    (project.root / "data/corrections.dvc").unlink()
    assert listing() == "{}\n"
