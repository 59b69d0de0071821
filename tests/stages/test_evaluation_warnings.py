"""What evaluation says of scores that a person must not take for a success."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from wsss.artifacts import Manifest, Paths, read_json, read_label_png, write_label_png
from wsss.config.params import Params
from wsss.pipeline.outcome import report_scores
from wsss.stages import run_stage
from wsss.stages._warnings.evaluation import headline

Redraw = Callable[[Paths, Callable[[np.ndarray], np.ndarray]], None]


def evaluated(name: str, params: Params, paths: Paths) -> dict[str, Any]:
    run_stage(name, params, paths)
    report: dict[str, Any] = read_json(paths.report(name.replace("@", "_")))
    return report


def predict(paths: Paths, split: str, label: Callable[[int], int]) -> None:
    """Write predictions that are one class over half of each image."""
    for index, sample in enumerate(Manifest.read(paths.splits).splits[split]):
        mask = np.zeros(sample.size, np.uint8)
        mask[:10] = label(index)
        write_label_png(paths.predictions / split / f"{sample.name}.png", mask)


def test_a_threshold_at_the_end_of_its_range_is_said(
    defects_at_chance: Paths, chance_params: Params, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    report = evaluated("evaluate_cams", chance_params, defects_at_chance)
    assert report["threshold"] == 1
    first, second = report["warnings"]
    assert "threshold 1.00" in first and "evaluate.select_by" in first
    assert "IoU of 'crack', 'dent', 'hole', 'scratch', 'stain' is 0 on val" in second
    assert "comes from the background alone (0.9" in second
    assert "(background 0.9" in caplog.text and "foreground classes 0.000)" in caplog.text
    assert "evaluate_cams: threshold 1.00 is at the end" in caplog.text


def test_the_other_end_is_said_too(
    defects_at_chance: Paths, chance_params: Params, with_masks: Redraw
) -> None:
    """Defects that fill their tile, whose maps are far too small."""
    samples = Manifest.read(defects_at_chance.splits).all_samples()
    for sample in samples:
        mask = np.full(sample.size, sample.class_ids[0] if sample.class_ids else 0, np.uint8)
        write_label_png(defects_at_chance.masks / f"{sample.name}.png", mask)
    report = evaluated("evaluate_refined@none", chance_params, defects_at_chance)
    assert report["threshold"] == 0
    assert "threshold 0.00 is at the end of its range" in report["warnings"][0]


def test_masks_without_any_class_give_no_number_and_name_the_way_out(
    defects_at_chance: Paths, chance_params: Params, with_masks: Redraw
) -> None:
    """Black and white masks whose white is taken for ignored pixels."""
    with_masks(defects_at_chance, lambda mask: np.where(mask, 255, 0))
    report = evaluated("evaluate_refined@none", chance_params, defects_at_chance)
    assert set(report) == {"protocol", "warnings"}
    assert "no mask of the selection split" in report["protocol"]["threshold"]
    assert "make_pseudo_masks.threshold" in report["warnings"][0]
    with pytest.raises(ValueError, match=r"no mask of the selection split.*set it to usual"):
        run_stage("make_pseudo_masks", chance_params, defects_at_chance)
    predict(defects_at_chance, "val", lambda _: 0)
    report = evaluated("evaluate_segmenter", chance_params, defects_at_chance)
    assert set(report["val"]) == {"images", "false_alarms"}
    assert "25 masks of val hold no pixel of any class" in report["warnings"][0]


def test_a_class_whose_masks_hold_another_is_named(
    defects_at_chance: Paths, chance_params: Params, with_masks: Redraw
) -> None:
    """Masks of 0 and 1 under folders of five classes mean the first everywhere."""
    with_masks(defects_at_chance, lambda mask: mask > 0)
    for name in ("evaluate_cams", "evaluate_segmenter"):
        predict(defects_at_chance, "val", lambda index: index % 5 + 1)
        warnings = evaluated(name, chance_params, defects_at_chance)["warnings"]
        (found,) = (text for text in warnings if "no scored pixel" in text)
        assert "class 'dent', 'hole', 'scratch', 'stain', though 16 of their images" in found
        assert "crack" not in found


def test_good_scores_have_no_warning(defects_at_chance: Paths, chance_params: Params) -> None:
    for sample in Manifest.read(defects_at_chance.splits).splits["val"]:
        mask = read_label_png(defects_at_chance.masks / f"{sample.name}.png")
        write_label_png(defects_at_chance.predictions / f"val/{sample.name}.png", mask)
    report = evaluated("evaluate_segmenter", chance_params, defects_at_chance)
    assert "warnings" not in report
    assert report["val"]["mean_iou"] == report["val"]["mean_iou_foreground"] == 1
    assert report["val"]["false_alarms"] == {"images": 0, "area": 0, "untagged": 5}


def test_background_only_is_named_apart_in_the_headline(
    defects_at_chance: Paths, chance_params: Params
) -> None:
    predict(defects_at_chance, "val", lambda _: 0)
    report = evaluated("evaluate_segmenter", chance_params, defects_at_chance)
    assert report["val"]["mean_iou_foreground"] == 0
    background = report["val"]["iou"]["background"]
    assert f"(background {background:.3f}, foreground classes 0.000)" in headline(report)
    even = {"mean_iou": 0.84, "iou": {"background": 0.95}, "mean_iou_foreground": 0.8}
    assert headline({"val": even, "protocol": {}}) == "val mean IoU 0.840"


def test_false_alarms_are_counted_with_ground_truth_and_without(
    defects_at_chance: Paths, chance_params: Params
) -> None:
    paths = defects_at_chance
    predict(paths, "val", lambda index: index % 2)
    report = evaluated("evaluate_segmenter", chance_params, paths)
    alarms = {"images": 2 / 5, "area": 2 / 5 / 2, "untagged": 5}
    assert report["val"]["false_alarms"] == alarms
    scores = report_scores(report)
    assert scores["val/false_alarms/images"] == alarms["images"]
    assert scores["val/false_alarms/area"] == alarms["area"]
    for chosen_by in ("mean_iou", "foreground_iou", "iou_image_mean"):
        assert scores[f"val/{chosen_by}"] == report["val"][chosen_by]
    manifest = Manifest.read(paths.splits)
    bare = {
        split: tuple(replace(sample, mask=None) for sample in samples)
        for split, samples in manifest.splits.items()
    }
    replace(manifest, splits=bare).write(paths.splits)
    report = evaluated("evaluate_segmenter", chance_params, paths)
    assert report["val"] == {"false_alarms": alarms}
    assert report["protocol"]["ground_truth"].startswith("none")
    assert "2 of" not in headline(report) and "40 % of 5 val images" in headline(report)
    predict(paths, "val", lambda _: 1)
    report = evaluated("evaluate_segmenter", chance_params, paths)
    assert "in 5 of 5 (100 %) val images without a tag" in report["warnings"][0]
    # maps and pseudo masks know the tags
    run_stage("evaluate_cams", chance_params, paths)
    assert "val" not in read_json(paths.report("evaluate_cams"))
