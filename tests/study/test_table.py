"""The page shows what was recorded: means and spreads over seeds, and what beats the baseline."""

import pytest

from wsss.study.plan import Plan, Row
from wsss.study.table import Result, render

CAM = "evaluate_cams/val/mean_iou"


def result(*cams: float) -> Result:
    return Result({CAM: list(cams), "generate_cams/images_per_second": [12.34]}, {"weights": "w"})


@pytest.fixture
def plan() -> Plan:
    rows = {name: Row(recipe="synthetic_cam") for name in ("cam", "better", "luckier", "once")}
    return Plan(title="Title", sizes={"small": {"a.b": 1}, "full": {}}, baseline="cam", rows=rows)


def cells(page: str, row: str) -> list[str]:
    line = next(one for one in page.splitlines() if one.startswith(f"| `{row}` "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_means_and_spreads(plan: Plan) -> None:
    page = render("s", plan, {"small": {"cam": result(0.40, 0.42, 0.44), "once": result(0.3)}})
    assert cells(page, "cam")[2] == "**0.420 ± 0.020**"
    assert cells(page, "once")[2] == "0.300"
    assert cells(page, "once")[6] == "12.3"
    assert cells(page, "once")[1] == ""
    assert "`a.b: 1`" in page
    assert "full" not in page.replace("make study", "")


def test_better_is_above_every_seed_of_the_baseline(plan: Plan) -> None:
    rows = {
        "cam": result(0.40, 0.42, 0.44),
        "better": result(0.45, 0.50, 0.46),
        "luckier": result(0.43, 0.60, 0.60),
        "once": result(0.7),
    }
    page = render("s", plan, {"small": rows})
    assert "between 0.400 and 0.440 over 3 seeds" in page
    sentence = page[page.index("With every seed above") :]
    assert "`better` (0.450 to 0.500)" in sentence
    assert "luckier" not in sentence
    assert "once" not in sentence


def test_one_seed_compares_nothing(plan: Plan) -> None:
    page = render("s", plan, {"small": {"cam": result(0.4), "better": result(0.5)}})
    assert "With every seed" not in page
