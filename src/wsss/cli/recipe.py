"""`wsss recipe`: list, show and apply ready-made settings."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsss.cli import completion
from wsss.commands import run_command

if TYPE_CHECKING:
    from wsss.config.recipes import Change

__all__ = ["app", "print_changes", "set_settings"]

RECIPES = Path("recipes")
PARAMS = Path("params.yaml")

app = typer.Typer(no_args_is_help=True, help="Ready-made settings: list, show, apply, save.")

Name = Annotated[
    str,
    typer.Argument(
        help="A name from `wsss recipe list`, or a file.", autocompletion=completion.recipes
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one more value, such as refine.chains.crf.0.sigma_xy=50. Repeatable.",
        autocompletion=completion.key_values,
    ),
]


@app.command("list")
def list_() -> None:
    """List the recipes; the one that params.yaml came from is marked."""
    from rich.console import Console
    from rich.table import Table

    from wsss.config.shipped import recipe_summaries
    from wsss.config.yaml_text import load_yaml, read_text

    values = load_yaml(read_text(PARAMS), str(PARAMS)) if PARAMS.exists() else None
    base = values.get("base") if isinstance(values, dict) else None
    current = base.get("recipe") if isinstance(base, dict) else None
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, summary in recipe_summaries(RECIPES).items():
        table.add_row("*" if name == current else " ", name, summary)
    Console().print(table)


@app.command()
def show(name: Name) -> None:
    """Print a recipe, and below it those that it extends."""
    from wsss.config.recipes import Recipe

    texts = [layer.text for layer in Recipe.read(RECIPES, name).layers()]
    typer.echo("\n".join(reversed(texts)), nl=False)


@app.command()
def apply(
    name: Name,
    set_: Settings = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print what would change and write nothing."),
    ] = False,
) -> None:
    """Lay a recipe over params.yaml, whose comments and layout stay as they are.

    The base recipe, synthetic_cam, goes under it, so that the result does not depend on the
    recipe before; values that no recipe names stay yours.
    """
    from wsss.config.recipes import BASE_RECIPE, Recipe, apply_recipe, parse_settings
    from wsss.config.yaml_text import read_text

    recipe = Recipe.read(RECIPES, name)
    base = Recipe.read(RECIPES, BASE_RECIPE)
    settings = parse_settings(set_ or ())
    before = read_text(PARAMS)
    text, changes = apply_recipe(before, recipe, base, settings)
    print_changes(changes)
    if text != before and not dry_run:
        _write_params(text)


@app.command()
def save(
    name: Annotated[str, typer.Argument(help="A new name in recipes/, or a file to write.")],
    about: Annotated[
        str, typer.Option(help="What it is, as `wsss recipe list` shows it.")
    ] = "Settings of one's own",
    force: Annotated[
        bool, typer.Option("--force", help="Write over a recipe, or in place of one that ships.")
    ] = False,
) -> None:
    """Write what is different in params.yaml as a recipe, which `wsss recipe apply` gives back."""
    from wsss.artifacts import atomic_path
    from wsss.config.recipes import BASE_RECIPE, Recipe, is_file_name, recipe_text
    from wsss.config.yaml_text import read_text
    from wsss.settings import ConfigError

    path = Path(name).expanduser() if is_file_name(name) else RECIPES / f"{name}.yaml"
    if path.stem == BASE_RECIPE:
        raise ConfigError(f"{BASE_RECIPE} lies under all other recipes; choose another name")
    if path.exists() and not force:
        raise ConfigError(
            f"{path} is there already; choose another name, or --force writes over it"
        )
    if path.parent.resolve() == RECIPES.resolve() and not force:
        _refuse_shipped(path.stem)
    text = recipe_text(read_text(PARAMS), Recipe.read(RECIPES, BASE_RECIPE), about)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    typer.echo(f"wrote {path}; `wsss recipe apply {name}` gives these settings back")


def _refuse_shipped(name: str) -> None:
    """Raise ConfigError if a recipe of the project would stand in place of one that ships."""
    from wsss.config.recipes import Recipe
    from wsss.config.shipped import recipe_files, shipped_recipes
    from wsss.data.listing import some
    from wsss.settings import ConfigError

    shipped = shipped_recipes()
    if name not in recipe_files(shipped):
        return
    layers = {other: Recipe.read(shipped, other).layers() for other in recipe_files(shipped)}
    above = [
        other
        for other, below in layers.items()
        if other != name and name in [layer.name for layer in below]
    ]
    also = f", and would change {some(above)}, which extend it" if above else ""
    raise ConfigError(
        f"'{name}' is a recipe of wsss, in whose place {RECIPES / name}.yaml would stand here"
        f"{also}; choose another name, or --force writes it"
    )


def set_settings(
    settings: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=VALUE...",
            help="Such as refine.chains.crf.0.sigma_xy=50.",
            autocompletion=completion.key_values,
        ),
    ],
) -> None:
    """Change values of params.yaml, whose comments and layout stay as they are.

    An experiment is `wsss set KEY=VALUE` and `dvc exp run`: its option -S does the same, but writes
    the file anew without the comments within lists, and takes ${VAR} for a key of its own.
    """
    from wsss.config.recipes import parse_settings, set_values
    from wsss.config.yaml_text import read_text

    before = read_text(PARAMS)
    text, changes = set_values(before, parse_settings(settings))
    print_changes(changes)
    if text != before:
        _write_params(text)


def _write_params(text: str) -> None:
    from wsss.artifacts import atomic_path
    from wsss.config.params import parse_params
    from wsss.config.yaml_text import load_yaml
    from wsss.settings import unread

    with atomic_path(PARAMS.resolve()) as temporary:
        temporary.write_text(text, encoding="utf-8")
    for told in unread(parse_params(load_yaml(text, PARAMS.name)), ""):
        typer.echo(f"note: {told}")
    typer.echo(f"wrote {PARAMS}; `{run_command(Path())}` runs what changed")


def print_changes(changes: "list[Change]") -> None:
    """Print keys of params.yaml with their old and new values."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not changes:
        typer.echo("params.yaml already has these values")
        return
    table = Table("key", "old", "new", box=None, pad_edge=False, header_style="bold")
    for change in changes:
        table.add_row(
            Text(change.key), Text(_cell(change.old)), Text(_cell(change.new), style="green")
        )
    # a file or a pipe has no width to keep to
    console = Console()
    if not console.is_terminal:
        console.width = 200
    console.print(table)


def _cell(value: Any) -> str:
    from wsss.config.yaml_text import flow_text

    return "–" if value is None else flow_text(value)
