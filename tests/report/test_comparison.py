"""Experiments side by side: who belongs together, and what their means are."""

import re
import statistics

import pytest

from wsss.report.comparison import Experiment, comparison_page, groups_of

SCORE = "segmenter.val_mean_iou"


def one(heading: str, value: float, seed: int | None = 0, **settings: str) -> Experiment:
    own = settings if seed is None else {"base.rng_seed": str(seed), **settings}
    return Experiment(heading, {SCORE: value}, {}, own)


def result(*held: Experiment) -> str:
    return comparison_page(held).partition('id="end"')[2].partition("</section>")[0]


def test_seeds_of_the_same_settings_are_one() -> None:
    values = [0.5, 0.52, 0.57]
    held = [one(f"a{at}", value, at, lr="1") for at, value in enumerate(values)]
    held.insert(1, one("b", 0.6, 0, lr="2"))
    first, second = groups_of(held)
    assert [item.heading for item in first.members] == ["a0", "a1", "a2"]
    assert first.mean(SCORE) == pytest.approx(statistics.fmean(values))
    assert first.spread(SCORE) == pytest.approx(statistics.stdev(values))
    assert (second.mean(SCORE), second.spread(SCORE)) == (0.6, None)
    page = comparison_page(held)
    assert f"{statistics.fmean(values):.3f} ± {statistics.stdev(values):.3f}" in page


@pytest.mark.parametrize(
    "held",
    [
        [one("a", 0.5, 0, lr="1"), one("b", 0.5, 0, lr="1")],  # the same seed is no other draw
        [one("a", 0.5, None), one("b", 0.6, None)],  # nothing is known of them
        [one("a", 0.5, 0, lr="1"), one("b", 0.5, 1, lr="2")],
        [
            Experiment("a", {}, settings={"base.rng_seed": "0", "lr": "1"}, data="x"),
            Experiment("b", {}, settings={"base.rng_seed": "1", "lr": "1"}, data="y"),
        ],
    ],
)
def test_others_stay_apart(held: list[Experiment]) -> None:
    assert len(groups_of(held)) == 2


def test_what_is_more_than_chance_is_said() -> None:
    low = [one("low", 0.5 + at / 100, at, lr="1") for at in range(3)]
    high = [one("high", 0.6 + at / 100, at, lr="2") for at in range(3)]
    near = [one("near", 0.515 + at / 100, at, lr="3") for at in range(3)]
    assert "Every seed of the first is above every seed of the second" in result(*low, *high)
    assert "<b>high (3 seeds)</b>" in result(*low, *high)
    assert "the difference may be chance" in result(*low, *near)
    assert "several seeds before it can be said" in result(low[0], high[0])
    assert "none is better" in result(*low)


def test_only_settings_that_differ_are_shown_and_names_are_no_html() -> None:
    held = [one("<a>", 0.5, 0, lr="1", same="x"), one("b", 0.6, 0, lr="2", same="x")]
    page = comparison_page(held, ["<note>"])
    assert "<a>" not in page and "&lt;note&gt;" in page
    body = page.partition('id="differences"')[2].partition("</section>")[0]
    assert re.findall(r"<code>(\w+)</code>", body) == ["lr"]


def test_without_scores_it_says_so() -> None:
    page = comparison_page([Experiment("a", {}), Experiment("b", {})])
    assert "None of these has a score" in page
    assert "none is better" in page
