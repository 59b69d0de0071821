"""A study's rows are its recipes, over which lie what all share, the size, and the row's own."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from wsss.settings import ConfigError
from wsss.study.plan import FOLDER, Plan, ground_of, read_plan, row_params

ROOT = Path(__file__).parents[2]
TEXT = """
title: Two methods
common:
  prepare_data.dataset: {name: synthetic, num_train: 30, num_val: 6, image_size: [64, 64]}
  train_classifier.epochs: 3
sizes:
  tiny: {train_classifier.epochs: 1}
  small: {}
columns: {CAM: {metric: evaluate_cams/val/mean_iou}}
compared: CAM
baseline: plain
repeated: [plain]
rows:
  plain: {recipe: synthetic_cam}
  mixed: {recipe: synthetic_cam, set: {train_classifier.method: {name: mixup}}}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with this one study."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / FOLDER).mkdir(parents=True)
    shutil.copy(ROOT / "recipes/synthetic_cam.yaml", tmp_path / "recipes")
    (tmp_path / FOLDER / "two.yaml").write_text(TEXT)
    return tmp_path


@pytest.fixture
def plan(root: Path) -> Plan:
    return read_plan(root, "two")


def test_later_layers_win(root: Path, plan: Plan) -> None:
    params = row_params(root, plan, "mixed", "tiny")
    assert params.prepare_data.dataset.model_dump()["num_train"] == 30
    assert params.train_classifier.epochs == 1
    assert params.train_classifier.method.model_dump()["name"] == "mixup"
    assert row_params(root, plan, "plain", "small").train_classifier.epochs == 3


def test_what_rows_share_is_told_apart_by_the_bytes_of_the_images(root: Path) -> None:
    """Though nobody has corrections, whose folder params.yaml names."""
    images = root / "photographs"
    images.mkdir()
    (images / "a.png").write_bytes(b"a")
    dataset = f"{{name: folder, root: {images}}}"
    drawn = TEXT.partition("prepare_data.dataset: ")[2].partition("\n")[0]
    (root / FOLDER / "own.yaml").write_text(TEXT.replace(drawn, dataset))
    ground = ground_of(root, read_plan(root, "own"), "tiny")
    assert ground.data and ground.is_that_of(ground)
    (images / "a.png").write_bytes(b"another")
    assert not ground.is_that_of(ground_of(root, read_plan(root, "own"), "tiny"))
    (images / "a.png").unlink()
    images.rmdir()
    elsewhere = ground_of(root, read_plan(root, "own"), "tiny")
    assert not elsewhere.data and elsewhere.is_that_of(ground)


COLUMN = "columns: {two: {metric: evaluate_refined/val/mean_iou}, "


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("baseline: plain", "baseline: plane", r"names the row 'plane'; did you mean 'plain'\?"),
        ("compared: CAM", "compared: CAN", r"compares the column 'CAN'; did you mean 'CAM'\?"),
        ("repeated: [plain]", "repeated: [maxed]", r"names the row 'maxed'"),
        ("sizes:", "size:", r"no key 'size'; did you mean 'sizes'\?"),
        ("recipe: synthetic_cam,", "recipes: synthetic_cam,", r"rows.mixed"),
    ],
)
def test_what_does_not_fit_is_named(root: Path, old: str, new: str, message: str) -> None:
    (root / FOLDER / "two.yaml").write_text(TEXT.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        read_plan(root, "two")


def test_a_study_has_what_it_extends(root: Path, plan: Plan) -> None:
    text = TEXT[: TEXT.index("common:")] + TEXT[TEXT.index("columns:") :]
    (root / FOLDER / "more.yaml").write_text(f"extends: two\ncommon: {{a.b: 1}}\n{text}")
    more = read_plan(root, "more")
    assert more.common == plan.common | {"a.b": 1}
    assert more.sizes == plan.sizes


def test_unknown_names_are_refused(root: Path, plan: Plan) -> None:
    with pytest.raises(ConfigError, match=r"no study is named 'too'; did you mean 'two'"):
        read_plan(root, "too")
    with pytest.raises(ConfigError, match=r"no size 'huge'"):
        row_params(root, plan, "plain", "huge")
    with pytest.raises(ConfigError, match=r"no row 'plane'; did you mean 'plain'"):
        row_params(root, plan, "plane", "tiny")


def test_a_column_of_several_entries_names_one(root: Path) -> None:
    targets = "targets: [evaluate_refined@none, evaluate_refined@crf]\nrows:"
    text = TEXT.replace("rows:", targets, 1).replace("columns: {", COLUMN, 1)
    (root / FOLDER / "two.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"name one, such as evaluate_refined_none/val/mean_iou"):
        read_plan(root, "two")
    (root / FOLDER / "two.yaml").write_text(text.replace("refined/val", "refined_crf/val"))
    assert read_plan(root, "two").columns["two"].metric == "evaluate_refined_crf/val/mean_iou"


@pytest.mark.parametrize("path", sorted((ROOT / FOLDER).glob("*.yaml")), ids=lambda path: path.stem)
def test_the_studies_of_the_project_fit(path: Path) -> None:
    plan = read_plan(ROOT, path.stem)
    for row in plan.rows:
        for size in plan.sizes:
            row_params(ROOT, plan, row, size)


def test_rows_of_the_classifiers_differ_in_the_method_alone() -> None:
    """Else a row would be better or worse for its images, crops or epochs."""
    plan = read_plan(ROOT, "classifiers")

    def shared(row: str, *, own_network: bool) -> Any:
        values = row_params(ROOT, plan, row, "small").model_dump(mode="json")
        del values["prepare_data"]["background_images"], values["generate_cams"]["method"]
        classifier = values["train_classifier"]
        for key in ("method", "start_from", *(["backbone", "optimizer", "head"] * own_network)):
            del classifier[key]
        kept = ("prepare_data", "train_classifier", "generate_cams", "refine", "evaluate")
        return {key: values[key] for key in kept}

    for row in plan.rows:
        own_network = row in ("vit", "transcam", "class_tokens")
        assert shared(row, own_network=own_network) == shared("cam", own_network=own_network), row
        params = row_params(ROOT, plan, row, "small")
        for teacher in params.train_teachers.values():
            own = {"method": teacher.method, "start_from": teacher.start_from}
            assert teacher == params.train_classifier.model_copy(update=own), row
