"""Ranges and conditions of a search: what is refused before anything runs, and what is drawn."""

import json
from typing import Any

import optuna
import pytest

from wsss.artifacts import Paths
from wsss.tuning.base import holds
from wsss.tuning.plan import SearchSettings, make_plan, parse_search
from wsss.tuning.route import make_route
from wsss.tuning.space import AS_IT_IS, Range, Space, in_order

Values = dict[str, Any]
ALPHA = {"type": "float", "low": 0.1, "high": 4, "log": True}
METHOD = "train_classifier.method"


def space_of(paths: Paths, values: Values, space: Values, **others: Any) -> Space:
    settings = SearchSettings.model_validate({"space": space, **others})
    plan = make_plan(paths.root, "mine", settings, values)
    make_route(plan)
    return plan.space


@pytest.mark.parametrize(
    ("key", "wanted", "message"),
    [
        ("train_classifier.optimizer.lrr", ALPHA, r"no key 'lrr'; did you mean 'lr'"),
        ("train_classifer.optimizer.lr", ALPHA, r"no key 'train_classifer'; did you mean"),
        (f"{METHOD}.alpha", ALPHA, r"method has no key 'alpha'"),
        ("refine.chains.crf.pamr.delta", ALPHA, r"chains\.crf has no 'pamr'; it has dense_crf"),
        ("refine.chains.crf.1.alpha", ALPHA, r"chains\.crf has no '1'; it has dense_crf"),
        ("base.rng_seed.x", ALPHA, r"rng_seed must be a whole number|has no key"),
        ("train_classifier.head.dropout", {"type": "float", "low": 0, "high": 1},
         r"dropout must be less than 1, but is 1"),
        ("train_classifier.epochs", {"type": "float", "low": 1, "high": 3.5},
         r"epochs must be a whole number"),
        ("train_classifier.loss", {"type": "categorical", "choices": ["multi_label", "other"]},
         r"loss must be 'multi_label' or 'single_label', but is 'other'"),
    ],
)  # fmt: skip
def test_keys_and_ranges_are_held_against_params(
    project: Paths, values: Values, key: str, wanted: Values, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        space_of(project, values, {key: wanted})


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"type": "float", "low": 3, "high": 1}, "low is the smaller one"),
        ({"type": "float", "low": 0, "high": 1, "log": True}, "log is for numbers above 0"),
        ({"type": "int", "low": 0, "high": 1.5}, "int has whole numbers"),
        ({"type": "float", "low": 1}, "float has low and high"),
        ({"type": "categorical"}, "categorical has choices"),
        ({"type": "categorical", "choices": [1, 1]}, "a choice is there twice"),
        ({"type": "number", "low": 1, "high": 2}, "type must be 'float', 'int' or 'categorical'"),
        ({"type": "int", "low": 1, "high": 2, "hi": 3}, "no key 'hi'; did you mean 'high'"),
    ],
)
def test_ranges_that_are_none(wanted: Values, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_search({"space": {"a.b": wanted}}, "mine.yaml")


def test_conditions_are_checked_and_kept(project: Paths, values: Values) -> None:
    name = {"type": "categorical", "choices": ["cam", "mixup", "fmix"]}
    space = {
        f"{METHOD}.alpha": ALPHA | {"when": {f"{METHOD}.name": ["mixup", "fmix"]}},
        f"{METHOD}.name": name,
        f"{METHOD}.decay": {"type": "float", "low": 1, "high": 5,
                            "when": {f"{METHOD}.name": "fmix"}},
        "refine.chains.crf.0.gt_prob": {"type": "float", "low": 0.5, "high": 0.9,
                                        "when": {"refine.chains.crf.0.unary": "labels"}},
    }  # fmt: skip
    found = space_of(project, values, space)
    assert list(found.active) == [f"{METHOD}.name", f"{METHOD}.alpha", f"{METHOD}.decay"]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(30):
        drawn = found.draw(study.ask())
        method = drawn[f"{METHOD}.name"]
        assert (f"{METHOD}.alpha" in drawn) == (method != "cam")
        assert (f"{METHOD}.decay" in drawn) == (method == "fmix")
        assert next(iter(drawn)) == f"{METHOD}.name", "set first: it drops what is not its own"
        assert found.changed(drawn).train_classifier.method.name == method
        seen.add(method)
    assert len(seen) == 3
    for when, message in (
        ({f"{METHOD}.name": "mixap"}, "mixap"),
        ({f"{METHOD}.nam": "mixup"}, r"is no setting; did you mean 'name'"),
    ):
        wrong = {**space, f"{METHOD}.alpha": ALPHA | {"when": when}}
        with pytest.raises(ValueError, match=message):
            space_of(project, values, wrong)
    only = {"refine.chains.crf.0.gt_prob": space["refine.chains.crf.0.gt_prob"]}
    with pytest.raises(ValueError, match="nothing is left to search"):
        space_of(project, values, only)


def test_a_circle_of_conditions(project: Paths, values: Values) -> None:
    choices = {"type": "categorical", "choices": [True, False]}
    flip, align = "generate_cams.flip", "generate_cams.align_corners"
    space = {flip: choices | {"when": {align: True}}, align: choices | {"when": {flip: True}}}
    with pytest.raises(ValueError, match=r"each `when` of space\.generate_cams.* waits for"):
        space_of(project, values, space)


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({"type": "int", "low": 2, "high": 8, "step": 3}, 3),
        ({"type": "float", "low": 0.1, "high": 0.4, "step": 0.1}, 4),
        ({"type": "categorical", "choices": [[1], {"a": 2}, None]}, 3),
    ],
)
def test_all_values_are_those_that_are_drawn(wanted: Values, count: int) -> None:
    found = Range.model_validate(wanted)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [found.suggest(study.ask(), "x", None) for _ in range(40)]
    assert len(found.values()) == found.count == count
    for value in drawn:
        assert any(value == pytest.approx(known) if isinstance(value, float) else value == known
                   for known in found.values())  # fmt: skip
    assert len({str(value) for value in drawn}) == count


def test_sections_and_names_are_set_before_what_is_in_them() -> None:
    keys = ["a.b.alpha", "a.b.name", "a.b", "a.b.c.name"]
    assert list(in_order(dict.fromkeys(keys, 0))) == ["a.b", "a.b.name", "a.b.alpha", "a.b.c.name"]


def test_the_first_trial_has_what_stands_there_in_range_or_not(
    project: Paths, values: Values
) -> None:
    """A word where numbers are searched, and a section that is written in part."""
    losses, threshold = "train_segmenter.losses", "make_pseudo_masks.threshold"
    choices = [[{"name": "dice"}], [{"name": "cross_entropy"}]]
    space = {
        threshold: {"type": "float", "low": 0.1, "high": 0.9},
        losses: {"type": "categorical", "choices": choices},
    }
    found = space_of(project, values, space)
    assert found.current() == {losses: json.dumps(choices[1])}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(found.current(), user_attrs={AS_IT_IS: True})
    drawn = found.draw(study.ask())
    assert drawn == {threshold: "selected", losses: choices[1]}
    assert holds(found.params, drawn) and found.changed(drawn) == found.params
    other = found.draw(study.ask())
    assert other[threshold] != "selected" and not holds(found.params, other)
