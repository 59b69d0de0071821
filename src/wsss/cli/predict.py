"""`wsss predict`: images to masks with a trained segmenter, wherever both are."""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from wsss.prediction import Model
    from wsss.prediction.running import Job, Outcome
    from wsss.prediction.sources import Sources

__all__ = ["predict"]

_LISTED = 20
"""Failed files that are printed; a file has all of them."""
_FAILED = "predict.failed.txt"
_CLASSES = 12
"""Of more classes those are printed alone that are there."""


def predict(
    model: Annotated[
        str,
        typer.Argument(
            help="models/segmenter of a project, a package, models:/NAME@champion, "
            "runs:/RUN/model, or an .onnx file."
        ),
    ],
    images: Annotated[
        list[str],
        typer.Argument(
            help="Files, videos, folders with all below them, patterns such as 'a/**/*.jpg'; "
            "- reads a list of files from stdin."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write masks into.")],
    tags: Annotated[
        str,
        typer.Option(
            metavar="FILE|CLASSES",
            help="The classes that images show, others are left out: a table or JSON as `folder` "
            "reads it, or cat,dog for all images.",
        ),
    ] = "",
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Also NAME.overlay.jpg: the mask over the image.")
    ] = False,
    probs: Annotated[
        bool,
        typer.Option("--probs", help="Also NAME.npz: probabilities (classes, H, W), float16."),
    ] = False,
    every: Annotated[
        int, typer.Option(min=1, metavar="N", help="Of videos each Nth frame, from the first.")
    ] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Settings in place of the model's, such as predict_masks.window=1024 or "
            "prepare_data.bands=[0,1,2].",
        ),
    ] = None,
) -> None:
    """Segment images: a palette PNG of class ids each, or a GeoTIFF of a GeoTIFF.

    What is done is kept and not done again: after Ctrl-C the same command goes on. Files that
    cannot be predicted are listed at the end; with any, the exit code is 1. See docs/predict.md.
    """
    from wsss.config.recipes import parse_settings
    from wsss.pipeline.exclusive import hold
    from wsss.prediction import open_model
    from wsss.prediction.record import Record
    from wsss.prediction.sources import find_sources
    from wsss.progress import show_log, track
    from wsss.report.overlays import overlay_mask
    from wsss.stopping import stop_on_signals

    show_log()
    stop_on_signals()
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; name a folder")
    sources = find_sources(images, sys.stdin, out)
    _check_frames(sources, every)
    settings = parse_settings(set_ or ())
    with hold(out, f"wsss predict --out {out}"):
        opened = open_model(model, device, settings)
        allowed = _allowed(tags, sources, opened, model)
        record = Record(out, opened)
        _say(_about(opened, model))
        _say("\n".join(sources.warnings))
        from wsss.prediction.running import FolderPrediction

        run = FolderPrediction(
            opened,
            record,
            tags=allowed,
            draw=overlay_mask if overlay else None,
            probs=probs,
            every=every,
        )
        jobs, failed = run.look(sources.found)
        failed += [_missing(text, reason) for text, reason in sources.missing]
        _say(_too_large(jobs, run.window))
        total = None if any(source.is_video for source in sources.found) else len(jobs)
        tally = _Tally(opened)
        for outcome in track(run.predict(jobs), "predict", total):
            if outcome.reason:
                failed.append(outcome)
            else:
                tally.add(outcome)
    typer.echo("\n".join(tally.lines(out)))
    if failed:
        _write_failed(out, failed)
        raise typer.Exit(1)
    (out / _FAILED).unlink(missing_ok=True)
    typer.echo(_next(out, overlay, bool(tally.masks)))


class _Tally:
    """What the masks of a command have in them."""

    def __init__(self, model: "Model") -> None:
        self._names = ("background", *model.class_names)
        self._has_background = model.has_background
        self._pixels = [0] * len(self._names)
        self._new, self._dark = 0, 0
        self.masks = 0
        self._conversions: Counter[str] = Counter()

    def add(self, outcome: "Outcome") -> None:
        self.masks += 1
        self._new += outcome.is_new
        self._dark += outcome.is_dark
        self._conversions.update(outcome.conversions)
        self._pixels = [sum(both) for both in zip(self._pixels, outcome.pixels, strict=True)]

    def lines(self, out: Path) -> Iterator[str]:
        kept = self.masks - self._new
        how = f" ({self._new} new, {kept} were there)" if kept else ""
        yield f"{self.masks} mask{'s' * (self.masks != 1)} in {out}{how}"
        if total := sum(self._pixels):
            first = 0 if self._has_background else 1
            shares = list(zip(self._names[first:], self._pixels[first:], strict=True))
            seen = [item for item in shares if item[1] or len(shares) <= _CLASSES]
            listed = ", ".join(f"{name} {100 * count / total:.1f} %" for name, count in seen)
            absent = len(shares) - len(seen)
            yield f"pixels: {listed}{f'; none of {absent} other classes' * bool(absent)}"
        if self._conversions:
            done = (f"{count} {what}" for what, count in sorted(self._conversions.items()))
            yield f"read as training images are: {', '.join(done)}"
        if self._dark:
            yield (
                f"{self._dark} images use few of their 16 bits, and were nearly black to the "
                "model; unless those that it has learned from were, too, say what is white: --set "
                "'prepare_data.pixel_range=[0, 4095]' of 12 bits"
            )


def _check_frames(sources: "Sources", every: int) -> None:
    from wsss.prediction.reading import check_videos

    if any(source.is_video for source in sources.found):
        check_videos()
    elif every != 1:
        raise ValueError(f"--every {every} is of videos, and none is named; leave it out")


def _allowed(
    text: str, sources: "Sources", model: "Model", place: str
) -> dict[str, tuple[str, ...] | None]:
    """By name the classes that an image may show, in the order of their ids; None of all."""
    from wsss.data.image_tags import read_image_tags
    from wsss.prediction.tags import allowed_classes

    names = [source.name for source in sources.found]
    if not text:
        return dict.fromkeys(names)
    found: Mapping[str, tuple[str, ...] | None]
    if Path(text).is_file() or Path(text).suffix in (".csv", ".tsv", ".json", ".jsonl", ".xml"):
        files = {source.name: source.path for source in sources.found}
        path = Path(text)
        found, said = read_image_tags(path, files, sources.folder, model.class_names)
        _say("\n".join(said))
    else:
        given = tuple(part.strip() for part in text.split(",") if part.strip())
        found = dict.fromkeys(names, () if given == ("none",) else given)
    ordered: dict[str, tuple[str, ...] | None] = {}
    for name, tags in found.items():
        allowed_classes(tags, model.class_names, f"'{name}'", has_background=model.has_background)
        known = model.class_names
        ordered[name] = None if tags is None else tuple(tag for tag in known if tag in tags)
    return ordered


def _about(model: "Model", place: str) -> str:
    about = model.about
    kind = about.get("version") or about.get("arch") or about.get("kind", "model")
    named = ", ".join(model.class_names)
    text = f"{place} ({kind}): {named}"
    if source := about.get("settings_from"):
        text += f"; settings of prediction: {source}"
    return text


def _too_large(jobs: "Sequence[Job]", window: int) -> str:
    from wsss.prediction.running import LARGE

    large = [job for job in jobs if job.size[0] * job.size[1] >= LARGE]
    if not large or window:
        return ""
    height, width = large[0].size
    return (
        f"{len(large)} images are large, such as {large[0].path} of {width} x {height} pixels, and "
        "run whole; where memory does not suffice, --set predict_masks.window=1024 cuts them into "
        "windows"
    )


def _missing(text: str, reason: str) -> Any:
    from wsss.prediction.running import Outcome

    return Outcome(text, reason=reason)


def _write_failed(out: Path, failed: "Sequence[Outcome]") -> None:
    from wsss.artifacts import atomic_path
    from wsss.checks import printable

    lines = [printable(f"{outcome.name}: {outcome.reason}") for outcome in failed]
    with atomic_path(out / _FAILED) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    plural = "file has no mask" if len(lines) == 1 else "files have no mask"
    more = [f"and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
    shown = "\n  ".join(lines[:_LISTED] + more)
    _say(f"{len(lines)} {plural}, as {out / _FAILED} says, too:\n  {shown}")
    if any("prepare_data." in line for line in lines):
        _say("settings are given with --set, such as --set 'prepare_data.bands=[0, 1, 2]'")
    _say("when that is mended, the same command predicts what is left")


def _next(out: Path, overlay: bool, found: bool) -> str:
    if not found:
        return "nothing was predicted"
    if overlay:
        return (
            f"look at the files .overlay.jpg in {out}; masks of a project's images that are wrong "
            "can be corrected, and learned from: wsss annotations export --help"
        )
    return "to see the masks over their images, add --overlay to the same command"


def _say(text: str) -> None:
    """Print to stderr what is no result."""
    from wsss.checks import printable

    if text:
        typer.echo(printable(text), err=True)
