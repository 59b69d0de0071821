"""What an annotation tool gives back, into the layer of corrections: all of it, or nothing."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from wsss.artifacts import (
    CORRECTIONS,
    IGNORE_INDEX,
    Correction,
    Corrections,
    Manifest,
    Paths,
    Sample,
    as_utc,
    has_file,
    mask_hash,
    mask_of_size,
    read_label_png,
)
from wsss.checks import did_you_mean, printable
from wsss.commands import has_dvc, run_command
from wsss.editors._base import Answers, Known, Returned
from wsss.editors.exporting import KINDS, made_path
from wsss.editors.formats import format_of
from wsss.editors.record import Record, Sent, find_record, read_record
from wsss.pipeline.exclusive import hold
from wsss.progress import track

__all__ = ["Imported", "import_annotations", "track_with_dvc"]

_LISTED = 10


@dataclass
class Imported:
    """What became of an import.

    Attributes:
        added: the files that were written.
        by_split: of how many images of each split there is a new correction.
        unchanged: images that came back as they were exported, or without anything drawn where
            they were not exported, of which nothing says that anybody has looked at them.
        known: corrections that were there already.
        unknown: what the file calls images that the data set does not have.
        unfinished: images in which something was drawn that is no region.
        resized: corrections that were drawn at another size than the image has.
        others: by image, who has corrected it besides, the newest last, who counts.
        lossless: whether the format holds masks, and not outlines.
    """

    added: list[Path] = field(default_factory=list)
    by_split: Counter[str] = field(default_factory=Counter)
    unchanged: list[str] = field(default_factory=list)
    known: int = 0
    unknown: Sequence[str] = ()
    unfinished: Sequence[str] = ()
    resized: list[str] = field(default_factory=list)
    others: dict[str, list[str]] = field(default_factory=dict)
    lossless: bool = True


def import_annotations(
    root: Path,
    path: Path,
    *,
    who: str = "",
    when: str = "",
    accept: bool = False,
    skip_unknown: bool = False,
    export: Path | None = None,
) -> Imported:
    """Add what came back to the corrections of a project.

    A mask that is as it was exported is no correction, unless the tool says that a person submitted
    it, or `accept` says that somebody has looked at all. One that an image has already is not added
    again. Nothing is written unless everything can be.

    Args:
        root: the project.
        path: the file or folder.
        who: corrected, where the file does not say.
        when: ISO 8601 with a time zone; empty takes what the file says, or else its age.
        accept: whether masks that nobody changed count as corrections.
        skip_unknown: whether images that the data set does not have are left out; otherwise they
            are an error.
        export: the folder of the export, where `path` does not lie in it.

    Raises:
        ValueError: the file cannot be read, or something in it does not fit; the text lists it.
    """
    if when:
        as_utc(when)
    tool = format_of(path)
    paths = Paths(root)
    if not (paths.splits / "classes.json").is_file():
        raise ValueError(
            f"{paths.splits} is not there, by which images are known; run "
            f"`{run_command(root, 'prepare_data')}` first"
        )
    manifest = Manifest.read(paths.splits)
    record = _record(path, export)
    known = Known.of(manifest, paths)
    if record is not None and record.class_names:  # whose ids come back, and perhaps new labels
        added = [name for name in manifest.class_names if name not in record.class_names]
        known = replace(known, class_names=(*record.class_names, *added))
    answers = tool.read(path, known)
    _check_known(answers, path, manifest, skip_unknown=skip_unknown)
    sent = None if record is None else record.sent
    work = _Work(root, paths, manifest, known.class_names, sent, who, when, _changed(path))
    with hold(root / CORRECTIONS, "wsss annotations import"):
        result = work.add(answers, accept=accept)
    result.unknown, result.unfinished = answers.unknown, answers.unfinished
    result.lossless = tool.LOSSLESS
    return result


def track_with_dvc(root: Path) -> str:
    """Let DVC keep the corrections, where the project is one of DVC's.

    Returns:
        What a person must know; "" where there is nothing.
    """
    if not has_dvc(root):
        return ""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "add", "--quiet", CORRECTIONS],
        cwd=root,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it did not say why"]
        return f"DVC does not keep them yet: `dvc add {CORRECTIONS}` says: {lines[-1]}"
    return ""


def _check_known(answers: Answers, path: Path, manifest: Manifest, *, skip_unknown: bool) -> None:
    if answers.unknown and not skip_unknown:
        first = manifest.all_samples()[0].name
        raise ValueError(
            f"{path} has annotations of {len(answers.unknown)} images that the data set does not "
            f"have, such as '{answers.unknown[0]}', where images are called '{first}'; nothing was "
            "imported: mend the names, or leave these out with --skip-unknown"
        )
    if not answers.masks:
        why = "none of what is drawn is a region" if answers.unfinished else "nobody drew anything"
        raise ValueError(
            f"{path} has no mask of an image of the data set: {why}; draw them, and export again"
        )


def _record(path: Path, export: Path | None) -> Record | None:
    """What was exported; None where that is not known."""
    found = find_record(export or path)
    if found is None and export is not None:
        raise ValueError(
            f"{export} is no folder that `wsss annotations export` wrote; name that, or leave "
            "--export out"
        )
    return None if found is None else read_record(found)


def _changed(path: Path) -> str:
    """When a file was last written."""
    moment = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return moment.isoformat(timespec="seconds")


@dataclass(frozen=True)
class _Work:
    root: Path
    paths: Paths
    manifest: Manifest
    class_names: Sequence[str]  # by which class ids come back
    record: Mapping[str, Sent] | None
    who: str
    when: str
    changed: str

    def add(self, answers: Answers, *, accept: bool) -> Imported:
        """Look at all masks, and then add those that are new."""
        samples = {sample.name: sample for sample in self.manifest.all_samples()}
        splits = {x.name: split for split, own in self.manifest.splits.items() for x in own}
        layer = Corrections.read(self.root)
        self._check(answers, samples)
        result = Imported()
        known = _by_image(layer)
        ordered = sorted(answers.masks, key=lambda item: (item.name, as_utc(self._moment(item))))
        for item in track(ordered, "corrections", len(ordered)):
            sample = samples[item.name]
            mask = self._mask(item, sample)
            sent = self._sent(item.name, splits[item.name])
            back = mask_hash(mask)
            untouched = back in {x.returned for x in sent} or self._is_blank(item, mask)
            if untouched and not (accept or item.is_seen):
                result.unchanged.append(item.name)
                continue
            who = item.who or self.who
            mask = self._in_ids_of_now(item, mask)
            digest = mask_hash(mask)
            before = [(x, mask_hash(read_label_png(x.file))) for x in known.get(item.name, ())]
            if before and before[-1][1] == digest:
                result.known += 1
                continue
            if (who, digest) in {(x.who, own) for x, own in before}:
                # somebody's earlier mask: brought once more, or gone back to
                counting, counts = before[-1]
                changed = counts in {own for x in sent for own in (x.origin_hash, x.returned)}
                is_later = as_utc(self._moment(item)) > as_utc(counting.when)
                if not (is_later and (item.is_seen or (self.record is not None and changed))):
                    result.known += 1
                    continue
            origin = sent[0] if self.record and sent else Sent("", "", "")
            file = Corrections.add(
                self.root,
                item.name,
                mask,
                who=who,
                when=self._moment(item),
                origin=origin.origin,
                origin_hash=origin.origin_hash,
                class_names=self.manifest.class_names,
            )
            result.added.append(file)
            if mask.shape != sample.size:
                result.resized.append(item.name)
        after = Corrections.read(self.root)
        added = {entry.image for entry in after.entries if entry.file in set(result.added)}
        result.by_split.update(splits[name] for name in added)
        for name, entries in _by_image(after).items():
            people = list(dict.fromkeys(entry.who for entry in entries))
            if name in added and len(people) > 1:
                newest = entries[-1].who
                result.others[name] = [x for x in people if x != newest] + [newest]
        return result

    def _check(self, answers: Answers, samples: Mapping[str, Sample]) -> None:
        """Raise ValueError that lists what does not fit."""
        nobody = [item.where for item in answers.masks if not (item.who or self.who)]
        if nobody:
            raise ValueError(f"{nobody[0]} does not say who corrected it; name them with --who")
        problems = []
        for item in track(answers.masks, "masks", len(answers.masks)):
            try:
                self._look(item, samples[item.name])
            except ValueError as error:
                problems.append(str(error))
        if problems:
            more = [f"and {len(problems) - _LISTED} more"] if len(problems) > _LISTED else []
            lines = [printable(text)[:600] for text in problems[:_LISTED]] + more
            raise ValueError(
                f"{len(problems)} corrections do not fit, so that nothing was imported:\n"
                + "\n".join(f"  {line}" for line in lines)
            )

    def _look(self, item: Returned, sample: Sample) -> None:
        mask = self._mask(item, sample)
        self._in_ids_of_now(item, mask)
        try:
            mask_of_size(mask, sample.size)
        except ValueError as error:
            raise ValueError(f"{item.where}: {error}") from None
        if not self.manifest.has_background and not mask.all():
            raise ValueError(
                f"{item.where} has pixels of the background, which these data do not have; draw a "
                f"class there, or leave them out, which makes them {IGNORE_INDEX} (ignored)"
            )
        try:
            as_utc(self._moment(item))
        except ValueError as error:
            raise ValueError(f"{item.where}: {error}") from None

    def _mask(self, item: Returned, sample: Sample) -> np.ndarray:
        return item.draw(sample.size, self._empty)

    def _in_ids_of_now(self, item: Returned, mask: np.ndarray) -> np.ndarray:
        """A mask in the ids that classes have by now, as the list may have changed meanwhile.

        Raises:
            ValueError: it shows a class that is gone.
        """
        names = self.manifest.class_names
        if tuple(self.class_names) == tuple(names):
            return mask
        ids = np.arange(256, dtype=np.uint8)
        for value in np.flatnonzero(np.bincount(mask.ravel(), minlength=256)).tolist():
            if not 1 <= value <= len(self.class_names):
                continue
            name = self.class_names[value - 1]
            if name not in names:
                raise ValueError(
                    f"{item.where}: it shows '{name}', which is no class of the data set any more "
                    f"({did_you_mean(name, names)}); name it in the data set's classes, or export "
                    "again"
                )
            ids[value] = names.index(name) + 1
        renamed: np.ndarray = ids[mask]
        return renamed

    def _moment(self, item: Returned) -> str:
        """When somebody corrected a mask: as it is told, as its file says, or the age of that."""
        return self.when or item.when or self.changed

    def _is_blank(self, item: Returned, mask: np.ndarray) -> bool:
        """Whether nothing is drawn in an image that was not exported for it: nobody cleared it."""
        sent = self.record is not None and item.name in self.record
        return not sent and bool((mask == self._empty).all())

    @property
    def _empty(self) -> int:
        """The value of pixels that no region covers."""
        return 0 if self.manifest.has_background else IGNORE_INDEX

    def _sent(self, name: str, split: str) -> list[Sent]:
        """What was exported of an image, or what there is now where no record says it."""
        if self.record is not None:
            return [self.record[name]] if name in self.record else []
        return list(self._made(name, split))

    def _made(self, name: str, split: str) -> Iterator[Sent]:
        for of in KINDS:
            path = made_path(self.paths, of, split, name)
            if has_file(path):
                digest = mask_hash(read_label_png(path))
                yield Sent(of, digest, digest)


def _by_image(layer: Corrections) -> dict[str, list[Correction]]:
    """The corrections of each image, the oldest first."""
    found: dict[str, list[Correction]] = {}
    for entry in layer.entries:
        found.setdefault(entry.image, []).append(entry)
    return found
