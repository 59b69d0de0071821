"""Data whose every pixel shows a class: no background wins, is learned or is scored."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import (
    Annotations,
    Manifest,
    Paths,
    ScoreMap,
    read_json,
    read_label_png,
    write_label_png,
    write_score_map,
)
from wsss.config.params import Params, parse_params
from wsss.config.segmentation import PseudoMaskSettings
from wsss.evaluate import evaluate_labels
from wsss.pipeline import Job
from wsss.segment.pseudo_masks import expected_pixels, pseudo_mask
from wsss.stages import run_stage

CLASSES = ["impervious_surface", "building", "low_vegetation", "tree", "car"]


def params_of() -> Params:
    town = {"num_images": 7, "image_size": [96, 128], "tile": 48, "num_masks": 2, "num_val": 2}
    return parse_params(
        {
            "prepare_data": {
                "dataset": {"name": "synthetic_aerial", "car": 8, **town},
                "pixel_labels": "all",
            },
            "refine": {
                "chains": {
                    "none": [],
                    "crf": [{"name": "dense_crf", "n_iters": 2, "background": "power"}],
                }
            },
            "make_pseudo_masks": {"chain": "crf", "threshold": "selected"},
            "evaluate": {"threshold_step": 0.1},
        }
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """All stages from tiles to scored pseudo masks, by maps that know nothing."""
    paths, params = Paths(tmp_path_factory.mktemp("town")), params_of()
    run_stage("prepare_data", params, paths)
    for sample in Manifest.read(paths.splits).all_samples():
        rng = np.random.default_rng(list(sample.name.encode()))
        ids = np.array(sample.class_ids, np.uint8)
        scores = rng.random((len(ids), 12, 12), np.float32)
        scores[:, :3, :3] = 0
        found = ScoreMap(ids, scores, sample.size, np.ones(len(ids), np.float32))
        write_score_map(paths.cams / f"{sample.name}.npz", found)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Job, "panel", lambda *_, **__: None)
        for name in (
            "evaluate_cams",
            *("refine_cams@none", "refine_cams@crf", "evaluate_refined@none"),
            *("evaluate_refined@crf", "make_pseudo_masks", "evaluate_pseudo_masks"),
        ):
            run_stage(name, params, paths)
    return paths


def test_the_manifest_says_so_and_only_some_images_have_masks_to_learn_from(made: Paths) -> None:
    manifest = Manifest.read(made.splits)
    assert not manifest.has_background and manifest.class_names == tuple(CLASSES)
    given = {name.split("/")[0] for name in Annotations.read(made.annotations).masks}
    assert len(given) == 2


def test_every_pixel_of_a_pseudo_mask_shows_a_tag_or_is_ignored(made: Paths) -> None:
    manifest = Manifest.read(made.splits)
    given = Annotations.read(made.annotations)
    for sample in manifest.all_samples():
        mask = read_label_png(made.pseudo_masks / f"{sample.name}.png")
        shown = set(np.unique(mask).tolist())
        assert 0 not in shown
        if sample.name not in given.masks:
            assert shown <= {255, *sample.class_ids} and shown != {255}


def test_an_image_without_a_map_teaches_nothing() -> None:
    nothing = ScoreMap(np.zeros(0, np.uint8), np.zeros((0, 2, 2), np.float32), (2, 2), np.zeros(0))
    settings = PseudoMaskSettings()
    assert (pseudo_mask(nothing, settings, 0.5) == 0).all()
    without = settings.without_background()
    mask = pseudo_mask(nothing, without, 0.5)
    assert (mask == 255).all()
    assert not expected_pixels(nothing, mask, without, 0.5).shown


@pytest.mark.parametrize("stage", ["cams", "refined_none", "refined_crf", "pseudo_masks"])
def test_scores_are_of_the_classes_alone(made: Paths, stage: str) -> None:
    report = read_json(made.report(f"evaluate_{stage}"))
    val = report["val"]
    assert set(val["iou"]) == set(CLASSES)
    assert val["mean_iou"] == pytest.approx(np.mean(list(val["iou"].values())), abs=1e-6)
    assert not {"foreground_iou", "iou_image_mean", "objects", "false_alarms"} & set(val)
    if stage != "pseudo_masks":
        assert report["threshold"] == 0
        assert "each pixel has a class" in report["protocol"]["threshold"]
    assert not [text for text in report.get("warnings", ()) if "threshold" in text]


def test_a_background_that_is_predicted_all_the_same_is_missed(tmp_path: Path) -> None:
    from wsss.artifacts import Sample

    gt_mask = np.array([[1, 1, 2, 2]], np.uint8)
    for folder, mask in (("gt", gt_mask), ("found", np.array([[1, 0, 2, 2]], np.uint8))):
        write_label_png(tmp_path / folder / "a.png", mask)
    samples = [Sample("a", "a.png", (1, 4), (1, 2), "a.png")]
    folders = tmp_path / "found", tmp_path / "gt"
    scores = evaluate_labels(samples, *folders, 2, has_background=False)
    assert scores.strict.union.tolist() == [0, 2, 2]
    assert scores.strict.correct.tolist() == [0, 1, 2]
    with_background = evaluate_labels(samples, *folders, 2)
    assert with_background.strict.union.tolist() == [1, 2, 2]


def test_own_masks_hold_no_background_where_there_is_none(tmp_path: Path) -> None:
    folder, rows = tmp_path / "own", ["image,tags"]
    (folder / "images").mkdir(parents=True)
    for index in range(8):
        image = np.random.default_rng(index).integers(0, 256, (12, 16, 3), np.uint8)
        Image.fromarray(image).save(folder / f"images/{index}.png")
        mask = np.ones((12, 16), np.uint8)
        mask[: 3 + index] = 2
        write_label_png(folder / f"masks/{index}.png", mask)
        rows.append(f"{index}.png,field;forest")
    (folder / "tags.csv").write_text("\n".join(rows))
    data = {"name": "folder", "root": str(folder), "tags": "tags.csv", "masks": "masks"}
    settings = {"dataset": {**data, "background": False}, "on_bad_image": "error"}
    params = parse_params(
        {"prepare_data": settings, "make_pseudo_masks": {"chain": "none", "threshold": 0.3},
         "refine": {"chains": {"none": []}}}
    )  # fmt: skip
    paths = Paths(tmp_path / "project")
    run_stage("prepare_data", params, paths)
    assert not Manifest.read(paths.splits).has_background
    mask[5, 5] = 0
    write_label_png(folder / "masks/7.png", mask)
    with pytest.raises(ValueError, match=r"7\.png holds 0, the background, .*mask_values what 0"):
        run_stage("prepare_data", params, paths)


def test_masks_that_tags_come_from_are_learned_from_whole(tmp_path: Path) -> None:
    """Of a class of which a tile has too little for a tag there is a mask all the same."""
    tree = params_of().model_dump(mode="json")
    tree["prepare_data"]["dataset"]["min_share"] = 0.3
    params, paths = parse_params(tree), Paths(tmp_path)
    run_stage("prepare_data", params, paths)
    names = Annotations.read(paths.annotations).masks
    untagged = 0
    for sample in Manifest.read(paths.splits).all_samples():
        if sample.name in names:
            given = read_label_png(paths.annotations / f"masks/{sample.name}.png")
            np.testing.assert_array_equal(given, read_label_png(paths.masks / str(sample.mask)))
            untagged += len({*np.unique(given).tolist()} - {255, *sample.class_ids})
    assert untagged
