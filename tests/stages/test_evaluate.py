import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import (
    Manifest,
    Paths,
    Sample,
    ScoreMap,
    read_label_png,
    write_label_png,
    write_score_map,
)
from wsss.config.params import parse_params
from wsss.stages import run_stage
from wsss.tracking import NullTracker

SIZE = (24, 32)
PARAMS = parse_params(
    {
        "refine": {"chains": {"none": []}},
        "make_pseudo_masks": {"chain": "none"},
        "evaluate": {"class_groups": {"first": ["cat"]}, "select_by": "mean_iou_first"},
    }
)


class Recorder(NullTracker):
    def __init__(self) -> None:
        self.values: dict[tuple[str, int], float] = {}
        self.artifacts: list[str] = []

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        self.values |= {(key, step): value for key, value in values.items()}

    def artifact(self, path: Path) -> None:
        assert path.is_file()
        self.artifacts.append(path.name)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """Masks of two classes, score maps that are right above 0.5, perfect predictions."""
    found = Paths(tmp_path)
    rng = np.random.default_rng(0)
    splits = {}
    found.images.mkdir(parents=True)
    for split, number in (("train", 2), ("selection", 3), ("val", 3)):
        samples = []
        for index in range(number):
            name = f"{split} {index}"
            gt_mask = np.zeros(SIZE, np.uint8)
            gt_mask[4:12, 4 : 20 + index], gt_mask[14:20, 8:30], gt_mask[0] = 1, 2, 255
            Image.new("RGB", SIZE[::-1], (90, 120, 60)).save(found.images / f"{name}.png")
            write_label_png(found.masks / f"{name}.png", gt_mask)
            noise = rng.random((2, *SIZE)).astype(np.float32) * 0.4
            scores = noise + 0.55 * (gt_mask == np.array([1, 2])[:, None, None])
            score_map = ScoreMap(
                np.array([1, 2], np.uint8), scores.astype(np.float32), SIZE, np.ones(2, np.float32)
            )
            write_score_map(found.cams / f"{name}.npz", score_map)
            write_score_map(found.refined("none") / f"{name}.npz", score_map)
            half_ignored = gt_mask.copy()
            half_ignored[:, :16] = 255
            write_label_png(found.pseudo_masks / f"{name}.png", half_ignored)
            if split == "val":
                write_label_png(
                    found.predictions / split / f"{name}.png", gt_mask * (gt_mask < 255)
                )
            samples.append(Sample(name, f"{name}.png", SIZE, (1, 2), f"{name}.png"))
        splits[split] = tuple(samples)
    Manifest(("cat", "dog: big"), splits).write(found.splits)
    return found


def report_of(paths: Paths, name: str) -> Any:
    return json.loads(paths.report(name).read_text())


@pytest.mark.parametrize(("target", "chain"), [("cams", ""), ("refined", "none")])
def test_score_maps(paths: Paths, target: str, chain: str) -> None:
    tracker = Recorder()
    run_stage(
        "evaluate_cams" if target == "cams" else "evaluate_refined@none", PARAMS, paths, tracker
    )
    name = "evaluate_cams" if target == "cams" else "evaluate_refined_none"
    report = report_of(paths, name)
    assert 0.35 <= report["threshold"] <= 0.6
    for split, images in (("train", 2), ("selection", 3), ("val", 3)):
        assert report[split]["images"] == images
        assert report[split]["mean_iou_first"] > 0.95
        assert set(report[split]["iou"]) == {"background", "cat", "dog: big"}
        assert report["oracle"][split]["mean_iou_first"] >= report[split]["mean_iou_first"]
    assert tracker.values["val/mean_iou", 0] == report["val"]["mean_iou"]
    assert tracker.values["classes/val/iou/dog: big", 0] == report["val"]["iou"]["dog: big"]
    assert tracker.values["threshold", 0] == report["threshold"]
    # curves and all else are files of the run, and not metrics that spoil MLflow's comparisons
    assert not any("curve" in key or "dice" in key or step for key, step in tracker.values)
    files = [f"{name}.json", f"{name}_curve.csv", "curve.png", "panel.png"]
    assert tracker.artifacts == files
    assert paths.report(f"{name}_curve", ".csv").read_text().count("\n") == 102


@pytest.mark.parametrize("select_by", ["foreground_iou", "iou_image_mean"])
def test_threshold_by_another_metric(paths: Paths, select_by: str) -> None:
    tree = PARAMS.model_dump(mode="json")
    tree["evaluate"]["select_by"] = select_by
    run_stage("evaluate_cams", parse_params(tree), paths)
    report = report_of(paths, "evaluate_cams")
    assert report["selection"][select_by] == report["oracle"]["selection"][select_by]
    assert report["protocol"]["threshold"] == f"best {select_by} on the selection split"


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'foreground_iou'"):
        parse_params({"evaluate": {"select_by": "forground_iou"}})


def test_a_group_cannot_take_the_name_of_another_mean() -> None:
    with pytest.raises(ValueError, match="no group can be named 'foreground'"):
        parse_params({"evaluate": {"class_groups": {"foreground": ["cat"]}}})


def test_pseudo_masks_and_predictions(paths: Paths) -> None:
    run_stage("evaluate_pseudo_masks", PARAMS, paths)
    pseudo = report_of(paths, "evaluate_pseudo_masks")
    assert pseudo["train"]["mean_iou"] == 1
    assert pseudo["train"]["coverage"] == pytest.approx(0.5)
    assert 0.4 < pseudo["train"]["strict"]["mean_iou"] < 0.7
    run_stage("evaluate_segmenter", PARAMS, paths)
    segmenter = report_of(paths, "evaluate_segmenter")
    assert segmenter["val"]["mean_iou"] == segmenter["val"]["iou_image_mean"] == 1
    assert set(segmenter) == {"val", "protocol"}  # no prediction was made for other splits


def test_a_mask_that_was_given_does_not_score_its_pseudo_mask(paths: Paths) -> None:
    """It is ground truth itself, and would score 1 of whatever maps there are."""
    for name in ("train 0", "selection 0", "selection 1", "selection 2"):
        mask = read_label_png(paths.masks / f"{name}.png")
        for folder in (paths.annotations / "masks", paths.pseudo_masks):
            write_label_png(folder / f"{name}.png", mask)
    wrong = np.full(SIZE, 2, np.uint8)
    write_label_png(paths.pseudo_masks / "train 1.png", wrong)
    run_stage("evaluate_pseudo_masks", PARAMS, paths)
    report = report_of(paths, "evaluate_pseudo_masks")
    assert report["train"]["images"] == report["train"]["given"] == 1
    assert report["train"]["mean_iou"] < 0.2
    assert report["selection"] == {"given": 3}
    assert report["val"]["images"] == 3 and "given" not in report["val"]


def test_the_report_is_the_same_bytes_each_time(paths: Paths) -> None:
    found = []
    for _ in range(2):
        run_stage("evaluate_cams", PARAMS, paths)
        files = sorted(path for path in paths.report("").parent.rglob("*") if path.is_file())
        found.append({path.name: path.read_bytes() for path in files})
    assert found[0] == found[1]
    made = {"evaluate_cams.json", "evaluate_cams_curve.csv", "curve.png", "panel.png"}
    assert set(found[0]) == made


def test_without_ground_truth_the_stage_says_so_and_succeeds(
    paths: Paths, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = Manifest.read(paths.splits)
    bare = {
        split: tuple(
            Sample(sample.name, sample.image, sample.size, sample.class_ids) for sample in samples
        )
        for split, samples in manifest.splits.items()
    }
    Manifest(manifest.class_names, bare).write(paths.splits)
    caplog.set_level("INFO")
    for target in ("cams", "segmenter"):
        run_stage(f"evaluate_{target}", PARAMS, paths)
        report = report_of(paths, f"evaluate_{target}")
        assert set(report) == {"protocol"}
        assert report["protocol"]["ground_truth"].startswith("none")
    assert len(paths.report("evaluate_cams_curve", ".csv").read_text().splitlines()) == 102
    assert caplog.text.count("no scores; ground truth: none") == 2


MISSING = r"holds nothing of the 8 images.* `wsss run (\w+)`, and `python -m wsss.stages \1` where"


@pytest.mark.parametrize("target", ["evaluate_cams", "evaluate_segmenter"])
def test_results_that_are_missing_stop_it_and_leave_the_report(paths: Paths, target: str) -> None:
    run_stage(target, PARAMS, paths)
    before = paths.report(target).read_bytes()
    for path in [*paths.cams.iterdir(), *paths.predictions.rglob("*.png")]:
        path.unlink()
    with pytest.raises(ValueError, match=MISSING):
        run_stage(target, PARAMS, paths)
    assert paths.report(target).read_bytes() == before


def test_a_wrong_group_stops_before_any_file_is_read(paths: Paths) -> None:
    params = parse_params(
        {
            "refine": {"chains": {"none": []}},
            "make_pseudo_masks": {"chain": "none"},
            "evaluate": {"class_groups": {"pets": ["kat"]}},
        }
    )
    for cam in paths.cams.iterdir():
        cam.write_bytes(b"")
    with pytest.raises(ValueError, match=r"names 'kat'.*did you mean 'cat'"):
        run_stage("evaluate_cams", params, paths)


def test_heavy_libraries_are_not_imported() -> None:
    code = (
        "import sys, wsss.stages.evaluate\n"
        "heavy = ('torch', 'timm', 'mlflow', 'optuna', 'matplotlib')\n"
        "print([one for one in heavy if one in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
