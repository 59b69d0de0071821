"""`wsss runs`: what MLflow shows of the project, and where."""

from pathlib import Path
from typing import Annotated

import typer

from wsss.commands import run_command

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="What MLflow shows: see that it is all there, and where to look."
)


@app.command()
def sync() -> None:
    """Give every result a run, also one that DVC restored; give the experiment its own.

    What MLflow missed while it was away is sent first. `dvc repro` does so at its end. It is needed
    after `dvc pull`, `dvc exp apply`, or a checkout.
    """
    from wsss.config.params import load_params
    from wsss.progress import show_log
    from wsss.runs.sync import sync_runs

    show_log()
    done = sync_runs(Path(), load_params("params.yaml"))
    if done.stale:
        command = run_command(Path())
        typer.echo(f"not up to date, so not recorded (`{command}`): {', '.join(done.stale)}")
    elif not done.restored:
        typer.echo("every result has its run")


@app.command("open")
def open_(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where the server is.")] = 5000,
    print_only: Annotated[
        bool, typer.Option("--print", help="Print the link, and start no browser.")
    ] = False,
) -> None:
    """Open MLflow's page of the experiments, with their scores as bars, or say how to start it."""
    import os
    import webbrowser

    import yaml

    from wsss.runs.place import find_place
    from wsss.tracking.database import database_file, settle, tracking_uri

    root = Path()
    values = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    machine = values.get("machine") if isinstance(values, dict) else None
    experiment = str((machine or {}).get("experiment", "wsss"))
    database = database_file(tracking_uri(root))
    if database is not None and database.exists() and os.access(database, os.W_OK):
        with settle(database):
            pass  # a project that was moved has its pictures where it is now
    place = find_place(root, experiment, f"http://127.0.0.1:{port}")
    typer.echo(f"Runs:      {place.link}")
    if place.is_up:
        screen = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
        if screen and not print_only:
            webbrowser.open(place.link)
    else:
        typer.echo(f"           {place.note}" + ("; start one:" if place.command else ""))
        if place.command:
            typer.echo(f"           {place.command}")
