"""docs/results.md: the recorded runs of a study as tables."""

import json
import logging
import re
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from wsss.artifacts import atomic_path
from wsss.checks import did_you_mean
from wsss.study.plan import Ground, Plan, PlanColumn, ground_of
from wsss.tracking import check_tracking, prepare_mlflow, tracking_uri

if TYPE_CHECKING:
    from mlflow.entities import Run

__all__ = ["Result", "read_results", "render", "write_table", "written_rows"]

log = logging.getLogger(__name__)


@dataclass
class Result:
    """What was recorded of a row.

    Attributes:
        runs: by seed, and in it by metric.
        tags: of the run of the last seed.
    """

    runs: dict[int, dict[str, float]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def values(self, key: str) -> list[float]:
        """Of a metric, by seed, where it was recorded."""
        return [run[key] for _, run in sorted(self.runs.items()) if key in run]

    def mean(self, key: str) -> float | None:
        """Over seeds; None where nothing was recorded."""
        values = self.values(key)
        return statistics.fmean(values) if values else None


@dataclass
class Written:
    """What a table of docs/results.md holds.

    Attributes:
        lines: of its rows, as they stand there.
        below: the sentence on seeds, or nothing.
        results: the runs of rows that the page has one by one.
    """

    lines: dict[str, str] = field(default_factory=dict)
    below: str = ""
    results: dict[str, Result] = field(default_factory=dict)


def read_results(
    root: Path, study: str, grounds: Mapping[str, Ground]
) -> dict[str, dict[str, Result]]:
    """The latest finished run of every row and seed, of the study's data and settings.

    Args:
        root: the project, whose MLflow is asked.
        study: its name.
        grounds: what rows must share to stand in one table, by size.

    Returns:
        By size and row.
    """
    prepare_mlflow()
    from mlflow.tracking import MlflowClient

    check_tracking(root)
    client = MlflowClient(tracking_uri(root))
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    latest: dict[tuple[str, str, int], Run] = {}
    token, others = None, 0
    while True:  # newest first
        page = client.search_runs(
            experiments,
            f"tags.study = '{study}' and attributes.status = 'FINISHED'",
            page_token=token,
        )
        for run in page:
            tags = run.data.tags
            ground = Ground.parse(tags.get("ground", ""))
            if tags["size"] not in grounds or not grounds[tags["size"]].is_that_of(ground):
                others += 1
                continue
            latest.setdefault((tags["size"], tags["row"], int(tags["seed"])), run)
        token = page.token
        if not token:
            break
    if others:
        log.info("%d runs of '%s' are of other data or settings, and left out", others, study)
    found: dict[str, dict[str, Result]] = defaultdict(lambda: defaultdict(Result))
    for (size, row, seed), run in sorted(latest.items()):
        found[size][row].runs[seed] = dict(run.data.metrics)
        found[size][row].tags = dict(run.data.tags)
    return {size: dict(rows) for size, rows in found.items()}


def write_table(root: Path, study: str, plan: Plan) -> Path:
    """Write the section of a study in docs/results.md from what MLflow has.

    Sections of other studies stay as they are, and so do rows and seeds that MLflow does not know,
    which were recorded elsewhere, if they are of the same data and settings.

    Raises:
        ValueError: MLflow has nothing of it.
    """
    grounds = {size: ground_of(root, plan, size) for size in plan.sizes}
    results = read_results(root, study, grounds)
    if not results:
        raise ValueError(
            f"no finished run of the study '{study}' with these data and settings is recorded; "
            f"run `wsss study run {study}` first"
        )
    for size, rows in results.items():
        _tell_of_empty_columns(plan, size, rows)
    path = root / "docs" / "results.md"
    sections = _sections(path.read_text(encoding="utf-8")) if path.exists() else {}
    kept = _written(sections.get(study, ""), plan, grounds)
    sections[study] = render(study, plan, results, kept, grounds)
    with atomic_path(path) as temporary:
        page = "\n".join(sections[name] for name in sorted(sections))
        temporary.write_text(page, encoding="utf-8")
    return path


def _tell_of_empty_columns(plan: Plan, size: str, rows: Mapping[str, Result]) -> None:
    """Warn of columns whose metric no row has: its name may be wrong."""
    known = {name for result in rows.values() for run in result.runs.values() for name in run}
    for heading, column in plan.columns.items():
        if column.metric not in known:
            log.warning(
                "size %s: the column '%s' is empty, as no row has the metric '%s'; %s",
                *(size, heading, column.metric, did_you_mean(column.metric, known)),
            )


def written_rows(root: Path, study: str, plan: Plan) -> dict[str, dict[str, list[str]]]:
    """The cells of a study's rows in docs/results.md, by size and row, a text for each column.

    Rows of other data or settings than the study's are left out.
    """
    path = root / "docs" / "results.md"
    sections = _sections(path.read_text(encoding="utf-8")) if path.exists() else {}
    grounds = {size: ground_of(root, plan, size) for size in plan.sizes}
    kept = _written(sections.get(study, ""), plan, grounds)
    return {
        size: {row: _cells(line) for row, line in table.lines.items()}
        for size, table in kept.items()
    }


def _sections(page: str) -> dict[str, str]:
    """The text of each study of a page, by name."""
    parts = re.split(r"^(?=<!-- study: \S+ -->$)", page, flags=re.MULTILINE)
    return {part.split()[2]: part.rstrip() + "\n" for part in parts if part.startswith("<!-- st")}


def _written(section: str, plan: Plan, grounds: Mapping[str, Ground]) -> dict[str, Written]:
    """What a section's tables hold, by size.

    Those of other data, settings or columns are left out.
    """
    kept: dict[str, Written] = {}
    for part in re.split(r"^(?=## Size `)", section, flags=re.MULTILINE)[1:]:
        size = part.split("`")[1]
        said = re.search(r"^<!-- ground: (.*) -->$", part, flags=re.MULTILINE)
        ground = Ground.parse(said[1]) if said else None
        if size not in grounds or not grounds[size].is_that_of(ground):
            log.warning("size %s: the rows that stood there are of other data or settings", size)
            continue
        table = kept[size] = Written()
        for text in re.findall(r"^<!-- run: (.*) -->$", part, flags=re.MULTILINE):
            run = json.loads(text)
            result = table.results.setdefault(run["row"], Result())
            result.runs[run["seed"]] = run["metrics"]
            result.tags = {"weights": run["weights"]}
        if f"\n{_headings(plan)}\n" not in part:
            log.warning("size %s: rows without their runs are left out: other columns", size)
            continue
        rows = re.findall(r"^(\| `([^`]+)` \|.*)$", part, flags=re.MULTILINE)
        table.lines = {name: line for line, name in rows}
        below = re.search(r"^`[^`]+` lies between .*$", part, flags=re.MULTILINE)
        table.below = below[0] if below else ""
    return kept


def _headings(plan: Plan) -> str:
    return f"| row | {' | '.join(plan.columns)} | weights | |"


def _cells(line: str) -> list[str]:
    """The cells of a row's line behind its name, without what makes them bold."""
    return [cell.strip().strip("*") for cell in line.split("|")[2:-1]]


def render(
    study: str,
    plan: Plan,
    results: Mapping[str, Mapping[str, Result]],
    kept: Mapping[str, Written] | None = None,
    grounds: Mapping[str, Ground] | None = None,
) -> str:
    """The section of a study as Markdown.

    Args:
        study: its name.
        plan: its columns and rows.
        results: what was recorded, by size and row.
        kept: what is shown where nothing was recorded, by size.
        grounds: what the rows of each size share.
    """
    kept, grounds = kept or {}, grounds or {}
    lines = [
        f"<!-- study: {study} -->",
        f"# {plan.title}",
        "",
        *([plan.about.strip(), ""] if plan.about else []),
    ]
    for size in (name for name in plan.sizes if name in results or name in kept):
        old = kept.get(size, Written())
        rows = _together(results.get(size, {}), old.results)
        settings = ", ".join(f"`{key}: {value}`" for key, value in plan.sizes[size].items())
        lines += [f"## Size `{size}`", ""]
        if size in grounds:
            lines += [f"<!-- ground: {grounds[size]} -->", ""]
        lines += [f"{settings}.", ""] if settings else []
        command = f"make study STUDY={study} SIZE={size}"
        lines += [f"`{command}` runs what is missing and writes this section.", ""]
        lines += _table(plan, rows, old.lines)
        below = _comparison(plan, rows) or [old.below]
        lines += ["", *filter(None, below), "", *_runs(plan, rows), ""]
    return "\n".join(lines).rstrip() + "\n"


def _together(new: Mapping[str, Result], old: Mapping[str, Result]) -> dict[str, Result]:
    """Runs of both, where the newer one of a row and seed counts."""
    rows = {row: Result(dict(result.runs), result.tags) for row, result in old.items()}
    for row, result in new.items():
        rows[row] = Result(rows.get(row, Result()).runs | result.runs, result.tags)
    return rows


def _runs(plan: Plan, rows: Mapping[str, Result]) -> list[str]:
    """What the table is made of, which the page does not show: a mean can go on elsewhere."""
    wanted = dict.fromkeys(column.metric for column in plan.columns.values())
    return [
        f"<!-- run: {json.dumps(told)} -->"
        for row in plan.rows
        if row in rows
        for seed, metrics in sorted(rows[row].runs.items())
        for told in [
            {
                "row": row,
                "seed": seed,
                "weights": rows[row].tags.get("weights", ""),
                "metrics": {key: metrics[key] for key in wanted if key in metrics},
            }
        ]
    ]


def _table(plan: Plan, rows: Mapping[str, Result], kept: Mapping[str, str]) -> list[str]:
    lines = [_headings(plan), f"|---|{'---:|' * len(plan.columns)}---|---|"]
    columns = [*plan.columns.values()]
    cells = {}
    for row in plan.rows:
        if row in rows:
            weights = rows[row].tags.get("weights", "")
            shown = [_cell(rows[row], column) for column in columns]
            cells[row] = [*shown, weights, plan.rows[row].note]
        elif row in kept:
            cells[row] = _cells(kept[row])
    for at, column in enumerate(columns):
        if column.relative_to:
            for row in cells:
                own, whole = (
                    _known(name, column.metric, columns, rows, cells)
                    for name in (row, column.relative_to)
                )
                share = f"{100 * own / whole:.1f} %" if own is not None and whole else ""
                cells[row][at] = share
    for at, column in enumerate(columns):
        values = {row: float(line[at].split()[0]) for row, line in cells.items() if line[at]}
        best = max(values.values(), default=0) if column.score else None
        for row, value in values.items():
            if value == best:
                cells[row][at] = f"**{cells[row][at]}**"
    return [*lines, *(f"| `{row}` | {' | '.join(line)} |" for row, line in cells.items())]


def _known(
    row: str,
    metric: str,
    columns: Sequence[PlanColumn],
    rows: Mapping[str, Result],
    cells: Mapping[str, Sequence[str]],
) -> float | None:
    """A row's mean of a metric: as recorded, or else as its line shows it."""
    if row in rows:
        return rows[row].mean(metric)
    for column, cell in zip(columns, cells.get(row, ()), strict=False):
        if column.metric == metric and not column.relative_to and cell:
            return float(cell.split()[0])
    return None


def _cell(result: Result, column: PlanColumn) -> str:
    """The mean over seeds, and behind ± the standard deviation of a score over several."""
    value, values = result.mean(column.metric), result.values(column.metric)
    if value is None or column.relative_to:
        return ""
    if not column.score:
        return f"{value:.3g}"
    return f"{value:.3f}" + (f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else "")


def _comparison(plan: Plan, rows: Mapping[str, Result]) -> Sequence[str]:
    """Which rows beat the baseline by more than the spread over seeds."""
    key = plan.columns[plan.compared].metric
    base = rows.get(plan.baseline)
    values = base.values(key) if base else []
    if len(values) < 2:
        return []
    top = max(values)
    better = [
        f"`{row}` ({min(own):.3f} to {max(own):.3f})"
        for row in plan.rows
        if row != plan.baseline and row in rows
        for own in [rows[row].values(key)]
        if len(own) >= len(values) and min(own) > top
    ]
    spread = (
        f"`{plan.baseline}` lies between {min(values):.3f} and {top:.3f} over {len(values)} seeds"
    )
    if not better:
        return [f"{spread}; no row that ran as often lies above all of them."]
    return [f"{spread}. With every seed above all of these: {', '.join(better)}."]
