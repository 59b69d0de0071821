"""Every kind of annotation from prepare_data to pseudo masks, and mixtures of them."""

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from wsss.artifacts import (
    Annotations,
    Manifest,
    Paths,
    ScoreMap,
    read_json,
    read_label_png,
    write_score_map,
)
from wsss.config import ConfigError
from wsss.config.params import Params, parse_params
from wsss.pipeline import Job
from wsss.stages import find_stages, run_stage

KINDS = {
    "masks": "pixel_labels",
    "boxes": "box_labels",
    "points": "point_labels",
    "scribbles": "scribble_labels",
}
MIXTURES = {
    "nothing": {},
    **{kind: {key: "all"} for kind, key in KINDS.items()},
    "shares": dict(zip(KINDS.values(), (0.1, 0.5, 0.3, 4), strict=True)),
}


def params_of(**prepare: object) -> dict:
    return {
        "prepare_data": {
            "dataset": {"name": "synthetic", "num_train": 24, "num_val": 2, "image_size": [48, 64]},
            **prepare,
        },
        "refine": {"chains": {"none": [], "crf": [{"name": "dense_crf", "n_iters": 2}]}},
        "make_pseudo_masks": {"chain": "crf", "threshold": 0.4},
    }


def cams_of_noise(paths: Paths) -> None:
    """Maps that know nothing, as of a classifier that has learned nothing."""
    for sample in Manifest.read(paths.splits).all_samples():
        rng = np.random.default_rng(list(sample.name.encode()))
        ids = np.array(sample.class_ids, np.uint8)
        scores = rng.random((len(ids), 12, 16), np.float32)
        made = ScoreMap(ids, scores, sample.size, np.ones(len(ids), np.float32))
        write_score_map(paths.cams / f"{sample.name}.npz", made)


def run(root: Path, *, masks: bool = True, **prepare: object) -> Paths:
    """All stages up to pseudo masks, without ground truth where that is not there."""
    paths, params = Paths(root), parse_params(params_of(**prepare))
    run_stage("prepare_data", params, paths)
    cams_of_noise(paths)
    if not masks:
        shutil.rmtree(paths.masks)
    make(paths, params)
    return paths


def make(paths: Paths, params: Params) -> None:
    """What follows the maps, without pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Job, "panel", lambda *_, **__: None)
        for name in ("refine_cams@none", "refine_cams@crf", "make_pseudo_masks"):
            run_stage(name, params, paths)


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Paths]:
    return {
        name: run(tmp_path_factory.mktemp("mixtures") / name, **prepare)
        for name, prepare in MIXTURES.items()
    }


@pytest.mark.parametrize("mixture", MIXTURES)
def test_a_pseudo_mask_shows_what_was_given_and_no_class_without_a_tag(made, mixture):
    paths = made[mixture]
    given, manifest = Annotations.read(paths.annotations), Manifest.read(paths.splits)
    for sample in manifest.all_samples():
        path = paths.pseudo_masks / f"{sample.name}.png"
        found = read_label_png(path)
        assert {*np.unique(found).tolist()} <= {0, 255, *sample.class_ids}
        if sample.name in given.masks:
            assert path.read_bytes() == given.mask_path(sample.name).read_bytes()
            continue
        seeds = given.seed_map(sample.name)
        if seeds is not None:
            assert (found[seeds != 255] == seeds[seeds != 255]).all()
        for class_id, inside in given.inside(sample.name, sample.size).items():
            assert not (found == class_id)[~inside].any()
        for box in given.boxes.get(sample.name, ()):
            assert (found[box.top : box.bottom, box.left : box.right] == box.class_id).any()


@pytest.mark.parametrize("mixture", MIXTURES)
def test_only_train_and_selection_have_annotations_and_the_report_counts_them(made, mixture):
    paths = made[mixture]
    given, manifest = Annotations.read(paths.annotations), Manifest.read(paths.splits)
    val = {sample.name for sample in manifest.splits["val"]}
    assert not val & (given.masks | given.seeds | given.boxes.keys())
    counts = read_json(paths.report("prepare_data")).get("annotations", {})
    assert counts.keys() == {kind for kind, key in KINDS.items() if key in MIXTURES[mixture]}
    if "masks" in counts:
        images = [counts["masks"][split]["images"] for split in ("train", "selection")]
        assert sum(images) == len(given.masks) and images[0]
    report = read_json(paths.report("make_pseudo_masks"))
    assert report.get("annotations", {}).get("masks", 0) == len(given.masks)


@pytest.mark.parametrize("mixture", MIXTURES)
def test_images_without_annotations_have_the_bytes_of_a_project_of_tags(made, mixture):
    given = Annotations.read(made[mixture].annotations)
    touched = given.masks | given.seeds | given.boxes.keys()
    for part in ("data/refined/none", "data/refined/crf", "data/pseudo_masks"):
        before, after = files(made["nothing"].root / part), files(made[mixture].root / part)
        assert before.keys() == after.keys()
        same = {name for name in before if name.rpartition(".")[0] not in touched}
        assert {name: before[name] for name in same} == {name: after[name] for name in same}
    for part in ("data/images", "data/masks", "data/splits"):
        assert files(made["nothing"].root / part) == files(made[mixture].root / part)


def test_a_project_without_the_folder_is_one_of_tags(made, tmp_path):
    paths = Paths(tmp_path)
    shutil.copytree(made["nothing"].root, paths.root, dirs_exist_ok=True)
    shutil.rmtree(paths.annotations)
    make(paths, parse_params(params_of()))
    for part in ("data/refined", "data/pseudo_masks", "reports"):
        assert files(paths.root / part) == files(made["nothing"].root / part)


def test_nothing_after_prepare_data_opens_ground_truth(made, tmp_path):
    """Annotations are copies: what is made of them is the same where data/masks is not there."""
    without = run(tmp_path, masks=False, **MIXTURES["shares"])
    for part in ("data/annotations", "data/refined", "data/pseudo_masks"):
        assert files(without.root / part) == files(made["shares"].root / part)


def test_no_stage_that_learns_reads_both_annotations_and_ground_truth():
    readers = {
        folder: {stage.name for stage in find_stages() if f"data/{folder}" in stage.reads}
        for folder in ("annotations/masks", "annotations/partial", "masks")
    }
    learning = {"make_pseudo_masks", "train_segmenter"}
    # one chooses among chains by masks that annotators gave, and scores what that gives; the other
    # leaves out what was given
    scoring = {"evaluate_refined_per_class", "evaluate_pseudo_masks"}
    assert readers["annotations/masks"] == learning | scoring
    assert readers["annotations/partial"] == learning | {"refine_cams"}
    assert not readers["annotations/partial"] & readers["masks"]


def test_all_masks_are_the_ground_truth_of_what_is_learned_from(made):
    paths = made["masks"]
    manifest = Manifest.read(paths.splits)
    for split in ("train", "selection"):
        for sample in manifest.splits[split]:
            found = (paths.pseudo_masks / f"{sample.name}.png").read_bytes()
            assert found == (paths.masks / str(sample.mask)).read_bytes()


def test_a_part_is_nested_in_a_larger_one(tmp_path):
    names = []
    for at, wanted in enumerate((2, 0.25, 12, "all")):
        paths = Paths(tmp_path / str(at))
        run_stage("prepare_data", parse_params(params_of(pixel_labels=wanted)), paths)
        names.append(Annotations.read(paths.annotations).masks)
    assert [len(item) for item in names] == [2, 6, 12, 24]
    assert all(small < large for small, large in pairwise(names))


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        ({"pixel_labels": 0.01}, r"pixel_labels is 0\.01, .*none of the 24 .* one is 0\.03"),
        ({"box_labels": 100}, r"box_labels is 100, but only 2\d images"),
        ({"point_labels": ["train_00001", "train_1"]}, r"names 'train_1', which is no image; did"),
        ({"pixel_labels": ["val_00001"]}, r"names 'val_00001', an image of val"),
    ],
)
def test_a_part_that_cannot_be_drawn_is_an_error_before_work(tmp_path, prepare, message):
    with pytest.raises(ConfigError, match=message):
        run_stage("prepare_data", parse_params(params_of(**prepare)), Paths(tmp_path))
    assert not [*(tmp_path / "data/annotations").glob("[!.]*")]


@pytest.mark.parametrize("value", [0, 1.5, -3, "some", True, []])
def test_a_part_is_none_all_a_number_a_share_or_names(value):
    with pytest.raises(ConfigError, match=r"prepare_data\.pixel_labels"):
        parse_params(params_of(pixel_labels=value))


@pytest.mark.parametrize("stop", ["write_label_png", "read_bytes"])
def test_a_full_disk_and_a_kill_leave_nothing_and_the_rerun_gives_the_same_bytes(
    made, tmp_path, monkeypatch, stop
):
    from wsss.stages import _annotations

    params, paths, calls = parse_params(params_of(**MIXTURES["shares"])), Paths(tmp_path), []
    real = getattr(_annotations, stop)

    def full(*arguments: object, **options: object) -> object:
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(_annotations, stop, full)
        with pytest.raises(OSError, match="No space left"):
            run_stage("prepare_data", params, paths)
    below = (path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert not [path for path in below if not any(part.startswith(".") for part in path.parts)]
    run_stage("prepare_data", params, paths)
    for part in ("data/annotations", "data/images", "data/splits"):
        assert files(paths.root / part) == files(made["shares"].root / part)


def test_pseudo_masks_of_a_killed_run_are_those_of_a_whole_one(made, tmp_path, monkeypatch):
    from wsss.stages import make_pseudo_masks

    paths, params = Paths(tmp_path), parse_params(params_of(**MIXTURES["shares"]))
    shutil.copytree(made["shares"].root, paths.root, dirs_exist_ok=True)
    shutil.rmtree(paths.pseudo_masks)
    real, calls = make_pseudo_masks.write_label_png, []

    def dying(path: Path, *what: object) -> None:
        calls.append(path)
        if len(calls) == 9:
            raise KeyboardInterrupt
        real(path, *what)

    with monkeypatch.context() as patch:
        patch.setattr(make_pseudo_masks, "write_label_png", dying)
        with pytest.raises(KeyboardInterrupt):
            run_stage("make_pseudo_masks", params, paths)
    run_stage("make_pseudo_masks", params, paths)
    assert files(paths.pseudo_masks) == files(made["shares"].pseudo_masks)
    reports = [item.report("make_pseudo_masks").read_bytes() for item in (paths, made["shares"])]
    assert reports[0] == reports[1]
