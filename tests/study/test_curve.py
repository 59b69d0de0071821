"""The file that `wsss suggest` reckons with has rows that differ in what was given alone."""

from pathlib import Path
from typing import Any

import pytest

from wsss.config.yaml_text import load_yaml
from wsss.study import curve
from wsss.study.curve import given_of, write_curve
from wsss.study.plan import Plan, PlanColumn, Row, read_plan

ROOT = Path(__file__).parents[2]


def row(**settings: Any) -> Row:
    return Row(recipe="r", set={f"prepare_data.{key}": value for key, value in settings.items()})


def test_what_a_row_was_given() -> None:
    tags = row()
    assert given_of(row(pixel_labels="all"), tags) == {"masks": 1, "boxes": 0}
    assert given_of(row(box_labels=0.2, pixel_labels=0.1), tags) == {"masks": 0.1, "boxes": 0.2}
    weighted = Row(recipe="r", set=row(pixel_labels=0.1).set | {"train_segmenter.given_weight": 3})
    assert given_of(weighted, tags) == {"masks": 0.1, "boxes": 0}
    assert given_of(row(pixel_labels=100), tags) is None  # of how many?
    assert given_of(row(point_labels="all"), tags) is None
    assert given_of(Row(recipe="other"), tags) is None


def test_rows_that_stand_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"tags": row(), "some": row(pixel_labels=0.5), "other": row(point_labels="all")}
    plan = Plan(
        title="T",
        sizes={"full": {}},
        columns={"minutes": PlanColumn(metric="m"), "IoU": PlanColumn(metric="i", score=True)},
        compared="IoU",
        baseline="tags",
        rows=rows,
    )
    cells = {"tags": ["9", "0.500"], "some": ["9", "**0.600 ± 0.010**"], "other": ["9", "0.9"]}
    monkeypatch.setattr(curve, "written_rows", lambda *_: {"full": cells})
    path = write_curve(tmp_path, "s", plan, "full")
    values = load_yaml(path.read_text(), str(path))
    assert values["points"] == [
        {"row": "tags", "masks": 0, "boxes": 0, "score": 0.5},
        {"row": "some", "masks": 0.5, "boxes": 0, "score": 0.6, "spread": 0.01},
    ]
    del cells["tags"]
    with pytest.raises(ValueError, match=r"no scores of the row tags.*wsss study run s"):
        write_curve(tmp_path, "s", plan, "full")


def test_the_file_that_ships_is_that_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WSSS_SHARED", raising=False)  # its photographs are not hashed
    (tmp_path / "docs").mkdir()
    for name in ("docs/results.md", "params.yaml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    written = write_curve(tmp_path, "annotations", read_plan(ROOT, "annotations"), "full")
    assert written.read_text() == (ROOT / "recipes/curves/annotations.yaml").read_text()
