"""`wsss init`: a project of one's own, anywhere."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from wsss.project.start import Started

__all__ = ["init", "print_findings", "settings_of", "usable_weights"]


def init(
    folder: Annotated[Path, typer.Argument(help="Where the project is to be; it is made.")],
    from_: Annotated[
        Path | None,
        typer.Option("--from", metavar="FOLDER", help="Images that it is for, as they lie."),
    ] = None,
    tags: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The table with the tags of the images.")
    ] = None,
    weights: Annotated[
        str,
        typer.Option(help="ImageNet weights: hub (timm's), none (a small network), or a file."),
    ] = "hub",
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy the data into the project; else they stay.")
    ] = False,
    no_git: Annotated[bool, typer.Option("--no-git", help="Make no git repository.")] = False,
    no_dvc: Annotated[bool, typer.Option("--no-dvc", help="Make no DVC project.")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One more value. Repeatable."),
    ] = None,
) -> None:
    """Start a project: params.yaml, dvc.yaml and the like, for `dvc repro` or `wsss run`.

    With --from it says what it understood of the images, chooses a recipe for them, and ends with
    what `wsss data check` finds. Data stay where they are, and are watched there.
    """
    from wsss.checks import ConfigError
    from wsss.commands import run_command
    from wsss.project.layouts import read_folder
    from wsss.project.start import describe, start_project

    if from_ is None and (tags is not None or copy):
        raise ConfigError("--tags and --copy need --from, the folder of the images")
    settings = settings_of(set_)
    understood = read_folder(from_, tags) if from_ is not None else None
    if understood is not None:
        typer.echo("\n".join(describe(understood)))
        if reason := usable_weights(weights):
            typer.echo(f"warning: {reason}")
    started = start_project(
        folder,
        understood,
        weights=absolute(weights),
        settings=settings,
        copy=copy,
        git=not no_git,
        dvc=not no_dvc,
    )
    for text in started.said:
        typer.echo(text)
    errors = print_findings(started)
    there = f"cd {shlex.quote(str(folder))} &&"
    if errors:
        typer.echo(f"{folder} is there")
        typer.echo(f"what is wrong stops prepare_data: mend it; {there} wsss data check")
    else:
        typer.echo(f"{folder} is ready: {there} {run_command(folder)}")


def settings_of(arguments: list[str] | None) -> dict[str, Any]:
    """The values of --set, by dotted key."""
    from wsss.config.recipes import parse_settings

    return parse_settings(arguments or ())


def absolute(weights: str) -> str:
    """The weights as params.yaml names them, which lies elsewhere than where the command runs."""
    is_word = weights in ("hub", "none") or weights.startswith(("$", "~"))
    return weights if is_word else str(Path(weights).absolute())


def usable_weights(weights: str) -> str:
    """Why the weights cannot be had, with the way out; "" where they can.

    Raises:
        ConfigError: they are a file that does not exist.
    """
    from wsss.checks import ConfigError
    from wsss.project.choice import why_no_weights
    from wsss.sources import expand_path

    if weights == "none":
        return ""
    if weights != "hub":
        if not expand_path(weights, "train_classifier.backbone.weights").is_file():
            raise ConfigError(f"--weights is {weights}, which is not a file; or give hub, or none")
        return ""
    reason = why_no_weights()
    return reason and (
        f"ImageNet weights cannot be downloaded: {reason}. Give a file of them (--weights FILE, of "
        "timm's mobilenetv2_100), or begin without: --weights none"
    )


def print_findings(started: "Started") -> int:
    """Print what is wrong with the data, the worst first; give the number of errors."""
    from wsss.checks import printable

    if started.check is None:
        return 0
    for level in ("error", "warning"):
        for item in started.check.of(level):
            typer.echo(printable(f"{level}: {item.about}: {item.text}"))
    if started.check.sheet is not None:
        sheet = started.root / started.check.sheet
        typer.echo(f"contact sheet: {sheet}; look whether its classes show what they say")
    return len(started.check.of("error"))
