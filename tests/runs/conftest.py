"""A project in which everything has run, elsewhere: MLflow knows nothing of it."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import (
    Manifest,
    Paths,
    Sample,
    ScoreMap,
    write_json,
    write_label_png,
    write_score_map,
)
from wsss.config.params import load_params
from wsss.stages import find_stages, run_stage
from wsss.tracking import prepare_mlflow
from wsss.tracking.database import database_uri

PARAMS = "refine: {chains: {none: [], crf: [{name: dense_crf, sigma_rgb: 10}]}}\n"


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables, whose making takes seconds."""
    prepare_mlflow()
    from mlflow.tracking import MlflowClient

    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(database_uri(file)).search_experiments()
    return file


@pytest.fixture
def project(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project, committed, with an empty database of its own."""
    for name in [name for name in os.environ if name.startswith(("DVC_", "MLFLOW_TRACKING"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DVC_STAGE", "record_runs")  # DVC has seen to what is up to date
    root = tmp_path / "project"
    paths = Paths(root)
    (root / "reports").mkdir(parents=True)
    (root / "params.yaml").write_text(PARAMS, encoding="utf-8")
    shutil.copy(empty_database, root / "mlflow.db")
    samples = [Sample(name, f"{name}.png", (40, 60), (1,), f"{name}.png") for name in "abc"]
    splits = {"train": (), "selection": tuple(samples[:1]), "val": tuple(samples[1:])}
    Manifest(("cat",), splits).write(paths.splits)
    paths.images.mkdir(parents=True)
    mask = np.zeros((40, 60), np.uint8)
    mask[:, :30] = 1
    scores = (mask[None] == 1).astype(np.float32)
    score_map = ScoreMap(np.array([1], np.uint8), scores, (40, 60), np.ones(1, np.float32))
    for sample in samples:
        Image.new("RGB", (60, 40)).save(paths.images / sample.image)
        for folder in (paths.masks, paths.pseudo_masks, paths.predictions / "val"):
            write_label_png(folder / f"{sample.name}.png", mask)
        for folder in (paths.cams, paths.refined("none"), paths.refined("crf")):
            write_score_map(folder / f"{sample.name}.npz", score_map)
    params = load_params(root / "params.yaml")
    for target in find_stages().targets(params):
        for out in target.outs(params):
            (root / out).mkdir(parents=True, exist_ok=True)
    for target in find_stages().targets(params):
        if "data/masks" in target.stage.reads:
            run_stage(target.name, params, paths)
        elif target.stage.curve:
            write_json(paths.report(target.report), {"best_epoch": 2, "val_map": 0.75})
            curve = paths.report(f"{target.report}_curve", ".csv")
            curve.write_text("epoch,loss\n1,0.5\n2,0.25\n", encoding="utf-8")
        else:
            write_json(paths.report(target.report), {"num_images": 2})
    shutil.rmtree(root / "reports/evaluate_segmenter")  # pictures are no results
    git = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "add", "params.yaml"], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "one"], check=True)
    monkeypatch.chdir(root)
    return root
