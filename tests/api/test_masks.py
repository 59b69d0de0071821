"""Predictions, masks and their scores, and how results draw and save themselves."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import wsss
from wsss.artifacts import Paths, palette, read_label_png

TAGS = [["dog", "cat"], "cow", ["dog"], []]


@pytest.fixture(scope="module")
def segmenter(project: Path) -> Any:
    return wsss.load_segmenter(project)


def test_predictions_are_those_of_the_pipeline(
    project: Path, files: list[Path], segmenter: Any
) -> None:
    found = wsss.predict(segmenter, files)
    for mask, file in zip(found, files, strict=True):
        wanted = read_label_png(Paths(project).predictions / f"val/{file.stem}.png")
        np.testing.assert_array_equal(mask.labels, wanted)
    assert len({name for mask in found for name in mask.tags}) > 1
    alone = wsss.predict(segmenter, str(files[0]), probs=True)
    np.testing.assert_array_equal(alone.labels, found[0].labels)
    np.testing.assert_array_equal(alone.probs.argmax(axis=0), alone.labels)


def test_tags_leave_out_classes(files: list[Path], segmenter: Any) -> None:
    free = wsss.predict(segmenter, files[0], probs=True)
    absent = free.tags[0]
    others = [name for name in segmenter.class_names if name != absent]
    bound = wsss.predict(segmenter, files[0], others, probs=True, crf=False)
    assert absent not in bound.tags
    assert bound.probs[segmenter.class_names.index(absent) + 1].max() == 0
    nothing, as_free = wsss.predict(segmenter, [files[0]] * 2, [[], None])
    assert nothing.shares == {"background": 1.0}
    np.testing.assert_array_equal(as_free.labels, free.labels)
    with pytest.raises(ValueError, match=r"name 'kat', which is no class .* did you mean 'cat'"):
        wsss.predict(segmenter, files[0], "kat")
    with pytest.raises(ValueError, match=r"str is no segmenter; take wsss.load_segmenter"):
        wsss.predict("models/segmenter", files[0])  # type: ignore[call-overload]


def test_scores_are_counted_by_hand() -> None:
    truth = np.array([[0, 0, 1, 1], [2, 2, 255, 1]], np.uint8)
    found = np.array([[0, 1, 1, 1], [2, 0, 2, 255]], np.uint8)
    scores = wsss.evaluate(found, truth, ["cat", "dog"])
    # labelled pixels: background 1 of {0, 0 missed as 1, 2 as 0}; cat 2 of 3; dog 1 of 2
    assert scores.iou == pytest.approx({"background": 1 / 3, "cat": 2 / 3, "dog": 1 / 2})
    assert scores.mean_iou == pytest.approx(0.5)
    assert scores.pixel_accuracy == pytest.approx(4 / 6)
    assert scores.coverage == pytest.approx(6 / 7)
    assert scores.foreground_iou == pytest.approx(3 / 5)
    assert scores.images == 1 and scores.confusion.sum() == 7
    both = wsss.evaluate([found, truth], [truth, truth], ["cat", "dog"])
    assert both.images == 2 and both.mean_iou > scores.mean_iou


def test_whether_there_is_a_background_is_told_and_not_guessed(project: Path) -> None:
    full = np.ones((2, 2), np.uint8)
    assert wsss.evaluate(full, full, ["cat"]).foreground_iou == 1, "an object that fills its image"
    truth, found = np.array([[1, 1, 2, 2]], np.uint8), np.array([[1, 0, 2, 2]], np.uint8)
    names = ["field", "forest"]
    assert wsss.evaluate(found, truth, names).iou["background"] == 0
    scores = wsss.evaluate(found, truth, names, background=False)
    assert scores.iou == {"field": 0.5, "forest": 1} and scores.mean_iou == 0.75
    assert np.isnan(scores.foreground_iou)
    maps = wsss.Maps.of(
        np.zeros((1, 4, 3), np.uint8), {"field": np.ones((1, 4)), "forest": np.zeros((1, 4))}
    )
    mask = replace(wsss.mask(maps, 0.5), labels=found, has_background=False)
    assert wsss.evaluate(mask, truth).iou == scores.iou


def test_all_forms_of_masks_score_alike(project: Path, files: list[Path], tmp_path: Path) -> None:
    masks = [Paths(project).masks / f"{file.stem}.png" for file in files]
    arrays = [np.asarray(Image.open(path)) for path in masks]
    wanted = wsss.evaluate(arrays, masks, ["cat", "cow", "dog"])
    assert wanted.mean_iou == 1 and wanted.coverage == 1
    found = wsss.evaluate([Image.open(path) for path in masks], arrays, ["cat", "cow", "dog"])
    assert found.iou == wanted.iou
    one = wsss.predict(wsss.load_segmenter(project), files[0])
    one.save(tmp_path / "one.png")
    again = wsss.evaluate(tmp_path / "one.png", masks[0], one.class_names)
    assert again.iou == wsss.evaluate(one, masks[0]).iou


def test_what_cannot_be_scored_is_refused_with_the_way_out(tmp_path: Path) -> None:
    mask, maps = np.zeros((2, 3), np.uint8), wsss.Maps.of(np.zeros((2, 3, 3), np.uint8), {})
    for arguments, wrong in (
        ((mask, mask), r"nothing says what the classes are; give class_names=\[\.\.\.\]"),
        (([mask], [mask, mask], ["a"]), "there are 1 predictions and 2 masks"),
        (([], [], ["a"]), "and one at least"),
        ((mask, mask + np.uint8(7), ["a"]), r"masks\[0\] holds the value 7; a mask holds 0"),
        ((mask, mask.T, ["a"]), r"masks\[0\] has 3 x 2 pixels .* it lies on its side"),
        ((maps, mask, ["a"]), r"predictions\[0\] are maps, which have no classes yet"),
        ((mask.astype(int), mask, ["a"]), r"must be uint8, but is int64; take .*astype"),
        ((tmp_path / "x.png", mask, ["a"]), "there is no such file"),
        ((mask, Image.new("RGB", (3, 2)), ["a"]), "has mode RGB; a mask holds class ids"),
    ):
        with pytest.raises(ValueError, match=wrong):
            wsss.evaluate(*arguments)  # type: ignore[arg-type]
    assert np.isnan(wsss.evaluate(mask, mask, ["a"]).mean_iou)  # of nothing


def test_masks_whose_ids_mean_something_else_are_refused(project: Path, files: list[Path]) -> None:
    mask = np.array([[0, 1]], np.uint8)
    with_255 = mask * np.uint8(255)
    way_out = r"hold 0 and 255 alone, .* take \(mask > 0\)"
    with pytest.raises(ValueError, match="masks " + way_out):
        wsss.evaluate([mask, mask], [with_255, with_255], ["cat"])
    with pytest.raises(ValueError, match="predictions " + way_out):
        wsss.evaluate(with_255, mask, ["cat"])
    assert wsss.evaluate((with_255 > 0).astype(np.uint8), mask, ["cat"]).mean_iou == 1
    # 255 is ignored as long as a class is there, too
    assert wsss.evaluate([mask, with_255], [mask, mask], ["cat"]).coverage == 0.75

    one = wsss.predict(wsss.load_segmenter(project), files[0])
    turned = one.class_names[::-1]
    with pytest.raises(ValueError, match=r"are cat, cow, dog, and not dog, cow, cat in this order"):
        wsss.evaluate(one, one.labels, turned)
    with pytest.raises(ValueError, match="in this order"):
        wsss.evaluate([one, replace(one, class_names=turned)], [one.labels] * 2)
    with pytest.raises(ValueError, match="in this order"):
        wsss.evaluate(one.labels, one, turned)


def test_maps_of_ones_own() -> None:
    image = np.full((4, 6, 3), 90, np.uint8)
    scores = np.zeros((2, 3))
    scores[0, 0] = 1
    maps = wsss.Maps.of(image, {"dog": scores, "cat": 1 - scores})
    assert maps.tags == ("dog", "cat") and maps["dog"].shape == (4, 6)
    mask = wsss.mask(maps, 0.5)
    assert mask["dog"][0, 0] and mask["cat"][3, 5] and not mask["dog"][3, 5]
    assert sum(mask.shares.values()) == pytest.approx(1)
    assert np.asarray(mask).shape == (4, 6)
    nowhere = wsss.Maps.of(image, {"dog": scores}, background=False)
    assert (wsss.mask(nowhere).labels != 0).all()
    for wrong, message in (
        ({"dog": scores + 1}, r"scores\['dog'\] must lie in \[0, 1\]"),
        ({"dog": scores, "cat": np.zeros((3, 3))}, r"scores\['cat'\] must have shape \(2, 3\)"),
        ({"dog": np.zeros(3)}, r"must have shape \(h, w\)"),
    ):
        with pytest.raises(ValueError, match=message):
            wsss.Maps.of(image, wrong)
    with pytest.raises(KeyError, match="no map is of 'do'; did you mean 'dog'"):
        maps["do"]
    with pytest.raises(KeyError, match="no class is named 'do'; did you mean 'dog'"):
        mask["do"]


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"threshold": 1.5}, r"threshold must lie in \[0, 1\]"),
        ({"background": "object"}, "object_source"),
        ({"background": "powr"}, "mask: background must be 'constant', 'power'"),
        ({"background": "power", "threshold": 0.3}, "the power background has no threshold"),
        ({"ignore_margin": 1}, "mask: ignore_margin must be less than 1"),
    ],
)
def test_settings_of_masks_are_checked(settings: dict[str, Any], wrong: str) -> None:
    maps = wsss.Maps.of(np.zeros((4, 6, 3), np.uint8), {"dog": np.eye(2)})
    with pytest.raises(ValueError, match=wrong):
        wsss.mask(maps, **settings)
    with pytest.raises(ValueError, match=r"str is no maps; wsss.cams makes some"):
        wsss.mask(["x"])  # type: ignore[list-item]


def test_pictures_show_the_colours_of_what_is_there(tmp_path: Path) -> None:
    image = np.full((60, 80, 3), 200, np.uint8)
    scores = np.zeros((60, 80))
    scores[:30] = 1
    maps = wsss.Maps.of(image, {"cat": scores * 0, "dog": scores})
    mask = wsss.mask(maps)
    dog = palette()[2].astype(int)
    for result in (maps, mask):
        picture = np.asarray(result.plot().convert("RGB")).astype(int)
        # over grey the channels of the class lead by as much as they do in its colour
        greenish = (picture[..., 1] - picture[..., 0] > 60) & (dog[1] > dog[0])
        assert 0.4 < greenish[24:324, -406:-6].mean() < 0.6
        png = result._repr_png_()
        assert png[:4] == b"\x89PNG" and png == result._repr_png_()
    assert len(wsss.Maps.of(image, {}).plot().size) == 2
    mask.save(tmp_path / "mask.png")
    stored = Image.open(tmp_path / "mask.png")
    assert stored.mode == "P" and (np.asarray(stored) == mask.labels).all()
    assert stored.getpalette()[6:9] == dog.tolist()
    with pytest.raises(ValueError, match=r"a mask is written as .png, but the name is 'mask.jpg'"):
        mask.save("mask.jpg")
    with pytest.raises(ValueError, match=r"maps.plot\(\).save\(...\) writes their picture"):
        maps.save("maps.png")


def test_images_become_what_the_project_has_learned_from(project: Path, tmp_path: Path) -> None:
    """Larger ones are shrunk, and 12 bits are scaled; masks have the size of the image."""
    root = tmp_path / "project"
    for name in ("models", "data/splits"):
        shutil.copytree(project / name, root / name)
    values = yaml.safe_load((project / "params.yaml").read_text())
    values["prepare_data"] = {"pixel_range": [0, 4095], "long_side_max": 48}
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    image = Image.open(project / "data/images/first.png").convert("L")
    deep = np.rint(np.asarray(image) * (4095 / 255)).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    small = np.asarray(image.convert("RGB").resize((48, 36), Image.Resampling.LANCZOS))
    classifier, segmenter = wsss.load_classifier(root), wsss.load_segmenter(root)

    maps = wsss.cams(classifier, tmp_path / "deep.png", "cat")
    wanted = wsss.cams(classifier, small, "cat")
    assert maps.scores.size == (36, 48)
    np.testing.assert_array_equal(maps["cat"], wanted["cat"])
    refined = wsss.refine(tmp_path / "deep.png", maps, "pamr")
    mask = wsss.mask(refined, 0.5)
    inner = wsss.mask(wsss.refine(small, wanted, "pamr"), 0.5)
    found = wsss.predict(segmenter, tmp_path / "deep.png", probs=True)
    beside = wsss.predict(segmenter, small)
    rows, columns = (np.arange(n) * 3 // 4 for n in (48, 64))  # the nearest of 36 x 48
    opened = wsss.predict(segmenter, Image.open(tmp_path / "deep.png"))
    np.testing.assert_array_equal(opened.labels, found.labels)
    for result, at_small in ((mask, inner), (found, beside)):
        assert result.labels.shape == (48, 64) and at_small.labels.shape == (36, 48)
        share = (result.labels == at_small.labels[rows[:, None], columns]).mean()
        assert share > 0.9  # which the centres of pixels shift by half a one
    np.testing.assert_array_equal(found.probs.argmax(axis=0), found.labels)
    assert mask.plot().size == found.plot().size
