"""The searches that ship: all of their keys and ranges fit params.yaml, and have a score."""

from pathlib import Path
from typing import Any

import pytest

from wsss.config.yaml_text import load_yaml, read_text
from wsss.tuning.plan import FOLDER, make_plan, read_search
from wsss.tuning.route import make_route

ROOT = Path(__file__).parents[2]
SCORES = {
    "chains": "evaluate_pseudo_masks",
    "crf": "evaluate_refined@crf",
    "kd": "evaluate_cams",
    "kd_logits": "evaluate_cams",
    "mixup": "evaluate_cams",
    "sam": "evaluate_refined@sam",
    "segmenter": "evaluate_segmenter",
    "superpixels": "evaluate_refined@superpixels",
    "thresholds": "evaluate_pseudo_masks",
}
IN_MEMORY = {"crf"}


def test_all_are_known() -> None:
    assert {path.stem for path in (ROOT / FOLDER).glob("*.yaml")} == SCORES.keys()


@pytest.mark.parametrize("name", sorted(SCORES))
def test_keys_ranges_and_score_fit(name: str) -> None:
    values: dict[str, Any] = load_yaml(read_text(ROOT / "params.yaml"), "params.yaml")
    _, settings = read_search(ROOT, name)
    assert settings.about
    route = make_route(make_plan(ROOT, name, settings, values))
    assert route.score == SCORES[name]
    assert bool(route.chain) == (name in IN_MEMORY)
    active = route.plan.space.active
    assert len(active) == len(settings.space), "every range counts in some trial"
    assert all(route.touched[key] & route.needed.keys() for key in active)
    trains = name in ("mixup", "kd", "kd_logits", "segmenter")
    assert bool(route.pruned_by) == trains
