"""docs/results.md: the recorded runs of a study as tables."""

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
    experiments = [one.experiment_id for one in client.search_experiments()]
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
    """Write docs/results.md from what MLflow has. Raises ValueError where it has nothing."""
    results = read_results(root, study)
    if not results:
        raise ValueError(
            f"no finished run of the study '{study}' is recorded; run `wsss study run` first"
        )
    path = root / "docs" / "results.md"
    with atomic_path(path) as temporary:
        temporary.write_text(render(study, plan, results), encoding="utf-8")
    return path


def render(study: str, plan: Plan, results: Mapping[str, Mapping[str, Result]]) -> str:
    """The page as Markdown."""
    lines = [f"# {plan.title}", "", *([plan.about.strip(), ""] if plan.about else [])]
    for size in (one for one in plan.sizes if one in results):
        rows = results[size]
        settings = ", ".join(f"`{key}: {value}`" for key, value in plan.sizes[size].items())
        lines += [f"## Size `{size}`", "", f"{settings}.", ""]
        lines += [f"`make study SIZE={size}` runs what is missing and writes this page.", ""]
        lines += _table(plan, rows)
        lines += ["", *_comparison(plan, rows), ""]
    return "\n".join(lines).rstrip() + "\n"


def _table(plan: Plan, rows: Mapping[str, Result]) -> list[str]:
    columns = {
        "mAP": "train_classifier/best_val_map",
        "CAM": f"evaluate_cams/val/{plan.score}",
        "θ": "evaluate_cams/threshold",
        "+ CRF": f"evaluate_refined/val/{plan.score}",
        "train images/s": "train_classifier/images_per_second",
        "CAM images/s": "generate_cams/images_per_second",
    }
    lines = [
        f"| row | {' | '.join(columns)} | weights | |",
        f"|---|{'---:|' * len(columns)}---|---|",
    ]
    best = {
        name: max((one.mean(key) or 0 for one in rows.values()), default=0)
        for name, key in columns.items()
        if name in ("mAP", "CAM", "+ CRF")
    }
    for row in (one for one in plan.rows if one in rows):
        result = rows[row]
        cells = []
        for name, key in columns.items():
            value = result.mean(key)
            text = "" if value is None else f"{value:.3f}" if name in best else f"{value:.3g}"
            values = result.metrics.get(key, [])
            if name in best and len(values) > 1:
                text += f" ± {statistics.stdev(values):.3f}"
            cells.append(f"**{text}**" if name in best and value == best[name] else text)
        weights = result.tags.get("weights", "")
        note = plan.rows[row].note
        lines.append(f"| `{row}` | {' | '.join(cells)} | {weights} | {note} |")
    return lines


def _comparison(plan: Plan, rows: Mapping[str, Result]) -> Sequence[str]:
    """Which rows beat the baseline by more than the spread over seeds."""
    key = f"evaluate_cams/val/{plan.score}"
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
