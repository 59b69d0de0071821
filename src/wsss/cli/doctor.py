"""`wsss doctor`: what is wrong with this machine or with what stages made, and what mends it."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsss.commands import run_command

if TYPE_CHECKING:
    from wsss.doctor import Check
    from wsss.doctor.results import ResultCheck

__all__ = ["app"]

PARAMS = Path("params.yaml")
COLOURS = {"ok": "green", "warning": "yellow", "fault": "red"}
SHOWN = 5  # images that are named

app = typer.Typer(
    invoke_without_command=True,
    help="Say what is wrong with this machine or with results, and what mends it.",
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@app.callback()
def machine(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Look at this machine and the project in this folder; nothing is changed.

    A line each says what is ok, what works badly (warning), and what does not work (fault); with a
    fault the exit code is 1.
    """
    if ctx.invoked_subcommand is not None:
        return
    from wsss.doctor import ok_of_all
    from wsss.doctor.machine import check_machine

    found = check_machine(Path())
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(check) for check in found], indent=2))
    else:
        for check in found:
            typer.echo(_line(check))
    if not ok_of_all(found):
        raise typer.Exit(1)


@app.command()
def run(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[STAGE]...",
            help="Stages to look at, such as refine_cams@crf; without any, all.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write a page with pictures there, and findings.png, all of them."
        ),
    ] = None,
    images: Annotated[
        int, typer.Option(min=1, help="Files of each kind that are read, evenly spread over all.")
    ] = 400,
    erase: Annotated[
        int,
        typer.Option(
            min=0,
            help="Images of each class whose object is erased, to see whether the classifier finds "
            "it all the same; where there are proposals. 0 erases none.",
        ),
    ] = 8,
    as_json: AsJson = False,
) -> None:
    """Say what is wrong with what the stages made, which images show it, and what to change.

    Nothing is run but the classifier, on images whose object is erased. With results that mean
    nothing (fault) the exit code is 1.
    """
    from wsss.artifacts import Manifest, Paths
    from wsss.config.params import load_params
    from wsss.doctor.results import check_results

    root = Path()
    found = check_results(root, load_params(PARAMS), targets or (), images=images, erase=erase)
    if as_json:
        values = {
            "findings": [finding.values() for finding in found.findings],
            "looked_at": found.looked_at,
            "missing": found.missing,
            "outdated": found.outdated,
        }
        typer.echo(json.dumps(values, indent=2))
    else:
        for line in _lines(found):
            typer.echo(line)
    if out is not None:
        from wsss.doctor.page import write_findings

        paths = Paths(root)
        there = (paths.splits / "classes.json").is_file()
        page = write_findings(
            found, Manifest.read(paths.splits) if there else None, paths.images, out
        )
        typer.echo(f"wrote {page}", err=as_json)
    if any(finding.severity == "fault" for finding in found.findings):
        raise typer.Exit(1)


@app.command()
def upgrade(
    write: Annotated[
        bool, typer.Option("--write", help="Go over to what is installed: write wsss.lock.")
    ] = False,
) -> None:
    """Say which stages run again with the installed wsss, and why; comments do not count."""
    from wsss.project.upgrade import upgrade as compare

    found = compare(Path(), write=write)
    typer.echo(f"wsss.lock is of {found.before}; installed is {found.after}")
    for stage, reason in found.reasons.items():
        typer.echo(f"  {stage} runs again: {reason}")
    for stage, before in found.after_them.items():
        typer.echo(f"  {stage} runs again where {', '.join(before)} give other results")
    for stage in found.gone:
        typer.echo(f"  {stage} is no more")
    if not found.reasons and not found.gone:
        typer.echo("no stage runs again: what they use does the same")
    if found.written:
        command = run_command(Path())
        typer.echo(f"wrote {', '.join(found.written)}; `{command}` runs what changed")
    elif found.differing:
        typer.echo(f"`wsss doctor upgrade --write` writes {', '.join(found.differing)}")


def _line(check: "Check") -> str:
    from wsss.checks import printable

    level = typer.style(f"{check.level:<8}", fg=COLOURS[check.level])
    return f"{level} {printable(check.line())}"


def _lines(found: "ResultCheck") -> list[str]:
    from wsss.checks import printable

    lines = []
    for finding in found.findings:
        level = typer.style(f"{finding.severity:<8}", fg=COLOURS[finding.severity])
        truth = " (by masks of annotators)" if finding.needs_truth else ""
        other = " (results of other settings)" if finding.about in found.outdated else ""
        lines.append(f"{level} {finding.about}: {printable(finding.text)}{truth}{other}")
        if finding.images:
            more = len(finding.images) - SHOWN
            rest = f" and {more} more" if more > 0 else ""
            named = ", ".join(map(printable, finding.images[:SHOWN]))
            lines.append(f"{'':<8} seen in {named}{rest}")
        changes = ", ".join(f"{change.how} {change.key}" for change in finding.changes)
        if changes:
            lines.append(f"{'':<8} settings: {changes}")
    if not found.looked_at:
        lines.append(f"no stage has a report here; `{run_command(Path())}` makes results")
        return lines
    if not found.findings:
        lines.append("nothing is wrong with these results, as far as files can tell")
    lines.append(f"looked at {', '.join(found.looked_at)}")
    for name, reason in found.outdated.items():
        lines.append(f"results of other settings: {name}, as {printable(reason)}")
    if found.missing:
        lines.append(f"not run: {', '.join(found.missing)}")
    return lines
