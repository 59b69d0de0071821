"""`wsss suggest`: what a person should do next."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["suggest"]

PARAMS = Path("params.yaml")


class _Kind(StrEnum):
    TAG = "tag"
    BOX = "box"
    MASK = "mask"


def suggest(
    hours: Annotated[float, typer.Option(help="That a person has.")] = 1.0,
    only: Annotated[
        list[_Kind] | None,
        typer.Option(help="tag, box or mask: list nothing else. Repeatable."),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Where the list goes, as FILE.csv and FILE.json."),
    ] = Path("reports/suggest"),
) -> None:
    """Rank what a person should do next by expected gain per minute: check tags, draw boxes, masks.

    Settings are those of the section suggest of params.yaml: what each takes, in seconds, and which
    measured curve says what it gains.
    """
    from wsss.config.params import load_params
    from wsss.progress import show_log
    from wsss.suggest.listing import KINDS
    from wsss.suggest.listing import suggest as list_
    from wsss.suggest.writing import lines, write_list

    show_log()
    wanted = {kind.value for kind in only or ()}
    kinds = [kind for kind in KINDS if not wanted or kind in wanted]
    found = list_(Path(), load_params(PARAMS), hours, kinds)
    table, tree = write_list(found, out)  # before anything is said, as a pager may end it
    for line in lines(found):
        typer.echo(line)
    typer.echo(f"wrote {table} and {tree}")
