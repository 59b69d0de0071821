"""Prepare data: check and copy every image, hold out a selection split, write the manifests."""

import json
import logging
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wsss.artifacts import (
    IGNORE_INDEX,
    SPLITS,
    Manifest,
    Sample,
    Staging,
    fingerprint,
    source_fingerprint,
    write_json,
)
from wsss.artifacts.files import atomic_path
from wsss.config.params import Params
from wsss.config.settings import ConfigError
from wsss.data import Problem, RawDataset, RawSample
from wsss.data.images import BadImageError, prepare_image
from wsss.data.splits import hold_out
from wsss.evaluate.ground_truth import check_mask, map_mask_values
from wsss.progress import track
from wsss.registry import DATASETS
from wsss.stages._base import Paths, execute
from wsss.tracking import Tracker

__all__ = ["run"]

log = logging.getLogger(__name__)


def run(params: Params, paths: Paths, tracker: Tracker) -> None:
    """Write data/images, data/masks, data/splits and reports/prepare_data.json.

    Raises:
        ValueError: nothing usable is left, too much had to be skipped, tags do not suit the
            loss, or the disk is too small; always before or instead of the outs.
    """
    settings, rng_seed = params.prepare_data, params.base.rng_seed
    scratch = paths.root / "data/.prepare_data.scratch"
    _check_writable(paths)
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        raw = DATASETS.build(settings.dataset).collect(scratch, rng_seed)
        splits = _with_selection(raw, params)
        _check_before(raw, splits, params)
        _check_space(splits, paths.root)
        key = fingerprint(settings.model_dump(mode="json"), rng_seed, source_fingerprint())
        with ExitStack() as stack:
            images, masks, listing = (
                stack.enter_context(Staging(out, key))
                for out in (paths.images, paths.masks, paths.splits)
            )
            work = _Preparation(raw, images.path, masks.path, masks.resumed and images.resumed)
            prepared = work.all(splits)
            problems = [*raw.problems, *work.problems]
            _check_after(problems, prepared, params)
            manifest = Manifest(
                raw.class_names,
                {name: tuple(sorted(prepared[name], key=lambda one: one.name)) for name in SPLITS},
            )
            manifest.write(listing.path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    report = _report(manifest, problems, work.conversions)
    write_json(paths.report("prepare_data"), report)
    _tell(report, tracker)


class _Preparation:
    """Checks and copies samples in threads, and remembers in a journal what is done."""

    def __init__(self, raw: RawDataset, images: Path, masks: Path, resumed: bool) -> None:
        self.num_fg_classes = len(raw.class_names)
        self.mask_values = raw.mask_values
        self.images, self.masks = images, masks
        self.problems: list[Problem] = []
        self.conversions: Counter[str] = Counter()
        self.journal = images / ".work.journal.jsonl"
        if not resumed:
            self.journal.unlink(missing_ok=True)

    def all(self, splits: dict[str, list[RawSample]]) -> dict[str, list[Sample]]:
        done = dict(self._read_journal())
        jobs = [(split, one) for split in SPLITS for one in splits[split]]
        prepared: dict[str, list[Sample]] = {split: [] for split in SPLITS}
        with (
            ThreadPoolExecutor(_threads()) as pool,
            closing(pool.map(lambda job: self._row(job[1], done), jobs)) as rows,  # type: ignore[type-var]
            self.journal.open("a", encoding="utf-8") as journal,
        ):
            for (split, one), row in zip(jobs, track(rows, "images", len(jobs)), strict=True):
                if one.name not in done:
                    journal.write(json.dumps(row) + "\n")
                    journal.flush()
                self.problems += [Problem(one.name, text) for text in row["problems"]]
                self.conversions.update(row["conversions"])
                if not row["problems"]:
                    prepared[split].append(
                        Sample(
                            one.name, row["image"], tuple(row["size"]), one.class_ids, row["mask"]
                        )
                    )
        return prepared

    def _row(self, one: RawSample, done: dict[str, dict[str, Any]]) -> dict[str, Any]:
        stamps = [_stamp(one.image), _stamp(one.mask)]
        row = done.get(one.name)
        if row is not None and row["stamps"] == stamps:
            return row
        done.pop(one.name, None)
        row = {"name": one.name, "stamps": stamps, "problems": [], "conversions": [], "mask": None}
        try:
            image = prepare_image(one.image, self.images, one.name)
        except BadImageError as error:
            return row | {"problems": [f"{one.image}: {error}"]}
        row |= {"image": image.file, "size": image.size, "conversions": image.conversions}
        if one.mask is not None:
            row["mask"] = f"{one.name}.png"
            target = self.masks / row["mask"]
            wrong = self._place_mask(one.mask, target, image.size)
            if wrong:
                (self.images / image.file).unlink()
                target.unlink(missing_ok=True)
                return row | {"problems": [wrong]}
        return row

    def _place_mask(self, source: Path, target: Path, size: tuple[int, int]) -> str | None:
        if self.mask_values:
            try:
                map_mask_values(source, target, self.mask_values)
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


def _threads() -> int:
    return min(8, (os.cpu_count() or 1) + 1)


def _stamp(path: Path | None) -> list[int]:
    try:
        status = path.stat() if path else None
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns] if status else []


def _with_selection(raw: RawDataset, params: Params) -> dict[str, list[RawSample]]:
    splits = {name: list(raw.splits.get(name, [])) for name in SPLITS}
    for name in ("train", "val"):
        if not splits[name]:
            raise ValueError(f"no usable image for the {name} split{_first(raw.problems)}")
    if not splits["selection"]:
        settings = params.prepare_data
        splits["train"], splits["selection"] = hold_out(
            splits["train"], settings.selection_share, settings.selection_max, params.base.rng_seed
        )
    owner: dict[str, str] = {}
    for split, samples in splits.items():
        for one in samples:
            if one.name in owner:
                raise ValueError(
                    f"the name '{one.name}' occurs twice, in {owner[one.name]} and in {split}; "
                    "splits must not share images: remove it from one of the lists"
                )
            owner[one.name] = split
    return splits


def _check_before(raw: RawDataset, splits: dict[str, list[RawSample]], params: Params) -> None:
    """What can be known before any image is read."""
    if len(raw.class_names) > IGNORE_INDEX - 1:
        raise ConfigError(
            f"the data has {len(raw.class_names)} classes, but masks of 8 bits hold at most "
            f"{IGNORE_INDEX - 1}; name the ones you need in prepare_data.dataset.classes"
        )
    if params.make_pseudo_masks.threshold == "selected" and not any(
        one.mask for one in splits["selection"]
    ):
        raise ConfigError(
            "make_pseudo_masks.threshold is 'selected', but no selection image has a mask to "
            "choose it on; set a number such as 0.3, or add masks for some training images"
        )
    if params.train_classifier.loss == "single_label":
        samples = [one for split in splits.values() for one in split]
        wrong = [one for one in samples if len(one.class_ids) != 1]
        if wrong:
            raise ConfigError(
                "train_classifier.loss is 'single_label', which needs exactly one tag per image, "
                f"but {len(wrong)} of {len(samples)} images have another number, such as "
                f"'{wrong[0].name}' with {len(wrong[0].class_ids)}; set it to multi_label"
            )


def _check_after(
    problems: list[Problem], prepared: dict[str, list[Sample]], params: Params
) -> None:
    settings = params.prepare_data
    kept = sum(map(len, prepared.values()))
    for split, samples in prepared.items():
        if not samples:
            raise ValueError(f"no usable image is left for the {split} split{_first(problems)}")
    share = len(problems) / (kept + len(problems))
    if problems and settings.on_bad_image == "error":
        raise ValueError(
            f"unusable images: {len(problems)}{_first(problems)}\n"
            "mend them, or set prepare_data.on_bad_image to skip"
        )
    if share > settings.max_skipped_share:
        raise ValueError(
            f"{len(problems)} of {kept + len(problems)} images can not be used, which is more than "
            f"prepare_data.max_skipped_share = {settings.max_skipped_share}{_first(problems)}\n"
            "mend them, or raise that share"
        )


def _first(problems: list[Problem], count: int = 10) -> str:
    if not problems:
        return ""
    lines = [f"  {one.name}: {one.reason}" for one in problems[:count]]
    more = [f"  and {len(problems) - count} more"] if len(problems) > count else []
    return ":\n" + "\n".join(lines + more)


def _check_writable(paths: Paths) -> None:
    for folder in (paths.root / "data", paths.root / "reports"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise ValueError(
                f"{folder.resolve()} can not be written to ({error.strerror}); "
                "change its owner or mode, or free some space"
            ) from None


def _check_space(splits: dict[str, list[RawSample]], root: Path) -> None:
    """Converted images may grow and later stages write as much again: ask for some more."""
    files = [one for split in splits.values() for one in split]
    needed = sum(sum(_stamp(path)[:1]) for one in files for path in (one.image, one.mask))
    needed = int(1.1 * needed) + 2**24
    free = shutil.disk_usage(root).free
    if free < needed:
        raise ValueError(
            f"the disk of {root.resolve()} has {free / 2**20:.0f} MiB free, but copying the images "
            f"takes about {needed / 2**20:.0f} MiB; free some space, or move the project"
        )


def _report(
    manifest: Manifest, problems: list[Problem], conversions: Counter[str]
) -> dict[str, Any]:
    splits = {}
    for split, samples in manifest.splits.items():
        counts = manifest.labels(samples).sum(0).astype(int).tolist()
        splits[split] = {
            "images": len(samples),
            "with_mask": sum(one.mask is not None for one in samples),
            "without_tag": sum(not one.class_ids for one in samples),
            "images_per_class": dict(zip(manifest.class_names, counts, strict=True)),
        }
    return {
        "splits": splits,
        "conversions": dict(sorted(conversions.items())),
        "num_skipped": len(problems),
        "skipped": [asdict(one) for one in problems],
    }


def _tell(report: dict[str, Any], tracker: Tracker) -> None:
    for split, counts in report["splits"].items():
        log.info("%s: %d images, %d with a mask", split, counts["images"], counts["with_mask"])
    for name, count in report["splits"]["train"]["images_per_class"].items():
        if not count:
            log.warning("class '%s' has no training image: it can not be learned", name)
    if report["num_skipped"]:
        problems = [Problem(**one) for one in report["skipped"]]
        log.warning("skipped images: %d%s", len(problems), _first(problems))
    tracker.metrics(
        {
            **{f"images_{split}": counts["images"] for split, counts in report["splits"].items()},
            "skipped": report["num_skipped"],
        }
    )


if __name__ == "__main__":
    execute("prepare_data", run)
