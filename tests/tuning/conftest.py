"""A small project that has been run up to data/cams, and an MLflow database for its trials."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from wsss.artifacts import (
    Annotations,
    Manifest,
    Paths,
    Sample,
    ScoreMap,
    write_label_png,
    write_score_map,
)
from wsss.config.params import Params, load_params
from wsss.config.yaml_text import load_yaml
from wsss.tracking import prepare_mlflow

SIZE = (24, 32)
RECIPES = Path(__file__).parents[2] / "recipes"

PARAMS = """\
# what the project says about itself
base:
  rng_seed: 7  # of everything
machine:
  experiment: tuning tests
refine:
  chains:
    none: []
    crf:  # the one that counts
      - name: dense_crf
        n_iters: 3
        sigma_xy: 12  # pixels
        sigma_rgb: 6
        compat_bilateral: 4.5
        sigma_gaussian: 2
        compat_gaussian: 1
        threshold: 0.41237  # kept to the last digit
evaluate:
  class_groups:
    pets: [cat]
  select_by: mean_iou_pets
"""


def make_project(root: Path) -> Paths:
    """Two classes; CAMs are blurred masks on a coarse grid, off by a few pixels."""
    paths = Paths(root)
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text(PARAMS)
    rng = np.random.default_rng(0)
    colours = np.array([[40, 60, 50], [170, 90, 60], [90, 90, 190]])
    splits = {}
    for split, number in (("train", 2), ("selection", 6), ("val", 2)):
        samples = []
        for index in range(number):
            name = f"{split}/große {index}"
            mask = np.zeros(SIZE, np.uint8)
            top, left = rng.integers(2, 8, 2)
            mask[top : top + 9, left : left + 12], mask[15:22, 18:30], mask[0] = 1, 2, 255
            image = colours[np.minimum(mask, 2)] + rng.normal(0, 25, (*SIZE, 3))
            file = paths.images / f"{name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(file)
            write_label_png(paths.masks / f"{name}.png", mask)
            scores = np.stack([_cam(np.roll(mask == value, 3, axis=1)) for value in (1, 2)])
            cam = ScoreMap(np.array([1, 2], np.uint8), scores, SIZE, np.ones(2, np.float32))
            write_score_map(paths.cams / f"{name}.npz", cam)
            samples.append(Sample(name, f"{name}.png", SIZE, (1, 2), f"{name}.png"))
        splits[split] = tuple(samples)
    Manifest(("cat", "dog"), splits).write(paths.splits)
    annotations = paths.annotations
    Annotations(annotations / "masks", annotations / "partial").write()
    shutil.copytree(RECIPES / "tuning", root / "recipes" / "tuning")
    return paths


def _cam(region: np.ndarray) -> np.ndarray:
    blurred = Image.fromarray(region.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(3))
    coarse = blurred.resize((SIZE[1] // 4, SIZE[0] // 4), Image.Resampling.BOX)
    scores = np.asarray(coarse, np.float32)
    return scores / scores.max()


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def project(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> Paths:
    for name in ("DVC_ROOT", "DVC_EXP_NAME", "RANK", "LOCAL_RANK", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    prepare_mlflow()
    return make_project(tmp_path / "project")


@pytest.fixture
def params(project: Paths) -> Params:
    return load_params(project.root / "params.yaml")


@pytest.fixture
def values() -> dict[str, Any]:
    """The plain tree of params.yaml."""
    found: dict[str, Any] = load_yaml(PARAMS, "params.yaml")
    return found


@pytest.fixture
def untracked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No MLflow: as in a process that is not the first."""
    monkeypatch.setenv("RANK", "1")
