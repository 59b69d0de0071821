"""All stages on a tiny synthetic set: twice to the same bytes, without masks, and after kills."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from wsss.artifacts import Manifest, Paths, read_json, read_label_png, read_score_map
from wsss.config.params import Params, parse_params
from wsss.stages import run_stage

NETWORK = {
    "batch_size": 8,
    "epochs": 2,
    "augment": {"crop_size": 64, "long_side": [64, 80]},
    "eval_long_side": 64,
}
VALUES = {
    "machine": {"accelerator": "cpu", "num_workers": 0},
    "prepare_data": {
        "dataset": {"name": "synthetic", "num_train": 30, "num_val": 6, "image_size": [64, 64]},
        "selection_share": 0.2,
    },
    "train_classifier": NETWORK | {"backbone": {"model_name": "resnet10t"}},
    "generate_cams": {"scales": [1.0, 1.5], "batch_size": 4},
    "refine": {"chains": {"none": [], "crf": [{"name": "dense_crf", "n_iters": 2}]}},
    "train_segmenter": NETWORK,
    "predict_masks": {"scales": [1.0]},
}
FOLDERS = (
    "data/images",
    "data/splits",
    "models/classifier",
    "data/cams",
    "data/refined",
    "data/pseudo_masks",
    "models/segmenter",
    "data/predictions",
)


def hashes(root: Path, folder: str) -> dict[str, str]:
    return {
        str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted((root / folder).rglob("*"))
        if file.is_file()
    }


def run_all(root: Path, params: Params, *, hide_masks: bool = False) -> Paths:
    paths = Paths(root)
    stages = ("train_classifier", "generate_cams", "refine_cams@none", "refine_cams@crf")
    run_stage("prepare_data", params, paths)
    hidden = root / "hidden"
    if hide_masks:
        paths.masks.rename(hidden)
    for stage in stages:
        run_stage(stage, params, paths)
    if hide_masks:
        hidden.rename(paths.masks)
    run_stage("evaluate_refined@crf", params, paths)  # the threshold comes from here
    if hide_masks:
        paths.masks.rename(hidden)
    for stage in ("make_pseudo_masks", "train_segmenter", "predict_masks"):
        run_stage(stage, params, paths)
    if hide_masks:
        hidden.rename(paths.masks)
    return paths


@pytest.fixture(scope="module")
def params() -> Params:
    return parse_params(VALUES)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, params: Params) -> Paths:
    return run_all(tmp_path_factory.mktemp("first"), params)


def test_every_image_has_its_files(finished: Paths) -> None:
    manifest = Manifest.read(finished.splits)
    assert [len(manifest.splits[split]) for split in ("train", "selection", "val")] == [24, 6, 6]
    for sample in manifest.all_samples():
        cam = read_score_map(finished.cams / f"{sample.name}.npz")
        assert tuple(cam.class_ids) == sample.class_ids
        pseudo = read_label_png(finished.pseudo_masks / f"{sample.name}.png")
        assert set(pseudo.ravel().tolist()) <= {0, 255, *sample.class_ids}
    for sample in manifest.splits["val"]:
        assert read_label_png(finished.predictions / f"val/{sample.name}.png").shape == sample.size


def test_the_empty_chain_is_the_cams(finished: Paths) -> None:
    cams = hashes(finished.root, "data/cams")
    none = hashes(finished.root, "data/refined/none")
    assert list(cams.values()) == list(none.values())


def test_same_bytes_again_and_without_ground_truth(
    finished: Paths, params: Params, tmp_path: Path
) -> None:
    """A second run, in which masks are out of reach of all but preparation and evaluation."""
    again = run_all(tmp_path, params, hide_masks=True)
    for folder in FOLDERS:
        assert hashes(again.root, folder) == hashes(finished.root, folder), folder


def test_evaluations_agree_where_they_must(finished: Paths, params: Params) -> None:
    for target in ("cams", "pseudo_masks", "segmenter"):
        run_stage(f"evaluate_{target}", params, finished)
    run_stage("evaluate_refined@none", params, finished)
    cams = read_json(finished.report("evaluate_cams"))
    none = read_json(finished.report("evaluate_refined_none"))
    assert cams["val"] == none["val"]
    assert cams["val"]["mean_iou"] <= cams["oracle"]["val"]["mean_iou"]
    assert 0 < read_json(finished.report("evaluate_segmenter"))["val"]["mean_iou"] <= 1


@pytest.mark.parametrize(
    ("stage", "out", "started", "files"),
    [
        ("train_classifier", "models/classifier", ".work.round0.pt", 1),
        ("generate_cams", "data/cams", "*.npz", 6),  # one batch of four, and half of the next
        ("refine_cams crf", "data/refined/crf", "*.npz", 6),
        ("train_segmenter", "models/segmenter", ".work.last.pt", 1),
    ],
)
def test_killed_stage_goes_on_and_ends_in_the_same_bytes(
    finished: Paths, tmp_path: Path, stage: str, out: str, started: str, files: int
) -> None:
    root = tmp_path / "root"
    shutil.copytree(finished.root, root)
    shutil.rmtree(root / out)
    (root / "params.yaml").write_text(yaml.safe_dump(VALUES))
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-m", "wsss.stages", *stage.split()]
    process = subprocess.Popen(
        command, cwd=root, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    partial_out = (root / out).with_name(f".{Path(out).name}.partial")
    deadline = time.monotonic() + 120
    while len(list(partial_out.glob(started))) < files:
        assert process.poll() is None, "the stage ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (root / out).exists(), "a killed stage left an out that looks finished"
    kept = {file: file.stat().st_mtime_ns for file in partial_out.glob("*.npz")}
    subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True)
    assert hashes(root, out) == hashes(finished.root, out)
    redone = [
        file.name for file, at in kept.items() if (root / out / file.name).stat().st_mtime_ns != at
    ]
    assert len(redone) < 4, "more than the batch that was cut short was done again"
    assert not partial_out.exists()
