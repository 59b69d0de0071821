"""`wsss export`: a trained network as a file that other programs run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsss.cli.card import Licences, PageFile, card_at, checked_page, tell_unknown

if TYPE_CHECKING:
    from wsss.export import Exported

__all__ = ["export"]


def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="models/segmenter or models/classifier, a package, or models:/NAME@ALIAS.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="To write: .onnx, .xml or .pt2.")],
    format: Annotated[
        str, typer.Option(help="onnx, openvino (.xml and .bin) or torch_export (.pt2).")
    ] = "onnx",
    scale: Annotated[
        list[float] | None,
        typer.Option(help="Of the image sides, once for each. [default: as the project predicts]"),
    ] = None,
    flip: Annotated[
        bool | None,
        typer.Option(
            "--flip/--no-flip", help="Mirrored images, too. [default: as the project predicts]"
        ),
    ] = None,
    licence: Licences = None,
    card: PageFile = None,
) -> None:
    """Write a trained network into a file that other programs run.

    It takes 8-bit RGB images of any number and size. A segmenter gives the probabilities of classes
    in every pixel; a classifier those of the image, and class activation maps. What is written has
    been compared with PyTorch. Beside it lies its card, FILE.card.md and FILE.card.json.
    """
    from wsss.cards.card import write_card
    from wsss.export import export_model
    from wsss.progress import show_log

    show_log()
    known = None
    if model.startswith("models:/") or Path(model).expanduser().is_dir():
        known = card_at(model, licence or ())
        page = checked_page(known, card)
    scores, missing = _scores(Path(model))
    found = export_model(model, out, format, scales=scale, flip=flip, scores=scores)
    _say(found, out)
    if known is not None:  # of what is no folder export_model has said what is wrong
        written, _ = write_card(known, out.with_name(f"{out.stem}.card.md"), page)
        typer.echo(f"{written}: what it comes from")
        tell_unknown(known)
    if missing and found.description.kind == "segmenter" and not found.description.scores:
        typer.echo(f"note: the file has no scores: {missing}")


def _scores(model: Path) -> tuple[dict[str, Any] | None, str]:
    """What is known of the segmenter of a project, or why nothing is."""
    from wsss.artifacts import Paths
    from wsss.serving.scores import scored_segmenter

    root = model.absolute()
    if not (root / "params.yaml").exists():
        root = root.parent.parent
    own = Paths(root).segmenter
    if model.absolute() not in (root, own) or not (root / "params.yaml").exists():
        return None, "the model lies in no project"
    try:
        scored = scored_segmenter(root)
    except ValueError as error:
        return None, str(error)
    known = {split: scored.report[split] for split in scored.splits}
    return {
        split: {key: value for key, value in of_split.items() if key in ("mean_iou", "iou")}
        for split, of_split in known.items()
    }, ""


def _say(found: "Exported", out: Path) -> None:
    known = found.description
    settings = known.settings
    views = f"scales {', '.join(f'{scale:g}' for scale in settings['scales'])}"
    views += ", with mirrored images" if settings["flip"] else ""
    typer.echo(f"{out}: a {known.kind} of {len(known.class_names)} classes, {views}")
    typer.echo(f"compared with PyTorch on generated images: within {found.difference:.1g}")
    if found.runs > 1:
        typer.echo(
            f"an image is {found.runs} runs of the network; --scale 1 --no-flip makes it one, with "
            "slightly other results"
        )
    for note in found.notes:
        typer.echo(f"note: {note}")
