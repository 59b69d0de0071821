"""A project with a scored segmenter, as `dvc repro` leaves it, and a registry of its own."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from wsss.artifacts import Manifest, Paths, Sample, write_label_png
from wsss.config.params import load_params
from wsss.config.sections import BackboneSettings
from wsss.config.segmentation import SegmenterSettings
from wsss.models.classifier import Classifier, save_classifier
from wsss.models.timm_backbone import TimmBackbone
from wsss.pipeline import Job
from wsss.pipeline.lock import folder_md5
from wsss.segment.network import make_segmenter, save_segmenter
from wsss.stages import run_stage
from wsss.tracking import prepare_mlflow
from wsss.tracking.database import database_uri

PARAMS = {
    "machine": {"accelerator": "cpu", "num_workers": 0},
    "predict_masks": {"scales": [1.0], "flip": True, "crf": {"n_iters": 2}},
}
BACKBONE = BackboneSettings(model_name="resnet10t")
SIZES = [(40, 64), (64, 40), (40, 64), (33, 57)]
LOCKED = {
    "prepare_data": ((), ("data/images", "data/masks", "data/splits")),
    "train_classifier": (("data/images", "data/splits"), ("models/classifier",)),
    "train_segmenter": (("data/images", "data/splits"), ("models/segmenter",)),
    "predict_masks": (("data/images", "models/segmenter"), ("data/predictions",)),
    "evaluate_segmenter": (("data/masks", "data/predictions", "data/splits"), ()),
}


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables, whose making takes seconds."""
    prepare_mlflow()
    from mlflow.tracking import MlflowClient

    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(database_uri(file)).search_experiments()
    return file


def write_segmenter(paths: Paths, seed: int, classes: tuple[str, ...] = ("x", "y")) -> None:
    """A network of random weights, which predicts more than one class."""
    shutil.rmtree(paths.segmenter, ignore_errors=True)
    paths.segmenter.mkdir(parents=True)
    torch.manual_seed(seed)
    paths.classifier.mkdir(parents=True, exist_ok=True)
    classifier = Classifier(TimmBackbone(BACKBONE), classes)
    save_classifier(classifier, BACKBONE, "multi_label", paths.classifier)
    settings = SegmenterSettings(arch="unet", arch_kwargs={"decoder_channels": [8] * 5})
    has_background = Manifest.read(paths.splits).has_background
    segmenter = make_segmenter(settings, paths.classifier, has_background=has_background)
    torch.nn.init.normal_(segmenter.net.segmentation_head[0].weight, std=3)
    save_segmenter(segmenter, paths.segmenter)


def write_lock(root: Path) -> None:
    """What `dvc repro` notes of what is there."""
    values = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    stages = {}
    for name, (deps, outs) in LOCKED.items():
        made = [{"path": path, "md5": folder_md5(root / path)} for path in outs]
        if name == "evaluate_segmenter":
            report = root / "reports/evaluate_segmenter.json"
            made.append({"path": str(report.relative_to(root)), "md5": file_md5(report)})
        stages[name] = {
            "deps": [{"path": path, "md5": folder_md5(root / path)} for path in deps],
            "outs": made,
            "params": {"params.yaml": {key: values[key] for key in (name,) if key in values}},
        }
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {name: {} for name in LOCKED}}))


def file_md5(path: Path) -> str:
    import hashlib

    return hashlib.md5(path.read_bytes()).hexdigest()


def predict_and_score(root: Path) -> None:
    """As `dvc repro` does after a change of the model or the settings."""
    params, paths = load_params(root / "params.yaml"), Paths(root)
    for stage in ("predict_masks", "evaluate_segmenter"):
        run_stage(stage, params, paths)
    write_lock(root)


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, int], None]:
    """Puts another network in place of the segmenter, and scores it."""
    monkeypatch.setattr(Job, "panel", lambda *_, **__: None)

    def trained(root: Path, seed: int) -> None:
        write_segmenter(Paths(root), seed)
        predict_and_score(root)

    return trained


@pytest.fixture
def new_segmenter() -> Callable[[Paths, int], None]:
    """Puts a network in place of the segmenter, for the data that are there."""
    return write_segmenter


@pytest.fixture
def rescore(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Predicts and scores again with what is there."""
    monkeypatch.setattr(Job, "panel", lambda *_, **__: None)
    return predict_and_score


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the project; the masks are what the network of seed 3 predicts, for the most."""
    root = tmp_path_factory.mktemp("made")
    paths = Paths(root)
    paths.images.mkdir(parents=True)
    (root / "params.yaml").write_text(yaml.safe_dump(PARAMS), encoding="utf-8")
    rng, samples = np.random.default_rng(0), []
    for name, size in zip("abcd", SIZES, strict=True):
        coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(size[::-1]).save(paths.images / f"{name}.png")
        samples.append(Sample(name, f"{name}.png", size, (1, 2), f"{name}.png"))
        write_label_png(paths.masks / f"{name}.png", np.zeros(size, np.uint8))
    Manifest(("x", "y"), {"train": (), "selection": (), "val": tuple(samples)}).write(paths.splits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Job, "panel", lambda *_, **__: None)
        write_segmenter(paths, 3)
        run_stage("predict_masks", load_params(root / "params.yaml"), paths)
        for sample in samples:
            shutil.copy(paths.predictions / f"val/{sample.name}.png", paths.masks)
        gt_mask = np.zeros(SIZES[0], np.uint8)
        gt_mask[:, 20:40], gt_mask[:, 40:] = 1, 2
        write_label_png(paths.masks / "a.png", gt_mask)
        predict_and_score(root)
    return root


@pytest.fixture
def project(
    made: Path, tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A copy of it, of DVC, committed, with an empty database; the current folder."""
    for name in [name for name in os.environ if name.startswith(("DVC_", "MLFLOW_TRACKING"))]:
        monkeypatch.delenv(name)
    root = tmp_path / "project"
    shutil.copytree(made, root)
    (root / ".dvc").mkdir()
    shutil.copy(empty_database, root / "mlflow.db")
    git = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "add", "params.yaml"], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "one"], check=True)
    monkeypatch.chdir(root)
    return root
