"""The picture of a study: a column for each row that has run, on the data that they share."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import (
    Manifest,
    Sample,
    ScoreMap,
    read_json,
    write_json,
    write_label_png,
    write_score_map,
)
from wsss.report.panels import CELL, GAP, HEAD
from wsss.study.panel import write_study_panel
from wsss.study.plan import CHAIN, Plan, ground_of, read_plan
from wsss.study.run import RESULTS, row_folder

PROJECT = Path(__file__).parents[2]
SAMPLE = Sample("a", "a.png", (40, 60), (1,), "a.png")
GREY, TAKEN, TRUTH = [0, 0, 0], [83, 0, 0], [83, 0, 0]  # of a black image


def record(root: Path, row: str, place: str, threshold: float | None, data: str = "data") -> None:
    outs = {"data/images": data, "data/splits": data, f"data/refined/{CHAIN}": place}
    folder = row_folder(root, "refiners", "small", row, 0)
    folder.mkdir(parents=True)
    ground = str(ground_of(root, read_plan(root, "refiners"), "small"))
    values = {
        "key": "", "outs": outs, "images": data, "threshold": threshold, "ground": ground
    }  # fmt: skip
    write_json(folder / "recorded.json", values)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Plan]:
    """The project's own plan over one image, whose left half scores 0.6."""
    for name in ("recipes", "params.yaml"):
        (tmp_path / name).symlink_to(PROJECT / name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    data = tmp_path / RESULTS / "data/data"
    Manifest(("cat",), {"train": (), "selection": (), "val": (SAMPLE,)}).write(data / "splits")
    (data / "images").mkdir()
    Image.new("RGB", (60, 40)).save(data / "images/a.png")
    mask = np.zeros((40, 60), np.uint8)
    mask[:, :30] = 1
    write_label_png(data / "masks/a.png", mask)
    scores = 0.6 * mask[None].astype(np.float32)
    score_map = ScoreMap(np.array([1], np.uint8), scores, (40, 60), np.ones(1, np.float32))
    write_score_map(tmp_path / RESULTS / "refined/data/refined" / CHAIN / "a.npz", score_map)
    return tmp_path, read_plan(tmp_path, "refiners")


def test_rows_show_what_is_above_their_threshold(study: tuple[Path, Plan]) -> None:
    root, plan = study
    assert write_study_panel(root, "refiners", plan, "small") is None
    first, second, third, fourth = list(plan.rows)[:4]
    record(root, second, "refined", 0.7)
    record(root, first, "refined", 0.5)
    record(root, third, "refined", None)
    record(root, fourth, "refined", 0.5, data="other")
    path = write_study_panel(root, "refiners", plan, "small")
    assert path is not None
    image = np.asarray(Image.open(path))
    middle = HEAD + 60
    cells = [image[middle, GAP + at * (CELL[1] + GAP) + CELL[1] // 4].tolist() for at in range(4)]
    assert cells == [GREY, TAKEN, GREY, TRUTH]
    assert image.shape[1] == GAP + 4 * (CELL[1] + GAP)


def test_rows_that_predict_show_their_predictions(study: tuple[Path, Plan]) -> None:
    root, plan = study
    row = next(iter(plan.rows))
    record(root, row, "refined", None)
    path = row_folder(root, "refiners", "small", row, 0) / "recorded.json"
    held = read_json(path)
    write_json(path, held | {"outs": held["outs"] | {"data/predictions": "predicted"}})
    mask = np.zeros((40, 60), np.uint8)
    mask[:, 30:] = 1
    write_label_png(root / RESULTS / "predicted/data/predictions/val/a.png", mask)
    panel = write_study_panel(root, "refiners", plan, "small")
    assert panel is not None
    image = np.asarray(Image.open(panel))
    left = GAP + CELL[1] + GAP
    shown = [image[HEAD + 60, left + CELL[1] * at // 4].tolist() for at in (1, 3)]
    assert shown == [GREY, TAKEN]
