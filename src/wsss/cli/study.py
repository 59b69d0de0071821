"""`wsss study`: run a table of methods, and write it from the recorded runs."""

from pathlib import Path
from typing import Annotated

import typer

from wsss.cli import completion
from wsss.study.plan import FOLDER, read_plan

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Tables of methods on the same data.")

Name = Annotated[
    str,
    typer.Argument(help=f"A file of {FOLDER}, without .yaml.", autocompletion=completion.studies),
]


@app.command("run")
def run(
    name: Name = "classifiers",
    size: Annotated[str, typer.Option(help="A size that the study names.")] = "small",
    row: Annotated[list[str] | None, typer.Option(help="Only this row; may be repeated.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How often repeated rows run.")] = 1,
    ignore_code: Annotated[
        bool, typer.Option(help="Keep results of older code where settings are the same.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Run everything anew.")] = False,
    engine: Annotated[
        str | None,
        typer.Option(metavar="ENGINE", help="inline, local or slurm: rows beside one another."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Rows at the same time, of local and slurm.")
    ] = None,
) -> None:
    """Run what is missing, one MLflow run per row and seed, and write docs/results.md."""
    from wsss.launch import command_site
    from wsss.progress import show_log
    from wsss.stopping import stop_on_signals
    from wsss.study.panel import write_study_panel
    from wsss.study.rows import run_rows
    from wsss.study.run import run_study
    from wsss.study.table import write_table

    show_log()
    stop_on_signals()
    root = Path()
    plan = read_plan(root, name)
    settings = command_site(root, "study", engine, workers)
    if settings.engine == "inline":
        run_study(
            root,
            name,
            plan,
            size,
            rows=row or (),
            seeds=seeds,
            ignore_code=ignore_code,
            force=force,
        )
    elif force:
        raise ValueError(
            "--force goes with --engine inline: rows that share stages would make "
            "them anew one after the other"
        )
    else:
        run_rows(
            root, name, plan, size, settings, rows=row or (), seeds=seeds, ignore_code=ignore_code
        )
    print(f"wrote {write_table(root, name, plan)}")
    if panel := write_study_panel(root, name, plan, size):
        print(f"wrote {panel}: all rows on the same images; also in MLflow")


@app.command("table")
def table(name: Name = "classifiers") -> None:
    """Write docs/results.md from the recorded runs."""
    from wsss.progress import show_log
    from wsss.study.table import write_table

    show_log()
    print(f"wrote {write_table(Path(), name, read_plan(Path(), name))}")


@app.command("curve")
def curve(
    name: Name = "annotations",
    size: Annotated[str, typer.Option(help="A size that the study names.")] = "full",
) -> None:
    """Write recipes/curves/NAME.yaml from docs/results.md: what masks and boxes add to tags.

    `wsss suggest` reckons with it.
    """
    from wsss.study.curve import write_curve

    print(f"wrote {write_curve(Path(), name, read_plan(Path(), name), size)}")
