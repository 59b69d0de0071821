"""Each class from the chain that finds it best: on made maps of which every answer is known."""

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
    read_json,
    read_label_png,
    read_score_map,
    write_label_png,
    write_score_map,
)
from wsss.config.params import Params, parse_params
from wsss.settings import ConfigError
from wsss.stages import find_stages, run_stage

SIZE = (16, 20)
NAMES = ("cat", "cow", "dog")
KNOWS = {"crf": (1,), "cam": (2,), "even": ()}
"""By chain the classes that it finds exactly; of the others it finds half, and as much beside."""
SCALE = {"crf": (0.999, 0.6), "cam": (0.3, 0.05), "even": (0.9, 0.1)}
"""By chain its scores inside and outside."""


def params(**per_class: Any) -> Params:
    return parse_params(
        {
            "machine": {"accelerator": "cpu", "num_workers": 0},
            "refine": {"chains": {chain: [] for chain in KNOWS}},
            "make_pseudo_masks": {"chain": "per_class", "per_class": per_class},
        }
    )


@pytest.fixture
def scenes(tmp_path: Path) -> Paths:
    """Cats and cows in 24 images a split, a dog in one of them; as three chains have them."""
    paths = Paths(tmp_path)
    paths.images.mkdir(parents=True)
    splits = {}
    for split in ("train", "selection", "val"):
        samples = []
        for index in range(24):
            name, ids = f"{split}{index:02}", ((1,), (2,), (1, 2), (1,))[index % 4]
            if index == 0:
                ids = (1, 3)
            gt_mask = np.zeros(SIZE, np.uint8)
            for at, class_id in enumerate(ids):
                gt_mask[4:12, 2 + 10 * at : 8 + 10 * at] = class_id
            Image.fromarray(np.full((*SIZE, 3), 9, np.uint8)).save(paths.images / f"{name}.png")
            write_label_png(paths.masks / f"{name}.png", gt_mask)
            for chain, known in KNOWS.items():
                write_maps(paths.refined(chain) / f"{name}.npz", gt_mask, ids, known, SCALE[chain])
            samples.append(Sample(name, f"{name}.png", SIZE, ids, f"{name}.png"))
        splits[split] = tuple(samples)
    Manifest(NAMES, splits).write(paths.splits)
    return paths


def write_maps(
    path: Path, gt_mask: np.ndarray, ids: tuple[int, ...], known: tuple[int, ...],
    scale: tuple[float, float],
) -> None:  # fmt: skip
    scores = np.zeros((len(ids), *SIZE), np.float32)
    for at, class_id in enumerate(ids):
        found = gt_mask == class_id
        if class_id not in known:  # half of it, and as much above
            found = np.roll(found, -4, axis=0)
        scores[at] = np.where(found, *scale)
    write_score_map(
        path, ScoreMap(np.array(ids, np.uint8), scores, SIZE, np.ones(len(ids), np.float32))
    )


def run_up_to(paths: Paths, settings: Params, last: str = "") -> dict[str, Any]:
    for chain in KNOWS:
        run_stage(f"evaluate_refined@{chain}", settings, paths)
    run_stage("evaluate_refined_per_class", settings, paths)
    for name in ("make_pseudo_masks", "evaluate_pseudo_masks") if last else ():
        run_stage(name, settings, paths)
    report: dict[str, Any] = read_json(paths.report(last or "evaluate_refined_per_class"))
    return report


def test_each_class_is_taken_from_the_chain_that_knows_it(scenes: Paths) -> None:
    """Cats of one and cows of the other are exact; the lone dog goes with the best chain."""
    report = run_up_to(scenes, params())
    classes = report["chains"]["classes"]
    assert classes["cat"]["chain"] == "crf" and classes["cow"]["chain"] == "cam"
    assert classes["cat"]["iou"] == {"crf": 1.0, "cam": pytest.approx(1 / 3, abs=1e-3),
                                     "even": pytest.approx(1 / 3, abs=1e-3)}  # fmt: skip
    # 18 of 24 images show a cat, 12 a cow, 1 a dog; 20 images count as much as the whole
    assert [classes[name]["images"] for name in NAMES] == [18, 12, 1]
    assert classes["cat"]["own_share"] == pytest.approx(18 / 38, abs=1e-6)
    assert classes["dog"]["chain"] == report["chains"]["best_chain"]
    own = report["chains"]["score"]
    lead = 18 / 38 * (1 - 1 / 3) + 20 / 38 * (own["crf"] - own["cam"])
    assert classes["cat"]["lead"] == pytest.approx(lead, abs=1e-3)
    assert report["threshold"] == 0.5
    for chain in KNOWS:
        alone = read_json(scenes.report(f"evaluate_refined_{chain}"))
        assert report["val"]["mean_iou"] > alone["val"]["mean_iou"] + 0.1
        if chain == report["chains"]["best_chain"]:
            assert report["chains"]["of_best_chain"]["val"] == alone["val"]["mean_iou"]
    assert report["val"]["iou"]["cat"] == report["val"]["iou"]["cow"] == 1


def test_pseudo_masks_are_made_of_it_and_say_whose_they_are(scenes: Paths) -> None:
    settings = params()
    scores = run_up_to(scenes, settings, "evaluate_pseudo_masks")
    assert scores["val"]["iou"]["cat"] == scores["val"]["iou"]["cow"] == 1
    report = read_json(scenes.report("make_pseudo_masks"))
    assert (report["chain"], report["threshold"]) == ("per_class", 0.5)
    assert report["chains"]["classes"]["cow"]["chain"] == "cam"


def test_where_one_chain_is_best_everywhere_masks_are_its_own(scenes: Paths) -> None:
    settings = params(shrinkage=1e9)
    run_up_to(scenes, settings, "make_pseudo_masks")
    whole = {path.name: read_label_png(path) for path in sorted(scenes.pseudo_masks.glob("*.png"))}
    best = read_json(scenes.report("make_pseudo_masks"))["chains"]["best_chain"]
    masks = {"chain": best}
    alone = settings.model_copy(
        update={"make_pseudo_masks": settings.make_pseudo_masks.model_copy(update=masks)}
    )
    run_stage("make_pseudo_masks", alone, scenes)
    assert len(whole) == 72
    for name, mask in whole.items():
        np.testing.assert_array_equal(read_label_png(scenes.pseudo_masks / name), mask)


def test_val_has_no_say(scenes: Paths) -> None:
    """The choice and every map are the same when all masks of val and train are gone."""
    settings = params()
    before = run_up_to(scenes, settings)["chains"]
    before["of_best_chain"] = {"selection": before["of_best_chain"]["selection"]}
    maps = {path: path.read_bytes() for path in scenes.refined("per_class").glob("*.npz")}
    manifest = Manifest.read(scenes.splits)
    for sample in (*manifest.splits["train"], *manifest.splits["val"]):
        write_label_png(scenes.masks / f"{sample.name}.png", np.full(SIZE, 3, np.uint8))
    after = run_up_to(scenes, settings)["chains"]
    assert after | {"of_best_chain": before["of_best_chain"]} == before
    assert after["of_best_chain"]["selection"] == before["of_best_chain"]["selection"]
    assert after["of_best_chain"]["val"] < 0.5  # which is told, and has no say
    assert maps and all(path.read_bytes() == held for path, held in maps.items())


def test_masks_that_annotators_corrected_choose_in_place_of_the_selection_split(
    scenes: Paths,
) -> None:
    """They say that the chain 'even' is right about cats, against the selection split."""
    settings = params(chosen_on="given", shrinkage=0)
    manifest = Manifest.read(scenes.splits)
    with pytest.raises(ValueError, match="correct some masks"):
        run_up_to(scenes, settings)
    for sample in manifest.splits["train"][:7]:
        even = read_score_map(scenes.refined("even") / f"{sample.name}.npz")
        mask = np.zeros(SIZE, np.uint8)
        for class_id, score in zip(even.class_ids, even.scores, strict=True):
            mask[score > 0.5] = class_id
        write_label_png(scenes.annotations / f"masks/{sample.name}.png", mask)
    chains = run_up_to(scenes, settings)["chains"]
    assert chains["classes"]["cat"]["chain"] == "even"
    assert chains["classes"]["cat"]["iou"]["even"] == 1
    assert chains["classes"]["cat"]["images"] == 5


def test_without_masks_the_way_out_is_said(scenes: Paths) -> None:
    manifest = Manifest.read(scenes.splits)
    for sample in manifest.splits["selection"]:
        write_label_png(scenes.masks / f"{sample.name}.png", np.zeros(SIZE, np.uint8))
    with pytest.raises(ValueError, match="chosen_on to given"):
        run_up_to(scenes, params())


def test_data_without_background_have_no_thresholds_to_compete_by(scenes: Paths) -> None:
    manifest = Manifest.read(scenes.splits)
    Manifest(manifest.class_names, manifest.splits, has_background=False).write(scenes.splits)
    with pytest.raises(ValueError, match="these data have none"):
        run_stage("evaluate_refined_per_class", params(), scenes)


def test_a_step_that_leaves_out_a_half_is_made_finer(scenes: Paths) -> None:
    settings = params()
    evaluate = settings.evaluate.model_copy(update={"threshold_step": 0.3})
    report = run_up_to(scenes, settings.model_copy(update={"evaluate": evaluate}))
    assert report["threshold"] == 0.5 and report["val"]["iou"]["cat"] == 1


def test_nobody_wants_it_where_masks_are_of_one_chain(scenes: Paths) -> None:
    settings = params().model_copy(update={"make_pseudo_masks": Params().make_pseudo_masks})
    run_stage("evaluate_refined_per_class", settings, scenes)
    assert [path.name for path in scenes.refined("per_class").iterdir()] == [".empty"]
    assert read_json(scenes.report("evaluate_refined_per_class")) == {}


def test_masks_depend_on_all_chains_and_their_evaluations() -> None:
    pipeline = find_stages()
    needed = {item.name for item in pipeline.upstream(
        pipeline.target("make_pseudo_masks", params()), params())}  # fmt: skip
    assert {f"{stage}@{chain}" for stage in ("refine_cams", "evaluate_refined")
            for chain in KNOWS} <= needed  # fmt: skip
    alone = Params()
    needed = {item.name for item in pipeline.upstream(
        pipeline.target("make_pseudo_masks", alone), alone)}  # fmt: skip
    assert "refine_cams@crf" in needed
    assert not needed & {"refine_cams@none", "evaluate_refined_per_class"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"make_pseudo_masks": {"chain": "per_class", "threshold": 0.3}}, "set it to selected"),
        (
            {"make_pseudo_masks": {"chain": "per_class", "background": "power"}},
            "set it to constant",
        ),
        ({"refine": {"chains": {"per_class": [], "crf": []}}}, "give it another name"),
    ],
)
def test_what_does_not_go_together_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_params(values)
