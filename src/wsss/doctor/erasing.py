"""Whether the classifier still finds a class once what it is said to be has been erased."""

from collections import Counter
from collections.abc import Callable, Iterator
from statistics import median

import numpy as np

from wsss.artifacts import (
    Sample,
    has_file,
    read_image,
    read_label_png,
    read_proposals,
)
from wsss.pipeline import Target
from wsss.stages.findings.finding import Change, Finding, Shown, falling
from wsss.stages.findings.made import Made

__all__ = ["erased_image", "survives_erasing"]

FEW = 4  # images of a class, fewer than which say nothing
WITHIN = 0.5  # of a proposal that lies in the pseudo mask of the class
LARGE = 0.7  # of an image, above which nothing is left to see
SURE = 0.5  # probability, from which a class has been found
LEFT = 0.8  # of the probability, that is left without the object


def survives_erasing(made: Made, target: Target, number: int) -> Iterator[Finding]:
    """Classes that the classifier finds as surely without their object, so that it is not the
    object that it goes by.

    The object is erased: the proposals of the first entry of make_proposals that lie in the pseudo
    mask of the class, and this, are painted with the mean colour of the rest. Of each class the
    first images are taken.

    Args:
        made: the results.
        target: train_classifier; of others nothing is said.
        number: images of a class that are looked at; 0 looks at none.
    """
    manifest, paths = made.manifest, made.paths
    source = next(iter(made.params.make_proposals), None)
    if target.name != "train_classifier" or manifest is None or source is None or not number:
        return
    if not (paths.classifier / "model.json").is_file() or not paths.pseudo_masks.is_dir():
        return
    left: dict[int, dict[str, float]] = {}
    seen: Counter[int] = Counter()
    probabilities: Callable[[np.ndarray], np.ndarray] | None = None
    for sample in made.chosen(manifest.all_samples()):
        for class_id in sample.class_ids:
            pair = _pair(made, source, sample, class_id) if seen[class_id] < number else None
            if pair is None:
                continue
            seen[class_id] += 1
            probabilities = probabilities or _classifier(made)
            before, after = (float(probabilities(image)[class_id - 1]) for image in pair)
            if before >= SURE:
                left.setdefault(class_id, {})[sample.name] = after / before
    for class_id, sure in sorted(left.items()):
        if len(sure) < FEW or median(sure.values()) < LEFT:
            continue
        name, share = manifest.class_names[class_id - 1], median(sure.values())
        yield Finding(
            "survives_erasing",
            "warning",
            target.name,
            f"with all proposals erased that pseudo masks take for '{name}', the classifier still "
            f"finds it with {100 * share:.0f} % of the probability, the median of {len(sure)} "
            "images: it goes by what is around it, or the masks miss it. Add images of the same "
            "surroundings without the class (prepare_data.background_images), or change "
            "train_classifier.method or train_classifier.backbone.last_stage",
            (
                Change("prepare_data.background_images", "change"),
                Change("train_classifier.method", "change"),
                Change("train_classifier.backbone.last_stage", "change"),
            ),
            {"left": share, "images": len(sure)},
            falling(sure),
            Shown("mask", paths.pseudo_masks),
        )


def erased_image(image: np.ndarray, region: np.ndarray) -> np.ndarray:
    """An image whose region is painted with the mean colour of the rest.

    Args:
        image: (H, W, 3) uint8.
        region: (H, W) bool, not all of it.

    Example:
        >>> image = np.array([[[9, 9, 9], [2, 4, 6]]], np.uint8)
        >>> erased_image(image, np.array([[True, False]])).tolist()
        [[[2, 4, 6], [2, 4, 6]]]
    """
    erased = image.copy()
    erased[region] = np.rint(image[~region].mean(axis=0)).astype(np.uint8)
    return erased


def _pair(
    made: Made, source: str, sample: Sample, class_id: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """An image, and the same without a class; None where it cannot be erased."""
    file = made.paths.proposals / source / f"{sample.name}.npz"
    mask_file = made.paths.pseudo_masks / f"{sample.name}.png"
    if not has_file(file) or not has_file(mask_file):
        return None
    own = read_label_png(mask_file) == class_id
    proposals = read_proposals(file)
    if not own.any() or proposals.size != own.shape:
        return None
    within = proposals.sums(own[None])[0] >= WITHIN * np.maximum(proposals.areas(), 1)
    region = own | (proposals.scatter(within[None])[0] > 0)
    if region.mean() > LARGE:
        return None
    image = read_image(made.paths.images / sample.image)
    return image, erased_image(image, region)


def _classifier(made: Made) -> Callable[[np.ndarray], np.ndarray]:
    """The trained classifier, as a function of an image that gives the (K,) probabilities."""
    import torch
    from PIL import Image

    from wsss.loading.devices import make_fabric
    from wsss.loading.same_size import with_long_side
    from wsss.models.classifier import load_classifier
    from wsss.segment.filtering import class_probs

    model, loss = load_classifier(made.paths.classifier)
    fabric = make_fabric(made.params.machine, "32-true")
    model = fabric.to_device(model)
    side = made.params.train_classifier.eval_long_side

    def probabilities(image: np.ndarray) -> np.ndarray:
        height, width = with_long_side(image.shape[:2], side or max(image.shape[:2]))
        small = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(small)).permute(2, 0, 1)[None]
        found: np.ndarray = class_probs(model, loss, fabric, pixels)[0]
        return found

    return probabilities
