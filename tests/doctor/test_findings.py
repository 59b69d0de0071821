"""Every finding of `wsss doctor run`, on a run that fails so, and none on a healthy one."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsss.artifacts import Sample, write_json, write_label_png
from wsss.config.params import parse_params
from wsss.pipeline.stage import setting_at
from wsss.stages.findings.finding import Change, Finding
from wsss.stages.findings.warned import IMPLIED, OTHERWISE

ROOT = Path(__file__).parents[2]
SIZE = (24, 32)


# Runs that fail: what is done to the healthy one, and what is then found


@dataclass(frozen=True)
class Failure:
    """A way to fail.

    Attributes:
        spoil: makes a healthy run fail in it.
        name: of the finding.
        about: its target.
        severity: of it.
        truth: whether masks of annotators are needed.
        first: whether the first image that shows it does so.
        said: what the text has to say.
    """

    spoil: Callable[[Any], None]
    name: str
    about: str
    severity: str
    said: str
    truth: bool = False
    first: Callable[[Any, str], bool] | None = None


def tagged(class_id: int) -> Callable[[Any, str], bool]:
    return lambda run, name: class_id in run.sample(name).class_ids


def guess(run: Any) -> None:
    from wsss.checks import naming
    from wsss.config.sections import TrainClassifierSettings
    from wsss.stages._warnings.classes import class_values
    from wsss.training.classification import compare_with_guess

    targets = run.manifest.targets(run.manifest.splits["selection"])
    job = run.job("train_classifier")
    with naming("train_classifier"):
        values = class_values(
            job,
            TrainClassifierSettings(),
            compare_with_guess(targets * 0 + np.arange(3), targets, run.manifest.class_names),
        )
    job.report(values)


def weak(run: Any) -> None:
    run.write_classifier({"sheep": 0.45})


def apart(run: Any) -> None:
    run.write_classifier(selection_map=0.95, val_map=0.6)


def curve(stage: str, score: str, losses: list[float], scores: list[float]) -> Any:
    def spoil(run: Any) -> None:
        rows = {"train_loss": losses, score: scores}
        report = {
            "best_epoch": 1 + int(np.nanargmax(scores)),
            "selection_map": 0.9,
            "val_map": 0.9,
        }
        run.write_training(stage, rows, **report)

    return spoil


def classifier(losses: list[float], scores: list[float]) -> Any:
    return curve("train_classifier", "selection_map", losses, scores)


def segmenter(losses: list[float], scores: list[float]) -> Any:
    return curve("train_segmenter", "selection_pseudo_mean_iou", losses, scores)


def maps(paint: Callable[[Any, Sample, int], np.ndarray], *stages: str) -> Callable[[Any], None]:
    """Other maps, and what the stages say of them."""

    def spoil(run: Any) -> None:
        run.write_maps(lambda sample, class_id: paint(run, sample, class_id))
        run.stage(*stages)

    return spoil


def anywhere(run: Any, *_: Any) -> np.ndarray:
    return run.rng.random(SIZE, np.float32)


def corner(run: Any, sample: Sample, class_id: int) -> np.ndarray:
    """High at the bottom of every image, whatever is in it."""
    scores = np.full(SIZE, 0.1, np.float32)
    scores[-6:] = 0.9
    return scores + 0.05 * run.rng.random(SIZE, np.float32)


def beside(run: Any, sample: Sample, class_id: int) -> np.ndarray:
    """As large as the object, and mostly beside it."""
    own = run.objects[sample.name] == class_id
    moved = np.roll(own, 6, axis=1)
    return (0.1 + 0.8 * moved).astype(np.float32)


def masks(paint: Callable[[Sample, np.ndarray], np.ndarray]) -> Callable[[Any], None]:
    return lambda run: run.write_masks(paint)


def swallow(sample: Sample, mask: np.ndarray) -> np.ndarray:
    """The tree takes all that a boat has, where both are there."""
    if {1, 3} <= set(sample.class_ids):
        mask[mask == 1] = 3
    return mask


def swallow_what_is_never_alone(run: Any) -> None:
    run.retag(lambda sample: (1, 3) if sample.class_ids == (1,) else sample.class_ids)
    run.write_masks(lambda _, mask: np.where(mask == 1, 3, mask))


def ignore(sample: Sample, mask: np.ndarray) -> np.ndarray:
    mask[:, :24] = 255
    return mask


def real_masks(threshold: float, value: float, **settings: float) -> Callable[[Any], None]:
    """Pseudo masks as the stage makes them of maps with one value."""

    def spoil(run: Any) -> None:
        run.tree["make_pseudo_masks"] |= {"threshold": threshold, **settings}
        run.write_maps(lambda sample, class_id: np.full(SIZE, value, np.float32))
        run.stage("make_pseudo_masks")

    return spoil


def predictions(paint: Callable[[Sample, np.ndarray], np.ndarray]) -> Callable[[Any], None]:
    return lambda run: run.write_predictions(paint)


def tree_alone(sample: Sample, mask: np.ndarray) -> np.ndarray:
    """All objects are trees, but for a pixel each."""
    where = np.argwhere(mask > 0)
    kept = mask[tuple(where[0])] if len(where) else 0
    mask[mask > 0] = 3
    if len(where):
        mask[tuple(where[0])] = kept
    return mask


def mistaken(sample: Sample, mask: np.ndarray) -> np.ndarray:
    """A boat is half seen as a sheep."""
    left = np.arange(SIZE[1])[None, :] % 4 != 0
    return np.where((mask == 1) & left, 2, mask)


def never_predicted(run: Any) -> None:
    run.retag(lambda sample: (1, 3) if sample.class_ids == (1,) else sample.class_ids)
    run.write_predictions(lambda _, mask: np.where(mask == 1, 3, mask))


def ground_truth(change: Callable[[np.ndarray], np.ndarray], stage: str) -> Callable[[Any], None]:
    """Other masks of annotators, and what is then scored."""

    def spoil(run: Any) -> None:
        for name, mask in run.objects.items():
            write_label_png(run.paths.masks / f"{name}.png", change(mask).astype(np.uint8))
        run.stage(stage)

    return spoil


def says(stage: str, text: str) -> Callable[[Any], None]:
    """A warning of a stage that takes a network of its own to be said."""
    return lambda run: write_json(run.paths.report(stage), {"warnings": [text]})


def without_proposals(run: Any) -> None:
    run.tree["make_proposals"] = {"sam": {"name": "sam", "checkpoint": "sam.pth"}}
    says(
        "make_proposals",
        "sam: 68 of 68 images have no proposals, so that what takes these changes nothing "
        "there; lower make_proposals.sam.pred_iou_thresh or stability_score_thresh",
    )(run)


def all_alike(run: Any) -> None:
    """Every selection image has every class, so that epochs cannot be told apart."""
    from wsss.config.sections import TrainClassifierSettings
    from wsss.stages._warnings.classes import class_values
    from wsss.training.classification import compare_with_guess

    job, tags = run.job("train_classifier"), np.ones((24, 3))
    found = compare_with_guess(tags, tags, run.manifest.class_names)
    job.report(class_values(job, TrainClassifierSettings(), found))


def alarm(sample: Sample, mask: np.ndarray) -> np.ndarray:
    if not sample.class_ids:
        mask[:4] = 2
    return mask


def then_score(spoil: Callable[[Any], None], *stages: str) -> Callable[[Any], None]:
    def both(run: Any) -> None:
        spoil(run)
        run.stage(*stages)

    return both


def background_warning(run: Any) -> None:
    """What the stage says, and the report that it writes."""
    from wsss.checks import naming
    from wsss.stages import train_segmenter

    job = run.job("train_segmenter")
    kept = {"selection_pseudo_mean_iou": 0.3, "selection_foreground": 0.0}
    with naming("train_segmenter"):
        train_segmenter._warn(job, kept)
    job.report(kept)


def nothing_to_learn(run: Any) -> None:
    from wsss.checks import naming
    from wsss.stages import train_segmenter

    job = run.job("train_segmenter")
    with naming("train_segmenter"):
        train_segmenter._warn(job, {"train_loss": 0.1})
    job.report({"train_loss": 0.1})


def scores(name: str, split: str, **values: float) -> Callable[[Any], None]:
    return lambda run: run.change_report(name, lambda report: report[split].update(values))


def oracle(run: Any) -> None:
    def change(report: dict[str, Any]) -> None:
        best = report["val"]["mean_iou"]
        report["val"]["mean_iou"] = report["selection"]["mean_iou"] = best - 0.1
        report["oracle"]["val"] = {"mean_iou": best, "threshold": 0.8}

    run.change_report("evaluate_refined_none", change)


CHAIN = "evaluate_refined@none"
FAILURES = {
    "a classifier that guesses": Failure(
        guess, "classes_at_chance", "train_classifier", "fault", "3 of 3 (100 %)", first=tagged(1)
    ),
    "a class that is hardly known": Failure(
        weak, "weak_classes", "train_classifier", "warning", "'sheep' 0.45 (0.40)", first=tagged(2)
    ),
    "selection unlike val": Failure(
        apart, "splits_apart", "train_classifier", "warning", "0.95 on the 24 images"
    ),
    "a loss that is no number": Failure(
        classifier([0.6, 0.5, np.nan], [0.5, 0.6, 0.6]),
        "not_finite", "train_classifier", "fault", "epoch 3",
    ),
    "a loss that rises": Failure(
        classifier([0.6, 0.3, 0.7, 0.9], [0.5, 0.7, 0.7, 0.7]),
        "diverged", "train_classifier", "warning", "from 0.3 in epoch 2 to 0.9",
    ),
    "a loss that stays": Failure(
        segmenter([0.69, 0.69, 0.69, 0.69], [0.3, 0.31, 0.3, 0.3]),
        "nothing_learned", "train_segmenter", "fault", "0.69 after epoch 1",
    ),
    "a score that rises": Failure(
        segmenter([0.6, 0.5, 0.4, 0.3], [0.3, 0.4, 0.5, 0.6]),
        "not_converged", "train_segmenter", "warning", "from 0.500 to 0.600",
    ),
    "a score that falls": Failure(
        segmenter([0.6, 0.5, 0.4, 0.3], [0.6, 0.5, 0.4, 0.3]),
        "past_its_best", "train_segmenter", "warning", "0.600 in epoch 1",
    ),
    "maps that are black": Failure(
        maps(lambda *_: np.zeros(SIZE, np.float32), "refine_cams@none"),
        "empty_maps", "refine_cams@none", "fault", "(100 %) maps", first=tagged(3),
    ),
    "maps of a class that are white": Failure(
        maps(
            lambda run, sample, class_id: np.full(SIZE, 0.7, np.float32)
            if class_id == 2
            else anywhere(run),
            "refine_cams@none",
        ),
        "full_maps", "refine_cams@none", "warning", "'sheep'", first=tagged(2),
    ),
    "maps of the surroundings": Failure(
        maps(corner), "same_place", "generate_cams", "warning", "'boat' lie in the same place"
    ),
    "maps beside the objects": Failure(
        maps(beside, "evaluate_cams"),
        "maps_beside_objects", "evaluate_cams", "warning", "beside them", truth=True,
    ),
    "a threshold at the end": Failure(
        maps(lambda run, sample, _: np.where(run.objects[sample.name], 0.0, anywhere(run)).astype(
            np.float32), CHAIN),
        "threshold_at_the_end", CHAIN, "warning", "threshold 1.00", truth=True,
    ),
    "a class that is not found": Failure(
        then_score(
            masks(lambda _, mask: np.where(mask == 2, 0, mask)), "evaluate_pseudo_masks"
        ),
        "classes_not_found", "evaluate_pseudo_masks", "warning", "'sheep' is 0", truth=True,
        first=tagged(2),
    ),
    "a class that eats another": Failure(
        masks(swallow), "eaten_class", "make_pseudo_masks", "warning", "'boat' is gone",
        first=tagged(1),
    ),
    "a class that is never alone": Failure(
        swallow_what_is_never_alone, "eaten_class", "make_pseudo_masks", "warning",
        "cannot tell them apart", first=tagged(1),
    ),
    "masks without a background": Failure(
        lambda run: run.fill_masks(),
        "no_background", "make_pseudo_masks", "fault", "nearly everywhere",
    ),
    "much that is ignored": Failure(
        masks(ignore), "much_ignored", "make_pseudo_masks", "warning", "75 % of the pixels"
    ),
    "masks that are ignored": Failure(
        real_masks(0.3, 0.3, ignore_margin=0.2),
        "ignored_masks", "make_pseudo_masks", "fault", "ignored nearly everywhere",
        first=lambda run, name: bool(run.sample(name).class_ids),
    ),
    "masks without tags": Failure(
        real_masks(0.8, 0.3), "masks_without_tags", "make_pseudo_masks", "fault", "show none",
        first=lambda run, name: bool(run.sample(name).class_ids),
    ),
    "a segmenter of background": Failure(
        background_warning, "background_alone", "train_segmenter", "fault", "background alone"
    ),
    "a segmenter without a teacher": Failure(
        nothing_to_learn, "nothing_to_learn", "train_segmenter", "fault", "show no class"
    ),
    "predictions of background": Failure(
        predictions(lambda _, mask: mask * 0),
        "tags_not_predicted", "predict_masks", "fault", "(100 %) tagged images",
        first=lambda run, name: name.startswith("val"),
    ),
    "a class that is never predicted": Failure(
        predictions(lambda _, mask: np.where(mask == 2, 3, mask)),
        "tags_not_predicted", "predict_masks", "warning", "no image shows 'sheep'",
        first=tagged(2),
    ),
    "a class that is never predicted beside others": Failure(
        never_predicted,
        "classes_never_predicted", "predict_masks", "warning", "no image shows 'boat'",
        first=tagged(1),
    ),
    "one class alone": Failure(
        predictions(tree_alone), "one_class_alone", "predict_masks", "fault", "is 'tree'",
        first=lambda run, name: 3 not in run.sample(name).class_ids,
    ),
    "a class that is mistaken": Failure(
        predictions(mistaken), "mistaken_class", "predict_masks", "warning",
        "'boat' are predicted as 'sheep'", first=tagged(1),
    ),
    "false alarms": Failure(
        then_score(predictions(alarm), "evaluate_segmenter"),
        "false_alarms", "evaluate_segmenter", "warning", "without a tag",
        first=lambda run, name: not run.sample(name).class_ids,
    ),
    "classes that nobody has drawn": Failure(
        ground_truth(lambda mask: mask > 0, "evaluate_pseudo_masks"),
        "classes_not_drawn", "evaluate_pseudo_masks", "warning", "'sheep', 'tree'", truth=True,
    ),
    "masks of no class": Failure(
        ground_truth(lambda mask: np.where(mask, 255, 0), "evaluate_segmenter"),
        "nothing_drawn", "evaluate_segmenter", "warning", "24 masks of val", truth=True,
    ),
    "pseudo masks whose classes are ignored": Failure(
        then_score(masks(lambda _, mask: np.where(mask, 255, 0)), "evaluate_pseudo_masks"),
        "all_ignored", "evaluate_pseudo_masks", "warning", "strict", truth=True,
    ),
    "thresholds that no proposal passes": Failure(
        without_proposals, "no_proposals", "make_proposals", "fault", "68 of 68 images"
    ),
    "epochs that cannot be told apart": Failure(
        all_alike, "no_selection_score", "train_classifier", "warning", "the last one was kept"
    ),
    "boxes that were filled": Failure(
        says("make_pseudo_masks", "9 of 9 boxes, 80% of their area, had no pixel of their class "
             "and were filled; see what the maps of refine_cams warn of, or change "
             "make_pseudo_masks.threshold"),
        "filled_boxes", "make_pseudo_masks", "warning", "9 of 9 boxes",
    ),
    "an index without a class": Failure(
        says("train_segmenter", "no region of sheep is in the index, so that none is ever "
             "predicted; see what make_pseudo_masks warns of, and lower train_segmenter.epochs"),
        "no_regions", "train_segmenter", "warning", "no region of sheep",
    ),
    "affinities without labels": Failure(
        says("train_affinities", "of the pixels it learns from only 0.01 % are of a class and "
             "0.00 % background; 99.9 % are ignored; change train_classifier.method"),
        "few_labels", "train_affinities", "warning", "99.9 % are ignored",
    ),
    "another chain is better": Failure(
        scores("evaluate_refined_none", "selection", mean_iou=0.9),
        "better_chain", CHAIN, "warning", "change make_pseudo_masks.chain to other", truth=True,
    ),
    "scores of selection unlike those of val": Failure(
        scores("evaluate_pseudo_masks", "val", mean_iou=0.85),
        "scores_apart", "evaluate_pseudo_masks", "warning", "0.850 on val", truth=True,
    ),
    "a threshold of another split": Failure(
        oracle, "threshold_of_another_split", CHAIN, "warning", "where 0.8 would have", truth=True
    ),
    "a segmenter that is worse than its teacher": Failure(
        scores("evaluate_segmenter", "val", mean_iou=0.7),
        "worse_segmenter", "evaluate_segmenter", "warning", "0.700", truth=True,
    ),
}  # fmt: skip


def follow(tree: dict[str, Any], change: Change) -> None:
    """Change a setting of plain values as it is said."""
    *sections, last = change.key.split(".")
    for section in sections:
        tree = tree[section]
    value, factor = tree[last], {"raise": 1.25, "lower": 0.8, "change": 1}[change.how]
    if isinstance(value, list) and change.how != "change":
        tree[last] = [type(item)(item * factor) for item in value]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        changed = value * factor if value else 0.5 * (change.how == "raise")
        tree[last] = type(value)(round(changed) if isinstance(value, int) else changed)


@pytest.mark.parametrize("title", FAILURES)
def test_a_run_that_fails(run: Any, title: str) -> None:
    failure = FAILURES[title]
    failure.spoil(run)
    found = run.check(failure.about)
    named = [item for item in found.findings if item.name == failure.name]
    assert named, [(item.name, item.text) for item in found.findings]
    finding: Finding = named[0]
    assert finding.about == failure.about and finding.severity == failure.severity
    assert failure.said in finding.text, finding.text
    assert finding.needs_truth == failure.truth
    if failure.first:
        assert finding.images and failure.first(run, finding.images[0]), finding.images[:3]
    assert finding.changes, finding.text
    tree = run.params.model_dump(mode="json")
    meant = [*OTHERWISE.values(), *(item for items in IMPLIED.values() for item in items)]
    for change in finding.changes:
        setting_at(run.params, change.key)  # it exists
        if change not in meant:
            assert change.key.rpartition(".")[2] in finding.text
        follow(tree, change)
    parse_params(tree)  # and so changed it is valid


def test_every_finding_has_a_run_that_fails_so() -> None:
    """But for the one that takes proposals, which test_erasing has."""
    page = (ROOT / "docs/doctor.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert {failure.name for failure in FAILURES.values()} == named - {"survives_erasing", "warned"}
