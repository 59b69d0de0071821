"""docs/results.md: the recorded runs of a study as tables."""

import re
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from wsss.artifacts import atomic_path
from wsss.study.plan import Plan
from wsss.tracking import prepare_mlflow, tracking_uri

if TYPE_CHECKING:
    from mlflow.entities import Run

__all__ = ["Result", "read_results", "render", "write_table"]


@dataclass
class Result:
    """What was recorded of a row: per metric the values of its seeds, in order."""

    metrics: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    tags: dict[str, str] = field(default_factory=dict)

    def mean(self, key: str) -> float | None:
        """Over seeds; None where nothing was recorded."""
        values = self.metrics.get(key)
        return statistics.fmean(values) if values else None


def read_results(root: Path, study: str) -> dict[str, dict[str, Result]]:
    """The latest finished run of every row and seed.

    Args:
        root: the project, whose MLflow is asked.
        study: its name.

    Returns:
        By size and row.
    """
    prepare_mlflow()
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri(root))
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    latest: dict[tuple[str, str, int], Run] = {}
    token = None
    while True:  # newest first
        page = client.search_runs(
            experiments,
            f"tags.study = '{study}' and attributes.status = 'FINISHED'",
            page_token=token,
        )
        for run in page:
            tags = run.data.tags
            latest.setdefault((tags["size"], tags["row"], int(tags["seed"])), run)
        token = page.token
        if not token:
            break
    found: dict[str, dict[str, Result]] = defaultdict(lambda: defaultdict(Result))
    for (size, row, _), run in sorted(latest.items()):
        result = found[size][row]
        result.tags = dict(run.data.tags)
        for key, value in run.data.metrics.items():
            result.metrics[key].append(value)
    return {size: dict(rows) for size, rows in found.items()}


def write_table(root: Path, study: str, plan: Plan) -> Path:
    """Write the section of a study in docs/results.md from what MLflow has.

    Sections of other studies stay as they are.

    Raises:
        ValueError: MLflow has nothing of it.
    """
    results = read_results(root, study)
    if not results:
        raise ValueError(
            f"no finished run of the study '{study}' is recorded; run `wsss study run` first"
        )
    path = root / "docs" / "results.md"
    sections = _sections(path.read_text(encoding="utf-8")) if path.exists() else {}
    sections[study] = render(study, plan, results)
    with atomic_path(path) as temporary:
        page = "\n".join(sections[name] for name in sorted(sections))
        temporary.write_text(page, encoding="utf-8")
    return path


def _sections(page: str) -> dict[str, str]:
    """The text of each study of a page, by name."""
    parts = re.split(r"^(?=<!-- study: \w+ -->$)", page, flags=re.MULTILINE)
    return {part.split()[2]: part.rstrip() + "\n" for part in parts if part.startswith("<!-- st")}


def render(study: str, plan: Plan, results: Mapping[str, Mapping[str, Result]]) -> str:
    """The page as Markdown."""
    lines = [
        f"<!-- study: {study} -->",
        f"# {plan.title}",
        "",
        *([plan.about.strip(), ""] if plan.about else []),
    ]
    for size in (item for item in plan.sizes if item in results):
        rows = results[size]
        settings = ", ".join(f"`{key}: {value}`" for key, value in plan.sizes[size].items())
        lines += [f"## Size `{size}`", "", f"{settings}.", ""]
        command = f"make study STUDY={study} SIZE={size}"
        lines += [f"`{command}` runs what is missing and writes this section.", ""]
        lines += _table(plan, rows)
        lines += ["", *_comparison(plan, rows), ""]
    return "\n".join(lines).rstrip() + "\n"


def _table(plan: Plan, rows: Mapping[str, Result]) -> list[str]:
    lines = [
        f"| row | {' | '.join(plan.columns)} | weights | |",
        f"|---|{'---:|' * len(plan.columns)}---|---|",
    ]
    best = {
        name: max((item.mean(column.metric) or 0 for item in rows.values()), default=0)
        for name, column in plan.columns.items()
        if column.score
    }
    for row in (item for item in plan.rows if item in rows):
        result = rows[row]
        cells = []
        for name, column in plan.columns.items():
            value = result.mean(column.metric)
            text = "" if value is None else f"{value:.3f}" if name in best else f"{value:.3g}"
            values = result.metrics.get(column.metric, [])
            if name in best and len(values) > 1:
                text += f" ± {statistics.stdev(values):.3f}"
            cells.append(f"**{text}**" if name in best and value == best[name] else text)
        weights = result.tags.get("weights", "")
        note = plan.rows[row].note
        lines.append(f"| `{row}` | {' | '.join(cells)} | {weights} | {note} |")
    return lines


def _comparison(plan: Plan, rows: Mapping[str, Result]) -> Sequence[str]:
    """Which rows beat the baseline by more than the spread over seeds."""
    key = plan.columns[plan.compared].metric
    base = rows.get(plan.baseline)
    values = base.metrics.get(key, []) if base else []
    if len(values) < 2:
        return []
    top = max(values)
    better = [
        f"`{row}` ({min(own):.3f} to {max(own):.3f})"
        for row in plan.rows
        if row != plan.baseline and row in rows
        for own in [rows[row].metrics.get(key, [])]
        if len(own) >= len(values) and min(own) > top
    ]
    spread = (
        f"`{plan.baseline}` lies between {min(values):.3f} and {top:.3f} over {len(values)} seeds"
    )
    if not better:
        return [f"{spread}; no row that ran as often lies above all of them."]
    return [f"{spread}. With every seed above all of these: {', '.join(better)}."]
