"""What reports and curves tell of trainings: of their classes, their course, and their splits."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from wsss.pipeline import Target
from wsss.registry import METHODS
from wsss.stages.findings.finding import Change, Finding
from wsss.stages.findings.made import Made
from wsss.stages.findings.warned import of_classes

__all__ = ["course_of_training", "splits_apart", "weak_classes"]

WEAK = 0.2  # of the way from the average precision of a guess to a perfect one
FEW = 5  # images of a class, and without it, fewer than which say nothing
APART = 0.15  # of the mean average precision
RISING = 0.05  # of a score, in the last quarter of the epochs
DIVERGED = 1.5  # times its lowest value, that a training loss rose to
FELL = 0.8  # of its best value, that a score fell below
EQUAL = 0.95  # of the first loss, above which the last one has not fallen


def weak_classes(made: Made, target: Target) -> Iterator[Finding]:
    """Classes whose average precision is near that of a guess, so that their maps mean little.

    The stage warns of classes at chance, if they are many; these are known here by
    `wsss.stages.findings.warned`, and nothing is said of them again.
    """
    if target.name != "train_classifier" or made.manifest is None:
        return
    report = made.report(target.name)
    method: Any = made.params.train_classifier.method
    warnings = " ".join(report.get("warnings", ()))
    if METHODS.build(method).keep != "best" or "better than a guess" in warnings:
        return  # the logits of the first are not trained
    images = len(made.manifest.splits["selection"])
    weak: dict[str, tuple[float, float]] = {}
    for name in made.manifest.class_names:
        precision = report.get(f"classes/selection/average_precision/{name}")
        guess = report.get(f"classes/selection/prevalence/{name}")
        if precision is None or guess is None:
            continue
        if min(guess, 1 - guess) * images < FEW - 0.5:
            continue
        if precision < guess + WEAK * (1 - guess):
            weak[name] = (precision, guess)
    if not weak:
        return
    listed = ", ".join(f"'{name}' {own:.2f} ({guess:.2f})" for name, (own, guess) in weak.items())
    ids = {at for at, name in enumerate(made.manifest.class_names, 1) if name in weak}
    fixed = made.params.train_classifier.augment.long_side[1] > 0
    size = f"train_classifier.augment.{'long_side' if fixed else 'long_side_shares'}"
    shown, names = of_classes(made, ids)
    yield Finding(
        "weak_classes",
        "warning",
        target.name,
        "the classifier knows these classes hardly better than a guess; average precision on "
        f"selection, and of a guess: {listed}. Their maps will mean little: raise "
        "train_classifier.epochs, take pretrained train_classifier.backbone.weights, or show small "
        f"objects larger ({size})",
        (
            Change("train_classifier.epochs", "raise"),
            Change("train_classifier.backbone.weights", "change"),
            Change(size, "raise"),
        ),
        {name: own for name, (own, _) in weak.items()},
        names,
        shown,
    )


def course_of_training(made: Made, target: Target) -> Iterator[Finding]:
    """A training that ended in nonsense, learned nothing, was not done, or went on too long."""
    curve = target.stage.curve
    if curve is None or curve.x != "epoch":
        return
    rows = made.curve(target.name)
    section: Any = getattr(made.params, target.section.partition(".")[0])
    rows = rows[-section.epochs :]  # a method may train in rounds, one after the other
    found = _course(rows, curve.y)
    if found is None:
        return
    name, text, numbers = found
    key = target.section
    ways: dict[str, tuple[str, Literal["raise", "lower"]]] = {
        "not_finite": ("lower {}.optimizer.lr, or set {}.precision to 32-true", "lower"),
        "diverged": ("lower {}.optimizer.lr, or set {}.optimizer.gradient_clip to 1", "lower"),
        "nothing_learned": ("raise {}.optimizer.lr or {}.epochs", "raise"),
        "not_converged": ("raise {}.epochs", "raise"),
        "past_its_best": ("lower {}.optimizer.lr or {}.epochs", "lower"),
    }
    way, how = ways[name]
    own = [f"{key}.optimizer.lr", f"{key}.epochs", f"{key}.precision"]
    own.append(f"{key}.optimizer.gradient_clip")
    text = f"{text}; {way.replace('{}', key)}"
    changes = [
        Change(item, "change" if "precision" in item or "clip" in item else how)
        for item in own
        if item in text
    ]
    fault = name in ("not_finite", "nothing_learned")
    yield Finding(name, "fault" if fault else "warning", target.name, text, tuple(changes), numbers)


def _course(
    rows: Sequence[Mapping[str, float]], score: str
) -> tuple[str, str, dict[str, float]] | None:
    """What is wrong with a training, if anything: its name, a text, and the numbers.

    Args:
        rows: of its epochs.
        score: the column of the score that the best epoch is chosen by.
    """
    broken = [at for at, row in enumerate(rows, 1) if not all(map(math.isfinite, row.values()))]
    if broken:
        text = f"values of epoch {broken[0]} are not finite"
        return "not_finite", text, {"epoch": broken[0]}
    losses = [row["train_loss"] for row in rows if "train_loss" in row]
    scores = [row[score] for row in rows if score in row]
    count = len(rows)
    if len(losses) < max(2, count):
        return None
    lowest = min(losses)
    at = losses.index(lowest)
    if losses[-1] > max(DIVERGED * lowest, lowest + 0.05) and at < len(losses) - 1:
        text = (
            f"the training loss rose from {lowest:.3g} in epoch {at + 1} to {losses[-1]:.3g} in "
            f"epoch {count}"
        )
        return "diverged", text, {"lowest": lowest, "last": losses[-1]}
    gain = max(scores) - scores[0] if scores else 0.0
    if (
        count >= 3
        and losses[-1] > EQUAL * losses[0]
        and gain < 0.02
        and max(scores, default=0) < 0.9
    ):
        text = (
            f"nothing was learned: the training loss was {losses[0]:.3g} after epoch 1 and "
            f"{losses[-1]:.3g} after epoch {count}, and {score} rose by {gain:.3f}"
        )
        return "nothing_learned", text, {"first": losses[0], "last": losses[-1], "gain": gain}
    if len(scores) < 2:
        return None
    best = max(scores)
    before = scores[-1 - max(1, count // 4)] if len(scores) > count // 4 else scores[0]
    if scores[-1] == best and best - before > RISING * best:
        text = (
            f"it was not done: {score} still rose from {before:.3f} to {best:.3f} in the last "
            f"{max(1, count // 4)} of {count} epochs"
        )
        return "not_converged", text, {"before": before, "last": best}
    if scores[-1] < FELL * best and scores.index(best) < count / 2:
        text = (
            f"it went past its best: {score} was {best:.3f} in epoch {scores.index(best) + 1} and "
            f"{scores[-1]:.3f} in epoch {count}; what was kept is an early network"
        )
        return "past_its_best", text, {"best": best, "last": scores[-1]}
    return None


def splits_apart(made: Made, target: Target) -> Iterator[Finding]:
    """A classifier that does on val what it did not do on selection, or the other way round.

    What is chosen on selection, such as epochs and thresholds, is then not what val needs.
    """
    if target.name != "train_classifier" or made.manifest is None:
        return
    report = made.report(target.name)
    own, other = report.get("selection_map"), report.get("val_map")
    splits = made.manifest.splits
    if own is None or other is None or min(len(splits["selection"]), len(splits["val"])) < 4 * FEW:
        return
    if abs(own - other) > APART:
        yield Finding(
            "splits_apart",
            "warning",
            target.name,
            f"mean average precision is {own:.2f} on the {len(splits['selection'])} images of "
            f"selection and {other:.2f} on the {len(splits['val'])} of val: what is chosen on the "
            "first does not hold for the second; raise prepare_data.selection_share, or draw both "
            "from the same places and days (prepare_data.dataset)",
            (
                Change("prepare_data.selection_share", "raise"),
                Change("prepare_data.dataset", "change"),
            ),
            {"selection": own, "val": other},
        )
