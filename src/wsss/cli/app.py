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
    "compare": (
        "compare",
        "Print metrics of DVC revisions, experiments or MLflow runs side by side.",
    ),
    "data": ("app", "Data sets: get one, see what is wrong with one."),
    "dvc": ("dvc", "Write dvc.yaml from the declarations of the stages."),
    "runs": ("app", "What MLflow shows: see that it is all there, and where to look."),
    "study": ("app", "Tables of methods on the same data."),
    "tune": ("app", "Search for better settings with Optuna."),
}
"""Commands whose modules are imported when they are run, with what to take from the module."""


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
        if name != "convert-weights" and not asks:
            check_folder(Path())
        if name in _LAZY:
            found = getattr(importlib.import_module(f"wsss.cli.{name}"), _LAZY[name][0])
            if not isinstance(found, typer.Typer):
                lone = typer.Typer(add_completion=False)
                lone.command(name)(found)
                found = lone
            command = typer.main.get_command(found)
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
            long = ctx.invoked_subcommand in ("study", "tune")
            again = ". What is done is kept: the same command goes on from there." if long else ""
            _say(f"wsss {ctx.invoked_subcommand} was stopped by {asked or 'Ctrl-C'}{again}")
            raise typer.Exit(143 if asked else 130) from None
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
