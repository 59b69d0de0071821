"""The frame of pages, and charts."""

import xml.etree.ElementTree as ET

import pytest

from wsss.report.charts import Line, bar_chart, line_chart
from wsss.report.frame import FACTS, Section, page_text, script_json, table, with_facts


def test_sections_without_a_body_are_left_out_of_page_and_links() -> None:
    text = page_text("A & B", [Section("one", "One", "<p>1</p>"), Section("two", "Two", "")])
    assert "<title>A &amp; B</title>" in text
    assert 'id="one"' in text
    assert "two" not in text.lower().partition("<body>")[2].partition("<script>")[0]


def test_data_cannot_end_its_script() -> None:
    import json

    value = {"</script><b>": ["<!--", "\u2028", "ä"]}
    text = script_json(value)
    assert "<" not in text and "\u2028" not in text
    assert json.loads(text) == value


def test_a_page_without_a_place_for_facts_stays_as_it_is() -> None:
    assert with_facts("<p></p>", {"a": "b"}) == "<p></p>"
    assert with_facts(FACTS + FACTS, {"a": "<"}).count("<dl>") == 1


def test_a_table_names_itself_and_its_headings() -> None:
    text = table(["a", "b"], [("x", ["<td>1</td>"])], about='the "one"')
    root = ET.fromstring(f"<div>{text}</div>")
    assert [cell.get("scope") for cell in root.iter("th")] == ["col", "col", "row"]
    assert root.find(".//div[@role='region']").get("aria-label") == 'the "one"'  # type: ignore[union-attr]


def points(figure: str) -> list[list[tuple[float, float]]]:
    root = ET.fromstring(figure)
    return [
        [tuple(map(float, pair.split(","))) for pair in str(line.get("points")).split()]  # type: ignore[misc]
        for line in root.iter("polyline")
    ]


def test_higher_values_lie_higher_and_later_ones_further_right() -> None:
    figure = line_chart(
        "t", [Line("up", [(0, 0.1), (0.5, 0.5), (1, 0.9)]), Line("none", [])], x="x", unit=True
    )
    (line,) = points(figure)
    assert [x for x, _ in line] == sorted(x for x, _ in line)
    assert [y for _, y in line] == sorted((y for _, y in line), reverse=True)
    assert line[0][0] == pytest.approx(line[2][0] - 2 * (line[1][0] - line[0][0]), abs=0.2)


@pytest.mark.parametrize(
    "values", [[(0, 1)], [(0, 0.0), (1, 0.0)], [(0, -2.0), (1, 3.0)], [(3, 1e-6), (400, 2e6)]]
)
def test_charts_of_odd_values_stay_within_their_frame(values: list[tuple[float, float]]) -> None:
    figure = line_chart("t", [Line("a", values)], x="x")
    root = ET.fromstring(figure)
    width, height = map(float, str(root.find("svg").get("viewBox")).split()[2:])  # type: ignore[union-attr]
    for x, y in points(figure)[0]:
        assert 0 <= x <= width and 0 <= y <= height
    assert len(list(root.iter("text"))) < 30


def test_nothing_to_draw_is_no_chart() -> None:
    assert line_chart("t", [Line("a", [])], x="x") == ""
    assert bar_chart("t", []) == ""


def test_a_bar_says_its_value_and_spread() -> None:
    figure = bar_chart("t", [("<a>", 0.5, 0.02), ("b", 0.25, None)])
    texts = [item.text for item in ET.fromstring(figure).iter("text")]
    assert texts == ["<a>", "0.500 ± 0.020", "b", "0.250"]
