"""One trial: drawn, run, scored, and recorded as a run in MLflow."""

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wsss.artifacts import Paths, fingerprint
from wsss.checks import ConfigError, DivergedError
from wsss.config.params import Params
from wsss.pipeline import Target
from wsss.pipeline.exclusive import hold
from wsss.stages import find_stages
from wsss.tracking import NullTracker, Tracker, experiment_name, open_tracker
from wsss.tuning.base import Score
from wsss.tuning.memory import chain_scorer
from wsss.tuning.retry import worker_id
from wsss.tuning.route import Route
from wsss.tuning.storage import FOLDER

__all__ = ["Objective", "trial_folder"]

log = logging.getLogger(__name__)


def trial_folder(paths: Paths, study_name: str) -> Path:
    """The folder of the trials of a study; each has one below, which goes when it is done."""
    return paths.root / FOLDER / "trials" / study_name


@dataclass
class Objective:
    """What Optuna calls with a trial.

    Attributes:
        route: what trials run.
        paths: the project.
        study_name: of the Optuna study.
        machine: settings of machine.* that differ here, on which no result depends.
        number: of the trial that runs, or ran last.
    """

    route: Route
    paths: Paths
    study_name: str
    machine: Mapping[str, Any] = field(default_factory=dict)
    number: int = -1
    _in_memory: Callable[[Params], Score] | None = None

    def prepare(self) -> None:
        """Read what every trial needs, where that is kept in memory."""
        route = self.route
        if route.chain and self._in_memory is None:
            params = self._here(route.plan.params)
            ground = route.before(params, self.paths)
            found = route.samples(ground)
            self._in_memory = chain_scorer(params, ground, route.chain, route.first, *found)

    def __call__(self, trial: Any) -> float | tuple[float, float]:
        """Run a trial, and remove what it has made for itself alone.

        Raises:
            optuna.TrialPruned: its training goes badly or diverges, or its settings do not go
                together.
        """
        import optuna

        self.number = trial.number
        trial.set_user_attr("worker", worker_id(os.getpid()))
        space = self.route.plan.space
        settings = space.draw(trial)
        trial.set_user_attr("settings", settings)
        try:
            params = self._here(space.changed(settings, "these settings"))
        except ConfigError as error:
            trial.set_user_attr("refused", str(error))
            raise optuna.TrialPruned(str(error)) from None
        key = fingerprint(settings)[:16]
        trial.set_user_attr("folder", key)  # before it is there: see `sweep`
        folder = trial_folder(self.paths, self.study_name) / key
        with hold(folder, f"a trial of {self.study_name}", wait=True):
            found = self._recorded(trial, params, folder, settings)
            shutil.rmtree(folder, ignore_errors=True)
        if found is None:
            raise optuna.TrialPruned(trial.user_attrs["pruned"])
        if found.threshold is not None:
            trial.set_user_attr("threshold", found.threshold)
        if found.seconds is not None:
            trial.set_user_attr("seconds_per_image", found.seconds)
        if not self.route.plan.settings.seconds_per_image:
            return found.value
        if found.seconds is None:
            raise ValueError(
                f"{self.route.plan.space.source}: nothing but trainings is searched, which have "
                "no seconds per image; set seconds_per_image: false"
            )
        return found.value, found.seconds

    def _recorded(
        self, trial: Any, params: Params, folder: Path, settings: Mapping[str, Any]
    ) -> Score | None:
        """The score of a trial, None of one that was pruned; its run in MLflow says so."""
        import optuna

        plan, pipeline = self.route.plan, find_stages()
        what = f"tune_{plan.name}"
        tags = {
            "study": plan.name,
            "study.key": self.study_name,
            "stage": what,
            "trial": str(trial.number),
            "mlflow.runName": f"{what} {trial.number}",
        }
        target = pipeline.target(self.route.score, params)
        # workers remember their runs apart; below the root, so that git is found
        with contextlib.ExitStack() as runs:
            opening = open_tracker(
                target.name,
                folder,
                experiment_name(params.machine.experiment, "trials"),
                pipeline.settings(target, params),
                key=fingerprint(self.study_name, dict(settings)),
                tags=tags,
            )
            tracker: Tracker
            try:
                tracker = runs.enter_context(opening)
            except ConnectionError as error:  # the score is kept with the trial
                log.warning("trial %d has no run in MLflow: %s", trial.number, error)
                tracker = NullTracker()
            started = time.perf_counter()
            try:
                found = self._same(trial, tracker) or self._score(trial, params, folder, tracker)
            except (DivergedError, optuna.TrialPruned) as pruned:  # the run has not failed
                tracker.tags({"pruned": str(pruned)})
                trial.set_user_attr("pruned", str(pruned))
                if isinstance(pruned, DivergedError):
                    trial.set_user_attr("diverged", str(pruned))
                return None
            values = {f"selection/{plan.metric}": found.value, "value": found.value}
            if found.threshold is not None:
                values["threshold"] = found.threshold
            if found.seconds is not None:
                values["seconds_per_image"] = found.seconds
            seconds = time.perf_counter() - started
            tracker.metrics(values | {"seconds": seconds})
        trial.set_user_attr("seconds", round(seconds, 3))
        return found

    def _score(self, trial: Any, params: Params, folder: Path, tracker: Tracker) -> Score:
        if self._in_memory is not None:
            return self._in_memory(params)
        route = self.route
        own: Tracker | None = None
        if route.pruned_by and len(trial.study.directions) == 1:
            own = _Epochs(trial, find_stages().target(route.pruned_by, params))
        return route.run(params, self.paths, folder, tracker, own)

    def _same(self, trial: Any, tracker: Tracker) -> Score | None:
        """The score of an earlier trial with the same settings, which would give the same."""
        from optuna.trial import TrialState

        own = trial.user_attrs["folder"]
        for other in trial.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            if other.user_attrs.get("folder") == own:
                tracker.tags({"same_as": str(other.number)})
                trial.set_user_attr("same_as", other.number)
                told = other.user_attrs
                return Score(other.values[0], told.get("threshold"), told.get("seconds_per_image"))
        return None

    def _here(self, params: Params) -> Params:
        """The settings of a trial, which predicts the images that score it, and no others."""
        machine = params.machine.model_copy(update=dict(self.machine))
        predict = params.predict_masks.model_copy(update={"splits": ("selection",)})
        return params.model_copy(update={"machine": machine, "predict_masks": predict})


class _Epochs(NullTracker):
    """Tells Optuna how a training goes, and ends it where it goes worse than most."""

    def __init__(self, trial: Any, target: Target) -> None:
        self.trial = trial
        self.metric = target.stage.curve.y if target.stage.curve else ""

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        import optuna

        if self.metric not in values:
            return
        self.trial.report(float(values[self.metric]), step)
        if self.trial.should_prune():
            score = f"{self.metric} {values[self.metric]:.4f}"
            raise optuna.TrialPruned(f"{score} after epoch {step + 1} is below the median")
