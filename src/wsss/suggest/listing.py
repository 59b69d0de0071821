"""The list of what a person should do next, by expected gain per minute, within so many hours."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from wsss.artifacts import Annotations, Manifest, Paths, Sample
from wsss.commands import run_command
from wsss.config.params import Params
from wsss.suggest.curve import Curve, read_curve
from wsss.suggest.features import Features, features_of
from wsss.suggest.foretelling import foretell
from wsss.suggest.masks import choose, drawn, read_undecided, weights_of
from wsss.suggest.tags import judged_classes, suspicions, targets_of

__all__ = ["KINDS", "Item", "Kind", "Suggested", "suggest", "within"]

Kind: TypeAlias = Literal["tag", "box", "mask"]

KINDS: tuple[Kind, ...] = ("tag", "box", "mask")
"""What a person can do: check a tag, draw boxes of a class in an image, or a mask of an image."""


@dataclass(frozen=True)
class Item:
    """One thing to do.

    Attributes:
        do: check a tag, draw the boxes of a class, or the mask of an image.
        image: its name.
        class_name: of a tag or boxes; "" of a mask.
        tagged: of a tag, whether the image has it now; None of all else.
        chance: of a tag, in [0, 1], that it is wrong; None of all else.
        seconds: that it takes.
        gain: mean IoU that it is expected to add.
        why: in words.
    """

    do: Kind
    image: str
    class_name: str
    tagged: bool | None
    chance: float | None
    seconds: float
    gain: float
    why: str

    @property
    def per_minute(self) -> float:
        """Mean IoU per minute."""
        return 60 * self.gain / self.seconds


@dataclass(frozen=True)
class Suggested:
    """What is to be done, the best first.

    Attributes:
        hours: that a person has.
        items: which fit into them.
        curve: that gains come from.
        notes: what a reader has to know, a sentence each.
    """

    hours: float
    items: tuple[Item, ...]
    curve: Curve
    notes: tuple[str, ...]


def suggest(root: Path, params: Params, hours: float, kinds: Sequence[Kind] = KINDS) -> Suggested:
    """Rank what a person could do in the images that training learns from.

    Args:
        root: the project, of which prepare_data has run; maps are taken where they are.
        params: its settings.
        hours: that the person has, above 0.
        kinds: of what is listed.

    Raises:
        ValueError: hours are not above 0, there are no data yet, or nothing to look at images with.
    """
    if not hours > 0:
        raise ValueError(f"hours must be above 0, but are {hours:g}; say --hours 2")
    paths, settings = Paths(root), params.suggest
    if not (paths.splits / "classes.json").exists():
        raise ValueError(
            f"{paths.splits} holds no data yet; run `{run_command(root, 'prepare_data')}`"
        )
    manifest, given = Manifest.read(paths.splits), Annotations.read(paths.annotations)
    curve = read_curve(root, settings.curve)
    samples = [*manifest.splits["train"], *manifest.splits["selection"]]
    open_samples = [sample for sample in samples if sample.name not in given.masks]
    of_masks = (len(samples) - len(open_samples)) / len(samples)
    per_mask = curve.slope("masks", of_masks) / len(samples)
    notes = [_of_curve(curve, len(samples), of_masks)]
    if not curve.boxes and "box" in kinds:
        kinds = [kind for kind in kinds if kind != "box"]
        notes.append(
            f"boxes are left out: the study '{curve.name}' has no row with boxes alone, so that "
            "nobody knows what they gain"
        )
    if not curve.masks and {"mask", "tag"} & {*kinds}:
        kinds = [kind for kind in kinds if kind == "box"]
        notes.append(
            f"masks and tags are left out: the study '{curve.name}' has no row with masks alone, "
            "so that nobody knows what they gain"
        )
    found: list[Item] = []
    wants_features = "tag" in kinds or ("mask" in kinds and settings.masks == "chosen")
    features = features_of(params, paths, manifest) if wants_features else None
    if "tag" in kinds and features is not None:
        tags, told = _tags(params, manifest, features, given, per_mask)
        found += tags
        notes += told
    known: Mapping[str, Mapping[int, float]] = {}
    if "box" in kinds or ("mask" in kinds and settings.masks == "chosen"):
        known = read_undecided(params, paths, open_samples)
        if not known:
            notes.append(
                "there are no refined maps to say where they are undecided, so that all images "
                f"and classes count the same; `{run_command(root, 'make_pseudo_masks')}` makes them"
            )
    if "box" in kinds:
        found += _boxes(params, manifest, samples, open_samples, given, curve, known)
    if "mask" in kinds:
        count = min(len(open_samples), max(1, int(3600 * hours / settings.seconds.mask)))
        if settings.masks == "random":
            notes.append(
                "images for masks are drawn at random, each class in its share: that chosen ones "
                "(suggest.masks = chosen) gain more is not measured; the study chosen_masks "
                "measures it"
            )
            order, factor = drawn(open_samples, params.base.rng_seed)[:count], 1.0
        else:
            notes.append(
                "images for masks are chosen where maps are undecided and for what many images "
                "look like: they stand for so many times as much as random ones, by which their "
                "gain is multiplied; that they gain more is not measured (study chosen_masks)"
            )
            assert features is not None
            rows = [at for at, item in enumerate(samples) if item.name not in given.masks]
            weights = weights_of(manifest, open_samples, known)
            whole = features.whole[rows]
            order, factor = choose(open_samples, whole, weights, count, params.base.rng_seed)
        found += _masks(params, samples, order, factor, of_masks, curve)
    return Suggested(hours, tuple(within(found, 3600 * hours)), curve, tuple(notes))


def within(items: Sequence[Item], seconds: float) -> Iterator[Item]:
    """The items with the most gain per minute that fit into a time, the best first.

    What is too long for the time that is left is passed over, and what does not gain anything.
    An image that gets a mask needs no boxes, and one that has boxes on the list no mask.

    Args:
        items: in any order; of equals the first comes first.
        seconds: that there are.
    """
    done: dict[str, Kind] = {}
    for item in sorted(items, key=lambda item: -item.per_minute):
        clashes = item.do != "tag" and done.get(item.image, item.do) != item.do
        if item.gain <= 0 or item.seconds > seconds or clashes:
            continue
        if item.do != "tag":
            done[item.image] = item.do
        seconds -= item.seconds
        yield item


def _tags(
    params: Params, manifest: Manifest, features: Features, given: Annotations, per_mask: float
) -> tuple[list[Item], list[str]]:
    """Tags that are likely wrong, of images without a mask, and what to know of them."""
    settings, notes = params.suggest, []
    if features.has_seen_tags:
        notes.append(
            "tags are foretold from features of the trained classifier, which has seen them: wrong "
            "ones are found less surely than from pretrained weights "
            "(train_classifier.backbone.weights)"
        )
    names, targets = targets_of(manifest)
    foretold = foretell(features, targets, settings.folds, params.base.rng_seed)
    listed = suspicions(
        names,
        targets,
        foretold.chances(targets),
        foretold.peak,
        share=settings.wrong_share,
        fewest=settings.fewest_tags,
        least=settings.suspicious_from,
    )
    judged = judged_classes(targets, settings.fewest_tags)
    few = [name for name, known in zip(manifest.class_names, judged, strict=True) if not known]
    if few:
        notes.append(
            f"of {len(few)} of {len(judged)} classes no tag is judged, as fewer than "
            f"suggest.fewest_tags = {settings.fewest_tags} images have or lack it: "
            f"{', '.join(few[:10])}{', ...' if len(few) > 10 else ''}"
        )
    if listed:
        notes.append(
            "what mending a tag gains is not measured: it is counted as "
            f"{settings.wrong_tag_worth:g} masks of an average image (suggest.wrong_tag_worth) "
            "times the chance that it is wrong"
        )
    found = [
        Item(
            "tag",
            item.image,
            manifest.class_names[item.class_id - 1],
            item.tagged,
            item.chance,
            settings.seconds.tag,
            item.chance * settings.wrong_tag_worth * per_mask,
            item.why,
        )
        for item in listed
        if item.image not in given.masks
    ]
    return found, notes


def _boxes(
    params: Params,
    manifest: Manifest,
    samples: Sequence[Sample],
    open_samples: Sequence[Sample],
    given: Annotations,
    curve: Curve,
    known: Mapping[str, Mapping[int, float]],
) -> list[Item]:
    """Boxes of each class of each image that has none, the classes with undecided maps first."""
    settings = params.suggest
    free = [sample for sample in open_samples if sample.name not in given.boxes]
    share = sum(sample.name in given.boxes for sample in samples) / len(samples)
    tags = sum(len(sample.class_ids) for sample in samples)
    per_tag = curve.slope("boxes", share) / max(tags, 1)
    of_class: dict[int, list[float]] = {}
    for sample in free:
        for class_id in sample.class_ids:
            of_class.setdefault(class_id, []).append(known.get(sample.name, {}).get(class_id, 1.0))
    means = {class_id: float(np.mean(values)) for class_id, values in of_class.items()}
    overall = float(np.mean([value for values in of_class.values() for value in values] or [1.0]))
    order = {name: at for at, name in enumerate(drawn(free, params.base.rng_seed))}
    found = []
    for sample in sorted(free, key=lambda sample: order[sample.name]):
        for class_id in sample.class_ids:
            factor = means[class_id] / overall if overall > 0 else 1.0
            why = f"maps of the class are {factor:.2f} times as undecided as on average"
            found.append(
                Item(
                    "box",
                    sample.name,
                    manifest.class_names[class_id - 1],
                    None,
                    None,
                    settings.seconds.box * settings.boxes_per_tag,
                    per_tag * factor,
                    why if known else "as any class: there are no maps",
                )
            )
    return found


def _masks(
    params: Params,
    samples: Sequence[Sample],
    order: Sequence[str],
    factor: float,
    share: float,
    curve: Curve,
) -> list[Item]:
    """Masks of images in this order, each gaining what the curve says of one more."""
    is_random = params.suggest.masks == "random"
    return [
        Item(
            "mask",
            name,
            "",
            None,
            None,
            params.suggest.seconds.mask,
            factor * curve.slope("masks", share + at / len(samples)) / len(samples),
            "drawn at random" if is_random else f"chosen, number {at + 1}",
        )
        for at, name in enumerate(order)
    ]


def _of_curve(curve: Curve, count: int, masks: float) -> str:
    text = (
        f"gains are those of the study '{curve.name}' ({curve.score}) for the same share of this "
        f"project's {count} images, {100 * masks:.3g} % of which have a mask; other data gain "
        "otherwise"
    )
    if curve.single:
        text += ". Its points are of one run each, so that small differences may be chance"
    return text
