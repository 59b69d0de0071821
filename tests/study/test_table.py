"""The page shows what was recorded: means and spreads over seeds, and what beats the baseline."""

import re
from pathlib import Path
from typing import Any

import pytest

from wsss.study import table
from wsss.study.plan import Ground, Plan, PlanColumn, Row
from wsss.study.table import Result, read_results, render, write_table
from wsss.tracking import open_tracker

CAM = "evaluate_cams/val/mean_iou"
GROUND = Ground("a" * 16, "b" * 16)


@pytest.fixture(autouse=True)
def ground(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "ground_of", lambda *_: GROUND)


def result(*cams: float) -> Result:
    rate = {"generate_cams/images_per_second": 12.34}
    return Result({seed: {CAM: cam} | rate for seed, cam in enumerate(cams)}, {"weights": "w"})


@pytest.fixture
def plan() -> Plan:
    rows = {name: Row(recipe="synthetic_cam") for name in ("cam", "better", "luckier", "once")}
    columns = {
        "mAP": PlanColumn(metric="train_classifier/best_val_map", score=True),
        "CAM": PlanColumn(metric=CAM, score=True),
        "images/s": PlanColumn(metric="generate_cams/images_per_second"),
    }
    sizes: dict[str, dict[str, Any]] = {"small": {"a.b": 1}, "full": {}}
    return Plan(
        title="Title", sizes=sizes, columns=columns, compared="CAM", baseline="cam", rows=rows
    )


def cells(page: str, row: str) -> list[str]:
    line = next(item for item in page.splitlines() if item.startswith(f"| `{row}` "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_means_and_spreads(plan: Plan) -> None:
    page = render("s", plan, {"small": {"cam": result(0.40, 0.42, 0.44), "once": result(0.3)}})
    assert cells(page, "cam")[2] == "**0.420 ± 0.020**"
    assert cells(page, "once")[2] == "0.300"
    assert cells(page, "once")[3] == "12.3"
    assert cells(page, "once")[1] == ""
    assert "`a.b: 1`" in page
    assert "full" not in page.replace("make study", "")


def test_a_size_without_settings_has_no_line_of_them(plan: Plan) -> None:
    page = render("s", plan, {"full": {"cam": result(0.4)}})
    below = page[page.index("## Size `full`") :].splitlines()
    assert below[1] == "" and below[2].startswith("`make study")


def test_better_is_above_every_seed_of_the_baseline(plan: Plan) -> None:
    rows = {
        "cam": result(0.40, 0.42, 0.44),
        "better": result(0.45, 0.50, 0.46),
        "luckier": result(0.43, 0.60, 0.60),
        "once": result(0.7),
    }
    page = render("s", plan, {"small": rows})
    assert "between 0.400 and 0.440 over 3 seeds" in page
    sentence = page[page.index("With every seed above") :].partition("\n")[0]
    assert "`better` (0.450 to 0.500)" in sentence
    assert "luckier" not in sentence
    assert "once" not in sentence


def test_one_seed_compares_nothing(plan: Plan) -> None:
    page = render("s", plan, {"small": {"cam": result(0.4), "better": result(0.5)}})
    assert "With every seed" not in page


def test_sections_of_other_studies_stay(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docs").mkdir()
    found = {"first": 0.1, "second": 0.2}

    def read(root: Path, study: str, grounds: Any) -> Any:
        return {"small": {"cam": result(found[study])}}

    monkeypatch.setattr(table, "read_results", read)
    for study in ("second", "first"):
        write_table(tmp_path, study, plan)
    found["second"] = 0.3
    path = write_table(tmp_path, "second", plan)
    page = path.read_text()
    assert page.count("# Title") == 2 and page.count("## Size") == 2
    assert page.index("0.100") < page.index("0.300")
    assert "0.200" not in page


@pytest.mark.parametrize("names", [("a-b", "a"), ("a", "a-b"), ("my.study", "über")])
def test_sections_are_known_by_whatever_name(
    names: tuple[str, str], plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docs").mkdir()
    found = dict(zip(names, (0.1, 0.2), strict=True))
    monkeypatch.setattr(
        table, "read_results", lambda _, study, grounds: {"small": {"cam": result(found[study])}}
    )
    for study in (*names, *names, names[0]):
        path = write_table(tmp_path, study, plan)
    assert path.read_text().count("# Title") == 2
    assert all(f"<!-- study: {study} -->" in path.read_text() for study in names)
    assert "0.100" in path.read_text() and "0.200" in path.read_text()


def test_rows_that_are_recorded_elsewhere_stay(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docs").mkdir()
    known = {"cam": result(0.4, 0.42), "better": result(0.5, 0.52), "once": result(0.45)}
    monkeypatch.setattr(table, "read_results", lambda *_: {"small": known})
    before = write_table(tmp_path, "s", plan).read_text()
    monkeypatch.setattr(table, "read_results", lambda *_: {"small": {"once": result(0.45)}})
    assert write_table(tmp_path, "s", plan).read_text() == before
    monkeypatch.setattr(table, "read_results", lambda *_: {"small": {"once": result(0.61)}})
    after = write_table(tmp_path, "s", plan).read_text().splitlines()
    changed = [line for line in after if line not in before.splitlines() and "|" in line]
    assert [line.split("|")[1].strip() for line in changed] == ["`better`", "`once`"]
    assert "**0.610**" in changed[1] and "**" not in changed[0].split("|")[3]


def test_seeds_that_ran_elsewhere_count_on(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docs").mkdir()
    share = PlanColumn(metric=CAM, relative_to="better")
    plan = plan.model_copy(update={"columns": plan.columns | {"share": share}})

    def written(**rows: Result) -> str:
        monkeypatch.setattr(table, "read_results", lambda *_: {"small": rows})
        return write_table(tmp_path, "s", plan).read_text()

    def alone(seed: int, value: float) -> Result:
        return Result({seed: {CAM: value}}, {"weights": "w"})

    written(cam=alone(0, 0.40), better=alone(0, 0.50))
    written(cam=alone(1, 0.42))
    parts = written(cam=alone(2, 0.44), better=alone(0, 0.80))  # the newer one of a seed
    whole = {"cam": result(0.40, 0.42, 0.44), "better": result(0.80)}
    assert cells(parts, "cam")[2:5:2] == cells(render("s", plan, {"small": whole}), "cam")[2:5:2]
    assert cells(parts, "cam")[2:5:2] == ["0.420 ± 0.020", "52.5 %"]
    assert "between 0.400 and 0.440 over 3 seeds" in parts


def test_shares_of_lines_without_runs_are_of_what_their_row_is_now(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docs").mkdir()
    share = PlanColumn(metric=CAM, relative_to="better")
    plan = plan.model_copy(update={"columns": plan.columns | {"share": share}})
    known = {"cam": result(0.4), "better": result(0.5)}
    monkeypatch.setattr(table, "read_results", lambda *_: {"small": known})
    path = write_table(tmp_path, "s", plan)
    path.write_text(re.sub(r"<!-- run: .*\n", "", path.read_text()))
    monkeypatch.setattr(table, "read_results", lambda *_: {"small": {"once": result(0.25)}})
    page = write_table(tmp_path, "s", plan).read_text()
    assert [cells(page, row)[4] for row in ("cam", "better", "once")] == [
        "80.0 %",
        "100.0 %",
        "50.0 %",
    ]
    monkeypatch.setattr(table, "read_results", lambda *_: {"small": {"better": result(0.8)}})
    page = write_table(tmp_path, "s", plan).read_text()
    assert [cells(page, row)[4] for row in ("cam", "better", "once")] == [
        "50.0 %",
        "100.0 %",
        "31.2 %",
    ]


def test_cells_of_other_columns_do_not_stay(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(table, "read_results", lambda *_: {"small": {"cam": result(0.4)}})
    path = write_table(tmp_path, "s", plan)
    with_runs = path.read_text()
    fewer = {name: column for name, column in plan.columns.items() if name != "mAP"}
    narrower = plan.model_copy(update={"columns": fewer})
    monkeypatch.setattr(table, "read_results", lambda *_: {"small": {"once": result(0.6)}})
    assert cells(write_table(tmp_path, "s", narrower).read_text(), "cam")[1] == "0.400"
    path.write_text(re.sub(r"<!-- run: .*\n", "", with_runs))
    assert "`cam` |" not in write_table(tmp_path, "s", narrower).read_text()


def test_rows_of_other_data_or_settings_do_not_stay(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(table, "read_results", lambda *_: {"small": {"cam": result(0.4)}})
    page = write_table(tmp_path, "s", plan).read_text()
    monkeypatch.setattr(table, "read_results", lambda *_: {"small": {"once": result(0.6)}})
    for other, stays in (
        (Ground("c" * 16, GROUND.data), False),
        (Ground(GROUND.settings, "c" * 16), False),
        (Ground(GROUND.settings, ""), True),  # the data are not on this machine
        (GROUND, True),
    ):
        (tmp_path / "docs/results.md").write_text(page)
        monkeypatch.setattr(table, "ground_of", lambda *_, other=other: other)
        assert ("| `cam` |" in write_table(tmp_path, "s", plan).read_text()) == stays
    (tmp_path / "docs/results.md").write_text(re.sub("<!-- ground.*", "", page))
    assert "`cam`" not in write_table(tmp_path, "s", plan).read_text()


def test_runs_of_other_data_or_settings_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    for row, tag in (("mine", str(GROUND)), ("theirs", f"{'c' * 16} of none"), ("old", "")):
        tags = {"study": "s", "size": "small", "row": row, "seed": "0", "ground": tag}
        with open_tracker("study", tmp_path / row, "wsss", {}, key=row, tags=tags) as tracker:
            tracker.metrics({CAM: 0.5})
    assert list(read_results(tmp_path, "s", {"small": GROUND})["small"]) == ["mine"]


def test_a_share_is_of_the_mean_of_another_row(plan: Plan) -> None:
    share = PlanColumn(metric=CAM, relative_to="better")
    plan = plan.model_copy(update={"columns": plan.columns | {"share": share}})
    rows = {"cam": result(0.40, 0.50), "better": result(0.60)}
    page = render("s", plan, {"small": rows})
    assert cells(page, "cam")[4] == "75.0 %"
    assert cells(page, "better")[4] == "100.0 %"
    assert cells(render("s", plan, {"small": {"cam": result(0.4)}}), "cam")[4] == ""


def test_a_column_that_no_row_fills_is_told_of(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "docs").mkdir()
    rows = {"small": {"cam": result(0.4), "better": Result()}}
    monkeypatch.setattr(table, "read_results", lambda *_: rows)
    write_table(tmp_path, "s", plan)
    assert [text.split("'")[1] for text in caplog.messages if "is empty" in text] == ["mAP"]
    caplog.clear()
    wrong = PlanColumn(metric=CAM.replace("mean_iou", "men_iou"))
    plan = plan.model_copy(update={"columns": {"wrong": wrong, "CAM": PlanColumn(metric=CAM)}})
    write_table(tmp_path, "s", plan)
    (said,) = [text for text in caplog.messages if "is empty" in text]
    assert "the column 'wrong' is empty" in said and said.endswith(f"did you mean '{CAM}'?")
