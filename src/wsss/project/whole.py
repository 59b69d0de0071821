"""The whole road from a folder with tags to masks: what is planned, and what came of it."""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from wsss.artifacts import (
    IGNORE_INDEX,
    Manifest,
    Paths,
    read_json,
    read_label_png,
    write_label_png,
)
from wsss.config.params import Params
from wsss.config.yaml_text import flow_text
from wsss.data import RawDataset
from wsss.data.images import BadImageError, PixelRules, image_frame
from wsss.data.listing import some
from wsss.pipeline.code import CODE_LOCK
from wsss.pipeline.in_order import is_there
from wsss.progress import track
from wsss.project.duration import estimate, in_words, measure_rates
from wsss.project.layouts import Understood
from wsss.registry import DATASETS
from wsss.settings import ConfigError
from wsss.sources import expand_path
from wsss.stages import find_stages

__all__ = [
    "MASKS",
    "check_same_data",
    "check_same_weights",
    "gather_masks",
    "has_project",
    "own_data",
    "plan",
    "summary",
]

MASKS = "masks"
"""The folder, below the project, of masks of the size of the images as they came."""

_WARNINGS = 5
_LOOKED_AT = 50  # images whose sizes tell those of all


def has_project(root: Path) -> bool:
    """Whether a folder holds a project that was begun."""
    return (root / "params.yaml").is_file() and (root / CODE_LOCK).is_file()


def check_same_data(
    params: Params, understood: Understood, root: Path, tags: Path | None = None
) -> None:
    """Raise ConfigError if a project that is gone on with is for other images, tags or masks.

    Args:
        params: its settings; a key of the data set that they name is as a person wants it.
        understood: what is found in the folder of the images now.
        root: the project.
        tags: the table that was asked for.
    """
    own, found = params.prepare_data.dataset, understood.dataset
    folder = Path(found["root"])
    named = str(getattr(own, "root", ""))
    there = expand_path(named, "prepare_data.dataset.root") if named else None
    if there is None or there.resolve() != folder:
        raise ConfigError(
            f"the project in {root} is for the images in {there or 'no folder'}, not in {folder}; "
            "give another --out"
        )
    if tags is not None:
        table = getattr(own, "tags", None)
        if table is None or (folder / table).resolve() != tags.resolve():
            raise ConfigError(
                f"the project in {root} has its tags from {table or 'no table'}, which --tags does "
                f"not change to {tags}; leave --tags out, or give another --out"
            )
    new = sorted(found.keys() - own.model_fields_set)
    if new and own.name == found["name"]:
        held = own.model_dump(mode="json")
        given = [key for key in found if key in new or (key != "root" and found[key] != held[key])]
        raise ConfigError(
            f"{folder} has {some([f'{key} {found[key]}' for key in new])}, which the project in "
            f"{root} does not know. To take that: cd {shlex.quote(str(root))} && "
            f"{_set_command(found, given)}, or, to leave it: {_set_command(held, new)}; then the "
            "same command"
        )


def _set_command(dataset: Mapping[str, Any], keys: Iterable[str]) -> str:
    settings = (f"prepare_data.dataset.{key}={flow_text(dataset[key])}" for key in keys)
    return shlex.join(["wsss", "set", *settings])


def check_same_weights(params: Params, weights: str, root: Path) -> None:
    """Raise ConfigError if other weights are asked for than a project begins with."""
    held = params.train_classifier.backbone.weights
    if weights != held:
        raise ConfigError(
            f"the project in {root} begins with the weights {held}, which --weights does not "
            f"change to {weights}: leave it out, or give another --out, as other weights may need "
            "other settings"
        )


def own_data(params: Params) -> Understood:
    """The data of a project, as its settings have them."""
    dataset = params.prepare_data.dataset
    return Understood(
        f"its project says, by the reader {dataset.name}",
        dataset.model_dump(exclude_unset=True),
        _collected(params),
    )


def plan(params: Params, understood: Understood | RawDataset, root: Path) -> list[str]:
    """Say what will be done, and roughly how long it takes, line by line.

    Args:
        params: all settings.
        understood: the data.
        root: the project; what is done there is not done again.
    """
    raw = understood.raw if isinstance(understood, Understood) else understood
    pipeline = find_stages()
    targets = pipeline.targets(params)
    waiting = {
        target.stage.name for target in targets if not is_there(pipeline, target, params, root)
    }
    images = sum(map(len, raw.splits.values()))
    size = _median_size(raw, params)
    seconds = estimate(params, measure_rates(params), len(raw.splits["train"]), images, size)
    left = {name: value for name, value in seconds.items() if name in waiting}
    lines = [f"{images} images of about {size[1]} x {size[0]} pixels; on this machine:"]
    lines += [
        f"  {about}: {in_words(seconds[name])}" + ("" if name in waiting else ", is done")
        for name, about in _STEPS.items()
    ]
    return [
        *lines,
        f"in all {in_words(sum(left.values()))}; what is done is kept, if it is stopped",
    ]


_STEPS = {
    "prepare_data": "look at every image, and hold some out",
    "train_classifier": "learn from the tags what the classes look like",
    "generate_cams": "find where in each image that is",
    "refine_cams": "follow the edges there",
    "train_segmenter": "learn to draw masks from these",
    "predict_masks": "draw the masks",
}


def gather_masks(params: Params, root: Path) -> int:
    """Write the predicted masks at the size of the images as they came, below `MASKS`.

    As the tags are known, classes that an image is not tagged with are background in its mask.

    Returns:
        How many.
    """
    paths = Paths(root)
    manifest = Manifest.read(paths.splits)
    sizes = _sizes(_collected(params), params)
    done = 0
    pairs = [(split, sample) for split, items in manifest.splits.items() for sample in items]
    for split, sample in track(pairs, "masks", len(pairs)):
        if split not in params.predict_masks.splits:
            continue
        mask = read_label_png(paths.predictions / split / f"{sample.name}.png")
        size = sizes.get(sample.name, mask.shape)
        rows = _nearest(mask.shape[0], size[0])
        columns = _nearest(mask.shape[1], size[1])
        there = [*sample.class_ids, *(class_id for class_id, _ in sample.uncertain), IGNORE_INDEX]
        mask = np.where(np.isin(mask, there), mask, 0).astype(np.uint8)
        write_label_png(root / MASKS / f"{sample.name}.png", mask[rows][:, columns])
        done += 1
    return done


def summary(params: Params, root: Path, masks: int, at: Path) -> list[str]:
    """Say where the masks are, how good they are or how to see it, and what comes next."""
    manifest = Manifest.read(Paths(root).splits)
    values = ["0 background", *(f"{i} {name}" for i, name in enumerate(manifest.class_names, 1))]
    lines = [
        f"{masks} masks, of the size of their images and with no class that these are not tagged "
        f"with: {at / MASKS}",
        f"their values: {', '.join(values[:12])}" + (" ..." if len(values) > 12 else ""),
        *_scores(root, at),
    ]
    warned = list(_warnings(params, root))
    if warned:
        lines.append("what the stages warned of, the first causes first:")
        lines += [f"  {text}" for text in warned[:_WARNINGS]]
    if len(warned) > _WARNINGS:
        lines.append(f"  and {len(warned) - _WARNINGS} more: see {at / 'reports'}")
    lines += [
        f"next, in {at}:",
        "  wsss compare workspace  # all numbers; wsss runs open shows them with their pictures",
        "  wsss set KEY=VALUE      # the keys are in params.yaml; `wsss run` runs what changed",
        "  wsss recipe list        # other settings",
        "  wsss doctor run         # what is wrong with the results, and which setting mends it",
        "  wsss predict models/segmenter IMAGES --out DIR    # of other images",
    ]
    return lines


def _scores(root: Path, at: Path) -> Iterator[str]:
    for name, what in (("evaluate_segmenter", "masks"), ("evaluate_pseudo_masks", "pseudo masks")):
        report = root / f"reports/{name}.json"
        found = read_json(report) if report.exists() else {}
        score = found.get("val", {}).get("mean_iou")
        if score is not None:
            knows = "which do not know the tags" if what == "masks" else "which know the tags"
            yield f"mean IoU of the {what} on images not learned from, {knows}: {score:.3f}"
            continue
        if what == "masks":
            yield "nothing is scored, as there are no masks to compare with"
    panel = at / "reports/predict_masks/panel.png"
    if (root / "reports/predict_masks/panel.png").exists():
        yield f"look at them beside their images: {panel}"


def _warnings(params: Params, root: Path) -> Iterator[str]:
    for target in find_stages().targets(params):
        report = root / target.stage.report_path(target.entry)
        found: Any = read_json(report) if report.exists() else {}
        yield from (f"{target.name}: {text}" for text in found.get("warnings", ()))


def _collected(params: Params) -> RawDataset:
    with TemporaryDirectory(prefix="wsss-") as scratch:
        built = DATASETS.build(params.prepare_data.dataset)
        found: RawDataset = built.collect(Path(scratch), params.base.rng_seed)
        return found


def _sizes(raw: RawDataset, params: Params) -> dict[str, tuple[int, int]]:
    """Height and width of the images as they came, by name; of broken ones none."""
    rules = PixelRules.of(params.prepare_data.pixel_range, params.prepare_data.bands)
    found = {}
    for items in raw.splits.values():
        for sample in items:
            try:
                found[sample.name] = image_frame(sample.image, rules).upright
            except BadImageError:
                continue
    return found


def _median_size(raw: RawDataset, params: Params) -> tuple[int, int]:
    samples = [sample for items in raw.splits.values() for sample in items]
    step = max(1, len(samples) // _LOOKED_AT)
    few = RawDataset(raw.class_names, {"all": samples[::step]}, [])
    sizes = list(_sizes(few, params).values()) or [(256, 256)]
    return int(median(size[0] for size in sizes)), int(median(size[1] for size in sizes))


def _nearest(held: int, wanted: int) -> list[int]:
    """For each of the wanted rows, the one of those held that lies at its middle."""
    return [min(held - 1, int((at + 0.5) * held / wanted)) for at in range(wanted)]
