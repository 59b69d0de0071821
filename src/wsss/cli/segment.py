"""`wsss segment`: from a folder of images with tags to masks, in one command."""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["segment"]


def segment(
    folder: Annotated[Path, typer.Argument(help="The images, as they lie.")],
    out: Annotated[Path, typer.Option(help="Where masks and the project behind them go.")],
    tags: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The table with the tags of the images.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="ImageNet weights: hub (timm's), none (a small network), or a file.",
            show_default="hub",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One more value. Repeatable."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Stop after the plan, before anything is learned.")
    ] = False,
) -> None:
    """Learn to segment from tags, and write a mask of every image: check, train, draw, score.

    The same command goes on where it was stopped. What it makes is a project, for whoever wants to
    change something afterwards.
    """
    from wsss.checks import ConfigError
    from wsss.cli.init import absolute, print_findings, settings_of, usable_weights
    from wsss.config.params import load_params
    from wsss.launch import read_site
    from wsss.pipeline.execute import in_plain_words
    from wsss.pipeline.in_order import run_in_order
    from wsss.progress import show_log
    from wsss.project.layouts import read_folder
    from wsss.project.start import describe, start_project
    from wsss.project.upgrade import upgrade
    from wsss.project.whole import (
        check_same_data,
        check_same_weights,
        gather_masks,
        has_project,
        own_data,
        plan,
        summary,
    )
    from wsss.runs.sync import sync_after_run
    from wsss.sources import write_listing
    from wsss.stages import find_stages
    from wsss.stopping import stop_on_signals

    show_log()
    stop_on_signals()
    settings = settings_of(set_)
    understood = read_folder(folder, tags)
    folder, at, tags = folder.absolute(), out.absolute(), tags and tags.absolute()
    went_on = has_project(out)
    if not went_on:
        typer.echo("\n".join(describe(understood)))
        chosen = weights or "hub"
        if reason := usable_weights(chosen):
            raise ConfigError(reason)
        started = start_project(
            out,
            understood,
            weights=absolute(chosen),
            settings=settings,
            git=False,
            dvc=False,
        )
        for text in started.said:
            typer.echo(text)
        if print_findings(started):
            typer.echo(f"nothing is learned from these data as they are; the project is in {out}")
            raise typer.Exit(1)
    elif settings:
        raise ConfigError(
            f"{out} has a project already, which --set does not change: "
            f"cd {shlex.quote(str(out))} && wsss set KEY=VALUE, then the same command without --set"
        )
    wanted = weights and absolute(weights)
    os.chdir(out)
    params, pipeline = load_params("params.yaml"), find_stages()
    if went_on:
        check_same_data(params, understood, at, tags)
        if wanted:
            check_same_weights(params, wanted, at)
        understood = own_data(params)
        typer.echo("\n".join(describe(understood)))
    changed = upgrade(Path(), write=True)
    if changed.reasons:
        typer.echo(f"another wsss is installed: {', '.join(changed.reasons)} run again")
    typer.echo("\n".join(plan(params, understood, Path())))
    if dry_run:
        return
    targets, site = pipeline.targets(params), read_site(Path())
    again = shlex.join(["wsss", "segment", str(folder), "--out", str(at)])
    again += f" --tags {shlex.quote(str(tags))}" if tags else ""
    with in_plain_words("wsss segment", again) as known:
        write_listing(Path())
        run_in_order(pipeline, targets, params, site, known)
        sync_after_run(Path(), params, set())
        masks = gather_masks(params, Path())
    typer.echo("\n".join(summary(params, Path(), masks, at)))
