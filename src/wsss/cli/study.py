"""`wsss study`: run a table of methods, and write it from the recorded runs."""

from pathlib import Path
from typing import Annotated

import typer

from wsss.study.plan import FOLDER, read_plan

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Tables of methods on the same data.")

Name = Annotated[str, typer.Argument(help=f"A file of {FOLDER}, without .yaml.")]


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
) -> None:
    """Run what is missing, one MLflow run per row and seed, and write docs/results.md."""
    from wsss.pipeline.mishaps import stop_on_sigterm
    from wsss.progress import show_log
    from wsss.study.panel import write_study_panel
    from wsss.study.run import run_study
    from wsss.study.table import write_table

    show_log()
    stop_on_sigterm()
    root = Path()
    plan = read_plan(root, name)
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
