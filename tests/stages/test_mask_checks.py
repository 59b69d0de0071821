"""Masks whose values mean something else: a stop whose advice works as it is written."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image, ImageFilter

from wsss.artifacts import Manifest, Paths, read_json, read_label_png
from wsss.config.params import parse_params
from wsss.stages import run_stage

IDS = {"cat": 1, "dog": 2, "none": 0}
Draw = Callable[[np.ndarray, str], Image.Image]


def truth(name: str, kind: str) -> np.ndarray:
    """(24, 30) uint8: a box of the kind's id, of its own size and place."""
    rng = np.random.default_rng(list(name.encode()))
    mask = np.zeros((24, 30), np.uint8)
    top, left, height, width = rng.integers(2, 10, 4)
    mask[top : top + height + 3, left : left + width + 3] = IDS[kind]
    return mask


class Folder:
    """A folder of images by class, and masks that `draw` makes of the true ids."""

    threshold: Any = "selected"

    def __init__(self, root: Path, kinds: tuple[str, ...], draw: Draw, count: int = 8) -> None:
        self.root, self.paths = root, Paths(root / "project")
        self.truths = {}
        for kind in kinds:
            for at in range(count):
                name = f"{kind}/{kind}{at}"
                self.truths[name] = truth(name, kind)
                for folder, made in (
                    ("images", Image.new("RGB", (30, 24), (at, 90, 20))),
                    ("masks", draw(self.truths[name], kind)),
                ):
                    path = root / "data" / folder / f"{name}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    made.save(path)

    def run(self, prepare: dict[str, Any] | None = None, **dataset: Any) -> dict[str, Any]:
        settings = {
            "name": "folder",
            "root": str(self.root / "data"),
            "images": "images",
            "masks": "masks",
        }
        tree = {
            "prepare_data": {"dataset": settings | dataset, **(prepare or {})},
            "make_pseudo_masks": {"chain": "none", "threshold": self.threshold},
        }
        run_stage("prepare_data", parse_params(tree), self.paths)
        report: dict[str, Any] = read_json(self.paths.report("prepare_data"))
        return report

    def check_masks(self) -> None:
        """The prepared masks are what was drawn."""
        samples = Manifest.read(self.paths.splits).all_samples()
        assert len(samples) == len(self.truths)
        for sample in samples:
            mask = read_label_png(self.paths.masks / str(sample.mask))
            known = mask != 255
            assert known.mean() > 0.75
            np.testing.assert_array_equal(mask[known], self.truths[sample.name][known])


def valued(values: dict[int, int], dtype: type = np.uint8) -> Draw:
    def draw(mask: np.ndarray, _: str) -> Image.Image:
        return Image.fromarray(
            np.vectorize(lambda v: values.get(int(v), int(v)))(mask).astype(dtype)
        )

    return draw


def binary(high: int = 255, low: int = 0) -> Draw:
    return lambda mask, _: Image.fromarray(np.where(mask > 0, high, low).astype(np.uint8))


def coloured(colours: dict[int, tuple[int, int, int]], mode: str = "RGB") -> Draw:
    def draw(mask: np.ndarray, _: str) -> Image.Image:
        table = np.array([colours[value] for value in range(len(colours))], np.uint8)
        return Image.fromarray(table[mask]).convert(mode)

    return draw


def smooth(mask: np.ndarray, kind: str) -> Image.Image:
    return binary()(mask, kind).filter(ImageFilter.GaussianBlur(0.7))


def jpeg(mask: np.ndarray, kind: str) -> Image.Image:
    """The values of a JPEG, though the file is a PNG."""
    noise = np.random.default_rng(0).integers(-4, 5, mask.shape)
    return Image.fromarray((np.asarray(binary()(mask, kind)) + noise).clip(0, 255).astype(np.uint8))


def indexed(mask: np.ndarray, _: str) -> Image.Image:
    image = Image.fromarray(np.where(mask > 0, 3, 7).astype(np.uint8))
    image.putpalette([9, 9, 9] * 256)
    return image


RED, BLACK, BLUE = (255, 0, 0), (0, 0, 0), (0, 0, 255)
ONE, TWO = ("cat", "none"), ("cat", "dog")
OTHER_MEANINGS: dict[str, tuple[tuple[str, ...], Draw, dict[Any, Any]]] = {
    "black and white": (ONE, binary(), {255: 1}),
    "another value": (ONE, binary(38), {38: 1}),
    "black and white in RGB": (
        ONE,
        lambda mask, kind: binary()(mask, kind).convert("RGB"),
        {255: 1},
    ),
    "inverted": (ONE, valued({0: 1, 1: 0}), {0: 1, 1: 0}),
    "black on white": (ONE, binary(0, 255), {0: 1, 255: 0}),
    "black and white, of a class that all images have": (("cat",), binary(), {255: 1}),
    "black on white, of a class that all images have": (("cat",), binary(0, 255), {0: 1, 255: 0}),
    "16 bits": (ONE, valued({1: 65535}, np.uint16), {65535: 1}),
    "a palette of its own": (ONE, indexed, {3: 1, 7: 0}),
    "a colour": (ONE, coloured({0: BLACK, 1: RED}), {"#000000": 0, "#ff0000": 1}),
    "colours with alpha": (
        ONE,
        coloured({0: BLACK, 1: RED}, "RGBA"),
        {"#000000": 0, "#ff0000": 1},
    ),
    "smoothed edges": (ONE, smooth, {"0-127": 0, "128-255": 1}),
    "JPEG": (ONE, jpeg, {"0-127": 0, "128-255": 1}),
    "counted from 0": ((*TWO, "none"), valued({0: 255, 1: 0, 2: 1}), {0: 1, 1: 2, 255: 0}),
    "ids in another order": (TWO, valued({1: 2, 2: 1}), {1: 2, 2: 1}),
    "values of their own": ((*TWO, "none"), valued({1: 10, 2: 20}), {10: 1, 20: 2}),
    "colours": (
        TWO,
        coloured({0: BLACK, 1: RED, 2: BLUE}),
        {"#000000": 0, "#0000ff": 2, "#ff0000": 1},
    ),
    "ones in every class folder": (TWO, binary(1), {1: "tag"}),
    "black and white in every class folder": ((*TWO, "none"), binary(), {255: "tag"}),
    "trimaps that count from 1": (TWO, valued({0: 2, 1: 1, 2: 1}), {1: "tag", 2: 0}),
}


@pytest.mark.parametrize("kind", OTHER_MEANINGS)
def test_masks_that_mean_something_else_stop_with_advice_that_works(kind, tmp_path):
    kinds, draw, wanted = OTHER_MEANINGS[kind]
    folder = Folder(tmp_path, kinds, draw)
    with pytest.raises(ValueError, match="contradict the tags") as stopped:
        folder.run()
    text = str(stopped.value)
    assert len(text.splitlines()) <= 20
    assert not folder.paths.images.exists()
    line = re.search(r"^  prepare_data\.dataset\.(mask_values: .*)$", text, re.MULTILINE)
    assert line, text
    advice = yaml.safe_load(line[1])
    assert advice["mask_values"] == wanted
    folder.run(**advice)
    folder.check_masks()


RIGHT: dict[str, tuple[tuple[str, ...], Draw]] = {
    "ids": ((*TWO, "none"), valued({})),
    "ids in RGB": (TWO, lambda mask, _: Image.fromarray(mask).convert("RGB")),
    "ids of 16 bits": (TWO, valued({}, np.uint16)),
    "one bit": (ONE, lambda mask, _: Image.fromarray(mask > 0)),
    "ids with an opaque alpha": (TWO, lambda mask, _: Image.fromarray(mask).convert("LA")),
}


@pytest.mark.parametrize("kind", RIGHT)
def test_masks_of_ids_are_taken_in_any_form(kind, tmp_path):
    folder = Folder(tmp_path, *RIGHT[kind])
    report = folder.run()
    folder.check_masks()
    assert not any("masks" in text for text in report.get("warnings", []))


def test_masks_of_too_many_values_stop_with_what_was_found(tmp_path):
    """Two classes and grey in between: nothing that could be written would be right."""
    folder = Folder(
        tmp_path,
        TWO,
        lambda mask, _: Image.fromarray(mask * 100).filter(ImageFilter.GaussianBlur(1)),
    )
    with pytest.raises(ValueError, match=r"(?s)contradict.*no class.*save the masks as PNG again"):
        folder.run()


def test_masks_that_ignore_everything_are_no_ground_truth(tmp_path):
    folder = Folder(tmp_path, ONE, lambda mask, _: Image.fromarray(mask * 0 + 255))
    with pytest.raises(ValueError, match=r"none of the 8 masks .*'cat' holds 1(?s:.*)255: 100.0%"):
        folder.run()


def test_a_few_contradictions_are_said_and_nothing_stops(tmp_path):
    folder = Folder(tmp_path, (*TWO, "none"), valued({}))
    masks = tmp_path / "data/masks"
    Image.new("L", (30, 24)).save(masks / "cat/cat3.png")
    Image.new("L", (30, 24), 2).save(masks / "none/none1.png")
    Image.new("L", (30, 24), 255).save(masks / "none/none2.png")
    said = "\n".join(folder.run()["warnings"])
    assert "'cat' is missing in 1 of the 8 masks of images with its tag, such as 'cat/cat3'" in said
    assert "'dog' is drawn in 1 masks of images without its tag, such as 'none/none1'" in said
    assert "1 of 24 masks ignore all of their image" in said


def test_masks_contradict_no_tag_that_nobody_is_certain_of(tmp_path):
    folder = Folder(tmp_path, (*TWO, "none"), valued({}))
    masks = tmp_path / "data/masks"
    Image.new("L", (30, 24)).save(masks / "cat/cat3.png")
    Image.new("L", (30, 24), 2).save(masks / "none/none1.png")
    tags = {name: name.partition("/")[0] for name in folder.truths}
    for doubts in ({}, {"cat/cat3": "cat:0.75", "none/none1": "dog:?"}):
        (tmp_path / "data/tags.json").write_text(json.dumps(tags | doubts))
        said = "\n".join(folder.run(tags="tags.json")["warnings"])
        assert ("masks and tags differ" in said) != bool(doubts)


def test_contradictions_can_be_wanted(tmp_path):
    folder = Folder(tmp_path, ONE, binary())
    wanted = {"contradicting_masks": "warn"}
    with pytest.raises(ValueError, match=r"no mask of the selection split shows any class"):
        folder.run(wanted)
    folder.threshold = 0.3
    report = folder.run(wanted)
    assert any("masks contradict the tags: none of the 8" in text for text in report["warnings"])


def test_a_class_without_any_tag_that_masks_show_is_said(tmp_path):
    folder = Folder(tmp_path, (*TWO, "none"), valued({}))
    masks = tmp_path / "data/masks"
    Image.new("L", (30, 24), 3).save(masks / "none/none1.png")
    said = "\n".join(folder.run(classes=["cat", "dog", "emu"])["warnings"])
    assert "'emu' is drawn in 1 masks of images without its tag" in said


def test_incomplete_tags_are_no_contradiction(tmp_path):
    """Each image has the one tag of its folder, but its mask shows the other class too."""

    def both(mask: np.ndarray, kind: str) -> Image.Image:
        mask = mask.copy()
        mask[-4:] = IDS["dog" if kind == "cat" else "cat"]
        return Image.fromarray(mask)

    report = Folder(tmp_path, TWO, both).run()
    assert any("'dog' is drawn in 8 masks" in text for text in report["warnings"])


def test_a_class_nearly_everywhere_in_its_masks_is_said(tmp_path):
    """Every image has the class, so that tags cannot tell which of two values is background."""
    folder = Folder(tmp_path, ("cat",), valued({0: 1, 1: 0}))
    said = "\n".join(folder.run()["warnings"])
    assert re.search(r"'cat' covers \d\d% of the masks' pixels on average", said)
    advice = re.search(r"prepare_data\.dataset\.(mask_values: \{.*?\})", said)
    assert advice
    folder.run(**yaml.safe_load(advice[1]))
    folder.check_masks()


def test_data_sets_that_settle_what_values_mean_say_so(tmp_path):
    """VOC has no setting for it: the masks themselves are to be saved with class ids."""
    voc, names = tmp_path / "VOC2012", [f"{kind}{at}" for kind in ("cat", "dog") for at in range(6)]
    for name in names:
        kind = name[:3]
        mask = truth(name, kind)
        for folder, suffix, made in (
            ("JPEGImages", "jpg", Image.new("RGB", (30, 24))),
            ("SegmentationClass", "png", Image.fromarray(np.where(mask, 255, 0).astype(np.uint8))),
        ):
            (voc / folder).mkdir(parents=True, exist_ok=True)
            made.save(voc / folder / f"{name}.{suffix}")
    lists = voc / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train_aug.txt").write_text("\n".join(names[::2]))
    (lists / "val.txt").write_text("\n".join(names[1::2]))
    labels = {name: [8 if name.startswith("cat") else 12] for name in names}
    (voc / "image_labels.json").write_text(json.dumps(labels))
    tree = {
        "prepare_data": {"dataset": {"name": "pascal_voc", "root": str(voc)}},
        "make_pseudo_masks": {"chain": "none"},
    }
    with pytest.raises(ValueError, match=r"'cat' holds 8(?s:.*)save the masks with") as stopped:
        run_stage("prepare_data", parse_params(tree), Paths(tmp_path / "project"))
    assert "mask_values" not in str(stopped.value)
    assert len(str(stopped.value).splitlines()) <= 20


def test_trimaps_of_other_values_name_those_of_their_set(tmp_path):
    pets = tmp_path / "pets"
    for folder in ("images", "annotations/trimaps"):
        (pets / folder).mkdir(parents=True)
    lines = []
    for at in range(12):
        breed, species = ("Bengal", "1 1") if at % 2 else ("beagle", "2 2")
        name = f"{breed}_{at}"
        lines.append(f"{name} {species} 1")
        Image.new("RGB", (30, 24)).save(pets / f"images/{name}.jpg")
        mask = truth(name, "cat") * np.uint8(255)
        Image.fromarray(mask).save(pets / f"annotations/trimaps/{name}.png")
    (pets / "annotations/list.txt").write_text("\n".join(lines))
    tree = {
        "prepare_data": {"dataset": {"name": "oxford_pet", "root": str(pets)}},
        "make_pseudo_masks": {"chain": "none"},
    }
    with pytest.raises(ValueError, match="masks of this data set hold only 1, 2, 3"):
        run_stage("prepare_data", parse_params(tree), Paths(tmp_path / "project"))


def test_masks_are_known_to_a_run_that_goes_on(tmp_path, monkeypatch):
    """The values are in the journal: a run that was killed after the masks stops as any other."""
    folder = Folder(tmp_path, ONE, binary())
    messages = []
    for _ in range(2):
        with pytest.raises(ValueError, match="contradict") as stopped:
            folder.run()
        messages.append(str(stopped.value))
        monkeypatch.setattr("wsss.stages._preparation.place_mask", lambda *a: 1 / 0)
    assert messages[0] == messages[1]


@pytest.mark.parametrize(
    ("key", "meaning"), [("256-10", 1), ("#ff00", 1), ("white", 1), (70000, 1), (-1, 1), (5, 300)]
)
def test_mask_values_that_mean_nothing_are_refused(key, meaning, tmp_path):
    folder = Folder(tmp_path, ONE, binary(), count=1)
    with pytest.raises(ValueError, match="mask_values"):
        folder.run(mask_values={key: meaning})


def test_colours_and_values_are_not_mixed(tmp_path):
    with pytest.raises(ValueError, match="colours or values, and not some of both"):
        Folder(tmp_path, ONE, binary(), count=1).run(mask_values={"#ffffff": 1, 0: 0})
