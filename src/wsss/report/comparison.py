"""Experiments side by side on one page: scores with their spread over seeds, settings, pictures."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from wsss.report.charts import Line, bar_chart, line_chart
from wsss.report.frame import Section, data_uri, escape, page_text, table

__all__ = ["Experiment", "Group", "comparison_page", "groups_of"]

SEED = "base.rng_seed"
MOST_BARS = 8  # scores that are drawn; all are in the table
ENDING = "_mean_iou"


@dataclass(frozen=True)
class Experiment:
    """One thing that is compared.

    Attributes:
        heading: its name.
        scores: by the names that MLflow has for them, such as "crf.val_mean_iou".
        classes: by what is scored, such as "segmenter.val", the IoU of each class.
        settings: by dotted key; of what has the same but for the seed, the mean is shown.
        facts: what else is known of it, such as its revision.
        curves: by what is scored, such as "crf", the mean IoU over thresholds.
        panel: a PNG of images at all stages; empty where there is none.
        data: a hash of the images; "" where it is not known.
    """

    heading: str
    scores: Mapping[str, float]
    classes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    panel: bytes = b""
    data: str = ""

    @property
    def seed(self) -> str:
        """What decided by chance."""
        return self.settings.get(SEED, "")


@dataclass(frozen=True)
class Group:
    """Experiments that differ in their seed alone.

    Attributes:
        heading: of the page's columns.
        members: at least one.
    """

    heading: str
    members: tuple[Experiment, ...]

    @property
    def first(self) -> Experiment:
        """The member whose curves and pictures are shown."""
        return self.members[0]

    def values(self, name: str) -> list[float]:
        """A score of all members that have it."""
        return [item.scores[name] for item in self.members if name in item.scores]

    def mean(self, name: str) -> float | None:
        """Over seeds; None where no member has the score."""
        values = self.values(name)
        return statistics.fmean(values) if values else None

    def spread(self, name: str) -> float | None:
        """The standard deviation over seeds; None of one."""
        values = self.values(name)
        return statistics.stdev(values) if len(values) > 1 else None


def groups_of(experiments: Sequence[Experiment]) -> list[Group]:
    """Put together what has the same settings and data, and other seeds.

    Experiments of which no setting is known, and two of the same seed, stay apart.
    """
    held: dict[tuple[object, ...], list[Experiment]] = {}
    for at, item in enumerate(experiments):
        rest = tuple(sorted((k, v) for k, v in item.settings.items() if k != SEED))
        key: tuple[object, ...] = (rest, item.data) if rest and item.seed else (at,)
        if any(other.seed == item.seed for other in held.get(key, ())):
            key = (*key, at)
        held.setdefault(key, []).append(item)
    groups = []
    for members in held.values():
        heading = members[0].heading
        if len(members) > 1:
            heading += f" ({len(members)} seeds)"
        groups.append(Group(heading, tuple(members)))
    return groups


def comparison_page(experiments: Sequence[Experiment], notes: Sequence[str] = ()) -> str:
    """The page.

    Args:
        experiments: at least one, in the order in which they are shown.
        notes: what has to be known of them.
    """
    groups = groups_of(experiments)
    names = list(dict.fromkeys(name for item in experiments for name in item.scores))
    said = "".join(f'<p class="card none">{escape(note)}</p>' for note in notes)
    title = f"Comparison of {len(groups)} experiments"
    if len(groups) == 2:
        title = f"Comparison: {groups[0].heading} and {groups[1].heading}"
    return page_text(
        title,
        [
            Section("scores", "Scores", _scores(groups, names)),
            Section("differences", "What is different", _differences(groups)),
            Section("classes", "By class", _classes(groups)),
            Section("curves", "Curves", _curves(groups)),
            Section("pictures", "Pictures", _pictures(groups)),
            Section("end", "What this comes to", _end(groups, names), "Result"),
        ],
        top=_lead(groups, len(experiments)) + said,
        foot="Written by <code>wsss compare --html</code>.",
    )


def _lead(groups: Sequence[Group], count: int) -> str:
    seeds = (
        "Of those that differ in their seed alone, the mean stands with the standard deviation "
        "over seeds."
        if any(len(group.members) > 1 for group in groups)
        else "Each has run with one seed, so nothing tells chance from what its settings do."
    )
    return f'<p class="lead">{count} results of {len(groups)} experiments. {seeds}</p>'


def _scores(groups: Sequence[Group], names: Sequence[str]) -> str:
    if not names:
        return (
            '<p class="card none">None of these has a score: no image has a ground truth, or no '
            "evaluation has run.</p>"
        )
    drawn = [name for name in names if name.endswith(ENDING)][:MOST_BARS]
    charts = "".join(
        bar_chart(
            name,
            [
                (group.heading, mean, group.spread(name))
                for group in groups
                if (mean := group.mean(name)) is not None
            ],
        )
        for name in drawn
    )
    rows = [
        (f"<code>{escape(name)}</code>", _row([group.mean(name) for group in groups],
                                              [group.spread(name) for group in groups]))
        for name in names
    ]  # fmt: skip
    head = ["score", *(escape(group.heading) for group in groups)]
    return f'<div class="grid">{charts}</div>' + table(
        head, rows, about="Scores by the names of MLflow; the best of each row in bold"
    )


def _row(values: Sequence[float | None], spreads: Sequence[float | None]) -> list[str]:
    held = [value for value in values if value is not None]
    best = max(held) if len(set(held)) > 1 else None
    cells = []
    for value, spread in zip(values, spreads, strict=True):
        if value is None:
            cells.append("<td></td>")
            continue
        text = f"{value:.3f}" + (f" ± {spread:.3f}" if spread is not None else "")
        share = min(1.0, max(0.0, value))
        cells.append(f'<td class="value{" best" * (value == best)}" '
                     f'style="--v:{share:.4f}">{text}</td>')  # fmt: skip
    return cells


def _differences(groups: Sequence[Group]) -> str:
    facts = list(dict.fromkeys(name for group in groups for name in group.first.facts))
    rows = [
        (
            escape(name),
            [
                f'<td class="text">{escape(group.first.facts.get(name, ""))}</td>'
                for group in groups
            ],
        )
        for name in facts
    ]
    if any(group.first.seed for group in groups):
        seeds = (", ".join(item.seed for item in group.members) for group in groups)
        rows.append(("seeds", [f'<td class="text">{escape(text)}</td>' for text in seeds]))
    keys = sorted({key for group in groups for key in group.first.settings} - {SEED})
    for key in keys:
        values = [group.first.settings.get(key, "") for group in groups]
        if len(set(values)) > 1:
            cells = [f'<td class="text">{escape(value) or "–"}</td>' for value in values]
            rows.append((f"<code>{escape(key)}</code>", cells))
    if not rows:
        return '<p class="card none">No setting of these is known to differ.</p>'
    head = ["", *(escape(group.heading) for group in groups)]
    return table(head, rows, about="Where they come from, and the settings that differ")


def _classes(groups: Sequence[Group]) -> str:
    """The IoU of each class, of the last thing that all, or most, have scored."""
    counts: dict[str, int] = {}
    for group in groups:
        for key in group.first.classes:
            counts[key] = counts.get(key, 0) + 1
    if not counts:
        return ""
    parts = []
    for key in counts:
        names = list(dict.fromkeys(n for g in groups for n in g.first.classes.get(key, {})))
        rows = []
        for name in names:
            columns = [
                [
                    item.classes[key][name]
                    for item in group.members
                    if name in item.classes.get(key, {})
                ]
                for group in groups
            ]
            means = [statistics.fmean(held) if held else None for held in columns]
            spreads = [statistics.stdev(held) if len(held) > 1 else None for held in columns]
            rows.append((escape(name), _row(means, spreads)))
        head = ["class", *(escape(group.heading) for group in groups)]
        parts.append((key, table(head, rows, about=f"IoU of each class: {key}")))
    *others, (_, last) = parts
    folded = "".join(
        f"<details><summary>{escape(key)}</summary>{text}</details>" for key, text in others
    )
    return last + folded


def _curves(groups: Sequence[Group]) -> str:
    names = list(dict.fromkeys(name for group in groups for name in group.first.curves))
    charts = "".join(
        line_chart(
            f"{name}: mean IoU over the threshold",
            [Line(group.heading, group.first.curves.get(name, ())) for group in groups],
            x="threshold",
            unit=True,
        )
        for name in names
    )
    return f'<div class="grid">{charts}</div>' if charts else ""


def _pictures(groups: Sequence[Group]) -> str:
    shown = [group for group in groups if group.first.panel]
    return "".join(
        f'<figure class="card"><figcaption>{escape(group.heading)}</figcaption>'
        f'<img loading="lazy" alt="Images at every stage of {escape(group.heading)}" '
        f'src="{data_uri(group.first.panel, "image/png")}"></figure>'
        for group in shown
    )


def _end(groups: Sequence[Group], names: Sequence[str]) -> str:
    """Which is best in the last score, and whether that is more than chance."""
    shared = [
        name
        for name in names
        if name.endswith(ENDING) and sum(group.mean(name) is not None for group in groups) > 1
    ]
    if not shared:
        return '<p class="card">No score is there of two of these, so none is better.</p>'
    name = shared[-1]
    ranked = sorted(
        ((mean, group) for group in groups if (mean := group.mean(name)) is not None),
        key=lambda pair: -pair[0],
    )
    (best, first), (next_, second) = ranked[0], ranked[1]
    lines = [
        f"By <code>{escape(name)}</code> the best is <b>{escape(first.heading)}</b> with "
        f"{best:.3f}, {best - next_:.3f} above {escape(second.heading)}."
    ]
    spreads = [group.spread(name) for group in (first, second)]
    if None in spreads:
        lines.append(
            "Both have to run with several seeds before it can be said whether that is more than "
            "chance: change <code>base.rng_seed</code>, and compare again."
        )
    else:
        low, high = min(first.values(name)), max(second.values(name))
        lines.append(
            "Every seed of the first is above every seed of the second."
            if low > high
            else "Their seeds overlap, so the difference may be chance; more seeds tell."
        )
    items = "".join(f"<li>{line}</li>" for line in lines)
    return f'<div class="card"><ul>{items}</ul></div>'
