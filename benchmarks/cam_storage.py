"""How to store score maps: loss of mean IoU and bytes per image, by grid stride and number type.

    python benchmarks/cam_storage.py               photographs' masks below $WSSS_SHARED
    python benchmarks/cam_storage.py data/cams     maps that generate_cams wrote

Without arguments, plausible maps are made from the masks of voc_animals: one-hot masks,
averaged over cells of 16 pixels, disturbed, and scaled up again. With a folder of full
resolution maps and data/masks, data/splits beside it, those are used. Every variant is
stored, read back, and scored at all thresholds against the same masks.

The written format is the row "uint8" (values times 255 / the class's maximum, deflated);
its stride is generate_cams.grid_stride.
"""

import argparse
import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from wsss.artifacts import Manifest, ScoreMap, read_score_map
from wsss.evaluate import ThresholdCurve, read_ground_truth, score_histogram
from wsss.evaluate.metrics import mean_iou

NUM_IMAGES = 100
STRIDES = (1, 2, 4, 8)
DTYPES = ("float32", "float16", "uint8")
Pair = tuple[np.ndarray, ScoreMap]


def photographs(shared: Path) -> tuple[int, Iterator[Pair]]:
    """Number of classes, and masks with maps made from them."""
    root = shared / "data/voc_animals/VOCdevkit/VOC2012"
    masks = sorted((root / "SegmentationClassAug").glob("*.png"))[:NUM_IMAGES]
    rng = np.random.default_rng(0)

    def pairs() -> Iterator[Pair]:
        for path in masks:
            with Image.open(path) as image:
                size = (image.height, image.width)
            gt_mask = read_ground_truth(path, size, 20)
            ids = np.unique(gt_mask[(gt_mask > 0) & (gt_mask < 255)])
            cells = (-(-size[1] // 16), -(-size[0] // 16))
            scores = []
            for class_id in ids:
                inside = Image.fromarray((gt_mask == class_id).astype(np.float32))
                coarse = np.asarray(inside.resize(cells, Image.Resampling.BOX))
                coarse = coarse * rng.uniform(0.3, 1, coarse.shape)
                coarse = coarse + rng.uniform(0, 0.3, coarse.shape)
                fine = Image.fromarray(coarse.astype(np.float32)).resize(
                    size[::-1], Image.Resampling.BILINEAR
                )
                scores.append(np.asarray(fine) / coarse.max())
            stack = np.stack(scores) if scores else np.zeros((0, *size), np.float32)
            yield gt_mask, ScoreMap(ids, stack, size, np.ones(len(ids), np.float32))

    return 20, pairs()


def project(folder: Path) -> tuple[int, Iterator[Pair]]:
    """Number of classes, and masks with the maps of a folder such as data/cams."""
    data = next(parent for parent in folder.resolve().parents if (parent / "splits").is_dir())
    manifest = Manifest.read(data / "splits")
    samples = [item for item in manifest.splits["val"] if item.mask][:NUM_IMAGES]

    def pairs() -> Iterator[Pair]:
        for sample in samples:
            gt_mask = read_ground_truth(
                data / "masks" / str(sample.mask), sample.size, manifest.num_fg_classes
            )
            found = read_score_map(folder / f"{sample.name}.npz")
            yield (
                gt_mask,
                ScoreMap(found.class_ids, found.full_scores(), found.size, found.class_probs),
            )

    return manifest.num_fg_classes, pairs()


def stored(full: ScoreMap, stride: int, dtype: str) -> tuple[ScoreMap, int]:
    """What comes back of a map, and the bytes it took."""
    height, width = full.size
    grid = (-(-width // stride), -(-height // stride))
    scores = np.zeros((len(full.scores), grid[1], grid[0]), np.float32)
    for index, score in enumerate(full.scores):
        resized = Image.fromarray(score).resize(grid, Image.Resampling.BILINEAR)
        scores[index] = np.asarray(resized)
    peaks = scores.max(axis=(1, 2), initial=1e-9)[:, None, None]
    kept = np.rint(scores / peaks * 255) if dtype == "uint8" else scores
    kept = kept.astype(dtype)
    file = io.BytesIO()
    np.savez_compressed(file, scores=kept, steps=peaks, class_ids=full.class_ids)
    back = kept.astype(np.float32) * (peaks / 255 if dtype == "uint8" else 1)
    return ScoreMap(full.class_ids, back, full.size, full.class_probs), file.tell()


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("maps", type=Path, nargs="?", help="a folder that generate_cams wrote")
    maps, shared = parser.parse_args().maps, os.environ.get("WSSS_SHARED", "")
    if maps is not None:
        num_fg_classes, pairs = project(maps)
    elif (Path(shared) / "data/voc_animals").is_dir() and shared:
        num_fg_classes, pairs = photographs(Path(shared))
    else:
        print("not run: name a folder such as data/cams, or set WSSS_SHARED (data/voc_animals)")
        return
    variants = [(stride, dtype) for stride in STRIDES for dtype in DTYPES]
    curves = {variant: ThresholdCurve(num_fg_classes + 1, 0.01) for variant in variants}
    sizes = dict.fromkeys(variants, 0)
    images = raw = 0
    for gt_mask, full in pairs:
        images += 1
        raw += full.scores.size * 4
        for variant, curve in curves.items():
            score_map, size = stored(full, *variant)
            sizes[variant] += size
            histogram = score_histogram(gt_mask, score_map, num_fg_classes + 1, curve.thresholds)
            curve.add(histogram, score_map.class_ids)
    values = {variant: mean_iou(curve.counts()) for variant, curve in curves.items()}
    exact = values[1, "float32"]
    best = int(exact.argmax())
    full_size = raw / images / 1024
    table = Table(title=f"{images} images; raw float32 at full resolution: {full_size:.0f} KiB")
    columns = ("stride", "type", "KiB per image", "share", "mean IoU", "loss", "largest at any θ")
    for column in columns:
        table.add_column(column, justify="right")
    for variant in variants:
        lost = exact - values[variant]
        table.add_row(
            str(variant[0]),
            variant[1],
            f"{sizes[variant] / images / 1024:.1f}",
            f"{sizes[variant] / raw:.4f}",
            f"{values[variant][best]:.4f}",
            f"{lost[best]:+.5f}",
            f"{np.abs(lost).max():.5f}",
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
