"""`wsss models`: trained segmenters in MLflow's registry."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsss.cli.card import Licences, PageFile, card_at, checked_page, tell_unknown
from wsss.commands import run_command

if TYPE_CHECKING:
    from wsss.evaluate import Difference
    from wsss.serving.promoting import Comparison

__all__ = ["app"]

PARAMS = Path("params.yaml")

app = typer.Typer(
    no_args_is_help=True,
    help="Trained segmenters in MLflow's registry: register, compare, fetch.",
)

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="NAME, NAME@ALIAS or NAME/VERSION; the default name is machine.experiment.",
    ),
]


@app.command("list")
def list_(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Only this model.")] = "",
) -> None:
    """List the registered versions with their aliases and their scores on val."""
    from datetime import datetime

    from wsss.checks import did_you_mean
    from wsss.prediction.store import ModelStore

    store = ModelStore(Path())
    known = store.versions()
    found = [version for version in known if name in ("", version.name)]
    if known and not found:
        names = {version.name for version in known}
        raise ValueError(f"no model is named '{name}'; {did_you_mean(name, names)}")
    if not found:
        typer.echo(f"no model is registered in {store.place}; `wsss models register` does it")
        return
    rows = [
        (
            version.label,
            " ".join(f"@{alias}" for alias in version.aliases),
            _number(version.tags.get("val/mean_iou")),
            version.tags.get("val/images", ""),
            version.tags.get("recipe", ""),
            version.tags.get("git.rev", "")[:8]
            + ("+" if version.tags.get("git.dirty") == "true" else ""),
            datetime.fromtimestamp(version.created / 1000).strftime("%Y-%m-%d %H:%M"),
        )
        for version in found
    ]
    _print_table(("model", "alias", "val mean IoU", "images", "recipe", "git", "registered"), rows)


@app.command()
def register(
    name: Annotated[
        str | None, typer.Option(help="Of the model. [default: machine.experiment]")
    ] = None,
    licence: Licences = None,
    card: PageFile = None,
) -> None:
    """Register models/segmenter with its recipe, the hashes of its data, its scores and its card.

    The scores are those of reports/evaluate_segmenter.json, which has to be of this very model. A
    card goes with it, which says where it comes from and under which licences.
    """
    from wsss.cards.card import JSON, MARKDOWN, as_json
    from wsss.config.params import load_params
    from wsss.progress import show_log
    from wsss.serving.registering import register_segmenter
    from wsss.serving.scores import scored_segmenter

    show_log()
    params = load_params(PARAMS)
    scored_segmenter(Path())  # told before a card is made
    found = card_at("models/segmenter", licence or ())
    page = checked_page(found, card) or found.markdown()
    files = {MARKDOWN: page, JSON: as_json(found)}
    version, is_new = register_segmenter(Path(), params, name or params.machine.experiment, files)
    tell_unknown(found)
    score = version.tags.get("val/mean_iou")
    scored = f"mean IoU {_number(score)} on val" if score else "no image of val has a mask"
    typer.echo(f"{'registered as' if is_new else 'is already'} {version.label} ({scored})")
    typer.echo(f"`wsss models promote {version.label}` compares it with the champion")


@app.command()
def promote(
    model: Model = "",
    alias: Annotated[str, typer.Option(help="That the version takes.")] = "champion",
    force: Annotated[
        bool, typer.Option("--force", help="Also a version that is worse, or cannot be scored.")
    ] = False,
) -> None:
    """Make a version the champion, unless it is worse: both are scored here on val.

    Without a version it is the newest.
    """
    from wsss.config.params import load_params
    from wsss.progress import show_log
    from wsss.serving.promoting import candidate_of, compare_with_champion
    from wsss.serving.promoting import promote as give

    show_log()
    params = load_params(PARAMS)
    candidate = candidate_of(Path(), model, params.machine.experiment)
    if alias in candidate.aliases:
        typer.echo(f"{candidate.label} is the {alias} already")
        return
    found = compare_with_champion(Path(), params, candidate, alias, unscored=force)
    if found.differences:
        _print_comparison(found)
    give(Path(), found, alias, force=force)
    typer.echo(f"{found.verdict}\n{candidate.label} is the {alias} now")


@app.command()
def pull(
    model: Model = "",
    to: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where to. [default: the project's models/segmenter]"),
    ] = None,
) -> None:
    """Fetch a registered segmenter, verified by its hash: the champion unless MODEL says more."""
    from wsss.artifacts import Paths
    from wsss.config.params import load_params
    from wsss.prediction.store import ModelStore, Wanted
    from wsss.serving.fetching import fetch_segmenter

    params = load_params(PARAMS)
    version = ModelStore(Path()).find(Wanted.read(model or params.machine.experiment))
    other = fetch_segmenter(Path(), version, to or Paths(Path()).segmenter, None if to else params)
    typer.echo(f"{version.label} is in {to or Paths(Path()).segmenter}")
    if other:
        settings = " ".join(f"'{key}={value}'" for key, value in other.items())
        typer.echo(f"it was scored with other settings; to use these: wsss set {settings}")
    if to is None:
        scores = run_command(Path(), "predict_masks", "evaluate_segmenter", alone=True)
        typer.echo(
            f"`{scores}` predicts and scores with it; a plain `{run_command(Path())}` trains anew"
        )


def _number(text: Any) -> str:
    return f"{float(text):.4f}" if text else ""


def _print_comparison(found: "Comparison") -> None:
    assert found.champion is not None
    typer.echo(f"both scored here on {found.images} images of val:")
    heading = ("", found.champion.label, found.candidate.label, "difference", "95 %", "images")
    _print_table(heading, [_row(difference) for difference in found.differences])


def _row(difference: "Difference") -> tuple[str, ...]:
    low, high = difference.interval
    return (
        "mean IoU" if difference.name == "mean_iou" else difference.name,
        f"{difference.before:.4f}",
        f"{difference.after:.4f}",
        f"{difference.gain:+.4f}",
        "too few images" if math.isnan(low) else f"{low:+.4f} to {high:+.4f}",
        str(difference.images),
    )


def _print_table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    for row in (heading, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())
