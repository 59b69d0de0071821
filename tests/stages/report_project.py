"""A small project in which all stages have run, with masks that fail in known ways."""

from pathlib import Path

import numpy as np
from PIL import Image

from wsss.artifacts import (
    Manifest,
    Paths,
    Sample,
    ScoreMap,
    write_json,
    write_label_png,
    write_score_map,
)
from wsss.config.params import Params, parse_params
from wsss.stages import find_stages, run_stage

NAMES = ("cat", "<dog>")
SIZE = (48, 64)
NUMBER = 12  # images of val
KINDS = ("right", "missed", "merged", "leak", "context", "other")
"""What is made of an image of val, in turn."""


def parameters(**sections: object) -> Params:
    return parse_params(
        {
            "base": {"recipe": "painted"},
            "refine": {"chains": {"none": [], "crf": [{"name": "dense_crf"}]}},
            "make_pseudo_masks": {"chain": "crf"},
            "report": {"images": 10, "long_side": 64},
            **sections,
        }
    )


def scene(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image, its ground truth, and a mask that fails as `KINDS` says."""
    rng = np.random.default_rng(number)
    class_id = 1 + number % 2
    gt_mask = np.zeros(SIZE, np.uint8)
    gt_mask[20:36, 8:22] = class_id
    gt_mask[20:36, 26:40] = class_id
    mask = gt_mask.copy()
    kind = KINDS[number % len(KINDS)]
    if kind == "missed":
        mask[:, 24:] = 0
    elif kind == "merged":
        mask[20:36, 22:26] = class_id
    elif kind == "leak":
        mask[17:39, 5:25] = class_id
    elif kind == "context":
        mask[2:12, 48:62] = class_id
    elif kind == "other":
        mask[20:36, 26:40] = 3 - class_id
    image = rng.integers(60, 200, (*SIZE, 3)).astype(np.uint8)
    image[gt_mask > 0] = (200, 40, 40) if class_id == 1 else (40, 60, 200)
    return image, gt_mask, mask


def paint(root: Path, params: Params, *, masks: bool = True, number: int = NUMBER) -> Paths:
    """Write what all stages would have made, and run the evaluations."""
    paths = Paths(root)
    splits: dict[str, tuple[Sample, ...]] = {}
    for split, count in (("train", 4), ("selection", 4), ("val", number)):
        samples = []
        for at in range(count):
            name = f"{split}_{at:03}"
            image, gt_mask, mask = scene(at)
            ids = (1 + at % 2,)
            paths.images.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(paths.images / f"{name}.png")
            if masks:
                write_label_png(paths.masks / f"{name}.png", gt_mask)
            scores = 0.9 * (gt_mask[None] > 0).astype(np.float32)
            score_map = ScoreMap(np.array(ids, np.uint8), scores, SIZE, np.ones(1, np.float32))
            for folder in (paths.cams, paths.refined("none"), paths.refined("crf")):
                write_score_map(folder / f"{name}.npz", score_map)
            write_label_png(paths.pseudo_masks / f"{name}.png", gt_mask)
            if split == "val":
                write_label_png(paths.predictions / split / f"{name}.png", mask)
            mask_file = f"{name}.png" if masks else None
            samples.append(Sample(name, f"{name}.png", SIZE, ids, mask_file))
        splits[split] = tuple(samples)
    Manifest(NAMES, splits).write(paths.splits)
    paths.masks.mkdir(parents=True, exist_ok=True)
    for target in find_stages().targets(params):
        if target.stage.last:
            continue
        for out in target.outs(params):
            (root / out).mkdir(parents=True, exist_ok=True)
        if target.stage.evaluates:
            run_stage(target.name, params, paths)
        elif target.stage.curve:
            scores = {"best_epoch": 2, "val_map": 0.75, "selection_pseudo_mean_iou": 0.5}
            write_json(paths.report(target.report), scores)
            curve = paths.report(f"{target.report}_curve", ".csv")
            curve.write_text(
                "epoch,lr,train_loss,selection_map\n0,1,0.5,0.25\n1,1,0.25,0.75\n", "utf-8"
            )
        elif not target.stage.is_idle(params):
            write_json(paths.report(target.report), {"num_images": 2})
    return paths
