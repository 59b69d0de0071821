"""`wsss tune`: search for better settings, look at the trials, take the best over."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsss.cli import completion

if TYPE_CHECKING:
    from wsss.artifacts import Paths

__all__ = ["app"]

PARAMS = Path("params.yaml")
FOLDER = "recipes/tuning"

app = typer.Typer(no_args_is_help=True, help="Search for better settings with Optuna.")

Name = Annotated[
    str,
    typer.Argument(
        metavar="SEARCH",
        help=f"A file of {FOLDER}, without .yaml, such as crf; or a file of your own.",
        autocompletion=completion.searches,
    ),
]
Storage = Annotated[
    str | None,
    typer.Option(
        envvar="WSSS_TUNE_STORAGE",
        metavar="FILE|URL",
        help="Where trials are kept: a journal file for one machine (default: "
        ".tuning/SEARCH.journal), or a database for several, such as "
        "postgresql+psycopg://user:password@host/name.",
    ),
]
Study = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Another study of the search than the one that ran last."),
]
Timeout = Annotated[
    float | None, typer.Option(min=0, metavar="SECONDS", help="Start no trial after this.")
]
Heartbeat = Annotated[
    float,
    typer.Option(
        min=1,
        metavar="SECONDS",
        help="In a database, a worker without a sign of life for three times as long is dead.",
    ),
]


@app.command()
def run(
    name: Name,
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="How many to add. [default: as the search says, mostly 40]"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes. [default: half the cores]")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="ENGINE", help="inline, local or slurm: workers as tasks beside one another."
        ),
    ] = None,
    storage: Storage = None,
    timeout: Timeout = None,
    heartbeat: Heartbeat = 60,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A key of the search's file, such as max_images=100, or the range of a setting, "
            "such as sigma_xy=[20,80]. Repeatable.",
        ),
    ] = None,
) -> None:
    """Add trials to a search, the values of params.yaml first; each is a run in MLflow.

    A setting is scored by evaluate.select_by on the selection split. Run it again to go on.
    """
    from wsss.artifacts import Paths
    from wsss.config.recipes import parse_settings
    from wsss.densecrf import get_num_threads
    from wsss.launch import command_site
    from wsss.progress import show_log
    from wsss.stopping import stop_on_signals
    from wsss.tuning.plan import read_search
    from wsss.tuning.search import prepare, run_in_processes
    from wsss.tuning.storage import choose_study, find_studies
    from wsss.tuning.tasks import check_storage, run_in_tasks

    show_log()
    stop_on_signals()
    values, paths = _values(), Paths(Path())
    overrides = parse_settings(set_ or ())
    stem, settings = read_search(paths.root, name, overrides)
    site = command_site(paths.root, "tune", engine)
    check_storage(site, storage)
    prepared = prepare(
        stem,
        settings,
        values,
        paths,
        trials=trials,
        workers=workers or max(get_num_threads() // 2, 1),
        storage=storage,
        timeout=timeout,
        heartbeat=heartbeat,
    )
    if site.engine == "inline":
        outcome = run_in_processes(prepared)
    else:
        outcome = run_in_tasks(prepared, name, site)
    found = find_studies(stem, values, paths, storage, empty=True)
    own = choose_study(found, prepared.study.study_name)
    if own.trials:
        _print_trials(own, 5)
        _print_others(own, found)
    else:
        typer.echo(f"no trial of the study {own.name} has a score")
        for line in _ended_early(own.study):
            typer.echo(line)
    if outcome.complete < outcome.wanted:
        why = f"{outcome.lost} workers died" if outcome.lost else "the time was up"
        typer.echo(f"{outcome.complete} of {outcome.wanted} trials: {why}; run it again to go on")
    if own.trials:
        typer.echo(f"`wsss tune apply {name}` writes the best values into {PARAMS}")


@app.command()
def worker(
    name: Name,
    storage: Storage = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Run so many at most. [default: all that wait]")
    ] = None,
    study: Study = None,
    enough: Annotated[
        int | None, typer.Option(hidden=True, help="Start none once so many are done or run.")
    ] = None,
    timeout: Timeout = None,
    heartbeat: Heartbeat = 60,
) -> None:
    """Join a search that `wsss tune run` has started, here or on another machine, and help.

    It leaves when no trial waits or runs; stopped by Ctrl-C or SIGTERM it gives its trial back.
    """
    from wsss.artifacts import Paths
    from wsss.progress import show_log
    from wsss.stopping import stop_on_signals
    from wsss.tuning.plan import read_search
    from wsss.tuning.retry import worker_id
    from wsss.tuning.search import join
    from wsss.tuning.worker import run_trials

    show_log()
    stop_on_signals()
    paths = Paths(Path())
    stem, _ = read_search(paths.root, name)
    job = join(
        stem,
        _values(),
        paths,
        study=study,
        storage=storage,
        enough=enough,
        limit=trials,
        timeout=timeout,
        heartbeat=heartbeat,
    )
    done = run_trials(job, worker_id(os.getpid()))
    typer.echo(f"{done} trials of the study {job.study_name}; no other waits for this worker")


@app.command()
def show(
    name: Name,
    storage: Storage = None,
    study: Study = None,
    top: Annotated[int, typer.Option(min=1, help="How many trials to list.")] = 10,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "--html",
            metavar="FOLDER",
            help="Also write pictures of the history, the settings and what they weigh, and a page "
            "with all of them, index.html, which needs no other file.",
        ),
    ] = None,
) -> None:
    """Print the best trials, where params.yaml stands, and which settings matter.

    Where a search ran with several settings of its own, the study that ran last is shown.
    """
    from wsss.artifacts import Paths
    from wsss.tuning.plan import read_search
    from wsss.tuning.storage import find_studies

    paths = Paths(Path())
    stem, _ = read_search(paths.root, name)
    found = find_studies(stem, _values(), paths, storage, empty=True, argument=name)
    shown = _scored(found, study, name)
    _print_trials(shown, top)
    _print_others(shown, found)
    _print_outdated(shown, paths)
    if out is not None:
        from wsss.tuning.page import write_page

        typer.echo(f"wrote {write_page(shown, out)}")


@app.command()
def apply(
    name: Name,
    storage: Storage = None,
    study: Study = None,
    trial: Annotated[
        int | None, typer.Option(min=0, help="Another trial than the best one, by its number.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would change and write nothing.")
    ] = False,
) -> None:
    """Write the best trial's values into params.yaml, whose comments and layout stay.

    Where a search ran with several settings of its own, it is the study that ran last.
    """
    from wsss.artifacts import Paths, atomic_path
    from wsss.cli.recipe import print_changes
    from wsss.commands import run_command
    from wsss.config.recipes import set_values
    from wsss.config.yaml_text import read_text
    from wsss.tuning.base import holds
    from wsss.tuning.plan import read_search
    from wsss.tuning.space import in_order
    from wsss.tuning.storage import find_studies

    paths = Paths(Path())
    stem, _ = read_search(paths.root, name)
    known = find_studies(stem, _values(), paths, storage, empty=True, argument=name)
    found = _scored(known, study, name)
    plan = found.route.plan
    trials = found.trials
    numbers = [item.number for item in trials]
    if trial is not None and trial not in numbers:
        raise ValueError(f"--trial {trial} has no score; those that have: {sorted(numbers)}")
    best = trials[0 if trial is None else numbers.index(trial)]
    now = _now(found)
    before = read_text(PARAMS)
    settings = {
        key: value
        for key, value in in_order(best.user_attrs["settings"]).items()
        if not holds(plan.project, {key: value})
    }
    text, changes = set_values(before, settings)
    print_changes(changes)
    was = f"{now.values[0]:.4f} -> " if now else "not tried as params.yaml had it; now "
    threshold = best.user_attrs.get("threshold")
    at = "" if threshold is None else f", threshold {threshold:g}"
    typer.echo(
        f"{plan.metric} on the selection split: {was}{best.values[0]:.4f} "
        f"(study {found.name}, trial {best.number}{at})"
    )
    for line in found.route.differences():
        typer.echo(line)
    _print_others(found, known)
    _print_outdated(found, paths)
    if text != before and not dry_run:
        with atomic_path(PARAMS.resolve()) as temporary:
            temporary.write_text(text, encoding="utf-8")
        typer.echo(f"wrote {PARAMS}; `{run_command(Path())}` runs what changed")


def _values() -> dict[str, Any]:
    """The plain tree of params.yaml, once it is known to be valid."""
    from wsss.config.params import load_params
    from wsss.config.yaml_text import load_yaml, read_text

    load_params(PARAMS)
    values: dict[str, Any] = load_yaml(read_text(PARAMS), str(PARAMS))
    return values


def _print_trials(found: Any, top: int) -> None:
    """A table of the best trials and of params.yaml's own, and what the settings weigh."""
    from rich.console import Console
    from rich.table import Table

    from wsss.tuning.table import columns, importances, row

    trials = found.trials
    now = _now(found)
    front = {trial.number for trial in found.study.best_trials} if _has_two(found) else set()
    shown = trials[:top] + ([now] if now and now not in trials[:top] else [])
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("", *columns(found)):
        table.add_column(title, justify="right", no_wrap=True)
    for trial in shown:
        mark = ("*" if trial is now else "") + ("^" if trial.number in front else "")
        table.add_row(mark, *row(found, trial))
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width to keep to
        console.width = 200
    console.print(table)
    mark = "* what params.yaml has" if now else "params.yaml has values that were not tried"
    if front:
        mark += "; ^ no other trial is better and faster"
    console.print(f"{len(trials)} trials scored by {found.route.score}; {mark}", highlight=False)
    for line in _ended_early(found.study):
        console.print(line, highlight=False)
    weights = importances(found.study)
    if weights:
        parts = ", ".join(f"{key} {weight:.0%}" for key, weight in weights.items())
        console.print(f"what decides whether a trial is among the best: {parts}", highlight=False)


def _ended_early(study: Any) -> list[str]:
    """Say which trials have no score, and why."""
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    refused = [trial for trial in pruned if "refused" in trial.user_attrs]
    diverged = [trial for trial in pruned if "diverged" in trial.user_attrs]
    lines = []
    if diverged:
        first = diverged[0]
        settings = ", ".join(
            f"{key}={value}" for key, value in first.user_attrs["settings"].items()
        )
        why = first.user_attrs["diverged"].partition(";")[0]
        lines.append(f"{len(diverged)} more diverged, such as {first.number} ({settings}): {why}")
    if ended := len(pruned) - len(refused) - len(diverged):
        lines.append(f"{ended} more were ended early, as their training went badly")
    if refused:
        why = refused[0].user_attrs["refused"]
        lines.append(f"{len(refused)} more had settings that do not go together: {why}")
    lost = [
        trial
        for trial in trials
        if trial.state == TrialState.FAIL
        and not any(
            trial.number in other.system_attrs.get("retry_history", ())
            or other.system_attrs.get("failed_trial") == trial.number
            for other in trials
        )
    ]
    if lost:
        numbers = ", ".join(str(trial.number) for trial in lost)
        lines.append(f"{len(lost)} more failed: {numbers}")
    return lines


def _scored(found: Any, study: str | None, argument: str) -> Any:
    """The study of a name, or the last one that has a score."""
    from wsss.tuning.storage import choose_study

    scored = [item for item in found if item.trials]
    if not scored:
        raise ValueError(f"no trial has a score yet; `wsss tune run {argument}` goes on")
    return choose_study(scored, study)


def _print_outdated(shown: Any, paths: "Paths") -> None:
    """Say where trials were scored on results that are not those of params.yaml."""
    for name, reason in shown.route.outdated(paths).items():
        typer.echo(
            f"These scores are not of {PARAMS} as it is: they are of what {name} has made, but "
            f"{reason}"
        )


def _print_others(shown: Any, found: Any) -> None:
    """Name the other studies of the search with their best values, and offer a better one."""
    last = ", which ran last" if shown is found[0] else ""
    typer.echo(f"This is the study {shown.name}{last}.")
    if not found[0].trials:
        typer.echo(f"The one that ran last, {found[0].name}, has no score.")
    others = [item for item in found if item is not shown and item.trials]
    others.sort(key=lambda item: -item.trials[0].values[0])
    if others:
        typer.echo("On the same data and settings there are also (--study NAME takes one):")
    for item in others[:5]:
        differs = ", ".join(item.differs_from(shown))
        typer.echo(
            f"  {item.name}: best {item.trials[0].values[0]:.4f} of {len(item.trials)} trials, "
            f"run {item.started[:16].replace('T', ' ')}; differs in {differs}"
            + ("" if item.compares_with(shown) else ", so it was scored on other images")
        )
    if len(others) > 5:
        typer.echo(f"  and {len(others) - 5} more")
    better = [
        item
        for item in others
        if item.compares_with(shown) and item.trials[0].values[0] > shown.trials[0].values[0]
    ]
    if better:
        typer.echo(f"A better one is {better[0].name}; take it with --study {better[0].name}")


def _now(found: Any) -> Any:
    """The trial that has the values of params.yaml, or None."""
    from wsss.tuning.base import holds

    project = found.route.plan.project
    trials = found.trials
    return next((trial for trial in trials if holds(project, trial.user_attrs["settings"])), None)


def _has_two(found: Any) -> bool:
    return len(found.study.directions) == 2
