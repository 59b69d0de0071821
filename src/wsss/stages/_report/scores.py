"""Scores: of every stage and chain, by class, and which class is taken for which."""

from collections.abc import Mapping, Sequence

import numpy as np

from wsss.artifacts import AUDIT
from wsss.report.frame import Section, escape, table
from wsss.stages._report.known import Audit, Known, Scored

__all__ = ["confusion_section", "no_truth", "score_section", "steps"]

MOST = 14  # classes of a whole confusion; of more, the most frequent mistakes
MISTAKES = 15


def steps(known: Known) -> str:
    """The way of the result in a line: each step's score, and what it gained."""
    items, before = [], None
    for item in known.main:
        score = item.score(known.split)
        if score is None:
            continue
        gain = ""
        if before is not None:
            kind = "up" if score >= before else "down"
            gain = f'<span class="small {kind}">{score - before:+.3f} over the step before</span>'
        items.append(
            f'<li style="--v:{score:.4f}"><span class="small quiet">{escape(item.title)}</span>'
            f"<b>{score:.3f}</b><code>{escape(item.name(known.split))}</code>{gain}</li>"
        )
        before = score
    return f'<ol class="steps">{"".join(items)}</ol>' if items else ""


def no_truth(known: Known) -> str:
    """Why there are no scores."""
    masked = known.masked
    if masked:
        return (
            f'<p class="card none">{masked} images have a mask of an annotator, but no evaluation '
            "has scored anything on them: the evaluations have not run, or the masks show none of "
            "the classes.</p>"
        )
    return (
        '<p class="card none">No image has a mask of an annotator, so nothing can be scored: how '
        "much masks overlap with the truth is not known, of any stage and any class. An audit of "
        f"some images tells it, and writes <code>{AUDIT}</code>.</p>"
    )


def score_section(known: Known) -> Section:
    """The tables of all evaluations, one for each split, and what an audit says."""
    if not known.scored_splits:
        body = no_truth(known) + _audited(known)
        return Section("scores", "Scores", body)
    first, *others = known.scored_splits
    parts = [
        "<p>The mean over classes of how much of what is drawn and what is true overlaps (IoU), "
        f"on images of <code>{escape(first)}</code>"
        + (", from which nothing was learned" if first not in ("train", "selection") else "")
        + ". Below each heading stands the name that MLflow has for the score.</p>",
        _of_split(known, first),
        _audited(known),
    ]
    parts += [
        f"<details><summary>On {escape(split)}</summary>{_of_split(known, split)}</details>"
        for split in others
    ]
    if protocol := next((item.report.get("protocol") for item in reversed(known.main)), None):
        lines = "".join(f"<li><b>{escape(k)}</b>: {escape(v)}</li>" for k, v in protocol.items())
        parts.append(f"<details><summary>How to read these</summary><ul>{lines}</ul></details>")
    return Section("scores", "Scores of every stage, by class", "\n".join(parts), "Scores")


def _of_split(known: Known, split: str) -> str:
    shown = [item for item in known.evaluations if item.score(split) is not None]
    names = [
        name
        for name in ("background", *known.manifest.class_names)
        if any(name in item.report[split].get("iou", {}) for item in shown)
    ]
    head = [
        "class",
        *(f"{escape(item.title)}<br><code>{escape(item.name(split))}</code>" for item in shown),
    ]
    rows = [("all (mean IoU)", _cells([item.score(split) for item in shown]))]
    for name in names:
        values = [item.report[split].get("iou", {}).get(name) for item in shown]
        rows.append((escape(name), _cells(values)))
    rows.append(("threshold", [_plain(item.report.get("threshold")) for item in shown]))
    counts = [item.report[split].get("images") for item in shown]
    rows.append(("images", [f"<td>{count or ''}</td>" for count in counts]))
    wrong = _wrong(shown[-1], split, names)
    return table(head, rows, about=f"IoU on {split}", kind="scores") + wrong


def _wrong(item: Scored, split: str, names: Sequence[str]) -> str:
    """Of the last stage, by class, what is drawn in excess and what is missed."""
    own: Mapping[str, Mapping[str, float]] = item.report[split]
    if not own.get("fp_share"):
        return ""
    rows = [
        (
            escape(name),
            [
                _share(own["iou"].get(name)),
                _share(own["fp_share"].get(name)),
                _share(own["fn_share"].get(name)),
            ],
        )
        for name in names
    ]
    head = ["class", "right", "too much", "missed"]
    inner = table(head, rows, about=f"{item.title} on {split}: of what is drawn or true")
    return f"<details><summary>Too much, or too little, of each class</summary>{inner}</details>"


def _audited(known: Known) -> str:
    """Intervals of audits, or why there are none."""
    if not known.audits:
        return (
            '<p class="card none"><b>No interval.</b> How far these scores can be off on all '
            "images is told by an audit alone: a person corrects a few masks that are drawn by "
            f"chance, which <code>wsss audit draw</code> names. Here {escape(known.unaudited)}."
            "</p>"
        )
    others = f"<p>No interval of {escape(known.unaudited)}.</p>" if known.has_others else ""
    return "".join(_of_audit(audit) for audit in known.audits) + others


def _of_audit(audit: Audit) -> str:
    rows = [("all (mean IoU)", _interval(audit.mean_iou))]
    rows += [(escape(name), _interval(found)) for name, found in audit.classes.items()]
    what = audit.of.replace("_", " ")
    about = (
        f"Audited {what} of {audit.split}: {audit.audited} of {audit.images} images were looked "
        "at; the truth lies between low and high in 95 of 100 such audits"
    )
    further = ""
    if audit.further:
        low, high = audit.further
        further = f"<p>With 20 more images it would lie between about {low:.3f} and {high:.3f}.</p>"
    return table(["class", "estimate", "low", "high"], rows, about=about, kind="scores") + further


def _interval(found: tuple[float, float, float] | None) -> list[str]:
    if found is None:
        return ['<td colspan="3">not among what was looked at</td>']
    return [_share(value) for value in found]


def confusion_section(known: Known) -> Section:
    """Which class is taken for which, of the last masks."""
    scores = list(known.image_scores.values())
    if not scores:
        return Section("confusion", "Confusion", no_truth(known))
    matrix = np.sum([item.matrix for item in scores], axis=0)[:, :-1]
    if not known.manifest.has_background:
        matrix[:, 0] = 0
    names = ("background", *known.manifest.class_names)
    there = np.flatnonzero(matrix.sum(axis=0) + matrix.sum(axis=1))
    _, predicted = known.labels(known.shown_split)
    what = "predictions" if predicted else "pseudo masks"
    about = (
        f"Pixels of {what} of {known.shown_split} ({len(scores)} images), each row in per cent: "
        "what is true, by what is drawn there"
    )
    shares = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    if len(there) <= MOST:
        head = ["true / drawn", *(escape(names[at]) for at in there)]
        rows = [
            (
                escape(names[row]),
                [
                    f'<td class="{"right" if row == column else "wrong"}" '
                    f'style="--v:{shares[row, column]:.4f}" title="{matrix[row, column]} pixels">'
                    f"{100 * shares[row, column]:.1f}</td>"
                    for column in there
                ],
            )
            for row in there
        ]
        return Section("confusion", "Confusion", table(head, rows, about=about, kind="confusion"))
    wrong = matrix * (1 - np.eye(len(matrix), dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MISTAKES]
    pairs = [divmod(int(at), len(matrix)) for at in order]
    rows = [
        (
            f"{escape(names[row])} as {escape(names[column])}",
            [_share(float(shares[row, column])), f"<td>{wrong[row, column]}</td>"],
        )
        for row, column in pairs
        if wrong[row, column]
    ]
    head = ["true, and drawn as", "of its pixels", "pixels"]
    return Section(
        "confusion", "Confusion", table(head, rows, about=f"The most frequent mistakes. {about}")
    )


def _cells(values: Sequence[float | None]) -> list[str]:
    best = max((value for value in values if value is not None), default=None)
    return [
        _share(value, best=len(values) > 1 and value is not None and value == best)
        for value in values
    ]


def _share(value: float | None, *, best: bool = False) -> str:
    if value is None:
        return "<td></td>"
    return f'<td class="value{" best" * best}" style="--v:{value:.4f}">{value:.3f}</td>'


def _plain(value: float | None) -> str:
    return f"<td>{'' if value is None else format(value, '.2f')}</td>"
