"""`wsss annotations`: masks to annotation tools, and what people correct there back."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsss.commands import run_command

if TYPE_CHECKING:
    from wsss.editors import Imported

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="Masks to annotation tools, and what people correct there back."
)

_LISTED = 5


@app.command()
def export(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write.")],
    to: Annotated[
        str,
        typer.Option(
            metavar="FORMAT",
            help="coco, cvat, geojson, label_studio, napari, voc_png or yolo.",
        ),
    ],
    of: Annotated[str, typer.Option(help="pseudo_masks or predictions.")] = "pseudo_masks",
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Of these images alone, in this order: a name a line, or a .csv or .json with "
            "`image`.",
        ),
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="Of this split alone; once for each of several.")
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0, metavar="PIXELS", help="Outlines may be off by so much, for fewer corners."
        ),
    ] = 0.0,
    without_images: Annotated[
        bool, typer.Option("--without-images", help="Do not copy the images.")
    ] = False,
) -> None:
    """Write masks as pre-annotations, for people to correct in the tool that they know.

    Of an image that somebody has corrected, the newest correction is written.
    """
    from wsss.editors import FORMATS, export_annotations
    from wsss.editors.listing import image_names
    from wsss.progress import show_log

    show_log()
    done = export_annotations(
        Path(),
        out,
        to,
        of=of,
        names=None if images is None else image_names(images),
        splits=split or (),
        tolerance=tolerance,
        with_images=not without_images,
    )
    typer.echo(f"{done.main}: {of.replace('_', ' ')} of {done.images} images for {to}")
    if done.corrected:
        typer.echo(f"{done.corrected} of them are corrected already: the newest correction went")
    if not FORMATS[to].LOSSLESS:
        lost = f"{100 * (1 - done.kept):.2f} % of pixels change" if tolerance else "nothing is lost"
        typer.echo(
            f"outlines: {lost} when they are read here again as they are; a tool that draws them "
            "by another rule moves borders by up to a pixel"
        )
    typer.echo(f"when they are corrected: wsss annotations import FILE --export {out}")


@app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="What the tool exported: a file, or a folder.")],
    who: Annotated[
        str, typer.Option(metavar="NAME", help="Who corrected, where the file does not say.")
    ] = "",
    when: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="ISO 8601, such as 2026-03-01T09:30:00Z. [default: as the file says, or its age]",
        ),
    ] = "",
    export: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The folder of the export, where PATH is not in it."),
    ] = None,
    accept: Annotated[
        bool,
        typer.Option(
            "--accept", help="Somebody looked at all: masks that nobody changed count, too."
        ),
    ] = False,
    skip_unknown: Annotated[
        bool,
        typer.Option("--skip-unknown", help="Leave out images that the data set does not have."),
    ] = False,
) -> None:
    """Take corrections back: all that fit, or none.

    They lie in data/corrections, the older ones beside the newer, which count. `dvc repro` learns
    from those of training images.
    """
    from wsss.artifacts import CORRECTIONS
    from wsss.editors import import_annotations
    from wsss.editors.importing import track_with_dvc
    from wsss.progress import show_log

    show_log()
    found = import_annotations(
        Path(),
        path,
        who=who,
        when=when,
        accept=accept,
        skip_unknown=skip_unknown,
        export=export,
    )
    for line in _lines(found):
        typer.echo(line)
    if found.added:
        said = track_with_dvc(Path())
        typer.echo(said or f"now `{run_command(Path())}` learns from those of train")
        if Path(f"{CORRECTIONS}.dvc").is_file():
            typer.echo(f"git keeps which they are: git add {CORRECTIONS}.dvc data/.gitignore")


@app.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """List corrections: of which image, who, when, of what, and which of several counts."""
    from wsss.artifacts import Corrections

    layer = Corrections.read(Path())
    if as_json:
        rows = [
            {
                "image": entry.image,
                "who": entry.who,
                "when": entry.when,
                "origin": entry.origin,
                "origin_hash": entry.origin_hash,
                "counts": not layer.older(entry),
                "file": str(entry.file),
            }
            for entry in layer.entries
        ]
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for entry in layer.entries:
        of = f"of {entry.origin} {entry.origin_hash[:8]}" if entry.origin else "of nothing known"
        older = ", and a newer one counts" if layer.older(entry) else ""
        typer.echo(f"{entry.image}: {entry.who}, {entry.when}, {of}{older}")
    people = len({entry.who for entry in layer.entries})
    typer.echo(
        f"corrections: {len(layer.entries)}, images: {len(layer.names)}, people: {people}"
        if layer.entries
        else "nobody has corrected anything; `wsss annotations export` writes what to correct"
    )


def _lines(found: "Imported") -> Iterator[str]:
    counts = ", ".join(f"{split} {n}" for split, n in sorted(found.by_split.items()))
    yield f"corrections that were added: {len(found.added)}" + (f", {counts}" if counts else "")
    if not found.lossless and found.added:
        yield (
            "they are outlines: pixels whose centre lies inside count, and what a tool rounded is "
            "lost"
        )
    if "val" in found.by_split:
        yield "nothing is learned from those of val"
    if found.unchanged:
        yield (
            f"left out, unchanged since the export: {len(found.unchanged)}, such as "
            f"'{found.unchanged[0]}'; if somebody looked at all of them, --accept takes them"
        )
    if found.known:
        yield f"{found.known} corrections were there already"
    if found.unknown:
        yield (
            f"{len(found.unknown)} images are not in the data set, such as '{found.unknown[0]}', "
            "and were left out"
        )
    if found.unfinished:
        yield (
            f"{len(found.unfinished)} images have boxes, lines or points of a class without a "
            f"region, such as '{found.unfinished[0]}', and were left out; draw regions there"
        )
    if found.resized:
        yield (
            f"{len(found.resized)} masks are of another size than their image, such as that of "
            f"'{found.resized[0]}': they are kept so, and the nearest pixels are taken"
        )
    for name, people in list(found.others.items())[:_LISTED]:
        yield f"'{name}' was corrected by {', '.join(people)}: the last is the newest, and counts"
    if len(found.others) > _LISTED:
        yield f"and {len(found.others) - _LISTED} more images by several people"
