"""What trials run, share, take from the project and leave behind."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState

from wsss.artifacts import Paths, contents, fingerprint, read_json, write_json
from wsss.config.params import Params
from wsss.config.recipes import with_settings
from wsss.pipeline import Job, Pipeline
from wsss.stages import find_stages, run_stage
from wsss.tuning import objective, route
from wsss.tuning.plan import SearchSettings, make_plan
from wsss.tuning.route import Route, make_route
from wsss.tuning.search import prepare
from wsss.tuning.worker import run_trials

Values = dict[str, Any]
LR = "train_classifier.optimizer.lr"
SCALES = "generate_cams.scales"
RANGE = {"type": "float", "low": 0.001, "high": 0.1, "log": True}


def of(space: Values, **others: Any) -> SearchSettings:
    return SearchSettings.model_validate({"space": space, **others})


def routed(paths: Paths, values: Values, space: Values, **others: Any) -> Route:
    return make_route(make_plan(paths.root, "mine", of(space, **others), values))


@pytest.mark.parametrize(
    ("key", "wanted", "score"),
    [
        (LR, RANGE, "evaluate_cams"),
        (SCALES, {"type": "categorical", "choices": [[1.0], [0.5, 1.0]]}, "evaluate_cams"),
        ("refine.chains.crf.0.n_iters", {"type": "int", "low": 1, "high": 9},
         "evaluate_refined@crf"),
        ("make_pseudo_masks.alpha", {"type": "float", "low": 1, "high": 9},
         "evaluate_pseudo_masks"),
        ("train_segmenter.epochs", {"type": "int", "low": 1, "high": 9}, "evaluate_segmenter"),
        ("predict_masks.flip", {"type": "categorical", "choices": [True, False]},
         "evaluate_segmenter"),
    ],
)  # fmt: skip
def test_the_score_is_the_nearest_that_all_keys_decide(
    project: Paths, values: Values, key: str, wanted: Values, score: str
) -> None:
    assert routed(project, values, {key: wanted}).score == score
    both = routed(project, values, {key: wanted, LR: RANGE})
    assert both.score == score
    assert both.pruned_by == "train_classifier"
    assert not both.chain


def test_what_has_no_effect_is_refused(project: Paths, values: Values) -> None:
    cores = {"type": "int", "low": 1, "high": 4}
    with pytest.raises(ValueError, match=r"machine\.devices: no stage depends on it"):
        routed(project, values, {"machine.devices": cores, LR: RANGE})


def test_an_evaluation_that_is_none(project: Paths, values: Values) -> None:
    with pytest.raises(ValueError, match=r"score: no stage .*did you mean 'evaluate_cams'"):
        routed(project, values, {LR: RANGE}, score="evaluate_cms")
    with pytest.raises(ValueError, match=r"score is generate_cams, which scores nothing"):
        routed(project, values, {LR: RANGE}, score="generate_cams")
    epochs = {"type": "int", "low": 1, "high": 9}
    with pytest.raises(ValueError, match=r"train_segmenter\.epochs has no effect on evaluate_cams"):
        routed(project, values, {LR: RANGE, "train_segmenter.epochs": epochs},
               score="evaluate_cams")  # fmt: skip


@pytest.fixture
def ran(project: Paths, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages that trials run, by name; evaluations score by the learning rate."""
    names: list[str] = []

    def work(job: Job) -> None:
        stage, root = job.target.stage, job.paths.root
        names.append(job.target.name)
        missing = {path for path in job.inputs if contents(root / path) == "missing"}
        assert missing <= {
            "data/further_cams", "data/proposals", "models/affinities", "models/teachers"
        }  # fmt: skip
        told = fingerprint(job.target.settings(job.params), job.inputs)
        for out in job.target.outs(job.params):
            (root / out).mkdir(parents=True, exist_ok=True)
            (root / out / "made").write_text(told)
        if stage.name.startswith("evaluate"):
            lr = job.params.train_classifier.optimizer.lr
            write_json(job.paths.report(job.target.report),
                       {"selection": {"mean_iou_pets": 1 - lr}, "threshold": 0.5})  # fmt: skip
        elif stage.curve and stage.curve.x == "epoch":
            job.tracker.metrics({stage.curve.y: 1 - job.params.train_classifier.optimizer.lr}, 0)

    stages = [replace(stage, run=work, picture=None) for stage in find_stages()]
    pipeline = Pipeline(stages)
    for module in (route, objective):
        monkeypatch.setattr(module, "find_stages", lambda: pipeline)
    monkeypatch.setattr("wsss.pipeline.apart.run_job", lambda job: job.run())
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(objective, "open_tracker", _untracked)
    return names


class _untracked:
    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> Any:
        from wsss.tracking import NullTracker

        return NullTracker()

    def __exit__(self, *_: object) -> None:
        pass


def run(paths: Paths, values: Values, trials: int, settings: SearchSettings) -> Any:
    found = prepare("mine", settings, values, paths, trials=trials)
    study, job = found.study, found.job
    run_trials(job, 0)
    return study


def test_trials_run_what_their_keys_touch_and_leave_nothing(
    project: Paths, values: Values, ran: list[str]
) -> None:
    study = run(project, values, 3, of({LR: RANGE}, prune=None))
    assert ran == ["train_classifier", "generate_cams", "evaluate_cams"] * 3
    for trial in study.trials:
        lr = trial.user_attrs["settings"][LR]
        assert trial.value == pytest.approx(1 - lr)
        assert trial.user_attrs["threshold"] == 0.5
        assert trial.user_attrs["seconds_per_image"] > 0
    assert [path.name for path in (project.root / ".tuning").iterdir()] == ["mine.journal"]
    assert (project.cams / "val").is_dir(), "the project is as it was"


def test_what_few_values_decide_is_made_once(
    project: Paths, values: Values, ran: list[str]
) -> None:
    space = {
        "train_classifier.epochs": {"type": "int", "low": 5, "high": 6},
        "generate_cams.method.name": {"type": "categorical", "choices": ["cam", "grad_cam"]},
        "refine.chains.crf.0.sigma_xy": {"type": "float", "low": 5, "high": 50, "step": 5},
    }
    study = run(project, values, 12, of(space, prune=None, sampler="random"))
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 12
    counts = {name: ran.count(name) for name in set(ran)}
    drawn = [trial.user_attrs["settings"] for trial in study.trials]
    classifiers = {item["train_classifier.epochs"] for item in drawn}
    maps = {(item["train_classifier.epochs"], item["generate_cams.method.name"]) for item in drawn}
    assert counts["train_classifier"] == len(classifiers) == 2
    assert counts["generate_cams"] == len(maps)
    assert counts["refine_cams@crf"] == len({str(item) for item in drawn})


def test_equal_settings_are_scored_once(project: Paths, values: Values, ran: list[str]) -> None:
    space = {"train_classifier.epochs": {"type": "int", "low": 5, "high": 6}}
    study = run(project, values, 6, of(space, prune=None, sampler="random"))
    assert ran.count("evaluate_cams") == 2
    again = [trial for trial in study.trials if "same_as" in trial.user_attrs]
    assert len(again) == 4
    assert all(study.trials[trial.user_attrs["same_as"]].value == trial.value for trial in again)


def test_a_training_below_the_median_is_ended(
    project: Paths, values: Values, ran: list[str]
) -> None:
    settings = of({LR: RANGE}, prune={"trials": 2, "epochs": 0}, sampler="random")
    study = run(project, values, 12, settings)
    pruned = [trial for trial in study.trials if trial.state == TrialState.PRUNED]
    assert pruned
    assert ran.count("train_classifier") == 12
    assert ran.count("evaluate_cams") == 12 - len(pruned)
    assert all("below the median" in trial.user_attrs["pruned"] for trial in pruned)
    assert not (project.root / ".tuning/trials").exists()


def test_settings_that_do_not_go_together_end_their_trial_alone(
    project: Paths, values: Values, ran: list[str]
) -> None:
    """A distance that only some forms of transfer have, which no `when` keeps away from others."""
    method = "train_classifier.method"
    space = {
        f"{method}.transfer": {"type": "categorical", "choices": ["map", "global"]},
        f"{method}.distance": {"type": "categorical", "choices": ["cosine", "l1"]},
    }
    start = {
        "train_teachers": {"teacher": {}},
        method: {"name": "distillation", "transfer": "map"},
    }
    study = run(project, values, 12, of(space, set=start, prune=None, sampler="random"))
    refused = [trial for trial in study.trials if "refused" in trial.user_attrs]
    assert refused
    for trial in study.trials:
        drawn = tuple(trial.user_attrs["settings"].values())
        together = set(drawn) != {"global", "l1"}
        assert trial.state == (TrialState.COMPLETE if together else TrialState.PRUNED)
    assert "transfer: global has no distance 'l1'" in refused[0].user_attrs["refused"]


def test_what_a_trial_needs_of_the_project_is_named(project: Paths, values: Values) -> None:
    space = {"generate_cams.flip": {"type": "categorical", "choices": [True, False]}}
    with pytest.raises(ValueError, match=r"models/classifier is not there.*wsss run train_class"):
        prepare("mine", of(space), values, project)


def test_other_settings_than_those_of_the_project_are_made_anew_and_told(
    project: Paths, values: Values, ran: list[str]
) -> None:
    space = {"refine.chains.crf.0.n_iters": {"type": "int", "low": 1, "high": 9}}
    mine = of(space, set={"train_classifier.epochs": 9}, score="evaluate_refined@crf")
    found = make_route(make_plan(project.root, "mine", mine, values))
    assert found.differences() and "train_classifier" in found.differences()[0]
    assert not routed(project, values, space).differences()
    assert found.key(project) != routed(project, values, space).key(project)


@pytest.fixture
def tiny(
    tmp_path: Path, values: Values, database: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[Paths, Values]:
    """Painted images of 48 pixels, and a classifier that learns from them in seconds."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    small = {
        "prepare_data.dataset.name": "synthetic",
        "prepare_data.dataset.num_train": 24,
        "prepare_data.dataset.num_val": 2,
        "prepare_data.dataset.image_size": [48, 48],
        "prepare_data.selection_share": 0.3,
        "evaluate.class_groups": {},
        "evaluate.select_by": "mean_iou",
        "train_classifier.backbone.model_name": "resnet10t",
        "train_classifier.augment.crop_size": 48,
        "train_classifier.augment.long_side": [48, 48],
        "train_classifier.eval_long_side": 48,
        "train_classifier.epochs": 3,
        "generate_cams.scales": [1.0],
        "generate_cams.flip": False,
        "machine.num_workers": 0,
    }
    found = with_settings(values, small)
    paths = Paths(tmp_path / "tiny")
    plan = make_plan(paths.root, "mine", of({LR: RANGE}), found)
    run_stage("prepare_data", plan.project, paths)
    return paths, found


def test_a_trial_that_was_left_goes_on_from_its_checkpoint(
    tiny: tuple[Paths, Values], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    paths, values = tiny
    monkeypatch.setattr(objective, "open_tracker", _untracked)
    settings = of({LR: {"type": "float", "low": 0.001, "high": 0.01}})
    told: Callable[..., None] = objective._Epochs.metrics

    def left(self: Any, found: Any, step: int = 0) -> None:
        told(self, found, step)
        if step == 1:
            raise KeyboardInterrupt

    found = prepare("mine", settings, values, paths, trials=1)
    study, job = found.study, found.job
    monkeypatch.setattr(objective._Epochs, "metrics", left)
    with pytest.raises(KeyboardInterrupt):
        run_trials(job, 0)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.WAITING]
    monkeypatch.setattr(objective._Epochs, "metrics", told)
    with caplog.at_level(logging.INFO, "wsss.training.loop"):
        run_trials(job, 1)
    assert "resuming after epoch 2 of 3" in caplog.text
    first, again = study.trials
    assert again.state == TrialState.COMPLETE
    assert again.user_attrs["settings"] == first.user_attrs["settings"]
    assert set(again.intermediate_values) == {0, 1, 2}
    assert np.isfinite(again.value)
    assert not (paths.root / ".tuning/trials").exists()
    params: Params = make_plan(paths.root, "mine", settings, values).space.changed(
        again.user_attrs["settings"]
    )
    for name in ("train_classifier", "generate_cams", "evaluate_cams"):
        run_stage(name, params, paths)
    report = read_json(paths.report("evaluate_cams"))
    assert again.value == pytest.approx(report["selection"]["mean_iou"], abs=1e-6)
