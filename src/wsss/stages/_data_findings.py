"""What a data set has in numbers that no stage stops for, but that a person should know."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from wsss.artifacts import Manifest, Sample
from wsss.checks import full_key
from wsss.config.params import Params
from wsss.data.listing import some

__all__ = [
    "classes_together",
    "false_alarm_remarks",
    "few_warnings",
    "length_remarks",
    "large_warnings",
    "same_tags_warnings",
    "size_facts",
    "small_warnings",
]

FEW = 5
"""Images of a class, fewer than which a classifier does not learn, and scores are chance."""
_CELLS = 2  # of the last feature map along an image's shorter side, below which no map has a form
_LARGE = 2000  # pixels of a longer side, above which whole images may not fit into memory
_APART = 4  # times the images' length, from which on what they are resized to is another one


def few_warnings(splits: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Classes with images, but with few; `class_warnings` has those with none or one to learn from.

    Args:
        splits: as in the report of prepare_data.
    """
    found = []
    train, val = (splits[split]["images_per_class"] for split in ("train", "val"))
    rare = [f"'{name}' ({count})" for name, count in train.items() if 2 <= count < FEW]
    unsure = [f"'{name}' ({count})" for name, count in val.items() if 1 <= count < FEW]
    if rare:
        found.append(
            f"fewer than {FEW} training images of {some(rare)}: too few to learn from; add some, "
            "or leave these classes out"
        )
    if unsure:
        found.append(
            f"fewer than {FEW} val images of {some(unsure)}: their scores are hardly more than "
            "chance; hold more images out, or add some"
        )
    return found


def same_tags_warnings(manifest: Manifest) -> list[str]:
    """Classes that are on the very same training images, so that nothing tells them apart."""
    labels = manifest.labels(manifest.splits["train"]).astype(bool)
    groups: dict[bytes, list[str]] = {}
    for at, name in enumerate(manifest.class_names):
        if labels[:, at].any() and not labels[:, at].all():
            groups.setdefault(labels[:, at].tobytes(), []).append(f"'{name}'")
    return [
        f"the classes {some(names)} are on the same training images, all of them: nothing tells "
        "them apart, and their maps will be alike; add images with one of them alone, or make "
        "them one class"
        for names in groups.values()
        if len(names) > 1
    ]


def false_alarm_remarks(splits: Mapping[str, Mapping[str, Any]], *, settable: bool) -> list[str]:
    """That no val image is without a class, so that false alarms are not counted.

    Args:
        splits: as in the report of prepare_data.
        settable: whether the data set has a word for images without a class.
    """
    val = splits["val"]
    if (
        not val["images"]
        or val["without_tag"]
        or not (settable or len(val["images_per_class"]) < 2)
    ):
        return []
    way_out = f", under the tag that {full_key('dataset.empty_tag')} names" if settable else ""
    return [
        f"all {val['images']} val images have a class, so that false alarms in images without any "
        f"are not counted; add some{way_out}"
    ]


def classes_together(manifest: Manifest) -> list[tuple[str, str, int]]:
    """Pairs of classes that share images, and how many of all splits; those with most first."""
    labels = manifest.labels(manifest.all_samples()).astype(int)
    counts = labels.T @ labels
    names = manifest.class_names
    pairs = [
        (names[a], names[b], int(counts[a, b]))
        for a in range(len(names))
        for b in range(a + 1, len(names))
        if counts[a, b]
    ]
    return sorted(pairs, key=lambda pair: -pair[2])


def size_facts(samples: Sequence[Sample]) -> dict[str, Any]:
    """The smallest and largest image by area, and the median sides.

    Returns:
        Under "smallest" and "largest" width, height and name; under "median" width and height.
        Nothing where there are no samples.
    """
    if not samples:
        return {}
    ordered = sorted(samples, key=lambda sample: (sample.size[0] * sample.size[1], sample.name))
    heights, widths = zip(*(sample.size for sample in samples), strict=True)
    return {
        "smallest": _fact(ordered[0]),
        "median": {"width": round(median(widths)), "height": round(median(heights))},
        "largest": _fact(ordered[-1]),
    }


def _fact(sample: Sample) -> dict[str, Any]:
    return {"width": sample.size[1], "height": sample.size[0], "name": sample.name}


def small_warnings(samples: Sequence[Sample], params: Params) -> list[str]:
    """Images whose class activation map has next to no cells."""
    stride, scale = params.train_classifier.backbone.output_stride, max(params.generate_cams.scales)
    small = [item for item in samples if _short(item, params) * scale / stride < _CELLS]
    if not small:
        return []
    least = min(small, key=lambda sample: _short(sample, params))
    key = "prepare_data.long_side_max"
    shrunk = f", raise {key}" if _factor(least, params) < 1 else ""
    return [
        f"{len(small)} images are too small for a map, such as {_shown(least)}: a cell is "
        f"{stride} pixels wide (train_classifier.backbone.output_stride), of images enlarged "
        f"{scale:g} times at most (generate_cams.scales); leave them out or take larger "
        f"ones{shrunk}, or add a larger scale"
    ]


def large_warnings(samples: Sequence[Sample], params: Params) -> list[str]:
    """Images that stages hold whole, and that may be more than memory holds."""
    whole = {
        f"{section}.window": getattr(params, section).window
        for section in ("generate_cams", "refine", "predict_masks")
    }
    unset = [key for key, window in whole.items() if not window]
    large = [item for item in samples if max(item.size) * _factor(item, params) > _LARGE]
    if not large or not unset:
        return []
    most = max(large, key=lambda sample: max(sample.size))
    return [
        f"{len(large)} images are longer than {_LARGE} pixels, such as {_shown(most)}, and run "
        f"whole, which may take more memory than there is; set {' and '.join(unset)} to 1024, or "
        "prepare_data.long_side_max to a smaller length"
    ]


def length_remarks(manifest: Manifest, params: Params) -> list[str]:
    """Images that training resizes to another length by far."""
    train = manifest.splits["train"]
    if not train:
        return []
    length = median(max(item.size) * _factor(item, params) for item in train)
    found = []
    for section in ("train_classifier", "train_segmenter"):
        low, high = getattr(params, section).augment.long_side
        if high and (_APART * high <= length or low >= _APART * length):
            found.append(
                f"the median longer side of training images is {length:g} pixels, and "
                f"{section}.augment.long_side resizes it to {low} to {high}: details are lost, or "
                f"made up; [0, 0] follows the images"
            )
    return found


def _factor(sample: Sample, params: Params) -> float:
    """By what prepare_data shrinks an image."""
    long_side = params.prepare_data.long_side_max
    return min(1.0, long_side / max(sample.size)) if long_side else 1.0


def _short(sample: Sample, params: Params) -> float:
    return min(sample.size) * _factor(sample, params)


def _shown(sample: Sample) -> str:
    return f"'{sample.name}' with {sample.size[1]} x {sample.size[0]} pixels (width x height)"
