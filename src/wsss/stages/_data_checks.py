"""What is checked of a data set before and after its images are read, and what is said of it."""

import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

from wsss.artifacts import IGNORE_INDEX, Paths
from wsss.checks import printable
from wsss.commands import has_dvc
from wsss.config.params import Params
from wsss.config.preparation import PrepareDataSettings
from wsss.cores import usable_cores
from wsss.data import Problem, RawSample
from wsss.data.images import PixelRules, header_fault
from wsss.settings import ConfigError
from wsss.stages._preparation import file_bytes

__all__ = [
    "check_class_names",
    "check_headers",
    "check_space",
    "check_writable",
    "class_lines",
    "class_warnings",
    "listed_problems",
    "without_unwritable",
]

_LISTED = 10
_LONGEST_SUFFIX = 4  # bytes that stages append to an image's name, such as .npz
_TAKEN = {
    "background": "which is the name of the background in reports",
    "ignored": f"which is what reports call pixels without ground truth ({IGNORE_INDEX} in masks)",
}


def check_class_names(class_names: Sequence[str], params: Params) -> None:
    """Raise ConfigError where names do not do for reports, or settings name what is no class."""
    if len(class_names) > IGNORE_INDEX - 2:
        raise ConfigError(
            f"the data has {len(class_names)} classes, but masks of 8 bits hold at most "
            f"{IGNORE_INDEX - 2}; name the ones you need in prepare_data.dataset.classes"
        )
    settable = type(params.prepare_data.dataset).model_fields
    seen: dict[str, str] = {}
    for name in class_names:
        shown = printable(name)
        plain = " ".join(name.split()).casefold()
        if plain in _TAKEN:
            way_out = "rename it"
            if "empty_tag" in settable:
                way_out = (
                    f"if its images show none of the classes, set prepare_data.dataset.empty_tag: "
                    f"'{name}', else rename it"
                )
            raise ConfigError(f"a class is named '{shown}', {_TAKEN[plain]}; {way_out}")
        if shown != name or re.search(r"[\x00-\x1f\x7f\u2028\u2029]", name):
            raise ConfigError(
                f"the class {shown!r} has a name with control characters, or one that is not "
                "UTF-8, which reports cannot hold; rename it"
            )
        if plain in seen:
            raise ConfigError(
                f"the classes '{seen[plain]}' and '{name}' differ in case or blanks only; make "
                "their tags the same, or rename one"
            )
        seen[plain] = name
    params.check_classes(class_names)


def check_writable(paths: Paths) -> None:
    """Raise ValueError unless outs and reports can be written, and be kept by DVC."""
    for folder in (paths.root / "data", paths.root / "reports"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise ValueError(
                f"{folder.resolve()} cannot be written to ({error.strerror}); "
                "change its owner or mode, or free some space"
            ) from None
    root = paths.root.resolve()
    for folder in (paths.root / "data", paths.root / "models"):
        if has_dvc(paths.root) and not folder.resolve().is_relative_to(root):
            raise ValueError(
                f"{folder} is a link to {folder.resolve()}, outside of the project, where DVC "
                "keeps nothing that stages make. Make it a folder, and move the whole project to "
                "that disk, or DVC's cache alone: dvc cache dir /a/folder/there, "
                "then dvc config cache.type symlink"
            )


def check_space(lists: Mapping[str, Sequence[RawSample]], root: Path) -> None:
    """Converted images may grow and later stages write as much again: ask for some more."""
    files = [sample for samples in lists.values() for sample in samples]
    needed = sum(file_bytes(path) for sample in files for path in (sample.image, sample.mask))
    needed = int(1.1 * needed) + 2**24
    free = shutil.disk_usage(root / "data" if (root / "data").is_dir() else root).free
    if free < needed:
        raise ValueError(
            f"the disk of {(root / 'data').resolve()} has {free / 2**20:.0f} MiB free, but copying "
            f"the images takes about {needed / 2**20:.0f} MiB; free some space, or move the project"
        )


def check_headers(
    lists: Mapping[str, Sequence[RawSample]], rules: PixelRules, settings: PrepareDataSettings
) -> None:
    """Raise ValueError where TIFFs lack bands, or what else their headers tell, and too many do.

    Decoding says the same of each, but a set of large images takes long until it does.
    """
    samples = [sample for found in lists.values() for sample in found]
    tiffs = [sample for sample in samples if sample.image.suffix.lower() in (".tif", ".tiff")]
    contexts = [copy_context() for _ in tiffs]  # messages name settings by their sections
    with ThreadPoolExecutor(min(8, usable_cores() + 1)) as pool:
        faults = pool.map(
            lambda sample, context: context.run(header_fault, sample.image, rules), tiffs, contexts
        )
        problems = [
            Problem(sample.name, f"{sample.image}: {fault}")
            for sample, fault in zip(tiffs, faults, strict=True)
            if fault
        ]
    allowed = 0 if settings.on_bad_image == "error" else settings.max_skipped_share
    if len(problems) > allowed * len(samples):
        raise ValueError(
            f"{len(problems)} of {len(samples)} images cannot be used, as their headers tell"
            f"{listed_problems(problems)}"
        )


def without_unwritable(
    lists: Mapping[str, list[RawSample]], folder: Path
) -> tuple[dict[str, list[RawSample]], list[Problem]]:
    """Leave out images whose names some stage could not write files under.

    Args:
        lists: the samples of each split.
        folder: below which they will be written.
    """
    longest = os.pathconf(folder, "PC_NAME_MAX") - _LONGEST_SUFFIX
    problems = []
    kept: dict[str, list[RawSample]] = {}
    for split, samples in lists.items():
        kept[split] = []
        for sample in samples:
            wrong = _unwritable(sample.name, longest)
            if wrong:
                problems.append(Problem(sample.name, wrong))
            else:
                kept[split].append(sample)
    return kept, problems


def _unwritable(name: str, longest: int) -> str:
    try:
        parts = [len(part.encode()) for part in name.split("/")]
    except UnicodeEncodeError:
        return "its name is not UTF-8; rename it, such as with convmv"
    if max(parts) > longest:
        return (
            f"its name has {max(parts)} bytes, but stages append {_LONGEST_SUFFIX}, and file names "
            f"end at {longest + _LONGEST_SUFFIX}; shorten it"
        )
    return ""


def class_warnings(splits: Mapping[str, Mapping[str, Any]], *, background: bool) -> list[str]:
    """What the classes' numbers of images make impossible.

    Args:
        splits: as in the report.
        background: whether there are background images.
    """
    train, images = splits["train"]["images_per_class"], splits["train"]["images"]
    found = []
    none = [name for name, count in train.items() if not count]
    single = [name for name, count in train.items() if count == 1]
    always = [name for name, count in train.items() if count == images > 1]
    if none:
        found.append(
            f"{_classes(none)} no training image: it cannot be learned; add some, or leave it out"
        )
    if single:
        found.append(
            f"{_classes(single)} a single training image: too few to learn from; add "
            "some, or leave it out"
        )
    if always and not background:
        found.append(
            f"{_classes(always)} its tag on all {images} training images, so there is nothing to "
            "tell it from: an average precision of 1 means nothing, and maps may show anything. "
            "Add images without it, name a folder of any in prepare_data.background_images, or "
            "cut images into tiles (the data set tiles)"
        )
    for split in ("selection", "val"):
        counts, total = splits[split]["images_per_class"], splits[split]["images"]
        unknown = splits[split].get("unknown_per_class", {})
        absent = [
            name
            for name, count in counts.items()
            if not count and train[name] and name not in unknown
        ]
        everywhere = [
            name for name, count in counts.items() if count == total > 1 and train[name] < images
        ]
        if absent:
            found.append(
                f"{_classes(absent)} no {split} image: nothing is scored there; hold "
                "some of its training images out, or add some"
            )
        if everywhere:
            found.append(
                f"{_classes(everywhere)} its tag on all {total} {split} images: its average "
                f"precision there means nothing; add {split} images without it"
            )
    return found


def _classes(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_LISTED])
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"class {shown} has" if len(names) == 1 else f"each of {shown}{more} has"


def class_lines(report: Mapping[str, Any]) -> list[str]:
    """The last lines of the stage: what was understood of the data, one line per split."""
    lines = []
    for split, counts in report["splits"].items():
        classes = [f"{name} {count}" for name, count in counts["images_per_class"].items()]
        if len(classes) > 2 * _LISTED:
            classes = [*classes[: 2 * _LISTED], f"and {len(classes) - 2 * _LISTED} more classes"]
        if counts["without_tag"]:
            classes.append(f"without any class {counts['without_tag']}")
        for kind, said in (("unknown", "unknown is"), ("uncertain", "uncertain is")):
            found = counts.get(f"{kind}_per_class", {})
            names = [f"{name} {count}" for name, count in found.items()]
            more = [f"and {len(names) - _LISTED} more classes"] if len(names) > _LISTED else []
            if names:
                classes.append(f"{said} {', '.join(names[:_LISTED] + more)}")
        lines.append(
            f"{split}: {counts['images']} images, {counts['with_mask']} with a mask; "
            + ", ".join(classes)
        )
    if report.get("background_images"):
        lines.append(f"background: {report['background_images']} images of none of the classes")
    return lines


def listed_problems(problems: Sequence[Problem], count: int = _LISTED) -> str:
    """Problems as indented lines behind a colon; nothing where there is none."""
    if not problems:
        return ""
    lines = [printable(f"  {problem.name}: {problem.reason}") for problem in problems[:count]]
    more = [f"  and {len(problems) - count} more"] if len(problems) > count else []
    return ":\n" + "\n".join([line.replace("\n", "\\n")[:400] for line in lines] + more)
