"""What the values of masks likely mean, by which tags their images have."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wsss.artifacts import IGNORE_INDEX
from wsss.checks import full_key
from wsss.evaluate.placing import Meanings

__all__ = ["LikelyMeanings", "blurred_values", "likely_meanings"]

Values = Mapping[int | str, int]

_LOW, _HIGH = "0-127", "128-255"
_MANY = 8  # values of a data set besides those of its classes
_MOST = 0.75  # share of all pixels, above which a value is rather the background
_SURE = 0.8  # F1 of "holds the value" against "has the tag"
_TAG = "tag"


@dataclass(frozen=True)
class LikelyMeanings:
    """A guess.

    Attributes:
        keys: by value, several values such as "128-255", or colour: a class id, 0, 255, or "tag".
        meanings: of each mask, as RawSample.mask_values.
    """

    keys: Mapping[int | str, int | str]
    meanings: Sequence[Meanings]

    def setting(self, num_fg_classes: int) -> str:
        """The line to write, without what values mean anyway."""
        key = full_key("dataset.mask_values")
        plain = {*range(num_fg_classes + 1), IGNORE_INDEX}
        shown = {key: means for key, means in self.keys.items() if key != means or key not in plain}
        if not shown:
            return f"{key}: {{}}"
        parts = [
            f"{key if isinstance(key, int) else repr(key)}: {means}".replace("'", '"')
            for key, means in shown.items()
        ]
        return f"{key}: {{{', '.join(parts)}}}"


def blurred_values(masks: Sequence[Values], num_fg_classes: int) -> bool:
    """Whether masks hold so many grey values that they were smoothed, or are JPEGs."""
    values = {value for mask in masks for value in mask}
    return len(values) > num_fg_classes + _MANY and not any(isinstance(v, str) for v in values)


def likely_meanings(masks: Sequence[Values], tags: np.ndarray) -> LikelyMeanings | None:
    """Guess what the values mean: a class is drawn with the value that is where its tag is.

    Args:
        masks: pixels of each value.
        tags: (N, K) bool, those of their images.

    Returns:
        None where the values go with no tags.
    """
    seen: Sequence[Values] = masks
    if blurred_values(masks, tags.shape[1]):
        seen = [_halves(values) for values in masks]
        if any(sum(values.values()) == 0 for values in seen):
            return None
    pixels: Counter[int | str] = Counter()
    for values in seen:
        pixels.update(values)
    if not 1 < len(pixels) <= tags.shape[1] + _MANY:
        return None
    keys = sorted(pixels, key=lambda key: (isinstance(key, str), key))
    holds = np.array([[key in values for key in keys] for values in seen], bool)  # (N, V)
    order = [pixels[key] for key in keys]
    found = _by_tags(keys, holds, tags, order) or _by_own_tag(keys, holds, tags, order)
    if found is None:
        return None
    means = {key: found.get(key, 0) for key in keys}
    rows = []
    for values, row in zip(masks, tags, strict=True):
        own = np.flatnonzero(row) + 1
        if len(own) > 1 and _TAG in means.values():
            return None
        tag = int(own[0]) if len(own) else None
        per_key = {key: tag if value == _TAG else value for key, value in means.items()}
        rows.append(
            {
                value: int(class_id)
                for value in values
                if (class_id := per_key.get(_half(value) if seen is not masks else value))
                is not None
            }
        )
    return LikelyMeanings(means, rows)


def _by_tags(
    keys: Sequence[int | str], holds: np.ndarray, tags: np.ndarray, pixels: Sequence[int]
) -> dict[int | str, int | str] | None:
    """Each class's own value; the rest is background, or ignored."""
    tagged = np.flatnonzero(tags.any(axis=0)).tolist()
    scores = []
    for at in tagged:
        for column, key in enumerate(keys):
            both = (holds[:, column] & tags[:, at]).sum()
            f1 = 2 * both / (holds[:, column].sum() + tags[:, at].sum())
            rare = pixels[column] < _MOST * sum(pixels)
            plain = (key == at + 1, rare, not _is_dark(key), pixels[column])
            scores.append((float(f1), *plain, at, column))
    found: dict[int | str, int | str] = {}
    classes: set[int] = set()
    for f1, *_, at, column in sorted(scores, reverse=True):
        if f1 >= _SURE and at not in classes and keys[column] not in found:
            found[keys[column]] = at + 1
            classes.add(at)
    if len(classes) < len(tagged):
        return None
    return found | _others(keys, holds, found)


def _by_own_tag(
    keys: Sequence[int | str], holds: np.ndarray, tags: np.ndarray, pixels: Sequence[int]
) -> dict[int | str, int | str] | None:
    """One value for whichever class an image has."""
    if (tags.sum(axis=1) > 1).any():
        return None
    any_tag = np.asarray(tags.any(axis=1, keepdims=True))
    merged = _by_tags(keys, holds, any_tag, pixels)
    return merged and {key: _TAG if means == 1 else means for key, means in merged.items()}


def _others(
    keys: Sequence[int | str], holds: np.ndarray, found: Mapping[int | str, int | str]
) -> dict[int | str, int | str]:
    """What is no class: the value of most masks is background, 255 beside it is ignored."""
    rest = [key for key in keys if key not in found]
    if not rest:
        return {}
    counts = dict(zip(keys, holds.sum(axis=0).tolist(), strict=True))
    ground = max(rest, key=lambda key: (_is_dark(key), counts[key]))
    return {key: 0 if key == ground else IGNORE_INDEX for key in rest}


def _is_dark(key: int | str) -> bool:
    return key in (0, _LOW, "#000000")


def _half(value: int | str) -> str:
    return _LOW if isinstance(value, int) and value < 128 else _HIGH


def _halves(values: Values) -> dict[int | str, int]:
    """Values as dark and bright; nothing where more are neither than are bright, or dark."""
    halves: Counter[int | str] = Counter()
    clear: Counter[int | str] = Counter()
    for key, pixels in values.items():
        if not isinstance(key, int) or key > IGNORE_INDEX:
            return {}
        halves[_half(key)] += pixels
        if key < 64 or key >= 192:
            clear[_half(key)] += pixels
    return dict(halves) if all(2 * clear[key] >= halves[key] for key in halves) else {}
