"""What pseudo masks and predictions tell by themselves: classes that vanish, eat, or are mistaken.

Tags and the masks that stages have made are enough; masks of annotators are not read.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from wsss.artifacts import IGNORE_INDEX, Manifest, Sample
from wsss.config.segmentation import PER_CLASS
from wsss.evaluate.confusion import confusion_matrix
from wsss.pipeline import Target
from wsss.stages.findings.finding import Change, Finding, Shown, falling
from wsss.stages.findings.made import Made, label_map

__all__ = ["eaten_classes", "ignored_share", "mistaken_classes", "no_background", "one_class_alone"]

BLOCK_PIXELS = 2**20  # that are counted together, at some 8 bytes each
FEW = 5  # images, fewer than which say nothing
EATEN = 0.05  # of the pixels of two classes together, below which one of them is gone
OFTEN = 0.7  # of images that have both
VISIBLE = 0.02  # of an image, that a class covers where it is alone
SHRUNK = 0.2  # of that, below which it is gone beside another one
FULL = 0.95  # of an image that is foreground
IGNORED = 0.6  # of all pixels
ALONE = 0.97  # of all predicted foreground, that is one class
OTHERS = 0.3  # of tagged images that do not have that class
TAKEN = 0.5  # of a class's pixels that are predicted as one other


def eaten_classes(made: Made, target: Target) -> Iterator[Finding]:
    """A class that is gone from pseudo masks wherever another one is in the image, too.

    It may have no image of its own at all: then nothing tells the two apart but their maps.
    """
    if target.name != "make_pseudo_masks" or made.manifest is None:
        return
    folder, names = made.paths.pseudo_masks, made.manifest.class_names
    found: dict[tuple[int, int], list[tuple[str, float, float]]] = {}
    alone: dict[tuple[int, int], list[float]] = {}
    for sample, shares in _shares(made, folder, made.manifest.all_samples()):
        for own in sample.class_ids:
            for other in range(1, len(names) + 1):
                if other == own:
                    continue
                if other in sample.class_ids:
                    row = (sample.name, shares[own], shares[other])
                    found.setdefault((own, other), []).append(row)
                else:
                    alone.setdefault((own, other), []).append(shares[own])
    for (own, other), rows in sorted(found.items()):
        gone = {
            name: there
            for name, share, there in rows
            if there > 0 and share < EATEN * (share + there)
        }
        if len(rows) < FEW or len(gone) < OFTEN * len(rows):
            continue
        apart = alone.get((own, other), [])
        usual = median(apart) if len(apart) >= FEW else None
        if usual is not None:
            beside = median(share for _, share, _ in rows)
            if usual < VISIBLE or beside > SHRUNK * usual:
                continue
        elif any(share > 0 for _, share, _ in rows):
            continue  # a small part of a large thing, perhaps
        where = (
            f"it covers {100 * usual:.0f} % of images that have it without '{names[other - 1]}'"
            if usual is not None
            else f"only {len(apart)} images have it without '{names[other - 1]}', so that the "
            "classifier cannot tell them apart"
        )
        chain = made.params.make_pseudo_masks.chain
        chains = "refine.chains" if chain == PER_CLASS else f"refine.chains.{chain}"
        yield Finding(
            "eaten_class",
            "warning",
            target.name,
            f"'{names[own - 1]}' is gone from the pseudo masks of {len(gone)} of {len(rows)} "
            f"images that are tagged with it and '{names[other - 1]}'; {where}: add the refiner "
            f"rebalance to {chains}, raise make_pseudo_masks.ignore_margin, or add "
            "images with one of them alone (prepare_data.dataset)",
            (
                Change(chains, "change"),
                Change("make_pseudo_masks.ignore_margin", "raise"),
                Change("prepare_data.dataset", "change"),
            ),
            {"gone": len(gone), "of": len(rows)},
            falling(gone),
            Shown("mask", folder),
        )


def no_background(made: Made, target: Target) -> Iterator[Finding]:
    """Pseudo masks that are foreground nearly everywhere, where there is a background."""
    manifest = made.manifest
    if target.name != "make_pseudo_masks" or manifest is None or not manifest.has_background:
        return
    folder = made.paths.pseudo_masks
    shares = {
        sample.name: float(1 - found[0] - found[IGNORE_INDEX])
        for sample, found in _shares(made, folder, manifest.all_samples())
        if sample.class_ids
    }
    full = {name: share for name, share in shares.items() if share >= FULL}
    if len(shares) < 2 * FEW or len(full) < len(shares) / 2:
        return
    key, how = made.params.make_pseudo_masks.towards(background=True)
    yield Finding(
        "no_background",
        "fault",
        target.name,
        f"{len(full)} of {len(shares)} pseudo masks of tagged images are of a class nearly "
        f"everywhere; {how} {key}, or see what the maps are warned of",
        (Change(key, how),),
        {"full": len(full), "of": len(shares)},
        falling(full),
        Shown("mask", folder),
    )


def ignored_share(made: Made, target: Target) -> Iterator[Finding]:
    """Pseudo masks most of whose pixels are ignored, though hardly any mask is as a whole.

    Of those that are, the stage itself warns.
    """
    if target.name != "make_pseudo_masks" or made.manifest is None:
        return
    if "ignored nearly everywhere" in " ".join(made.report(target.name).get("warnings", ())):
        return
    folder = made.paths.pseudo_masks
    shares = {
        sample.name: float(found[IGNORE_INDEX])
        for sample, found in _shares(made, folder, made.manifest.all_samples())
    }
    if len(shares) < 2 * FEW or np.mean(list(shares.values())) < IGNORED:
        return
    mean = float(np.mean(list(shares.values())))
    settings = made.params.make_pseudo_masks
    keys = [
        f"make_pseudo_masks.{key}"
        for key in ("ignore_margin", "ignore_below", "ignore_below_prob", "min_area_share")
        if getattr(settings, key) > 0
    ]
    yield Finding(
        "much_ignored",
        "warning",
        target.name,
        f"{100 * mean:.0f} % of the pixels of pseudo masks are ignored, so that little is left to "
        f"learn from; lower {' or '.join(keys)}",
        tuple(Change(key, "lower") for key in keys),
        {"ignored": mean},
        falling(shares),
        Shown("mask", folder),
    )


def one_class_alone(made: Made, target: Target) -> Iterator[Finding]:
    """A segmenter whose foreground is one class, though many images have others.

    That it predicts background alone, its stage warns of.
    """
    manifest = made.manifest
    if target.name != "predict_masks" or manifest is None or manifest.num_fg_classes < 2:
        return
    warnings = " ".join(made.report(target.name).get("warnings", ()))
    for split, folder in _predicted(made, manifest):
        if f"{split}:" in warnings and "where it is tagged" in warnings:
            continue
        rows = list(_shares(made, folder, manifest.splits[split]))
        total = np.sum([shares[1:IGNORE_INDEX] for _, shares in rows], axis=0)
        if not rows or not total.sum():
            continue
        top = int(total.argmax()) + 1
        tagged = [sample for sample, _ in rows if sample.class_ids]
        without = [sample for sample in tagged if top not in sample.class_ids]
        share = float(total[top - 1] / total.sum())
        if share < ALONE or len(without) < max(FEW, OTHERS * len(tagged)):
            continue
        wrong = {
            sample.name: float(shares[top])
            for sample, shares in rows
            if sample in without and shares[top]
        }
        name = manifest.class_names[top - 1]
        yield Finding(
            "one_class_alone",
            "fault",
            target.name,
            f"{split}: {100 * share:.0f} % of the predicted foreground is '{name}', though "
            f"{len(without)} of {len(tagged)} tagged images do not have it; raise "
            "train_segmenter.epochs, weigh classes (train_segmenter.losses), or see what is said "
            "of the pseudo masks",
            (Change("train_segmenter.epochs", "raise"), Change("train_segmenter.losses", "change")),
            {"share": share, "without": len(without)},
            falling(wrong),
            Shown("mask", folder),
        )


def mistaken_classes(made: Made, target: Target) -> Iterator[Finding]:
    """A class most of whose pixels, by the pseudo masks, the segmenter takes for another one."""
    manifest = made.manifest
    if target.name != "predict_masks" or manifest is None:
        return
    for split, folder in _predicted(made, manifest):
        pixels: dict[str, np.ndarray] = {}
        for sample, mask in made.masks(folder, manifest.splits[split]):
            taught = label_map(made.paths.pseudo_masks, sample)
            if taught is not None and taught.shape == mask.shape:
                pairs = confusion_matrix(taught, mask, manifest.num_fg_classes + 1)
                pixels[sample.name] = pairs[:, :-1]
        yield from _mistaken(target, manifest.class_names, folder, pixels)


def _mistaken(
    target: Target, names: Sequence[str], folder: Path, pixels: Mapping[str, np.ndarray]
) -> Iterator[Finding]:
    """See `mistaken_classes`; of one split.

    Args:
        target: that made the predictions.
        names: of the classes.
        folder: of the predictions.
        pixels: by image the (K + 1, K + 1) counts: rows pseudo mask, columns prediction.
    """
    for own in range(1, len(names) + 1):
        images = {name: pairs[own] for name, pairs in pixels.items() if pairs[own].any()}
        if len(images) < FEW:
            continue
        total = np.sum(list(images.values()), axis=0)
        others = total.copy()
        others[[0, own]] = 0
        other = int(others.argmax())
        share = float(others[other] / total.sum())
        if share < TAKEN:
            continue
        wrong = {name: float(row[other]) for name, row in images.items() if row[other]}
        yield Finding(
            "mistaken_class",
            "warning",
            target.name,
            f"{folder.name}: {100 * share:.0f} % of the pixels that pseudo masks give to "
            f"'{names[own - 1]}' are predicted as '{names[other - 1]}', in {len(wrong)} of "
            f"{len(images)} images; raise train_segmenter.epochs, or weigh classes "
            "(train_segmenter.losses)",
            (Change("train_segmenter.epochs", "raise"), Change("train_segmenter.losses", "change")),
            {"share": share, "images": len(wrong)},
            falling(wrong),
            Shown("mask", folder),
        )


def _predicted(made: Made, manifest: Manifest) -> Iterator[tuple[str, Path]]:
    """The splits of which there are predictions, with their folders."""
    for split in manifest.splits:
        folder = made.paths.predictions / split
        if folder.is_dir():
            yield split, folder


def _shares(
    made: Made, folder: Path, samples: Sequence[Sample]
) -> Iterator[tuple[Sample, np.ndarray]]:
    """Of the masks of samples the (256,) share of the pixels that each value has."""
    for sample, mask in made.masks(folder, samples):
        counts = np.zeros(256, np.int64)
        rows = max(1, BLOCK_PIXELS // mask.shape[1])
        for top in range(0, len(mask), rows):
            counts += np.bincount(mask[top : top + rows].ravel(), minlength=256)
        yield sample, counts / mask.size
