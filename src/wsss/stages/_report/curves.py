"""Curves: scores over thresholds, and what was learned over epochs."""

from collections.abc import Mapping, Sequence

from wsss.config.segmentation import PER_CLASS
from wsss.report.charts import Line, line_chart
from wsss.report.frame import Section, escape, table
from wsss.stages._report.known import Known

__all__ = ["curve_section"]


def curve_section(known: Known) -> Section:
    """Charts of all curves that there are."""
    parts, numbers = [_thresholds(known), _errors(known)], ""
    for target in known.trainings():
        rows = known.made.curve(target.name)
        parts += _training(target.name, rows, known.reports[target.name])
        numbers += _numbers(target.name, rows)
    shown = "".join(part for part in parts if part)
    if not shown:
        shown = '<p class="card none">No stage has left a curve.</p>'
    elif not parts[0]:
        shown = (
            '<p class="card none">There is no curve over thresholds: without ground truth no '
            f"threshold can be scored.</p>{shown}"
        )
    return Section("curves", "Curves", f'<div class="grid">{shown}</div>{numbers}')


def _thresholds(known: Known) -> str:
    lines = []
    for item in known.evaluations:
        rows = known.made.curve(item.target.name)
        column = f"{known.split}_mean_iou"
        points = _points(rows, "threshold", column)
        chosen, score = item.report.get("threshold"), item.score(known.split)
        mark = (chosen, score) if chosen is not None and score is not None else None
        lines.append(Line(item.title, points, mark))
    title = f"Mean IoU on {known.split} over the threshold of score maps; a ring is the one chosen"
    return line_chart(title, lines, x="threshold", unit=True)


def _errors(known: Known) -> str:
    """Of the maps that masks are made from, precision and recall, too much and too little."""
    chain = known.params.make_pseudo_masks.chain
    rows = known.made.curve(f"evaluate_refined{'_' if chain == PER_CLASS else '@'}{chain}")
    names = {"precision": "precision", "recall": "recall", "fp": "too much", "fn": "missed"}
    lines = [
        Line(said, _points(rows, "threshold", f"{known.split}_{name}"))
        for name, said in names.items()
    ]
    title = f"Maps of the chain {chain} on {known.split}: what a threshold trades"
    return line_chart(title, lines, x="threshold", unit=True)


def _training(
    name: str, rows: Sequence[Mapping[str, float]], report: Mapping[str, object]
) -> list[str]:
    """Losses, and scores, of a training."""
    columns = _columns(rows)
    losses = [column for column in columns if column.endswith("loss")]
    scores = [column for column in columns if column not in losses]
    kept = report.get("best_epoch")
    said = "" if kept is None else f"; that after {kept:g} was kept"
    return [
        line_chart(
            f"{name}: {what} over epochs{said}",
            [Line(column.replace("_", " "), _points(rows, "epoch", column)) for column in group],
            x="epochs",
        )
        for what, group in (("losses", losses), ("scores", scores))
    ]


def _columns(rows: Sequence[Mapping[str, float]]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row if key not in ("epoch", "lr")))


def _numbers(name: str, rows: Sequence[Mapping[str, float]]) -> str:
    """A training as a table."""
    if not rows:
        return ""
    columns = _columns(rows)
    cells = [
        (
            f"{row['epoch'] + 1:g}",
            [f"<td>{row[key]:.4g}</td>" if key in row else "<td></td>" for key in columns],
        )
        for row in rows
    ]
    head = ["epochs", *(escape(column.replace("_", " ")) for column in columns)]
    inner = table(head, cells, about=f"{name}, epoch by epoch")
    return f"<details><summary>{escape(name)} as numbers</summary>{inner}</details>"


def _points(rows: Sequence[Mapping[str, float]], x: str, y: str) -> list[tuple[float, float]]:
    """Pairs of two columns; of epochs, which files count from 0, how many are done."""
    first = 1 if x == "epoch" else 0
    return [(row[x] + first, row[y]) for row in rows if x in row and y in row]
