"""`wsss data`: get a public data set, and look at any before something is trained on it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from wsss.stages.data_check import DataCheck

__all__ = ["app"]

PARAMS = Path("params.yaml")

app = typer.Typer(no_args_is_help=True, help="Data sets: get one, see what is wrong with one.")


@app.command()
def check(
    out: Annotated[
        Path, typer.Option(help="The contact sheet to write: up to eight images of each class.")
    ] = Path("reports/data_check.png"),
    fast: Annotated[
        bool, typer.Option("--fast", help="Decode 300 images of each split, of others read sizes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Say what is wrong with the data that params.yaml names, and what mends it.

    No stage is run, and nothing is written but the contact sheet. What prepare_data would stop for
    is an error; with any, the exit code is 1.
    """
    from wsss.checks import printable
    from wsss.config.params import load_params
    from wsss.stages.data_check import check_data

    found = check_data(load_params(PARAMS), Path(), out, fast=fast)
    if as_json:
        text = json.dumps(_values(found), indent=2, ensure_ascii=False)
        # half a surrogate pair, of a file name that is not UTF-8, becomes its escape in JSON
        typer.echo(text.encode(errors="backslashreplace"))
    else:
        typer.echo(printable("\n".join(_lines(found))))
    if found.of("error"):
        raise typer.Exit(1)


@app.command("list")
def list_() -> None:
    """List the public data sets that `wsss data get` fetches, with their size and licence."""
    from wsss.downloads import DATA_SETS

    for name, data_set in DATA_SETS.items():
        size = sum(archive.size for archive in data_set.archives)
        how = f"{size / 2**20:.0f} MiB to fetch" if size else "ask for it at the page"
        typer.echo(f"{name}: {data_set.about}")
        typer.echo(f"    {how}; licence: {data_set.licence}; {data_set.page}")


@app.command()
def get(
    name: Annotated[str, typer.Argument(help="A name from `wsss data list`.")],
    to: Annotated[Path, typer.Option(help="The folder to put it into, under its name.")],
) -> None:
    """Fetch a public data set, check it, and unpack it; what is there is not fetched again.

    What was cut off goes on with the same command. The lines for params.yaml are printed.
    """
    from wsss.downloads import DATA_SETS, get_data_set, settings_of

    try:
        root, is_new = get_data_set(name, to, DATA_SETS)
    except KeyboardInterrupt:
        typer.echo(f"what was fetched is kept in {to}; the same command goes on", err=True)
        raise
    data_set = DATA_SETS[name]
    typer.echo(f"{root}: {'fetched' if is_new else 'it is there already, and complete'}")
    if not all(archive.checksum for archive in data_set.archives):
        typer.echo("nobody has published a checksum of it; its files were counted alone")
    typer.echo(f"licence: {data_set.licence}; see {data_set.page}")
    typer.echo(f"for params.yaml:\n{settings_of(data_set, root)}")


def _values(found: "DataCheck") -> dict[str, Any]:
    images, decoded = found.images
    return {
        "findings": [
            {"level": item.level, "about": item.about, "text": item.text} for item in found.findings
        ],
        "data": found.report,
        "images": images,
        "decoded": decoded,
        "contact_sheet": None if found.sheet is None else str(found.sheet),
    }


def _lines(found: "DataCheck") -> list[str]:
    from wsss.stages.data_check import LEVELS

    lines = list(found.lines)
    images, decoded = found.images
    if decoded < images:
        lines.append(
            f"a sample: {decoded} of {images} images were decoded, and their masks; what is wrong "
            "with others is not seen. Without --fast all are"
        )
    for level in LEVELS:
        items = found.of(level)
        if items:
            lines += ["", f"{len(items)} {level}{'s' * (len(items) > 1)}"]
            lines += [f"  {item.about}: {item.text}".replace("\n", "\n    ") for item in items]
    if not found.of("error") and not found.of("warning"):
        lines += ["", "nothing is wrong with these data, as far as files can tell"]
    if found.sheet is not None:
        lines += ["", f"contact sheet: {found.sheet}; look whether its classes show what they say"]
    return lines
