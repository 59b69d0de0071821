"""Pseudo masks or predictions into a folder that an annotation tool opens."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import mkdtemp

import numpy as np

from wsss.artifacts import (
    IGNORE_INDEX,
    Corrections,
    Manifest,
    Paths,
    Sample,
    has_file,
    mask_hash,
    read_bytes,
    read_label_png,
)
from wsss.checks import did_you_mean
from wsss.commands import run_command
from wsss.editors._base import Format, Given, Known
from wsss.editors.formats import format_named
from wsss.editors.record import Record, Sent, write_record
from wsss.progress import track

__all__ = ["KINDS", "Exported", "export_annotations", "made_path"]

KINDS = ("pseudo_masks", "predictions")
"""What can be exported."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        main: what the tool is given.
        images: how many.
        corrected: of how many the newest correction went, as they have one.
        kept: the share of pixels that come back as they were when nobody changes
            anything.
    """

    main: Path
    images: int
    corrected: int
    kept: float


def export_annotations(
    root: Path,
    out: Path,
    kind: str,
    *,
    of: str = "pseudo_masks",
    names: Sequence[str] | None = None,
    splits: Sequence[str] = (),
    tolerance: float = 0.0,
    with_images: bool = True,
) -> Exported:
    """Write masks for people to correct.

    Of an image that somebody has corrected, the newest correction is written: their work goes on.

    Args:
        root: the project.
        out: the folder to write, which is not there yet, or empty.
        kind: the format; see `wsss.editors.FORMATS`.
        of: "pseudo_masks" or "predictions".
        names: of samples, in the order that people are to see; None takes all that have a mask.
        splits: those alone; of none given, all.
        tolerance: of outlines, in pixels: how far one may be off for having fewer corners.
        with_images: whether to copy the images.

    Raises:
        ValueError: there is nothing to export, a name is no image or has no mask, or the folder
            holds something.
    """
    tool = format_named(kind)
    if of not in KINDS:
        raise ValueError(f"there are no masks called '{of}'; {did_you_mean(of, KINDS)}")
    if tolerance < 0 or (tolerance and tool.LOSSLESS):
        raise ValueError(
            f"a tolerance of {tolerance:g} pixels is for outlines, and not for '{kind}', which "
            "holds masks; leave it out"
            if tolerance > 0
            else f"the tolerance must be 0 or more pixels, but is {tolerance:g}"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(
            f"{out} holds something, perhaps what somebody is correcting; name another folder"
        )
    source = _Source.of_project(root, of)
    chosen = source.chosen(names, splits)
    sent: dict[str, Sent] = {}
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(mkdtemp(prefix=".export.", dir=out.parent))
    try:
        class_names = source.manifest.class_names
        main = tool.write(source.given(chosen, sent), class_names, folder, tolerance)
        kept = _compared(tool, folder, source, chosen, sent) if tolerance else 1.0
        if with_images:
            for sample in track(chosen, "images", len(chosen)):
                target = folder / tool.IMAGES / sample.image
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(read_bytes(source.paths.images / sample.image))
        write_record(folder, kind, Record(sent, tuple(class_names)))
        folder.chmod(0o755)
        folder.replace(out)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    corrected = sum(item.origin == "corrections" for item in sent.values())
    return Exported(out / main, len(sent), corrected, kept)


@dataclass(frozen=True)
class _Source:
    """The masks of a project.

    Attributes:
        paths: of the project.
        manifest: its images.
        of: "pseudo_masks" or "predictions".
        corrections: that go before these.
        splits: of the images, by name.
    """

    paths: Paths
    manifest: Manifest
    of: str
    corrections: Corrections
    splits: Mapping[str, str]

    @classmethod
    def of_project(cls, root: Path, of: str) -> "_Source":
        paths = Paths(root)
        if not (paths.splits / "classes.json").is_file():
            raise ValueError(
                f"{paths.splits} is not there, which says what the images are; run "
                f"`{run_command(root, 'prepare_data')}` first"
            )
        manifest = Manifest.read(paths.splits)
        splits = {item.name: split for split, own in manifest.splits.items() for item in own}
        return cls(paths, manifest, of, Corrections.read(root), splits)

    def chosen(self, names: Sequence[str] | None, splits: Sequence[str]) -> list[Sample]:
        """The samples to export, all of which have a mask."""
        for split in splits:
            if split not in self.manifest.splits:
                known = did_you_mean(split, self.manifest.splits)
                raise ValueError(f"there is no split '{split}'; {known}")
        samples = {sample.name: sample for sample in self.manifest.all_samples()}
        if names is not None:
            for name in names:
                if name not in samples:
                    raise ValueError(
                        f"'{name}' is no image of the data set; {did_you_mean(name, samples)}"
                    )
            samples = {name: samples[name] for name in names}
        if splits:
            samples = {name: x for name, x in samples.items() if self.splits[name] in splits}
        there = [sample for sample in samples.values() if self._has(sample)]
        lacking = [name for name, sample in samples.items() if not self._has(sample)]
        stage = "make_pseudo_masks" if self.of == "pseudo_masks" else "predict_masks"
        if not there or (names is not None and lacking):
            shown = f"'{lacking[0]}' and {len(lacking) - 1} others" if lacking else "no image"
            has = "have none" if lacking else "is chosen"
            raise ValueError(
                f"of {self.of}, {shown} {has}; run `{run_command(self.paths.root, stage)}`, "
                "choose other images, or export the others of --of"
            )
        return there

    def given(self, chosen: Sequence[Sample], sent: dict[str, Sent]) -> Iterator[Given]:
        """Each mask; what is sent is noted as if all came back."""
        for sample in track(chosen, "masks", len(chosen)):
            mask, origin = self.mask(sample), self._origin(sample)
            digest = mask_hash(mask)
            sent[sample.name] = Sent(origin, digest, digest)
            yield Given(sample.name, sample.image, mask, f"{origin} {digest[:8]}")

    def mask(self, sample: Sample) -> np.ndarray:
        """(H, W) uint8: the newest correction, or what was made."""
        if sample.name in self.corrections.names:
            names = self.manifest.class_names
            return self.corrections.read_mask(sample.name, sample.size, names)
        return read_label_png(made_path(self.paths, self.of, self.splits[sample.name], sample.name))

    def _origin(self, sample: Sample) -> str:
        return "corrections" if sample.name in self.corrections.names else self.of

    def _has(self, sample: Sample) -> bool:
        path = made_path(self.paths, self.of, self.splits[sample.name], sample.name)
        return sample.name in self.corrections.names or has_file(path)


def made_path(paths: Paths, of: str, split: str, name: str) -> Path:
    """Where the pseudo mask or the prediction of an image lies, if there is one."""
    folder = paths.pseudo_masks if of == "pseudo_masks" else paths.predictions / split
    return folder / f"{name}.png"


def _compared(
    tool: Format, folder: Path, source: _Source, chosen: Sequence[Sample], sent: dict[str, Sent]
) -> float:
    """Read the export again, note what comes back, and say which share of pixels is as it was."""
    samples = {sample.name: sample for sample in chosen}
    empty = 0 if source.manifest.has_background else IGNORE_INDEX
    same = pixels = 0
    for item in tool.read(folder, Known.of(source.manifest, source.paths)).masks:
        sample = samples[item.name]
        back = item.draw(sample.size, empty)
        same += int((back == source.mask(sample)).sum())
        pixels += back.size
        sent[item.name] = replace(sent[item.name], returned=mask_hash(back))
    return same / max(pixels, 1)
