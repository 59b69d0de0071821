"""Tags that are likely wrong: said of what is not there, or missing of what is."""

from dataclasses import dataclass

import numpy as np

from wsss.artifacts import Manifest

__all__ = ["Suspicion", "judged_classes", "suspicions", "targets_of", "wrong_chances"]


@dataclass(frozen=True)
class Suspicion:
    """A tag to check.

    Attributes:
        image: its name.
        class_id: in 1..K.
        tagged: whether the image has the tag now: then it may be false, else missing.
        chance: in [0, 1], that it is wrong.
        compact: whether the part of the image that is most like the class is more likely of it than
            not: the peak of a map.
    """

    image: str
    class_id: int
    tagged: bool
    chance: float
    compact: bool

    @property
    def why(self) -> str:
        """In words."""
        if self.tagged:
            part = "though a part of the image is" if self.compact else "and no part of it is"
            return f"tagged, but the image is not like the class, {part}"
        part = "a part of it is most" if self.compact else "no part of it alone is"
        return f"not tagged, but the image is like the class; {part}"


def judged_classes(targets: np.ndarray, fewest: int) -> np.ndarray:
    """(K,) bool: the classes with enough tagged images, and enough without the tag, to foretell.

    Args:
        targets: (N, K) float32 tags in [0, 1]; NaN where nobody knows.
        fewest: that are enough.
    """
    tagged = np.nan_to_num(targets) >= 0.5
    without = ~np.isnan(targets) & ~tagged
    judged: np.ndarray = (tagged.sum(axis=0) >= fewest) & (without.sum(axis=0) >= fewest)
    return judged


def wrong_chances(targets: np.ndarray, chances: np.ndarray, share: float) -> np.ndarray:
    """The chance that each tag, or its absence, is wrong, by Bayes.

    That an image does not look like a class it is tagged with says less than it seems to: many look
    like little, and few tags are wrong. So the odds are weighed with how often tags are wrong: of
    each class as many false as missing, together `share` of its tags. With m = share / 2 of the
    objects untagged and f = m T / G of the gaps tagged, of T tags and G gaps, and odds q of the
    class by what the image looks like, the odds of a false tag are f / ((1 - m) q), and those of
    a missing one m q / (1 - f).

    Args:
        targets: (N, K) float32 tags in [0, 1]; NaN where nobody knows.
        chances: (N, K) float32 in [0, 1], of `Foretold.chances`.
        share: of the tags that are wrong, in (0, 1).

    Returns:
        (N, K) float32 in [0, 1].

    Example:
        >>> tags = np.array([[1], [0], [0]], np.float32)
        >>> wrong_chances(tags, np.array([[0.1], [0.1], [0.9]], np.float32), 0.1).round(2)
        array([[0.19],
               [0.01],
               [0.32]], dtype=float32)
    """
    tagged = np.nan_to_num(targets) >= 0.5
    gaps = ~np.isnan(targets) & ~tagged
    missing = share / 2
    false = np.minimum(missing * tagged.sum(axis=0) / np.maximum(gaps.sum(axis=0), 1), 0.5)
    inside = np.clip(chances.astype(np.float64), 1e-6, 1 - 1e-6)
    odds = inside / (1 - inside)
    wrong = np.where(tagged, false / (1 - missing) / odds, missing / (1 - false) * odds)
    found: np.ndarray = (wrong / (1 + wrong)).astype(np.float32)
    return found


def suspicions(
    names: list[str],
    targets: np.ndarray,
    chances: np.ndarray,
    peaks: np.ndarray,
    *,
    share: float,
    fewest: int,
    least: float = 0.0,
) -> list[Suspicion]:
    """Tags by the chance that they are wrong, the likeliest first.

    Args:
        names: of N images.
        targets: (N, K) float32 tags in [0, 1]; NaN where nobody knows, which is never suspicious.
        chances: (N, K) float32 in [0, 1] that each class is there, of `Foretold.chances`.
        peaks: (N, K) float32 logits of the parts that are most like the classes.
        share: of the tags that are thought to be wrong; see `wrong_chances`.
        fewest: tagged images of a class below which no tag of it is judged.
        least: only those whose chance is as high.
    """
    tagged = np.nan_to_num(targets) >= 0.5
    wrong = wrong_chances(targets, chances, share)
    wrong[np.isnan(targets)] = -1
    wrong[:, ~judged_classes(targets, fewest)] = -1
    rows, columns = np.nonzero(wrong >= max(least, 0))
    found = [
        Suspicion(
            names[row],
            column + 1,
            bool(tagged[row, column]),
            float(wrong[row, column]),
            bool(peaks[row, column] > 0),
        )
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
    ]
    return sorted(found, key=lambda item: (-item.chance, item.image, item.class_id))


def targets_of(manifest: Manifest) -> tuple[list[str], np.ndarray]:
    """Names and (N, K) float32 targets of the images that training learns from."""
    samples = [*manifest.splits["train"], *manifest.splits["selection"]]
    return [sample.name for sample in samples], manifest.targets(samples)
