"""What stages that train say of a network that has learned nothing."""

from typing import Any

import numpy as np
import pytest

from wsss.artifacts import Manifest, Paths, write_label_png
from wsss.checks import naming
from wsss.config.params import Params
from wsss.config.sections import MachineSettings, TrainClassifierSettings
from wsss.loading.devices import make_fabric
from wsss.pipeline import Job
from wsss.stages import find_stages, train_affinities, train_segmenter
from wsss.stages._warnings.classes import class_values
from wsss.tracking import NullTracker
from wsss.training import affinity
from wsss.training.classification import ClassScores, compare_with_guess
from wsss.training.task import Task


def job_of(paths: Paths, params: Params, name: str) -> Job:
    pipeline = find_stages()
    return Job(pipeline, pipeline.target(name, params), params, paths, NullTracker())


def scores_of(learned: dict[str, bool]) -> ClassScores:
    """Of 25 images with a class each for 4 of them."""
    targets = np.zeros((25, len(learned)))
    scores = np.zeros((25, len(learned)))
    for at, right in enumerate(learned.values()):
        targets[4 * at : 4 * at + 4, at] = 1
        scores[:, at] = targets[:, at] if right else np.arange(25) % 7
    return compare_with_guess(scores, targets, list(learned))


def said(paths: Paths, params: Params, found: ClassScores, **settings: Any) -> list[str]:
    job = job_of(paths, params, "train_classifier")
    with naming("train_classifier"):
        class_values(job, TrainClassifierSettings.model_validate(settings), found)
    return job.warnings


def test_classes_at_chance_are_named_with_what_a_guess_has(
    defects_at_chance: Paths, chance_params: Params
) -> None:
    found = scores_of({"crack": False, "dent": True, "hole": False, "stain": False})
    (text,) = said(defects_at_chance, chance_params, found)
    assert "cannot tell 3 of 4 (75 %) classes better than a guess" in text
    assert "'hole' 0.1" in text and "(0.16)" in text
    assert "dent" not in text
    assert "train_classifier.epochs" in text and "train_classifier.augment.crop_size" in text


def test_learned_classes_and_a_single_rare_one_are_no_warning(
    defects_at_chance: Paths, chance_params: Params
) -> None:
    learned = {"crack": True, "dent": True, "hole": True, "stain": True}
    assert not said(defects_at_chance, chance_params, scores_of(learned))
    rare = scores_of(learned | {"stain": False})
    assert rare.at_chance == ("stain",)
    assert not said(defects_at_chance, chance_params, rare)
    often = ClassScores({"a": 0.5, "b": 1, "c": 1}, {"a": 0.5, "b": 0.5, "c": 0.5}, ("a",))
    assert "'a' 0.50 (0.50)" in said(defects_at_chance, chance_params, often)[0]


def test_a_method_that_trains_no_logits_is_not_blamed_for_them(
    defects_at_chance: Paths, chance_params: Params
) -> None:
    found = scores_of({"crack": False, "dent": False})
    assert not said(defects_at_chance, chance_params, found, method={"name": "ccam"})


def test_classes_that_all_selection_images_have_are_said(
    defects_at_chance: Paths, chance_params: Params
) -> None:
    found = compare_with_guess(np.zeros((5, 1)), np.ones((5, 1)), ["crack"])
    (text,) = said(defects_at_chance, chance_params, found)
    assert "add images without the class" in text


@pytest.mark.parametrize(
    ("kept", "wanted"),
    [
        ({"selection_foreground": 0.1}, "pseudo masks of the selection split show no class"),
        ({"selection_foreground": 0.0, "selection_pseudo_mean_iou": 0.4}, "background alone"),
        ({"selection_foreground": 0.1, "selection_pseudo_mean_iou": 0.4}, ""),
    ],
)
def test_a_segmenter_that_found_nothing_is_said(
    defects_at_chance: Paths, chance_params: Params, kept: dict[str, float], wanted: str
) -> None:
    job = job_of(defects_at_chance, chance_params, "train_segmenter")
    train_segmenter._warn(job, kept)
    assert [wanted in text for text in job.warnings] == [True] * bool(wanted)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([255] * 9 + [0], "no foreground to speak of"),
        ([255] * 10, "no foreground and no background to speak of"),
        ([3] * 10, "no background to speak of"),
        ([0, 3, 255, 255, 255, 255, 255, 255, 255, 255], ""),
    ],
)
def test_labels_of_one_kind_are_said(
    defects_at_chance: Paths,
    chance_params: Params,
    make_affinity_task: Any,
    values: list[int],
    wanted: str,
) -> None:
    task = make_affinity_task(defects_at_chance)
    for sample in task.manifest.splits["train"]:
        path = task.work / ".work.seeds" / f"{sample.name}.png"
        write_label_png(path, np.array([values], np.uint8))
    shares = affinity.seed_shares(task)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["ignored"] == values.count(255) / 10
    job = job_of(defects_at_chance, chance_params, "train_affinities")
    train_affinities._warn(job, shares)
    assert [wanted in text for text in job.warnings] == [True] * bool(wanted)


@pytest.fixture
def make_affinity_task() -> Any:
    """Makes what training is given, of the images of a project."""

    def make(paths: Paths) -> Task:
        machine = MachineSettings(accelerator="cpu", num_workers=0)
        manifest = Manifest.read(paths.splits)
        fabric = make_fabric(machine, "32-true")
        return Task(manifest, paths.images, machine, 3, fabric, paths.root, NullTracker())

    return make
