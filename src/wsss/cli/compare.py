"""`wsss compare`: metrics of revisions, experiments and MLflow runs side by side."""

import json
import math
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsss.artifacts import read_json
from wsss.checks import did_you_mean
from wsss.tracking import prepare_mlflow, tracking_uri

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

__all__ = ["best_columns", "compare", "select"]

_REPORTS = "reports"
_HEADLINE = re.compile(r"(^|^evaluate_\w+/)(val/mean_iou[^/]*|threshold)$")
_HIGH = {"iou", "dice", "accuracy", "precision", "recall", "f1", "map", "coverage"}
_LOW = {"loss", "fp", "fn", "error", "skipped"}
_MAX_RUNS = 20

Values = dict[str, float]


def compare(
    revs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="REV...",
            help="workspace, a git revision, a DVC experiment, an MLflow run id, or "
            'mlflow:RUN_NAME_PREFIX or "mlflow:FILTER". Default: HEAD workspace.',
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Only metrics that begin so, with or without the report's name."),
    ] = None,
    all_metrics: Annotated[bool, typer.Option("--all", help="Every metric.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """Print metrics of DVC revisions, experiments or MLflow runs side by side, the best in bold.

    Without --metric or --all these are the mean IoU on val and the chosen thresholds.
    """
    columns = _load(revs or _default(Path()), Path())
    keys = _ordered({key for values in columns.values() for key in values})
    shown = select(keys, metric or [], all_metrics)
    if not shown:
        asked = f"begins with {' or '.join(metric)}" if metric else "is a mean IoU on val"
        near = f"; {did_you_mean(metric[0], keys)}" if metric and keys else ""
        raise ValueError(f"none of the {len(keys)} metrics of {', '.join(columns)} {asked}{near}")
    rows = {key: [values.get(key) for values in columns.values()] for key in shown}
    if as_json:
        print(json.dumps({"columns": list(columns), "metrics": rows}, indent=2, ensure_ascii=False))
    elif as_markdown:
        print(_markdown(list(columns), rows))
    else:
        _print_table(list(columns), rows)


def select(keys: Iterable[str], prefixes: Sequence[str], everything: bool = False) -> list[str]:
    """The metrics to show.

    Example:
        >>> keys = ["evaluate_cams/oracle/threshold", "evaluate_cams/val/mean_iou"]
        >>> select(keys, [])
        ['evaluate_cams/val/mean_iou']
        >>> select(keys, ["oracle/"])
        ['evaluate_cams/oracle/threshold']
    """
    if everything:
        return list(keys)
    if not prefixes:
        return [key for key in keys if _HEADLINE.search(key)]
    start = tuple(prefixes)
    return [key for key in keys if key.startswith(start) or key.partition("/")[2].startswith(start)]


def best_columns(key: str, values: Sequence[float | None]) -> set[int]:
    """The columns with the best value; none where all are equal or no order is known.

    Example:
        >>> best_columns("evaluate_cams/val/mean_iou", [0.4, None, 0.5])
        {2}
        >>> best_columns("evaluate_cams/threshold", [0.4, 0.5])
        set()
    """
    words = set(re.split(r"[/_.\- ]", key))
    held = [value for value in values if value is not None]
    if len(set(held)) < 2 or "threshold" in words or not words & (_HIGH | _LOW):
        return set()
    best = min(held) if words & _LOW else max(held)
    return {index for index, value in enumerate(values) if value == best}


def _default(root: Path) -> list[str]:
    """The last commit and the workspace; the workspace alone where no commit has reports."""
    try:
        commit = _commit("HEAD", root)
    except ValueError:  # no git
        commit = None
    return ["HEAD", "workspace"] if commit and _committed(commit, root) else ["workspace"]


def _load(revs: Sequence[str], root: Path) -> dict[str, Values]:
    """The metrics of each revision, by the heading of its column."""
    columns: dict[str, Values] = {}
    runs: dict[str, Run] = {}
    for rev in dict.fromkeys(revs):
        if rev == "workspace":
            columns[rev] = _workspace(root)
        elif rev.startswith("mlflow:") or re.fullmatch(r"[0-9a-f]{32}", rev):
            for run in _find_runs(rev, root):
                heading = f"{run.info.run_name} {run.info.run_id[:8]}"
                runs[heading] = run
                columns[heading] = {}  # keeps the order
        elif (commit := _commit(rev, root)) is not None:
            columns[rev] = _committed(commit, root)
        else:
            raise ValueError(_unknown(rev, root))
    lone = len(runs) == len(columns)  # runs alone: compare across stages
    for heading, run in runs.items():
        report = "" if lone else f"{run.info.run_name.replace('@', '_')}/"
        columns[heading] = {
            f"{report}{key}": value
            for key, value in run.data.metrics.items()
            if not math.isnan(value)
        }
    for heading in (heading for heading, values in columns.items() if not values):
        if heading not in runs:
            raise ValueError(
                f"{heading} has no metrics in {_REPORTS}/*.json; run `dvc repro` there"
            )
    return columns


def _flat(tree: Mapping[str, Any], path: str) -> Iterator[tuple[str, float]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}/{key}")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{path}/{key}", value


def _workspace(root: Path) -> Values:
    values: Values = {}
    for path in sorted((root / _REPORTS).glob("*.json")):
        if not path.name.endswith(".run.json"):
            values.update(_flat(read_json(path), path.stem))
    return values


def _committed(commit: str, root: Path) -> Values:
    values: Values = {}
    for name in _git(root, "ls-tree", "-z", "--name-only", commit, f"{_REPORTS}/").split("\0"):
        path = Path(name)
        if path.suffix == ".json" and not name.endswith(".run.json"):
            text = _git(root, "show", f"{commit}:./{name}")
            values.update(_flat(json.loads(text), path.stem))
    return values


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
    except FileNotFoundError:
        raise ValueError("git is not installed; only workspace and MLflow runs compare") from None
    return done.stdout


def _experiments(root: Path) -> dict[str, str]:
    """DVC experiments by name, as commits."""
    lines = _git(root, "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps")
    found = {}
    for line in lines.splitlines():
        ref, commit = line.rsplit(" ", 1)
        parts = ref.split("/", 4)  # refs/exps/<2 digits of the baseline>/<the other 38>/<name>
        if len(parts) == 5 and len(parts[3]) == 38:
            found[parts[4]] = commit
    return found


def _commit(rev: str, root: Path) -> str | None:
    try:
        experiment = _experiments(root).get(rev)
        return (
            experiment
            or _git(
                *(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}")
            ).strip()
        )
    except subprocess.CalledProcessError:  # no such revision, or no repository
        return None


def _find_runs(rev: str, root: Path) -> "list[Run]":
    prepare_mlflow()
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    uri = tracking_uri(root)
    file = uri.removeprefix("sqlite:///")
    if file != uri and not Path(file).exists():  # a client would make an empty one
        raise ValueError(f"'{rev}': no MLflow database is at {file}; set MLFLOW_TRACKING_URI")
    client = MlflowClient(uri)
    try:
        kind, found, text = rev.partition(":")
        runs = _query(client, text) if found else [client.get_run(kind)]
    except MlflowException as error:
        raise ValueError(f"'{rev}': MLflow says: {error}") from None
    if not runs:
        names = sorted({str(run.info.run_name) for run in _query(client, "")})
        raise ValueError(f"'{rev}' fits no MLflow run; the latest are {', '.join(names) or 'none'}")
    return runs


def _query(client: "MlflowClient", text: str) -> "list[Run]":
    is_filter = re.search(r"[=<>]| I?LIKE | IN ", text)
    name = text.replace("'", "")
    experiments = [held.experiment_id for held in client.search_experiments()]
    return list(
        client.search_runs(
            experiments,
            text if is_filter else f"attributes.run_name LIKE '{name}%'",
            max_results=_MAX_RUNS,
        )
    )


def _unknown(rev: str, root: Path) -> str:
    known = ["workspace"]
    try:
        refs = _git(root, "for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/tags")
        known += [*refs.split(), *_experiments(root)]
        tried = "no git revision and no DVC experiment"
    except subprocess.CalledProcessError:
        tried = "no git revision, as there is no git repository here,"
    hint = did_you_mean(rev, known)
    listed = "" if hint.startswith("known") else f" (known: {', '.join(sorted(known))})"
    return f"'{rev}' is {tried}; {hint}{listed}. MLflow runs: a run id, or mlflow:<name or filter>"


def _ordered(keys: Iterable[str]) -> list[str]:
    """In the pipeline's order, then by name."""

    from wsss.stages import find_stages

    names = [stage.name for stage in find_stages()]

    def place(key: str) -> tuple[int, str]:
        found = (index for index, name in enumerate(names) if key.startswith(name))
        return next(found, len(names)), key

    return sorted(keys, key=place)


def _text(value: float | None) -> str:
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.4f}"


def _markdown(columns: Sequence[str], rows: Mapping[str, Sequence[float | None]]) -> str:
    lines = [["metric", *columns], ["---", *("---:" for _ in columns)]]
    for key, values in rows.items():
        best = best_columns(key, values)
        cells = [_text(value) for value in values]
        lines.append([key, *(f"**{c}**" if i in best else c for i, c in enumerate(cells))])
    escaped = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def _print_table(columns: Sequence[str], rows: Mapping[str, Sequence[float | None]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("metric", overflow="fold")
    for heading in columns:
        table.add_column(Text(heading), justify="right", overflow="fold")
    for key, values in rows.items():
        best = best_columns(key, values)
        cells = [
            Text(_text(value), style="bold green" if index in best else "")
            for index, value in enumerate(values)
        ]
        table.add_row(Text(key), *cells)
    Console().print(table)
