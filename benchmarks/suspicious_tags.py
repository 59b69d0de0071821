"""How many wrong tags are found: some tags of real photographs are made wrong on purpose.

    python benchmarks/suspicious_tags.py [--share 0.1] [--seeds 3] [--images 3131]

Of the tags of the training photographs below $WSSS_SHARED (the animals of PASCAL VOC 2012), one in
ten becomes wrong: half of these are removed, so that a tag is missing, and for the other half
another tag is added, of a class that is drawn in the share that it has, to an image without it.
Then the list of `wsss suggest` is made: heads on features of a frozen ImageNet MobileNetV2, each
image by heads that have not seen its tags. Precision is the share of the list that is wrong on
purpose, recall the share of these that the list has. Tags that were wrong before count as right, so
that precision is a little higher in truth. A list is as long as n tags were made wrong, half as
long, or twice.

Rows say which evidence ranks the tags: the image as a whole, the part of it that is most like the
class (a peak of its map), or both. "by chance" is a list at random among the same tags and gaps.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from wsss.artifacts import Manifest, Paths, Sample
from wsss.config.params import Params, parse_params
from wsss.suggest.features import features_of
from wsss.suggest.foretelling import foretell
from wsss.suggest.tags import judged_classes, suspicions, targets_of

VOC = "data/voc_animals/VOCdevkit/VOC2012"
WEIGHTS = "weights/mobilenetv2_100_timm_tfsame.safetensors"

LEAST = (0.5, 0.3, 0.2, 0.1, 0.05)
"""Chances from which a tag is on the list."""


def settings() -> Params:
    """The backbone of the recipe voc_animals_cam."""
    backbone = {
        "model_name": "mobilenetv2_100",
        "weights": f"$WSSS_SHARED/{WEIGHTS}",
        "timm_kwargs": {"pad_type": "same"},
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
    }
    return parse_params({"train_classifier": {"backbone": backbone}, "machine": {"num_workers": 0}})


def photographs(shared: Path, root: Path, count: int) -> Manifest:
    """The manifest of the training photographs, which are linked to where a project has its own."""
    voc = shared / VOC
    ids = json.loads(next((shared / "data/voc_animals").rglob("image_labels.json")).read_text())
    names = (voc / "ImageSets/Segmentation/train_aug.txt").read_text().split()
    (root / "data").mkdir()
    (root / "data/images").symlink_to(voc / "JPEGImages")
    samples = []
    for name in sorted(names)[:: max(1, len(names) // count)][:count]:
        with Image.open(voc / f"JPEGImages/{name}.jpg") as image:
            size = (image.height, image.width)
        samples.append(Sample(name, f"{name}.jpg", size, tuple(sorted(ids[name]))))
    classes = tuple(f"class {number}" for number in range(1, 21))
    return Manifest(classes, {"train": tuple(samples), "selection": (), "val": ()})


def with_errors(
    tags: np.ndarray, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Tags of which some are wrong, and (N, K) bool of which."""
    count = round(share * tags.sum() / 2)
    there, gaps = np.argwhere(tags == 1), np.argwhere(tags == 0)
    wrong = np.zeros(tags.shape, bool)
    often = tags.sum(axis=0)[gaps[:, 1]]
    for places, weights in ((there, None), (gaps, often / often.sum())):
        drawn = places[rng.choice(len(places), count, replace=False, p=weights)]
        wrong[drawn[:, 0], drawn[:, 1]] = True
    return np.where(wrong, 1 - tags, tags).astype(np.float32), wrong


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=0.1, help="of the tags, made wrong")
    parser.add_argument("--seeds", type=int, default=3, help="draws of wrong tags")
    parser.add_argument("--images", type=int, default=3131)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="a folder where features stay, to be taken again")
    options = parser.parse_args()
    shared, params = Path(os.environ["WSSS_SHARED"]), settings()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            (root / ".suggest").symlink_to(options.keep.absolute())
        manifest = photographs(shared, root, options.images)
        started = time.perf_counter()
        features = features_of(params, Paths(root), manifest)
        seconds = time.perf_counter() - started
    names, tags = targets_of(manifest)
    fewest = params.suggest.fewest_tags
    lengths = (0.5, 1, 2)
    found: dict[tuple[str, str, float], list[tuple[float, float]]] = {}
    own: dict[tuple[str, float], list[tuple[int, int]]] = {}
    heads = 0.0
    for seed in range(options.seeds):
        given, wrong = with_errors(tags, options.share, np.random.default_rng(seed))
        started = time.perf_counter()
        foretold = foretell(features, given, options.folds, seed)
        heads += (time.perf_counter() - started) / options.seeds
        row = {name: at for at, name in enumerate(names)}
        for evidence in ("whole", "peak", "both"):
            ranked = suspicions(
                names,
                given,
                foretold.chances(given, evidence),
                foretold.peak,
                share=params.suggest.wrong_share,
                fewest=fewest,
            )
            at = np.array([(row[item.image], item.class_id - 1) for item in ranked])
            hits, false = wrong[at[:, 0], at[:, 1]], np.array([item.tagged for item in ranked])
            for kind, kept in {"all": false | ~false, "false": false, "missing": ~false}.items():
                of_kind = hits[kept]
                n = int((wrong & (given == (kind != "missing"))).sum() if kind != "all"
                        else wrong.sum())  # fmt: skip
                for length in lengths:
                    got = int(of_kind[: round(length * n)].sum())
                    scores = got / round(length * n), got / n
                    found.setdefault((evidence, kind, length), []).append(scores)
            by_chance = np.array([item.chance for item in ranked])
            for least in LEAST:
                kept = by_chance >= least
                own.setdefault((evidence, least), []).append(
                    (int(kept.sum()), int(hits[kept].sum()))
                )
        judged = int(judged_classes(given, fewest).sum())
    print(
        f"{len(names)} photographs, {int(tags.sum())} tags, {int(wrong.sum())} made wrong, "
        f"{judged} of {tags.shape[1]} classes judged, {options.folds} folds, "
        f"{options.seeds} draws; features {seconds:.0f} s, heads {heads:.0f} s; "
        f"decay {foretold.decay:g}\n"
    )
    print("| wrong tags | evidence | n/2: precision | recall | n: both | 2n: precision | recall |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for kind in ("all", "false", "missing"):
        for evidence in ("whole", "peak", "both"):
            half, full, twice = (np.mean(found[evidence, kind, x], axis=0) for x in lengths)
            print(
                f"| {kind} | {evidence} | {half[0]:.3f} | {half[1]:.3f} | {full[0]:.3f} | "
                f"{twice[0]:.3f} | {twice[1]:.3f} |"
            )
    chance = wrong.sum() / wrong.size
    print(f"| all | by chance | {chance:.3f} | | {chance:.3f} | {chance:.3f} | |")
    print("\n| from a chance of | tags on the list | precision | recall |\n|---:|---:|---:|---:|")
    for least in LEAST:
        count, got = np.mean(own["both", least], axis=0)
        print(f"| {least:g} | {count:.0f} | {got / count:.3f} | {got / wrong.sum():.3f} |")


if __name__ == "__main__":
    main()
