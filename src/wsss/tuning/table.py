"""The trials of a study as a table, and what its settings weigh."""

import warnings
from typing import Any

from wsss.tuning.storage import Found

__all__ = ["LEAST", "columns", "importances", "row", "searched_keys"]

LEAST = 10
"""Trials from which on it can be said which settings matter."""


def searched_keys(found: Found) -> list[str]:
    """The keys that trials have set, in the order of the search."""
    set_by = {key for trial in found.trials for key in trial.user_attrs["settings"]}
    return [key for key in found.route.plan.space.active if key in set_by]


def columns(found: Found) -> list[str]:
    """The headings of `row`: the last part of a key where that is enough."""
    keys = searched_keys(found)
    names = [key.rpartition(".")[2] for key in keys]
    short = [
        name if names.count(name) == 1 else ".".join(key.split(".")[-2:])
        for key, name in zip(keys, names, strict=True)
    ]
    further = ["s/image"] if len(found.study.directions) == 2 else []
    return ["trial", found.route.plan.metric, *further, "θ", *short]


def row(found: Found, trial: Any) -> list[str]:
    """A trial as text."""
    values = trial.user_attrs["settings"]
    threshold = trial.user_attrs.get("threshold")
    return [
        str(trial.number),
        f"{trial.values[0]:.4f}",
        *(f"{value:.3g}" for value in trial.values[1:]),
        "–" if threshold is None else f"{threshold:.2f}",
        *(_cell(values[key]) if key in values else "–" for key in searched_keys(found)),
    ]


def importances(study: Any) -> dict[str, float]:
    """How much the settings that every trial has decide about being among the best.

    Empty where there are fewer than LEAST scored trials.
    """
    import optuna
    from optuna.trial import TrialState

    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(done) < LEAST or len({trial.values[0] for trial in done}) == 1:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        target = (lambda trial: trial.values[0]) if len(study.directions) == 2 else None
        weights = optuna.importance.get_param_importances(study, evaluator=evaluator, target=target)
    return {key: float(weight) for key, weight in weights.items()}


def _cell(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
