"""Memory of the stages that go over all images, of few and of many, without waiting for the end.

    python benchmarks/scale_memory.py [--images 20000 200000] [--seconds 60]

What a stage reads is written at once, as shards of the same few files, of which there are those
that are read first, and a random network takes the place of a trained one. Each stage runs in a
process of its own, is stopped after so many seconds, and prints how many images were done by then,
the time of the cores that it took, and the most memory that it had (Linux: resident).
`benchmarks/scale.py` runs all to the end.
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
from scale import CLASSES, SIDE, drawing

from wsss.artifacts import (
    Manifest,
    Paths,
    Sample,
    ScoreMap,
    shards,
    write_json,
    write_score_map,
)
from wsss.artifacts.filling import AT_ONCE
from wsss.config.params import Params, parse_params
from wsss.stages import run_stage

STAGES = ("make_pseudo_masks", "refine_cams@crf", "generate_cams")
MASKED = 10  # every so many images have a mask


def settings() -> Params:
    return parse_params(
        {
            "machine": {"accelerator": "cpu", "num_workers": 0},
            "generate_cams": {"scales": [1.0], "batch_size": 64},
            "refine": {"chains": {"crf": [{"name": "dense_crf", "n_iters": 3}]}},
            "make_pseudo_masks": {"threshold": 0.3},
        }
    )


def packed(folder: Path, files: dict[str, bytes]) -> None:
    """Write files as the shards that a stage would have made of them, those that are read first."""
    folder.mkdir(parents=True)
    count = shards.shard_count(len(files))
    by_shard: list[list[str]] = [[] for _ in range(count)]
    for name in files:
        by_shard[shards.shard_of(name.rpartition(".")[0], count)].append(name)
    for number, names in enumerate(by_shard[:AT_ONCE]):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as shard:
            for name in sorted(names):
                shard.writestr(zipfile.ZipInfo(name), files[name])
        (folder / shards.shard_file(number)).write_bytes(file.getvalue())
    write_json(folder / shards.INDEX, {"count": count})


def project(root: Path, count: int) -> None:
    """Images, masks, maps and a classifier; nine in ten images are of the val split."""
    import torch

    from wsss.config.sections import BackboneSettings
    from wsss.models.classifier import Classifier, save_classifier
    from wsss.models.timm_backbone import TimmBackbone

    paths = Paths(root)
    drawn = [drawing(at) for at in range(len(CLASSES))]
    maps = []
    for class_id in range(1, len(CLASSES) + 1):
        scores = np.random.default_rng(class_id).random((1, SIDE // 4, SIDE // 4), np.float32)
        ids, probs = np.array([class_id], np.uint8), np.ones(1, np.float32)
        write_score_map(root / "map.npz", ScoreMap(ids, scores, (SIDE, SIDE), probs))
        maps.append((root / "map.npz").read_bytes())
    samples = []
    for at in range(count):
        file = f"{CLASSES[at % 2]}/{at:08}.png"
        mask = file if at % MASKED < 2 else None
        samples.append(Sample(file.removesuffix(".png"), file, (SIDE, SIDE), (at % 2 + 1,), mask))
    packed(paths.images, {item.image: drawn[item.class_ids[0] - 1][0] for item in samples})
    masks = {item.mask: drawn[item.class_ids[0] - 1][1] for item in samples if item.mask}
    packed(paths.masks, masks)
    for folder in (paths.cams, paths.refined("crf")):
        packed(folder, {f"{item.name}.npz": maps[item.class_ids[0] - 1] for item in samples})
    at = count // 10
    splits = {
        "train": tuple(samples[: at - at // 10]),
        "selection": tuple(samples[at - at // 10 : at]),
        "val": tuple(samples[at:]),
    }
    Manifest(CLASSES, splits, packed=True).write(paths.splits)
    torch.manual_seed(0)
    backbone = BackboneSettings(model_name="resnet10t")
    model = Classifier(TimmBackbone(backbone), CLASSES)
    paths.classifier.mkdir(parents=True)
    save_classifier(model, backbone, "multi_label", paths.classifier)


def work(root: Path, stage: str, seconds: float) -> None:
    """Run a stage in this process, and end it when the time is up."""

    def say(ended: str) -> None:
        held = Path("/proc/self/status").read_text()
        peak = int(held.partition("VmHWM:")[2].split()[0]) / 1024  # of this process alone
        print(f"RESULT {ended} {time.process_time()} {peak}", flush=True)

    def stop() -> None:
        say("stopped")
        os._exit(0)

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    run_stage(stage, settings(), Paths(root))
    say("ended")


def made(root: Path, stage: str) -> int:
    """Files that a stage which was stopped had made."""
    out = {
        "generate_cams": "data/.cams.partial",
        "refine_cams@crf": "data/refined/.crf.partial",
        "make_pseudo_masks": "data/.pseudo_masks.partial",
    }.get(stage)
    return len(shards.file_names(root / out)) if out and (root / out).exists() else 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--seconds", type=float, default=60, help="after which a stage is stopped")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(Path(arguments.work[0]), arguments.work[1], arguments.seconds)
        return
    for count in arguments.images:
        with tempfile.TemporaryDirectory() as place:
            root = Path(place)
            project(root, count)
            print(f"{count} images{'':13}{'done':>8}{'CPU s':>8}{'MB':>8}", flush=True)
            for stage in STAGES:
                command = [sys.executable, __file__, "--seconds", str(arguments.seconds)]
                found = subprocess.run(
                    [*command, "--work", str(root), stage],
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                )
                line = next(x for x in found.stdout.splitlines() if x.startswith("RESULT"))
                _, ended, used, peak = line.split()
                done = count if ended == "ended" else made(root, stage)
                print(f"{stage:26}{done:8}{float(used):8.1f}{float(peak):8.0f}", flush=True)


if __name__ == "__main__":
    main()
