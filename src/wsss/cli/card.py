"""`wsss card`: what a model or masks come from, with every licence that is known."""

import shlex
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from wsss.cards.card import Card
    from wsss.config.params import Params

__all__ = ["Licences", "PageFile", "card", "card_at", "checked_page", "tell_unknown"]

PARAMS = Path("params.yaml")

Licences = Annotated[
    list[str] | None,
    typer.Option(
        "--licence",
        metavar="KEY=NAME",
        help="Of weights, by their setting or file, or of the images: data=NAME. Repeatable.",
    ),
]
PageFile = Annotated[
    Path | None,
    typer.Option(
        "--card",
        metavar="FILE",
        help="The card with words of your own; refused if it leaves out a licence.",
    ),
]


def card(
    place: Annotated[
        str,
        typer.Argument(
            metavar="[PLACE]",
            help="models/segmenter, models/classifier, data/pseudo_masks, data/predictions, a "
            "package, or models:/NAME@ALIAS.",
        ),
    ] = "models/segmenter",
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="To write, as FILE.md and FILE.json.")
    ] = Path("card"),
    licence: Licences = None,
    check: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="See that this page has all licences; write nothing."),
    ] = None,
) -> None:
    """Write the card of a model or of masks: data, tags, weights and licences, scores, limits.

    A licence that is known cannot be left out, nor replaced by another one.
    """
    from wsss.cards.card import write_card

    found = card_at(place, licence or ())
    if check is not None:
        checked_page(found, check)
        typer.echo(f"{check} has all {len(found.licences)} licences that are known")
        return
    page, tree = write_card(found, out)
    tell_unknown(found)
    typer.echo(f"wrote {page} and {tree}")


def card_at(place: str, licence: Sequence[str]) -> "Card":
    """The card of a place in this project, of a project elsewhere, of a package or of MLflow.

    Raises:
        ValueError: there is nothing there, or a licence does not fit.
    """
    from wsss.cards.making import KINDS, card_of_package, card_of_project, kind_of
    from wsss.config.params import load_params
    from wsss.prediction.package import PREDICTION

    named = _named(licence)
    if place.startswith("models:/"):
        from wsss.prediction.store import ModelStore, Wanted

        store = ModelStore(Path())
        with tempfile.TemporaryDirectory(prefix="wsss-") as folder:
            return card_of_package(store.fetch(store.find(Wanted.read(place)), Path(folder)), named)
    path = Path(place).expanduser()
    path = path / "models/segmenter" if (path / PARAMS).exists() else path
    root = path.absolute().parent.parent
    if (kind := kind_of(path, root)) and (root / PARAMS).exists():
        params = load_params(root / PARAMS)
        return card_of_project(root, params, kind, named, _data_licence(root, params))
    if (path / PREDICTION).exists() or (path / "model.json").exists():
        return card_of_package(path, named)
    raise ValueError(
        f"{place} is none of {', '.join(KINDS)} of a project, nor a package of "
        "`wsss models register`; name one of these"
    )


def checked_page(found: "Card", file: Path | None) -> str | None:
    """The text of a card that a person has changed, if a file is named.

    Raises:
        ValueError: it is not there, or leaves out a licence.
    """
    from wsss.cards.card import check_page

    if file is None:
        return None
    if not file.is_file():
        command = shlex.join(["wsss", "card", "--out", str(file)])
        raise ValueError(f"{file} is not there; `{command}` writes a card")
    page = file.read_text(encoding="utf-8")
    check_page(found, page, str(file))
    return page


def tell_unknown(found: "Card") -> None:
    """Say loudly what has no licence that anybody has named."""
    for what in found.unknown:
        key = "data" if what == "the training images" else what
        way = "" if " " in key else f"; name it: --licence '{key}=...'"
        typer.secho(f"UNKNOWN LICENCE of {what}{way}", err=True, fg="red", bold=True)


def _named(licence: Sequence[str]) -> Mapping[str, str]:
    found = {}
    for text in licence:
        key, sign, name = text.partition("=")
        if not sign or not key or not name:
            raise ValueError(f"--licence is '{text}'; write KEY=NAME, such as data=CC-BY-4.0")
        found[key] = name
    return found


def _data_licence(root: Path, params: "Params") -> str:
    """Of the images, where they are those of a public data set that `wsss data list` names."""
    from wsss.artifacts import Paths, read_classes
    from wsss.downloads.table import DATA_SETS

    splits, name = Paths(root).splits, params.prepare_data.dataset.name
    if name == "oxford_pet":
        return DATA_SETS["pets"].licence
    has_data = (splits / "classes.json").exists()
    if name == "pascal_voc" and has_data and "aeroplane" in read_classes(splits)[0]:
        return DATA_SETS["voc2012"].licence
    return ""
