"""What `wsss compare` compares: metrics of revisions, DVC experiments and MLflow runs."""

import math
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsss.checks import did_you_mean
from wsss.commands import run_command
from wsss.pipeline.lock import Snapshot, committed, is_report, workspace
from wsss.tracking import check_tracking, prepare_mlflow, tracking_uri
from wsss.tracking.database import database_file

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

__all__ = ["REPORTS", "Loaded", "default_revisions", "load"]

REPORTS = "reports"
_MAX_RUNS = 20
_MAX_ROWS = 200  # of a study

Values = dict[str, float]


@dataclass(frozen=True)
class Loaded:
    """What is compared.

    Attributes:
        columns: the metrics of each, by the heading of its column.
        notes: what is not shown, and why.
        snapshots: what is in git, or in the workspace, by heading.
        runs: what is in MLflow, by heading.
    """

    columns: dict[str, Values]
    notes: list[str]
    snapshots: "dict[str, Snapshot]"
    runs: "dict[str, Run]"


def default_revisions(root: Path) -> list[str]:
    """The last commit and the workspace; the workspace alone where no commit has reports."""
    try:
        commit = _commit("HEAD", root)
    except ValueError:  # no git
        commit = None
    listed = _git(root, "ls-tree", "-z", "--name-only", commit, f"{REPORTS}/") if commit else ""
    has_reports = any(is_report(name) for name in listed.split("\0"))
    return ["HEAD", "workspace"] if has_reports else ["workspace"]


def load(revs: Sequence[str], root: Path) -> Loaded:
    """The metrics of each revision, and where they come from.

    Raises:
        ValueError: a revision is unknown, or nothing of any may be shown.
    """
    columns: dict[str, Values] = {}
    notes: list[str] = []
    runs: dict[str, Run] = {}
    snapshots: dict[str, Snapshot] = {}
    for rev in dict.fromkeys(revs):
        if re.match(r"(mlflow|recipe|study):", rev) or re.fullmatch(r"[0-9a-f]{32}", rev):
            for run in _find_runs(rev, root):
                heading = f"{run.info.run_name} {run.info.run_id[:8]}"
                runs[heading] = run
                columns[heading] = {}  # keeps the order
            continue
        if rev == "workspace":
            snapshot = workspace(root)
            knows = "dvc.lock" in snapshot.files
            strangers = snapshot.strangers() if knows else _without_dvc(root)
        elif (commit := _commit(rev, root)) is not None:
            snapshot = committed(root, commit)
            strangers = snapshot.strangers()
        else:
            raise ValueError(_unknown(rev, root))
        if strangers:
            notes.append(_not_shown(rev, strangers, root))
        values = {
            key: value
            for name, report in snapshot.reports().items()
            if name not in strangers
            for key, value in _flat(report, name)
        }
        if values:
            columns[rev], snapshots[rev] = values, snapshot
        elif not strangers:
            command = run_command(root)
            notes.append(f"{rev} has no metrics in {REPORTS}/*.json; run `{command}` there")
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
    of_runs = {
        heading: f"{item.dataset.name} {item.dataset.digest}"
        for heading, run in runs.items()
        for item in run.inputs.dataset_inputs[:1]
    } | {  # rows of studies: what all of a table have in common
        heading: f"data and settings {run.data.tags['ground']}"
        for heading, run in runs.items()
        if "ground" in run.data.tags
    }
    of_revisions = {rev: f"data {snapshot.data[:16]}" for rev, snapshot in snapshots.items()}
    said = [*_different_data("runs", of_runs), *_different_data("revisions", of_revisions)]
    return Loaded(columns, [*notes, *said], snapshots, runs)


def _without_dvc(root: Path) -> dict[str, str]:
    """The reports of a project without dvc.lock that `wsss run` would make anew, and why."""
    from wsss.config.params import load_params
    from wsss.pipeline.in_order import is_there
    from wsss.stages import find_stages

    params, pipeline = load_params(root / "params.yaml"), find_stages()
    made = {
        target.report
        for target in pipeline.targets(params)
        if is_there(pipeline, target, params, root)
    }
    names = (file.stem for file in (root / REPORTS).glob("*.json"))
    return {
        name: "`wsss run` would make it anew"
        for name in names
        if is_report(f"{REPORTS}/{name}.json") and name not in made
    }


def _different_data(what: str, data: Mapping[str, str]) -> list[str]:
    """A note where results are of different images, whose scores say nothing about one another."""
    groups: dict[str, list[str]] = {}
    for heading, name in data.items():
        groups.setdefault(name, []).append(heading)
    if len(groups) < 2:
        return []
    lines = [f"  {name}: {', '.join(headings)}" for name, headings in groups.items()]
    return [
        f"These {what} are of different data; do not compare their scores:\n" + "\n".join(lines)
    ]


def _not_shown(rev: str, strangers: Mapping[str, str], root: Path) -> str:
    """Which reports of a revision are not shown, by the reason."""
    reasons: dict[str, list[str]] = {}
    for name, reason in strangers.items():
        reasons.setdefault(reason, []).append(name)
    lines = [f"  {', '.join(names)}: {reason}" for reason, names in reasons.items()]
    return (
        f"Not shown of {rev}, as they are the results of other data, settings or code "
        f"(`{run_command(root)}` makes them anew):\n" + "\n".join(lines)
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
    uri = tracking_uri(root)
    file = database_file(uri)
    if file is not None and not file.exists():  # a client would make an empty one
        raise ValueError(f"'{rev}': no MLflow database is at {file}; set MLFLOW_TRACKING_URI")
    prepare_mlflow()
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    check_tracking(root)
    client = MlflowClient(uri)
    try:
        kind, found, text = rev.partition(":")
        runs = _query(client, _filter(kind, text), kind) if found else [client.get_run(kind)]
    except MlflowException as error:
        raise ValueError(f"'{rev}': MLflow says: {error}") from None
    if not runs:
        names = sorted({str(run.info.run_name) for run in _query(client, "", "mlflow")})
        raise ValueError(f"'{rev}' fits no MLflow run; the latest are {', '.join(names) or 'none'}")
    return runs


def _filter(kind: str, text: str) -> str:
    """MLflow's filter for a way to name runs.

    Example:
        >>> _filter("mlflow", "crf"), _filter("recipe", "a")
        ("attributes.run_name LIKE 'crf%'", "tags.recipe = 'a' and attributes.status = 'FINISHED'")
        >>> _filter("study", "classifiers/cam")
        "tags.study = 'classifiers' and attributes.status = 'FINISHED' and tags.row = 'cam'"
    """
    name = text.replace("'", "")
    if kind == "mlflow":
        is_filter = re.search(r"\b(metric|param|tag|attribute)s?\.", text)
        return text if is_filter else f"attributes.run_name LIKE '{name}%'"
    name, _, row = name.partition("/")
    own = f" and tags.row = '{row}'" if row else ""
    return f"tags.{kind} = '{name}' and attributes.status = 'FINISHED'{own}"


def _query(client: "MlflowClient", text: str, kind: str) -> "list[Run]":
    experiments = [held.experiment_id for held in client.search_experiments()]
    most = _MAX_RUNS if kind == "mlflow" else _MAX_ROWS
    found = list(client.search_runs(experiments, text, max_results=most))
    if kind == "recipe":  # of whole experiments, not of their stages
        found = [run for run in found if "stage" not in run.data.tags][:_MAX_RUNS]
    if kind == "study":  # the latest of each row and seed
        latest = {
            tuple(run.data.tags.get(name) for name in ("study", "size", "row", "seed")): run
            for run in reversed(found)
        }
        found = sorted(latest.values(), key=lambda run: str(run.info.run_name))
    return found


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
    return (
        f"'{rev}' is {tried}; {hint}{listed}. MLflow runs: a run id, mlflow:<name or filter>, "
        "recipe:<name>, or study:<name>/<row>"
    )
