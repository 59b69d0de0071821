"""Memory and time of every stage that runs whole images, where these are large.

    python benchmarks/large_images.py [--sides 2500 10000] [--window 1024]

One painted image of each size goes through CAMs, a refine chain, evaluation, pseudo masks and
prediction, each as its stage in a process of its own, in windows. Networks are random and small,
since only their memory and time count. Shown is the most memory that a process had above what it
holds before it sees the image, what of it are pixels (an image while it is decoded, 7 bytes each; a
score map at image size, 4; a mask, 1), and the rest, which should not grow. Linux.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from densecrf import memory_megabytes
from PIL import Image

from wsss.artifacts import Manifest, Paths, Sample, write_label_png
from wsss.config.params import Params, parse_params
from wsss.config.segmentation import SegmenterSettings
from wsss.models.classifier import Classifier, save_classifier
from wsss.models.timm_backbone import TimmBackbone
from wsss.segment.network import make_segmenter, save_segmenter
from wsss.stages import run_stage

CLASSES = ("object",)
CHAIN = "edges"
BYTES_PER_PIXEL = {
    # 7 of an image that is decoded, 4 of scores, 1 of a mask
    "generate_cams": 7,
    f"refine_cams@{CHAIN}": 7 + 4,
    # the panel reads the next map while it has the last
    f"evaluate_refined@{CHAIN}": 4 + 4 + 1,
    "make_pseudo_masks": 7 + 4 + 1,
    "predict_masks": 7 + 1,
    "evaluate_segmenter": 7,
}


def settings(window: int) -> Params:
    """A small network, and windows wherever there can be any."""
    return parse_params(
        {
            "machine": {"accelerator": "cpu", "num_workers": 0},
            "train_classifier": {"backbone": {"model_name": "resnet10t", "output_stride": 16}},
            "generate_cams": {"scales": [0.5, 1.0], "flip": False, "window": window},
            "refine": {
                "chains": {CHAIN: [{"name": "pamr"}, {"name": "dense_crf"}]},
                "window": window,
                "window_overlap": 0.25,
            },
            "make_pseudo_masks": {"chain": CHAIN},
            "predict_masks": {
                "splits": ["selection"],
                "batch_size": 2,
                "scales": [1.0],
                "flip": False,
                "window": window,
                "window_overlap": 0.25,
            },
        }
    )


def paint(root: Path, side: int, params: Params) -> None:
    """An image of a few smooth shapes with grain, its mask, and networks with random weights."""
    paths = Paths(root)
    rng = np.random.default_rng(0)
    coarse = np.asarray(
        Image.fromarray(rng.random((9, 9)).astype(np.float32)).resize(
            (side, side), Image.Resampling.BILINEAR
        )
    )
    mask = (coarse > 0.6).astype(np.uint8)
    write_label_png(paths.masks / "a.png", mask)
    tile = rng.integers(0, 30, (500, 500), np.uint8)
    grain = np.tile(tile, (-(-side // 500), -(-side // 500)))[:side, :side]
    pixels = np.stack([np.uint8(120) * mask + grain, (coarse * 200).astype(np.uint8), grain], -1)
    paths.images.mkdir(parents=True)
    Image.fromarray(pixels).save(paths.images / "a.png", compress_level=1)
    sample = Sample("a", "a.png", (side, side), (1,), "a.png")
    Manifest(CLASSES, {"train": (), "selection": (sample,), "val": ()}).write(paths.splits)
    torch.manual_seed(0)
    backbone = params.train_classifier.backbone
    paths.classifier.mkdir(parents=True)
    save_classifier(
        Classifier(TimmBackbone(backbone), CLASSES), backbone, "multi_label", paths.classifier
    )
    paths.segmenter.mkdir(parents=True)
    save_segmenter(make_segmenter(SegmenterSettings(), paths.classifier), paths.segmenter)


def measure(stage: str, root: Path, window: int) -> None:
    """Print what one stage took, as JSON."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far, of imports
    held, started = memory_megabytes("VmRSS"), time.perf_counter()
    run_stage(stage, settings(window), Paths(root))
    seconds = time.perf_counter() - started
    peak = memory_megabytes("VmHWM")
    print(json.dumps({"megabytes": peak - held, "seconds": seconds}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[2500, 10000], metavar="PIXELS")
    parser.add_argument("--window", type=int, default=1024, metavar="PIXELS")
    parser.add_argument("--stage", choices=BYTES_PER_PIXEL, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stage:
        measure(args.stage, args.root, args.window)
        return
    print("| stage | image | seconds | memory, MiB | of that pixels | the rest |")
    print("|---|---:|---:|---:|---:|---:|")
    for side in args.sides:
        with tempfile.TemporaryDirectory() as folder:
            paint(Path(folder), side, settings(args.window))
            for stage, per_pixel in BYTES_PER_PIXEL.items():
                command = [sys.executable, __file__, "--stage", stage, "--root", folder]
                command += ["--window", str(args.window)]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                found = json.loads(done.stdout.splitlines()[-1])
                taken, pixels = found["megabytes"], side * side * per_pixel / 2**20
                print(
                    f"| {stage} | {side} x {side} | {found['seconds']:.0f} | {taken:.0f} "
                    f"| {pixels:.0f} | {taken - pixels:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
