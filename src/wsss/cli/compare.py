"""`wsss compare`: metrics of revisions, experiments and MLflow runs side by side."""

import json
import math
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsss.checks import did_you_mean
from wsss.cli.side_by_side import markdown, print_side_by_side
from wsss.pipeline.lock import committed, is_report, workspace
from wsss.tracking import check_tracking, prepare_mlflow, tracking_uri
from wsss.tracking.database import database_file

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

__all__ = ["compare", "select"]

_REPORTS = "reports"
_HEADLINE = re.compile(
    r"(^|^evaluate_\w+/)((?!train/|selection/|strict/)[a-z]\w*/"
    r"(mean_iou[^/]*|false_alarms/(images|area)|objects/hit_from_medium)|threshold)$"
)
_WITHOUT_MASKS = re.compile(
    r"^prepare_data/splits/\w+/(images|with_mask)$|^train_\w+/(selection|val)_\w+$"
    r"|^train_classifier/\w+_map$|coverage$"
)
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

    Without --metric or --all these are the mean IoU and false alarms on val and scored
    sets, and the thresholds.
    """
    columns, notes = _load(revs or _default(Path()), Path())
    keys = _ordered({key for values in columns.values() for key in values})
    shown = select(keys, metric or [], all_metrics)
    if not shown and metric:
        raise ValueError(
            f"none of the {len(keys)} metrics of {', '.join(columns)} begins with "
            f"{' or '.join(metric)}; {did_you_mean(metric[0], keys)}"
        )
    scored = metric or all_metrics or any("val/mean_iou" in key for key in shown)
    if not scored:  # no masks, or not so far yet
        shown = [key for key in keys if key in shown or _WITHOUT_MASKS.search(key)] or keys
        notes.append("There is no mean IoU on val: no evaluation of images with masks is there.")
    rows = {key: [values.get(key) for values in columns.values()] for key in shown}
    if as_json:
        print(json.dumps({"columns": list(columns), "metrics": rows}, indent=2, ensure_ascii=False))
    elif as_markdown:
        print(markdown(list(columns), rows))
    else:
        print_side_by_side(list(columns), rows)
    for note in notes:
        typer.echo(note, err=True)


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


def _default(root: Path) -> list[str]:
    """The last commit and the workspace; the workspace alone where no commit has reports."""
    try:
        commit = _commit("HEAD", root)
    except ValueError:  # no git
        commit = None
    listed = _git(root, "ls-tree", "-z", "--name-only", commit, f"{_REPORTS}/") if commit else ""
    has_reports = any(is_report(name) for name in listed.split("\0"))
    return ["HEAD", "workspace"] if has_reports else ["workspace"]


def _load(revs: Sequence[str], root: Path) -> tuple[dict[str, Values], list[str]]:
    """The metrics of each revision, by the heading of its column; and what is not shown, and why.

    Raises:
        ValueError: a revision is unknown, or nothing of any may be shown.
    """
    columns: dict[str, Values] = {}
    notes: list[str] = []
    runs: dict[str, Run] = {}
    for rev in dict.fromkeys(revs):
        if rev.startswith("mlflow:") or re.fullmatch(r"[0-9a-f]{32}", rev):
            for run in _find_runs(rev, root):
                heading = f"{run.info.run_name} {run.info.run_id[:8]}"
                runs[heading] = run
                columns[heading] = {}  # keeps the order
            continue
        if rev == "workspace":
            snapshot = workspace(root)
        elif (commit := _commit(rev, root)) is not None:
            snapshot = committed(root, commit)
        else:
            raise ValueError(_unknown(rev, root))
        strangers = snapshot.strangers()
        if strangers:
            notes.append(_not_shown(rev, strangers))
        values = {
            key: value
            for name, report in snapshot.reports().items()
            if name not in strangers
            for key, value in _flat(report, name)
        }
        if values:
            columns[rev] = values
        elif not strangers:
            notes.append(f"{rev} has no metrics in {_REPORTS}/*.json; run `dvc repro` there")
    if not columns:
        raise ValueError("\n".join(notes))
    lone = len(runs) == len(columns)  # runs alone: compare across stages
    for heading, run in runs.items():
        report = "" if lone else f"{run.info.run_name.replace('@', '_')}/"
        columns[heading] = {
            f"{report}{key}": value
            for key, value in run.data.metrics.items()
            if not math.isnan(value)
        }
    return columns, [*notes, *_different_data(runs)]


def _different_data(runs: "Mapping[str, Run]") -> list[str]:
    """A note where runs are of different images, whose scores say nothing about one another."""
    groups: dict[str, list[str]] = {}
    for heading, run in runs.items():
        held = {f"{item.dataset.name} {item.dataset.digest}" for item in run.inputs.dataset_inputs}
        for data in sorted(held)[:1]:
            groups.setdefault(data, []).append(heading)
    if len(groups) < 2:
        return []
    lines = [f"  {data}: {', '.join(headings)}" for data, headings in groups.items()]
    return ["These runs are of different data; do not compare their scores:\n" + "\n".join(lines)]


def _not_shown(rev: str, strangers: Mapping[str, str]) -> str:
    """Which reports of a revision are not shown, by the reason."""
    reasons: dict[str, list[str]] = {}
    for name, reason in strangers.items():
        reasons.setdefault(reason, []).append(name)
    lines = [f"  {', '.join(names)}: {reason}" for reason, names in reasons.items()]
    return (
        f"Not shown of {rev}, as they are the results of other data, settings or code "
        "(`dvc repro` makes them anew):\n" + "\n".join(lines)
    )


def _flat(tree: Mapping[str, Any], path: str) -> Iterator[tuple[str, float]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}/{key}")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{path}/{key}", value


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
    file = database_file(uri)
    if file is not None and not file.exists():  # a client would make an empty one
        raise ValueError(f"'{rev}': no MLflow database is at {file}; set MLFLOW_TRACKING_URI")
    check_tracking(root)
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
