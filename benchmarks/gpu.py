"""All that has a path on a GPU, beside the CPU in the same run, and whether both agree.

    python benchmarks/gpu.py [--parts crf maps refiners training] [--repeats 3] [--device cuda]

- crf: the dense CRF at 2, 21 and 81 labels, alone and in batches of 16, and its loss, beside the
  compiled core on one thread; `_densecrf_gpu.py` explains the columns.
- maps: multi-scale CAMs in batches, beside a plain loop on the same GPU and beside the CPU.
- refiners: each that runs on a GPU, beside the CPU.
- training: steps of the classifier and the segmenter, in float32 and in bfloat16 beside the CPU;
  the first epoch's loss of both in float32 tells whether they do the same.

Photographs are those below $WSSS_SHARED, or the ones that come with scikit-image; networks have
random weights, which take as long. Differences above what float32 explains end the run. It takes
less than ten minutes on one card with a few cores beside it. Without a GPU nothing is run, but with
--device cpu, which tries this program out.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import _densecrf_gpu as densecrf_gpu
import cam
import densecrf
import numpy as np
import refine
import torch
from _timing import median_seconds

from wsss.artifacts import Paths, read_json
from wsss.config.params import parse_params
from wsss.config.sections import BackboneSettings
from wsss.models.classifier import Classifier
from wsss.models.fusion import fuse_batchnorm
from wsss.models.timm_backbone import TimmBackbone
from wsss.refine import Context
from wsss.registry import REFINERS
from wsss.stages import run_stage
from wsss.tracking import NullTracker

LABELS, BATCHES = (2, 21, 81), (1, 16)
NETWORKS = ("mobilenetv2_100", "resnet50")
REFINED = ("dense_crf", "pamr", "affinity_net", "irn", "vit_affinity")
"""Refiners that work on a GPU; the others read files and count."""
TOLERANCE = {"maps": 5e-3, "refiners": 5e-3, "loss": 2e-2}
"""Greatest differences: of scores in 0 to 1, and of a loss by its share; a GPU may use TF32."""
IMAGES = 64


class Rates(NullTracker):
    """Keeps the last value of every metric."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        self.values.update(values)


def crf(device: torch.device, repeats: int) -> None:
    """Times, bandwidth and agreement of the CRF and its loss."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # of the CPU side, whose loss has a few steps in PyTorch
    photos = densecrf.photographs()[:2]
    densecrf_gpu.inference_table(device, photos, repeats, 5, LABELS, BATCHES)
    densecrf_gpu.loss_table(device, photos, repeats, LABELS)
    torch.set_num_threads(threads)


def maps(device: torch.device, repeats: int) -> None:
    """Multi-scale CAMs of photographs."""
    for name in NETWORKS:
        maps_of(name, device, repeats)


def maps_of(name: str, device: torch.device, repeats: int) -> None:
    """The line of a network."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    backbone = TimmBackbone(BackboneSettings(model_name=name, output_stride=cam.STRIDE))
    classes = tuple(f"class {index}" for index in range(cam.NUM_CLASSES))
    model = Classifier(backbone, classes).eval().to(memory_format=torch.channels_last)
    fused = fuse_batchnorm(model, torch.rand(1, 3, 4 * cam.STRIDE, 4 * cam.STRIDE))
    pictures, source = cam.photographs(16 if device.type == "cuda" else 2)
    images = backbone.normalisation(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2))
    tags = [
        tuple(sorted(rng.choice(cam.NUM_CLASSES, rng.integers(1, 3), replace=False) + 1))
        for _ in pictures
    ]
    height, width = images.shape[2:]
    grid, few = (-(-height // 4), -(-width // 4)), slice(0, 2)
    expected = cam.ours(fused, images[few], tags[few], grid)
    cpu = median_seconds(
        lambda: cam.ours(fused, images[few], tags[few], grid), 1, torch.device("cpu")
    ) / len(expected)
    model, fused, images = model.to(device), fused.to(device), images.to(device)
    worst = differ(expected, cam.ours(fused, images, tags, grid)[few])
    loop = median_seconds(lambda: cam.plain_loop(model, images, tags), repeats, device) / len(tags)
    ours = median_seconds(lambda: cam.ours(fused, images, tags, grid), repeats, device)
    ours /= len(tags)
    print(
        f"{name:20} {width}x{height} of {source}: {1 / ours:8.1f} images/s, {loop / ours:5.1f} "
        f"times a plain loop on the card, {cpu / ours:6.1f} times {torch.get_num_threads()} CPU "
        f"threads; differs by {worst:.0e}",
        flush=True,
    )
    allow("maps", name, worst)


def refiners(device: torch.device, repeats: int) -> None:
    """Each refiner of `benchmarks/refine.py` that has a path on a GPU."""
    with tempfile.TemporaryDirectory() as folder:
        context = refine.context_of(Path(folder))
        there = Context(device.type, context.proposals, context.affinities, context.further_cams)
        data = refine.inputs(4, 1, context)
        for row in refine.ROWS:
            name = row.settings["name"]
            if name not in REFINED or row.shrink != 1:
                continue
            if name in refine.MAKE:
                refine.MAKE[name](data)
            chosen = REFINERS.settings(name).model_validate(row.settings)
            sides = {
                key: refine.Chain([chosen], where)
                for key, where in (("cpu", context), ("gpu", there))
            }
            results, seconds = {}, {}
            for key, chain in sides.items():
                where = device if key == "gpu" else torch.device("cpu")

                def work(chain: Any = chain) -> Any:
                    return list(chain(data.images, data.maps, data.names))

                turns = repeats if key == "gpu" else 1
                seconds[key] = median_seconds(work, turns, where)
                results[key] = [torch.from_numpy(item.scores) for item in work()]
            worst = differ(results["cpu"], results["gpu"])
            print(
                f"{row.title:20} {len(data.images) / seconds['gpu']:8.1f} images/s, "
                f"{seconds['cpu'] / seconds['gpu']:6.1f} times {torch.get_num_threads()} CPU "
                f"threads; differs by {worst:.0e}",
                flush=True,
            )
            allow("refiners", row.title, worst)


def training(device: torch.device, repeats: int) -> None:
    """Steps on painted scenes, by the stages; the same images, crops and weights everywhere."""
    network = {
        "augment": {"crop_size": 256, "long_side": [256, 384]},
        "batch_size": 16,
        "epochs": 1,
        "eval_long_side": 64,
    }
    data = {"name": "synthetic", "num_train": IMAGES + 8, "num_val": 4, "image_size": [256, 320]}

    def values(where: str, precision: str, epochs: int) -> dict[str, Any]:
        own = network | {"precision": precision, "epochs": epochs}
        return {
            "machine": {"accelerator": where, "num_workers": min(8, os.cpu_count() or 1)},
            "prepare_data": {"dataset": data, "selection_share": 0.1},
            "train_classifier": own | {"backbone": {"model_name": "resnet50", "output_stride": 16}},
            "generate_cams": {"scales": [0.25], "flip": False},
            "make_pseudo_masks": {"chain": "none", "threshold": 0.3},
            "refine": {"chains": {"none": []}},
            "train_segmenter": own,
        }

    with tempfile.TemporaryDirectory() as folder:
        paths = Paths(Path(folder))
        first = parse_params(values("cpu", "32-true", 1))
        run_stage("prepare_data", first, paths)
        for stage in ("train_classifier", "train_segmenter"):
            rates, losses = {}, {}
            sides = (("cpu", "32-true", 1), (device.type, "32-true", 1))
            timed = (
                (device.type, "32-true", 1 + repeats),
                (device.type, "bf16-mixed", 1 + repeats),
            )
            for where, precision, epochs in (*sides, *timed):
                params, tracker = parse_params(values(where, precision, epochs)), Rates()
                run_stage(stage, params, paths, tracker)
                key = f"{where}, {precision}"
                rates[key] = tracker.values["images_per_second"]
                if epochs == 1:
                    losses[where if where == "cpu" else "gpu"] = read_json(paths.report(stage))[
                        "train_loss"
                    ]
                waits = tracker.values["loader_wait_share"]
                print(
                    f"{stage:20} {key:20} {rates[key]:8.1f} images/s, waits {waits:.0%}", flush=True
                )
            apart = abs(losses.get("gpu", losses["cpu"]) / losses["cpu"] - 1)
            print(f"{stage:20} loss of the first epoch differs by {apart:.1e} of it")
            allow("loss", stage, apart)
            if stage == "train_classifier":
                for between in ("generate_cams", "refine_cams@none", "make_pseudo_masks"):
                    run_stage(between, first, paths)


def differ(expected: Any, found: Any) -> float:
    """Greatest difference of lists of tensors."""
    pairs = zip(expected, found, strict=True)
    return max(float((a.cpu() - b.cpu()).abs().max()) for a, b in pairs)


def allow(kind: str, what: str, difference: float) -> None:
    """End the run where a difference is larger than rounding explains."""
    if not difference <= TOLERANCE[kind]:
        sys.exit(f"{what} differs by {difference} from the CPU's, above {TOLERANCE[kind]}")


PARTS = {"crf": crf, "maps": maps, "refiners": refiners, "training": training}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            print("PyTorch finds no GPU (CUDA) here: NOTHING WAS RUN.")
            return
        print(
            f"{torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}"
        )
    else:
        print("NOT A MEASUREMENT: both sides are the CPU")
    for part in options.parts:
        print(f"\n{part}", flush=True)
        PARTS[part](device, options.repeats)


if __name__ == "__main__":
    main()
