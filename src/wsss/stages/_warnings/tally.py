"""What is bad about the maps and masks of single images, counted while they are made."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from wsss.artifacts import IGNORE_INDEX, Manifest, Sample, ScoreMap, read_label_png, read_score_map
from wsss.config.segmentation import PseudoMaskSettings
from wsss.cores import usable_cores
from wsss.pipeline import Job
from wsss.stages._warnings.wording import counted, quoted, share_of

__all__ = [
    "Fault",
    "Tally",
    "map_faults",
    "map_tally",
    "map_values",
    "mask_faults",
    "mask_tally",
    "prediction_warnings",
    "pseudo_mask_warnings",
]

EMPTY = 0.01  # no score of an empty map reaches this
FULL = 0.5  # no score of a full map is below this share of its highest
IGNORED = 0.95  # share of pixels
OFTEN = 0.2  # share of results from which it is a warning; of one class, twice as much
_AT_ONCE = 1024  # results whose reading waits in threads together
FEW = 5  # images of a class of which nothing can be said; of all classes, twice as many

Fault = tuple[str, int]
"""What is bad, and the class of which it is bad; 0 is the image as a whole."""

Result = TypeVar("Result")


class Tally(Generic[Result]):
    """The faults of each image's result.

    What an earlier run or another process made is read from its file at the end, so that the same
    is said of it.

    Args:
        look: gives the faults of a result.
        read: reads one from its file.
        suffix: of the file's name.

    Attributes:
        seen: names of the images that were looked at.
        found: by name, the faults of those that have any.
    """

    def __init__(
        self,
        look: Callable[[Sample, Result], list[Fault]],
        read: Callable[[Path], Result],
        suffix: str,
    ) -> None:
        self.look, self.read, self.suffix = look, read, suffix
        self.seen: set[str] = set()
        self.found: dict[str, list[Fault]] = {}

    def note(self, sample: Sample, result: Result) -> None:
        """Look at what was just made of an image."""
        self._keep(sample, self.look(sample, result))

    def add(self, parts: Iterable[tuple[set[str], dict[str, list[Fault]]]]) -> None:
        """Add what other processes have `seen` and `found`."""
        for seen, found in parts:
            self.seen |= seen
            self.found |= found

    def complete(self, samples: Sequence[Sample], folder: Path) -> None:
        """Look at the files in a folder that no process has looked at."""
        missing = [sample for sample in samples if sample.name not in self.seen]

        def look(sample: Sample) -> list[Fault]:
            return self.look(sample, self.read(folder / f"{sample.name}{self.suffix}"))

        with ThreadPoolExecutor(min(usable_cores(), 16)) as pool:
            for start in range(0, len(missing), _AT_ONCE):
                some = missing[start : start + _AT_ONCE]
                for sample, faults in zip(some, pool.map(look, some), strict=True):
                    self._keep(sample, faults)

    def _keep(self, sample: Sample, faults: list[Fault]) -> None:
        self.seen.add(sample.name)
        if faults:
            self.found[sample.name] = faults

    def images(self, what: str) -> int:
        """How many images have a fault as a whole."""
        return sum((what, 0) in faults for faults in self.found.values())

    def classes(
        self, what: str, manifest: Manifest, samples: Sequence[Sample]
    ) -> dict[str, tuple[int, int]]:
        """By class, how many of the images that are tagged with it have a fault, and how many are.

        Classes without one are left out.
        """
        wanted = {sample.name for sample in samples}
        tagged = Counter(class_id for sample in samples for class_id in sample.class_ids)
        bad = Counter(
            class_id
            for name, faults in self.found.items()
            if name in wanted
            for fault, class_id in faults
            if fault == what and class_id
        )
        names = manifest.class_names
        return {names[at - 1]: (count, tagged[at]) for at, count in sorted(bad.items())}


def map_tally() -> Tally[ScoreMap]:
    """Counts maps that say nothing of where a class is."""
    return Tally(map_faults, read_score_map, ".npz")


def map_faults(sample: Sample, score_map: ScoreMap) -> list[Fault]:
    """Which maps of an image's tags are empty, or full: high everywhere, or the same everywhere.

    Example:
        >>> scores = np.array([[[0.0, 0.004]], [[0.6, 1.0]], [[0.1, 0.8]]], np.float32)
        >>> probs = np.ones(3, np.float32)
        >>> score_map = ScoreMap(np.array([2, 5, 7], np.uint8), scores, (1, 2), probs)
        >>> map_faults(Sample("a", "a.png", (1, 2), (2, 5, 7)), score_map)
        [('empty', 2), ('full', 5)]
    """
    if not len(score_map.class_ids):
        return []
    highest, lowest = score_map.scores.max(axis=(1, 2)), score_map.scores.min(axis=(1, 2))
    levels = np.rint(lowest / (np.maximum(highest, EMPTY) / np.float32(255)))  # as files have them
    kinds = np.where(highest < EMPTY, "empty", np.where(levels > FULL * 255, "full", ""))
    found = zip(kinds.tolist(), score_map.class_ids.tolist(), strict=True)
    return [(kind, class_id) for kind, class_id in found if kind and class_id in sample.class_ids]


def map_values(
    job: Job, tally: Tally[ScoreMap], manifest: Manifest, advice: str
) -> dict[str, dict[str, dict[str, int]]]:
    """What is reported of maps; many that say nothing are warned of.

    Args:
        job: the stage that made them.
        tally: of all images.
        manifest: of them.
        advice: what to change.

    Returns:
        By fault and class, how many maps of the images that have its tag; without zeros, and
        nothing of a handful of maps.
    """
    samples = manifest.all_samples()
    total = sum(len(sample.class_ids) for sample in samples)
    report: dict[str, dict[str, int]] = {}
    if total < 2 * FEW:
        return {}
    for what, meaning in (("empty", "empty"), ("full", "the same or high everywhere")):
        found = tally.classes(what, manifest, samples)
        bad = sum(count for count, _ in found.values())
        if _is_often(found, bad, total):
            job.warn(
                f"{share_of(bad, total)} maps of an image's own tag are {meaning}: "
                f"{counted(found)}; {advice}"
            )
        if found:
            report[f"{what}_maps"] = {name: count for name, (count, _) in found.items()}
    return {"classes": report} if report else {}


def _is_often(found: dict[str, tuple[int, int]], bad: int, total: int) -> bool:
    """Whether a fault is common, over all or of one class."""
    of_class = any(
        tagged >= FEW and count >= 2 * OFTEN * tagged for count, tagged in found.values()
    )
    return bad > 0 and (bad >= OFTEN * total or of_class)


def mask_tally() -> Tally[np.ndarray]:
    """Counts masks that do not show what their image is tagged with."""
    return Tally(mask_faults, read_label_png, ".png")


def mask_faults(sample: Sample, mask: np.ndarray) -> list[Fault]:
    """Which tags of an image have no pixel, whether all have none, and whether it is ignored.

    Example:
        >>> mask = np.array([[0, 0, 3, 255]], np.uint8)
        >>> mask_faults(Sample("a", "a.png", (1, 4), (3, 5)), mask)
        [('lost', 5)]
        >>> mask_faults(Sample("a", "a.png", (1, 4), (7,)), mask)
        [('lost', 7), ('bare', 0)]
    """
    lost = [class_id for class_id in sample.class_ids if not (mask == class_id).any()]
    found: list[Fault] = [("lost", class_id) for class_id in lost]
    if lost and len(lost) == len(sample.class_ids):
        found.append(("bare", 0))
    if np.count_nonzero(mask == IGNORE_INDEX) >= IGNORED * mask.size:
        found.append(("ignored", 0))
    return found


def pseudo_mask_warnings(
    job: Job, tally: Tally[np.ndarray], manifest: Manifest, settings: PseudoMaskSettings
) -> None:
    """Warn of masks without their image's tags, and of those that are ignored."""
    key, how = settings.towards(background=False)
    samples = manifest.all_samples()
    tagged = sum(bool(sample.class_ids) for sample in samples)
    found = tally.classes("lost", manifest, samples)
    if _is_often(found, tally.images("bare"), tagged):
        job.warn(
            f"{share_of(tally.images('bare'), tagged)} pseudo masks of tagged images show none of "
            f"their tags; without pixels of a tag: {counted(found)}; {how} "
            f"{key}, or take another chain, and see what the maps warn of"
        )
    ignored = tally.images("ignored")
    if samples and ignored >= OFTEN * len(samples):
        job.warn(
            f"{share_of(ignored, len(samples))} pseudo masks are ignored nearly everywhere, so "
            "that nothing is learned from them; lower make_pseudo_masks.ignore_margin, "
            "ignore_below, ignore_below_prob or min_area_share"
        )


def prediction_warnings(
    job: Job, tally: Tally[np.ndarray], manifest: Manifest, splits: Sequence[str]
) -> None:
    """Warn of tagged images that are predicted as background, and of classes never found."""
    for split in splits:
        tagged = [sample for sample in manifest.splits[split] if sample.class_ids]
        bare = sum(("bare", 0) in tally.found.get(sample.name, ()) for sample in tagged)
        lost = tally.classes("lost", manifest, tagged)
        never = [name for name, (count, all_of_it) in lost.items() if count == all_of_it >= FEW]
        parts = []
        if tagged and bare >= OFTEN * len(tagged):
            parts.append(f"{share_of(bare, len(tagged))} tagged images show none of their tags")
        if never and bare < len(tagged):
            parts.append(f"no image shows {quoted(never)} where it is tagged")
        if parts:
            job.warn(
                f"{split}: {', and '.join(parts)}; see what make_pseudo_masks and train_segmenter "
                "warn of, and raise train_segmenter.epochs"
            )
