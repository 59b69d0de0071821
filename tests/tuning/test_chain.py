"""The study of a chain: what it searches, what it refuses, and that it scores as the stages do."""

from typing import Any

import optuna
import pytest

from wsss.artifacts import Paths, read_json
from wsss.config.params import Params
from wsss.stages import run_stage
from wsss.tuning.base import changed
from wsss.tuning.chain import ChainSearch, ChainSearchSettings

RANGES: dict[str, Any] = {
    "0.sigma_xy": {"low": 5.0, "high": 50.0, "log": True},
    "0.n_iters": {"low": 1, "high": 6},
    "0.unary": ["soft", "labels"],
}


def study(ranges: dict[str, Any] = RANGES, chain: str = "crf") -> ChainSearch:
    values = {"ranges": ranges, "chain": chain}
    return ChainSearch(ChainSearchSettings.model_validate(values))


def test_what_is_drawn_lies_in_the_ranges(params: Params) -> None:
    trials = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        drawn = study().suggest(trials.ask(), params)
        assert 5 <= drawn["refine.chains.crf.0.sigma_xy"] <= 50
        assert drawn["refine.chains.crf.0.n_iters"] in range(1, 7)
        assert drawn["refine.chains.crf.0.unary"] in ("soft", "labels")
        assert changed(params, drawn)


def test_what_stands_is_tried_first_and_to_the_last_digit(params: Params) -> None:
    ranges = RANGES | {"0.threshold": {"low": 0.1, "high": 0.9}, "0.alpha": [1.5]}
    found = study(ranges)
    current = found.current(params)
    assert current == {
        "0.sigma_xy": 12, "0.n_iters": 3, "0.unary": '"soft"', "0.threshold": 0.41237,
    }  # fmt: skip
    trials = optuna.create_study()
    trials.enqueue_trial(current)
    drawn = found.suggest(trials.ask(), params)
    assert drawn.pop("refine.chains.crf.0.alpha") == 1.5
    assert changed(params, drawn) == params


def test_the_score_is_that_of_the_stages(project: Paths, params: Params) -> None:
    trial = changed(params, {"refine.chains.crf.0.sigma_rgb": 30.0})
    found = study().scorer(params, project)(trial)
    run_stage("refine_cams@crf", trial, project)
    run_stage("evaluate_refined@crf", trial, project)
    report = read_json(project.report("evaluate_refined_crf"))
    assert round(found.value, 6) == report["selection"]["mean_iou_pets"]
    assert found.threshold == report["threshold"]


def test_trials_compare_where_only_what_is_searched_differs(project: Paths, params: Params) -> None:
    key = study().key(params, project)
    assert study().key(changed(params, {"refine.chains.crf.0.sigma_xy": 9.0}), project) == key
    assert study().key(changed(params, {"refine.chains.crf.0.sigma_rgb": 9.0}), project) != key


@pytest.mark.parametrize(
    ("chain_search", "message"),
    [
        (study({}), "has nothing to search"),
        (study(chain="crv"), "no chain 'crv'; did you mean 'crf'"),
        (study({"1.sigma_xy": [3]}), "'1.sigma_xy' names no refiner"),
        (study({"sigma_xy": [3]}), "'sigma_xy' names no refiner"),
        (study({"0.sigma_yx": [3]}), "no key 'sigma_yx'; did you mean 'sigma_xy'"),
        (study({"0.sigma_xy": {"low": -1, "high": 3}}), "sigma_xy must be greater than 0"),
    ],
)
def test_what_can_not_be_searched_is_told(
    project: Paths, params: Params, chain_search: ChainSearch, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        chain_search.check(params, project)
