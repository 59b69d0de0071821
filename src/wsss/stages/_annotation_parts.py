"""Which images of train and selection get masks, boxes, points or scribbles to learn from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from wsss.checks import did_you_mean, full_key
from wsss.config.preparation import LabelledPart, PrepareDataSettings
from wsss.data import RawDataset, RawSample
from wsss.data.splits import draw
from wsss.settings import ConfigError

__all__ = ["KINDS", "LABELLED", "AnnotatedPart", "annotated_parts", "takes_masks"]

KINDS = {
    "masks": "pixel_labels",
    "boxes": "box_labels",
    "points": "point_labels",
    "scribbles": "scribble_labels",
}
"""The setting that says which images have annotations of a kind."""

LABELLED = ("train", "selection")
"""The lists of images that may have any."""

Lists = Mapping[str, Sequence[RawSample]]


@dataclass(frozen=True)
class AnnotatedPart:
    """The images that get annotations of a kind.

    Attributes:
        is_own: whether the data set has them; otherwise they follow from its masks.
        available: how many images of each list could have them.
        drawn: those that do, by list.
    """

    is_own: bool
    available: Mapping[str, int] = field(default_factory=dict)
    drawn: Lists = field(default_factory=dict)

    @property
    def samples(self) -> list[RawSample]:
        """Those that do, of both lists."""
        return [sample for samples in self.drawn.values() for sample in samples]


def takes_masks(settings: PrepareDataSettings, raw: RawDataset) -> bool:
    """Whether masks of training images are to be learned from, or boxes and others of them."""
    return any(
        getattr(settings, key) != "none" and kind not in raw.offers for kind, key in KINDS.items()
    )


def annotated_parts(
    lists: Lists, raw: RawDataset, settings: PrepareDataSettings, rng_seed: int
) -> dict[str, AnnotatedPart]:
    """Draw the images of each kind that is wanted.

    All kinds draw in the same order, so that as many boxes as masks are of the same images, where
    all have both.

    Args:
        lists: the images of train, selection and val.
        raw: the data set, which says what it has of its own.
        settings: of the stage.
        rng_seed: of the draw.

    Raises:
        ConfigError: no training image can have a kind, a share gives no image, a number is larger
            than all that can have it, or a name is none of theirs.
    """
    parts = {}
    for kind, key in KINDS.items():
        wanted: LabelledPart = getattr(settings, key)
        if wanted == "none":
            continue
        is_own = kind in raw.offers
        pool = {
            name: [
                sample
                for sample in lists[name]
                if _has(sample, kind, is_own=is_own)
                and (is_own or raw.given is None or sample.name in raw.given)
            ]
            for name in LABELLED
        }
        if not pool["train"]:
            raise ConfigError(_nothing(kind, key, lists, raw, settings))
        available = {name: len(samples) for name, samples in pool.items()}
        if isinstance(wanted, tuple):
            drawn = _named(wanted, pool, lists, kind, key)
        else:
            drawn = draw(pool, _count(wanted, sum(available.values()), kind, key), rng_seed)
        parts[kind] = AnnotatedPart(is_own, available, drawn)
    return parts


def _has(sample: RawSample, kind: str, *, is_own: bool) -> bool:
    if kind != "masks" and is_own:
        return bool(getattr(sample, kind))
    # without a class there is nothing to draw a box around
    return sample.mask is not None and (kind != "boxes" or bool(sample.class_ids))


def _nothing(
    kind: str, key: str, lists: Lists, raw: RawDataset, settings: PrepareDataSettings
) -> str:
    text = f"{full_key(key)} asks for {kind}, but no training image has "
    if kind in raw.offers:
        file = getattr(settings.dataset, kind, "the data set")
        return f"{text}any in {file}; name the images there as they are called, or set it to none"
    text += "a mask" if kind == "masks" else f"a mask to take {kind} from"
    elsewhere = sum(sample.mask is not None for sample in lists["val"])
    settable = type(settings.dataset).model_fields
    if elsewhere:
        fields = [f"dataset.{field}" for field in ("val", "val_share") if field in settable]
        more = f", such as with {' or '.join(map(full_key, fields))}" if fields else ""
        return f"{text}: all {elsewhere} with a mask are in val; leave some to train{more}"
    ways = [full_key(f"dataset.{name}") for name in (kind, "masks") if name in settable]
    named = f"; name where they lie in {' or '.join(dict.fromkeys(ways))}" if ways else ""
    return f"{text}{named}, or set it to none"


def _count(wanted: str | float, total: int, kind: str, key: str) -> int:
    """How many images are drawn of all that can have a kind."""
    if isinstance(wanted, str):
        return total
    if isinstance(wanted, int):
        if wanted > total:
            raise ConfigError(
                f"{full_key(key)} is {wanted}, but only {total} images of train and selection can "
                f"have {kind}; set it to {total} at most, or to all"
            )
        return wanted
    count = _of_share(wanted, total)
    if not count:
        digits = next(d for d in range(1, 20) if _of_share(_up(0.5 / total, d), total))
        raise ConfigError(
            f"{full_key(key)} is {wanted:g}, which is none of the {total} images of train and "
            f"selection that can have {kind}; the smallest share that gives one is "
            f"{_up(0.5 / total, digits):g}"
        )
    return count


def _of_share(share: float, total: int) -> int:
    return int(share * total + 0.5)


def _up(value: float, digits: int) -> float:
    """A share rounded up, 0 where that is more than twice as much."""
    step = 10.0**-digits
    found = round((value // step + 1) * step, digits)
    return found if found <= 2 * value else 0.0


def _named(names: Sequence[str], pool: Lists, lists: Lists, kind: str, key: str) -> Lists:
    owner = {sample.name: name for name, samples in lists.items() for sample in samples}
    known = {sample.name for samples in pool.values() for sample in samples}
    for name in names:
        where = owner.get(name)
        if where is None:
            raise ConfigError(
                f"{full_key(key)} names '{name}', which is no image; {did_you_mean(name, known)}"
            )
        if where not in LABELLED:
            raise ConfigError(
                f"{full_key(key)} names '{name}', an image of {where}, from which nothing is "
                "learned; name images of train or selection"
            )
        if name not in known:
            raise ConfigError(
                f"{full_key(key)} names '{name}', which has no {kind}, nor a mask to take them "
                "from; leave it out"
            )
    wanted = set(names)
    drawn = {
        name: sorted(
            (sample for sample in samples if sample.name in wanted), key=lambda item: item.name
        )
        for name, samples in pool.items()
    }
    if not drawn["train"]:
        raise ConfigError(
            f"{full_key(key)} names images of selection alone; name some of train, which teach"
        )
    return drawn
