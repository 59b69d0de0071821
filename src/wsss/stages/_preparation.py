"""Preparing images one by one: what prepare_data does to each, in threads, and resumed."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from wsss.artifacts import Sample, fingerprint
from wsss.artifacts.files import atomic_path
from wsss.cores import usable_cores
from wsss.data import Problem, RawSample
from wsss.data.images import BadImageError, prepare_image
from wsss.evaluate.ground_truth import check_mask, map_mask_values
from wsss.progress import track

__all__ = ["Preparation", "file_bytes"]


class Preparation:
    """Checks and copies samples in threads, and remembers in a journal what is done.

    Args:
        num_fg_classes: K, to check masks.
        images: where prepared images go.
        masks: where masks go.
        resumed: whether these folders hold work of a run that was killed.

    Attributes:
        problems: what had to be skipped.
        conversions: how many images needed which conversion.
    """

    def __init__(self, num_fg_classes: int, images: Path, masks: Path, *, resumed: bool) -> None:
        self.num_fg_classes = num_fg_classes
        self.images, self.masks = images, masks
        self.problems: list[Problem] = []
        self.conversions: Counter[str] = Counter()
        self.journal = images / ".work.journal.jsonl"
        if not resumed:
            self.journal.unlink(missing_ok=True)

    def all(self, lists: Mapping[str, Sequence[RawSample]]) -> dict[str, list[Sample]]:
        """Prepare every sample of every list; the usable ones are given, sorted by name."""
        done = dict(self._read_journal())
        jobs = [(split, sample) for split, samples in lists.items() for sample in samples]
        prepared: dict[str, list[Sample]] = {split: [] for split in lists}
        with (
            ThreadPoolExecutor(min(8, usable_cores() + 1)) as pool,
            closing(pool.map(lambda job: self._row(job[1], done), jobs)) as rows,  # type: ignore[type-var]
            self.journal.open("a", encoding="utf-8") as journal,
        ):
            for (split, sample), row in zip(jobs, track(rows, "images", len(jobs)), strict=True):
                if sample.name not in done:
                    journal.write(json.dumps(row) + "\n")
                    journal.flush()
                self.problems += [Problem(sample.name, text) for text in row["problems"]]
                self.conversions.update(row["conversions"])
                if not row["problems"]:
                    prepared[split].append(
                        Sample(
                            sample.name,
                            row["image"],
                            tuple(row["size"]),
                            sample.class_ids,
                            row["mask"],
                        )
                    )
        return {
            split: sorted(samples, key=lambda sample: sample.name)
            for split, samples in prepared.items()
        }

    def _row(self, sample: RawSample, done: dict[str, dict[str, Any]]) -> dict[str, Any]:
        stamps = [_stamp(sample.image), _stamp(sample.mask), fingerprint(dict(sample.mask_values))]
        row = done.get(sample.name)
        if row is not None and row["stamps"] == stamps:
            return row
        done.pop(sample.name, None)
        row = {
            "name": sample.name,
            "stamps": stamps,
            "problems": [],
            "conversions": [],
            "mask": None,
        }
        try:
            image = prepare_image(sample.image, self.images, sample.name)
        except BadImageError as error:
            return row | {"problems": [f"{sample.image}: {error}"]}
        row |= {"image": image.file, "size": image.size, "conversions": image.conversions}
        if sample.mask is not None:
            row["mask"] = f"{sample.name}.png"
            target = self.masks / row["mask"]
            wrong = self._place_mask(sample.mask, sample.mask_values, target, image.size)
            if wrong:
                (self.images / image.file).unlink()
                target.unlink(missing_ok=True)
                return row | {"problems": [wrong]}
        return row

    def _place_mask(
        self, source: Path, values: Mapping[int, int], target: Path, size: tuple[int, int]
    ) -> str | None:
        if values:
            try:
                map_mask_values(source, target, values)
            except ValueError as error:
                return str(error)
            return check_mask(target, size, self.num_fg_classes)
        wrong = check_mask(source, size, self.num_fg_classes)
        if wrong is None:
            with atomic_path(target) as temporary:
                shutil.copyfile(source, temporary)
        return wrong

    def _read_journal(self) -> Iterator[tuple[str, dict[str, Any]]]:
        if self.journal.exists():
            for line in self.journal.read_text(encoding="utf-8").splitlines():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError:
                    continue  # the line that was being written when the run was killed
                yield row["name"], row


def _stamp(path: Path | None) -> list[int]:
    try:
        status = path.stat() if path else None
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns] if status else []


def file_bytes(path: Path | None) -> int:
    """The size of a file; 0 for one that is not there."""
    return sum(_stamp(path)[:1])
