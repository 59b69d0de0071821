"""`wsss tune`: search for better settings, look at the trials, take the best over."""

from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["app"]

PARAMS = Path("params.yaml")

app = typer.Typer(no_args_is_help=True, help="Search for better settings with Optuna.")

Name = Annotated[str, typer.Argument(metavar="SEARCH", help="What to tune, such as crf.")]
Storage = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|URL",
        help="Where trials are kept: a journal file for one machine (default: "
        ".tuning/STUDY.journal), or a database for several, such as "
        "postgresql+psycopg://user:password@host/name.",
    ),
]
Study = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Another study of the search than the one that ran last."),
]


@app.command()
def run(
    name: Name,
    trials: Annotated[int, typer.Option(min=1, help="How many to add.")] = 40,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes. [default: half the cores]")
    ] = None,
    storage: Storage = None,
    timeout: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Start no trial after this.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting of the search, such as max_images=100 or sigma_xy=[20,80]. Repeatable.",
        ),
    ] = None,
) -> None:
    """Add trials to a search, the values of params.yaml first; each is a run in MLflow.

    A setting is scored by evaluate.select_by on the selection split. Run it again to go on.
    """
    from wsss.artifacts import Paths
    from wsss.config.params import load_params
    from wsss.config.recipes import parse_setting
    from wsss.densecrf import get_num_threads
    from wsss.pipeline.mishaps import stop_on_sigterm
    from wsss.tuning.search import search
    from wsss.tuning.storage import choose_study, find_studies, search_settings

    stop_on_sigterm()
    params, paths = load_params(PARAMS), Paths(Path())
    settings = search_settings(name, dict(parse_setting(argument) for argument in set_ or ()))
    outcome = search(
        settings,
        params,
        paths,
        trials=trials,
        workers=workers or max(get_num_threads() // 2, 1),
        storage=storage,
        timeout=timeout,
    )
    if outcome.complete:
        found = find_studies(name, params, paths, storage)
        _print_trials(choose_study(found, None), params, 5)
        _print_others(choose_study(found, None), found)
    if outcome.complete < outcome.wanted:
        why = f"{outcome.lost} workers died" if outcome.lost else "the time was up"
        typer.echo(f"{outcome.complete} of {outcome.wanted} trials: {why}; run it again to go on")
    if outcome.complete:
        typer.echo(f"`wsss tune apply {name}` writes the best values into {PARAMS}")


@app.command()
def show(
    name: Name,
    storage: Storage = None,
    study: Study = None,
    top: Annotated[int, typer.Option(min=1, help="How many trials to list.")] = 10,
) -> None:
    """Print the best trials, where params.yaml stands, and which settings matter.

    Where a search ran with several settings of its own, the study that ran last is shown.
    """
    from wsss.artifacts import Paths
    from wsss.config.params import load_params
    from wsss.tuning.storage import choose_study, find_studies

    params = load_params(PARAMS)
    found = find_studies(name, params, Paths(Path()), storage)
    shown = choose_study(found, study)
    _print_trials(shown, params, top)
    _print_others(shown, found)


@app.command()
def apply(
    name: Name,
    storage: Storage = None,
    study: Study = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would change and write nothing.")
    ] = False,
) -> None:
    """Write the best trial's values into params.yaml, whose comments and layout stay.

    Where a search ran with several settings of its own, it is the study that ran last.
    """
    from wsss.artifacts import Paths, atomic_path
    from wsss.cli.recipe import print_changes
    from wsss.config.params import load_params
    from wsss.config.recipes import set_values
    from wsss.config.yaml_text import read_text
    from wsss.tuning.base import holds
    from wsss.tuning.storage import choose_study, find_studies

    params = load_params(PARAMS)
    known = find_studies(name, params, Paths(Path()), storage)
    found = choose_study(known, study)
    trials = found.trials
    best, now = trials[0], _now(trials, params)
    before = read_text(PARAMS)
    settings = {
        key: value
        for key, value in best.user_attrs["settings"].items()
        if not holds(params, {key: value})
    }
    text, changes = set_values(before, settings)
    print_changes(changes)
    was = f"{now.value:.4f} -> " if now else "not tried as params.yaml had it; now "
    typer.echo(
        f"{params.evaluate.select_by} on the selection split: {was}{best.value:.4f} "
        f"(study {found.name}, trial {best.number}, threshold {best.user_attrs['threshold']:g})"
    )
    _print_others(found, known)
    if text != before and not dry_run:
        with atomic_path(PARAMS.resolve()) as temporary:
            temporary.write_text(text, encoding="utf-8")
        typer.echo(f"wrote {PARAMS}; `dvc repro` runs what changed")


def _print_trials(found: Any, params: Any, top: int) -> None:
    """A table of the best trials and of params.yaml's own, and what the settings weigh."""
    from rich.console import Console
    from rich.table import Table

    trials = found.trials
    now = _now(trials, params)
    shown = trials[:top] + ([now] if now and now not in trials[:top] else [])
    keys = list(dict.fromkeys(key for trial in trials for key in trial.user_attrs["settings"]))
    metric = params.evaluate.select_by
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("", "trial", metric, "θ", *(key.rpartition(".")[2] for key in keys)):
        table.add_column(title, justify="right", no_wrap=True)
    for trial in shown:
        values = trial.user_attrs["settings"]
        table.add_row(
            "*" if trial is now else "",
            str(trial.number),
            f"{trial.value:.4f}",
            f"{trial.user_attrs['threshold']:.2f}",
            *(_cell(values.get(key)) for key in keys),
        )
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width to keep to
        console.width = 200
    console.print(table)
    mark = "* what params.yaml has" if now else "params.yaml has values that were not tried"
    chain = found.search.chain
    console.print(f"{len(trials)} trials of the chain {chain}; {mark}", highlight=False)
    weights = _importances(found.study) if len(trials) >= 10 else {}
    if weights:
        parts = ", ".join(f"{key} {weight:.0%}" for key, weight in weights.items())
        console.print(f"what decides whether a trial is among the best: {parts}", highlight=False)


def _print_others(shown: Any, found: Any) -> None:
    """Name the other studies of the search with their best values, and offer a better one."""
    last = ", which ran last" if shown is found[0] else ""
    typer.echo(f"This is the study {shown.name}{last}.")
    others = [item for item in found if item is not shown]
    others.sort(key=lambda item: -item.trials[0].value)
    if others:
        typer.echo("On the same data and settings there are also (--study NAME takes one):")
    for item in others[:5]:
        differs = ", ".join(item.differs_from(shown))
        typer.echo(
            f"  {item.name}: best {item.trials[0].value:.4f} of {len(item.trials)} trials, "
            f"run {item.started[:16].replace('T', ' ')}; differs in {differs}"
            + ("" if item.compares_with(shown) else ", so it was scored on other images")
        )
    if len(others) > 5:
        typer.echo(f"  and {len(others) - 5} more")
    better = [
        item
        for item in others
        if item.compares_with(shown) and item.trials[0].value > shown.trials[0].value
    ]
    if better:
        typer.echo(f"A better one is {better[0].name}; take it with --study {better[0].name}")


def _now(trials: list[Any], params: Any) -> Any:
    """The trial that has the values of params.yaml, or None."""
    from wsss.tuning.base import holds

    return next((trial for trial in trials if holds(params, trial.user_attrs["settings"])), None)


def _importances(found: Any) -> dict[str, float]:
    """How much the settings that every trial has decide about being among the best."""
    import warnings

    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        found_weights = optuna.importance.get_param_importances(found, evaluator=evaluator)
    return {key: float(weight) for key, weight in found_weights.items()}


def _cell(value: Any) -> str:
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
