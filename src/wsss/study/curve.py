"""What annotations add to tags, as a study found: a file that `wsss suggest` reckons with."""

from pathlib import Path
from typing import Any

from wsss.artifacts import atomic_path
from wsss.study.plan import Plan, Row
from wsss.study.table import written_rows

__all__ = ["CURVES", "given_of", "write_curve"]

CURVES = "recipes/curves"
"""Where the files lie, below the project's root."""

KINDS = {"prepare_data.pixel_labels": "masks", "prepare_data.box_labels": "boxes"}
_BESIDES = {"train_segmenter.given_weight"}
"""Keys in which a row may differ, too: how what was given is used."""


def given_of(row: Row, baseline: Row) -> dict[str, float] | None:
    """The share of images that have masks and boxes in a row; None of one that differs in more.

    Example:
        >>> tags = Row(recipe="voc_animals_best")
        >>> some = Row(recipe="voc_animals_best", set={"prepare_data.pixel_labels": 0.1})
        >>> given_of(some, tags), given_of(tags, tags)
        ({'masks': 0.1, 'boxes': 0.0}, {'masks': 0.0, 'boxes': 0.0})
    """
    changed = {
        key: row.set.get(key)
        for key in row.set.keys() | baseline.set.keys()
        if row.set.get(key) != baseline.set.get(key)
    }
    if row.recipe != baseline.recipe or changed.keys() - KINDS.keys() - _BESIDES:
        return None
    found = dict.fromkeys(KINDS.values(), 0.0)
    for key, kind in KINDS.items():
        value = row.set.get(key, "none")
        if value == "all":
            found[kind] = 1.0
        elif isinstance(value, float):
            found[kind] = value
        elif value != "none":  # a number of images, or a list: no share
            return None
    return found


def write_curve(root: Path, study: str, plan: Plan, size: str) -> Path:
    """Write recipes/curves/<study>.yaml from the rows of docs/results.md.

    Those rows are taken that differ from the baseline in nothing but the share of images that
    have masks or boxes.

    Args:
        root: the project.
        study: its name.
        plan: its columns and rows.
        size: whose rows.

    Raises:
        ValueError: the baseline has no score there, or no other row has.
    """
    cells = written_rows(root, study, plan).get(size, {})
    column = [*plan.columns].index(plan.compared)
    points: list[dict[str, Any]] = []
    for name, row in plan.rows.items():
        given = given_of(row, plan.rows[plan.baseline])
        text = cells[name][column].strip("*") if name in cells else ""
        if given is not None and text:
            score, _, spread = text.partition(" ± ")
            points.append({"row": name, **given, "score": float(score)})
            if spread:
                points[-1]["spread"] = float(spread)
    if len(points) < 2 or not any(point["row"] == plan.baseline for point in points):
        raise ValueError(
            f"docs/results.md has no scores of the row {plan.baseline} and another one with masks "
            f"or boxes of the study '{study}', size {size}; run "
            f"`wsss study run {study} --size {size}` first"
        )
    lines = [
        f"# {plan.title}: `{plan.compared}` by the share of training images with masks or boxes",
        f"# Written by `wsss study curve {study} --size {size}` from docs/results.md",
        f"study: {study}",
        f"size: {size}",
        f"score: {plan.compared}",
        f"baseline: {plan.baseline}",
        "points:",
    ]
    for point in points:
        values = ", ".join(f"{key}: {value}" for key, value in point.items())
        lines += [f"- {{{values}}}"]
    path = root / CURVES / f"{study}.yaml"
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
