"""The commands of `wsss`; those in `_LAZY` are imported when they are run."""

import errno
import importlib
import os
import shlex
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from wsss.cli import convert_weights, recipe, schema

__all__ = ["app"]

_LAZY = {
    "annotations": (
        "app",
        "Masks to annotation tools, and what people correct there back.",
    ),
    "audit": (
        "app",
        "How good masks are without ground truth, from a few that a person corrects.",
    ),
    "cluster": ("app", "Where stages run: this machine's processes, or a cluster's jobs."),
    "compare": (
        "compare",
        "Print metrics of DVC revisions, experiments or MLflow runs side by side.",
    ),
    "data": ("app", "Data sets: get one, see what is wrong with one."),
    "doctor": ("app", "Say what is wrong with this machine or with results, and what mends it."),
    "demo": ("demo", "A page on which maps and masks of an image follow their settings."),
    "dvc": ("dvc", "Write dvc.yaml from the declarations of the stages."),
    "init": ("init", "Start a project of your own, anywhere, also from a folder of images."),
    "export": ("export", "Write a trained network into a file that other programs run."),
    "card": ("card", "Say what a model or masks come from: data, weights, licences, scores."),
    "models": ("app", "Trained segmenters in MLflow's registry: register, compare, fetch."),
    "pack": ("pack", "Pack files of images into shards, some 1500 to a file, in place."),
    "predict": ("predict", "Images to masks with a trained segmenter, from anywhere to anywhere."),
    "run": ("run", "Run the stages in order, without DVC."),
    "runs": ("app", "What MLflow shows: see that it is all there, and where to look."),
    "segment": ("segment", "From a folder of images with tags to masks, in one command."),
    "serve": ("serve", "Answer images with masks over HTTP."),
    "suggest": ("suggest", "Say what a person should do next: check tags, draw boxes, masks."),
    "study": ("app", "Tables of methods on the same data."),
    "tune": ("app", "Search for better settings with Optuna."),
    "verify": ("verify", "Compare results with what their recipe states, stage by stage."),
    "unpack": ("unpack", "Let packed files lie by themselves again, in place."),
}
"""Commands whose modules are imported when they are run, with what to take from the module."""

_MODULES = {"pack": "packing", "unpack": "packing"}
"""Modules of those that are called otherwise."""

_ANYWHERE = frozenset({"convert-weights", "init", "segment"})
"""Commands that do not work on the project of the current folder."""


def check_folder(folder: Path) -> None:
    """Raise ValueError if a folder lies below a project's root, which commands are to run in."""
    if (folder / "params.yaml").exists():
        return
    for above in folder.absolute().parents:
        if (above / "params.yaml").exists() and (above / "dvc.yaml").exists():
            raise ValueError(
                f"{folder.absolute()} is a folder of the project in {above}; run the command from "
                f"its root: cd {shlex.quote(str(above))}"
            )


class _Commands(TyperGroup):
    """Loads a lazy command when it is run, and prints what the user can mend without a trace."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        asks = "--help" in rest or (not rest and isinstance(command, TyperGroup))
        if name not in _ANYWHERE and not asks:
            check_folder(Path())
        if name in _LAZY:
            found = getattr(
                importlib.import_module(f"wsss.cli.{_MODULES.get(name, name)}"), _LAZY[name][0]
            )
            if isinstance(found, typer.Typer):
                command = typer.main.get_group(found)
            else:
                lone = typer.Typer(add_completion=False)
                lone.command(name)(found)
                command = typer.main.get_command(lone)
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError:
            raise  # `main` says what to install
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt as stop:
            asked = str(stop)  # the name of a signal; nothing after Ctrl-C
            long = ctx.invoked_subcommand in ("predict", "study", "tune")
            again = ". What is done is kept: the same command goes on from there." if long else ""
            _say(f"wsss {ctx.invoked_subcommand} was stopped by {asked or 'Ctrl-C'}{again}")
            from wsss.stopping import exit_code

            raise typer.Exit(exit_code(stop)) from None
        except (ValueError, OSError, ImportError, MemoryError, RuntimeError) as error:
            from wsss.pipeline.mishaps import explain

            broken_pipe = isinstance(error, OSError) and error.errno == errno.EPIPE
            text = explain(error)
            if broken_pipe or text is None or os.environ.get("WSSS_TRACEBACK"):
                raise
            _say(text)
            raise typer.Exit(1) from None


def _say(text: str) -> None:
    from rich.console import Console

    Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True, style="red")


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Weakly supervised semantic segmentation: from image tags to pixel masks. "
    "The pipeline itself runs with `dvc repro`.",
)
app.add_typer(recipe.app, name="recipe")
app.command("set")(recipe.set_settings)
app.command("schema")(schema.schema)
app.command("convert-weights")(convert_weights.convert_weights)
for _name, (_, _help) in _LAZY.items():
    app.command(_name, help=_help)(lambda: None)
