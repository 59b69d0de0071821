"""Every refiner that needs no download, beside a peer or a floor, in one run.

    python benchmarks/refine.py [--images 4] [--repeats 5] [--only pamr]

A refiner runs as in a chain: photographs and score maps on every 4th pixel go in, score maps come
out. Below it stand its peers, which give the same scores, and floors: work that it can not do
without. Ratios are theirs over ours, so that above 1 ours is better; times are medians, and the
sides take turns, so that a busy spell of the machine hits both. The ratio by CPU time is the
steadier one on a machine that others use too.

Peak memory is that of one image above what the process holds before, each in a process of its own.
Photographs, stretched to 500x375, are those below $WSSS_SHARED of that shape, or the ones that come
with scikit-image.

A refiner more is a line more in `ROWS`.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import densecrf
import numpy as np
import torch
from cam import VOC_IMAGES, seconds_of
from PIL import Image
from torch import Tensor
from torch.nn import functional

from wsss.artifacts import ScoreMap
from wsss.refine import Chain, Context
from wsss.refine.dense_crf import DenseCrfSettings, unary_probs
from wsss.refine.pamr import PamrSettings
from wsss.registry import REFINERS

HEIGHT, WIDTH, GRID_STRIDE = 375, 500, 4
Work = Callable[[Sequence[np.ndarray], Sequence[ScoreMap]], list[np.ndarray] | None]


def photographs(count: int) -> tuple[list[np.ndarray], str]:
    """(HEIGHT, WIDTH, 3) uint8, and where they are from."""
    folder = Path(os.environ.get("WSSS_SHARED", "")) / VOC_IMAGES
    found: list[np.ndarray] = []
    if "WSSS_SHARED" in os.environ and folder.is_dir():
        for path in sorted(folder.glob("*.jpg")):
            with Image.open(path) as image:
                if image.width * HEIGHT == image.height * WIDTH:
                    resized = image.convert("RGB").resize(
                        (WIDTH, HEIGHT), Image.Resampling.BILINEAR
                    )
                    found.append(np.asarray(resized))
            if len(found) == count:
                return found, "Pascal VOC"
    ours = densecrf.photographs(HEIGHT, WIDTH)
    return [ours[index % len(ours)] for index in range(count)], "scikit-image"


def score_maps(count: int) -> list[ScoreMap]:
    """Smooth blobs of one class or two, on the grid that generate_cams stores."""
    rng = np.random.default_rng(0)
    maps = []
    grid = (-(-HEIGHT // GRID_STRIDE), -(-WIDTH // GRID_STRIDE))
    for index in range(count):
        cells = torch.from_numpy(rng.random((1, 1 + index % 2, 12, 16), np.float32))
        scores = functional.interpolate(cells, grid, mode="bilinear")[0].numpy()
        ids = np.arange(1, len(scores) + 1, dtype=np.uint8)
        maps.append(ScoreMap(ids, scores, (HEIGHT, WIDTH), np.ones(len(ids), np.float32)))
    return maps


def peer_dense_crf(images: Sequence[np.ndarray], maps: Sequence[ScoreMap]) -> list[np.ndarray]:
    """pydensecrf with the same unary, its background folded in as ours is."""
    settings = DenseCrfSettings()
    probs = [unary_probs(one.full_scores(), settings) for one in maps]
    setting = densecrf.Setting(
        sigma_xy=settings.sigma_xy, sigma_rgb=settings.sigma_rgb, n_iters=settings.n_iters
    )
    refined = densecrf.peer_dense_crf(list(images), probs, setting)
    return [one[1:] / (one[1:].max(axis=0) + one[0]) for one in refined]


def unfolded(planes: Tensor, dilations: Sequence[int]) -> Tensor:
    """(C, 9 * len(dilations), H, W): the windows of every pixel."""
    parts = []
    for one in dilations:
        padded = functional.pad(planes[:, None], [one] * 4, mode="replicate")
        window = functional.unfold(padded, 3, dilation=one)
        parts.append(window.view(len(planes), 9, *planes.shape[1:]))
    return torch.cat(parts, dim=1)


def unfold_pamr(
    images: Sequence[np.ndarray], maps: Sequence[ScoreMap], *, grid: str
) -> list[np.ndarray]:
    """PAMR from windows laid out in memory, for the image once and for the scores every time."""
    settings, refined = PamrSettings(), []
    without_centre = [one for one in range(9 * len(settings.dilations)) if one % 9 != 4]
    for image, one in zip(images, maps, strict=True):
        scores = torch.tensor(one.full_scores() if grid == "image" else one.scores)
        pixels = torch.tensor(image).permute(2, 0, 1).float().contiguous()
        if grid == "scores":
            pixels = functional.interpolate(
                pixels[None], scores.shape[1:], mode="bilinear", align_corners=True
            )[0]
        windows = unfolded(pixels, settings.dilations)
        sigma = windows.std(dim=1, keepdim=True)
        kernel = (windows[:, without_centre] - pixels[:, None]).abs() / (1e-8 + 0.1 * sigma)
        weights = (-kernel.mean(dim=0)).softmax(dim=0)
        del windows, kernel
        for _ in range(settings.n_iters):
            scores = (unfolded(scores, settings.dilations)[:, without_centre] * weights).sum(dim=1)
        refined.append(scores.numpy())
    return refined


def traffic_of_weights(images: Sequence[np.ndarray], maps: Sequence[ScoreMap]) -> None:
    """PAMR's weights of every pixel written once, and read as often as it averages."""
    settings = PamrSettings()
    for image in images:
        weights = torch.ones(8 * len(settings.dilations), *image.shape[:2])
        for _ in range(settings.n_iters):
            weights.sum()


ROWS: tuple[tuple[dict[str, Any], dict[str, Work]], ...] = (
    # settings as in params.yaml, and what stands beside them
    ({"name": "dense_crf"}, {"pydensecrf": peer_dense_crf}),
    ({"name": "pamr"}, {"plain unfold": partial(unfold_pamr, grid="scores")}),
    (
        {"name": "pamr", "grid": "image"},
        {
            "plain unfold": partial(unfold_pamr, grid="image"),
            "floor: traffic of weights": traffic_of_weights,
        },
    ),
)


def contenders(index: int) -> dict[str, Work]:
    """Ours first, then what stands beside it and is installed."""
    values, beside = ROWS[index]
    chain = Chain([REFINERS.settings(values["name"]).model_validate(values)], Context())

    def ours(images: Sequence[np.ndarray], maps: Sequence[ScoreMap]) -> list[np.ndarray]:
        refined = chain(images, maps, [str(number) for number in range(len(images))])
        return [one.scores for one in refined]

    there = {
        name: work
        for name, work in beside.items()
        if name != "pydensecrf" or importlib.util.find_spec("pydensecrf")
    }
    options = [f"{key} {value}" for key, value in values.items() if key != "name"]
    return {", ".join([values["name"], *options]): ours, **there}


def peak_of(index: int, who: int) -> float:
    """MiB of one image above what this process held before, after a small one to warm up."""
    work = list(contenders(index).values())[who]
    (image,), _ = photographs(1)
    (one,) = score_maps(1)
    small = ScoreMap(one.class_ids, one.scores[:, :8, :8].copy(), (32, 32), one.class_probs)
    work([np.ascontiguousarray(image[:32, :32])], [small])
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = densecrf.memory_megabytes("VmRSS")
    work([image], [one])
    return densecrf.memory_megabytes("VmHWM") - before


def peak_in_a_process(index: int, who: int, threads: int) -> float:
    """The same, in a process of its own; nan where the system does not tell."""
    if not Path("/proc/self/clear_refs").exists():
        return float("nan")
    command = [sys.executable, __file__, "--peak", str(index), str(who), "--threads", str(threads)]
    # every array is a mapping of its own: none hides in what the heap kept from before
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    output = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=environment
    ).stdout
    return float(json.loads(output))


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=REFINERS.names(), help="one of them alone")
    parser.add_argument("--peak", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        print(json.dumps(peak_of(*options.peak)))
        return
    if not importlib.util.find_spec("pydensecrf"):
        print("pydensecrf is not installed: dense_crf alone, NO COMPARISON; see densecrf.py")
    images, source = photographs(options.images)
    maps = score_maps(options.images)
    print(
        f"{options.images} photographs of {source}, {WIDTH}x{HEIGHT}, "
        f"{sum(len(one.class_ids) for one in maps)} tags, {options.threads} threads, median of "
        f"{options.repeats}\n\n{'':28} images/s   ratio  by CPU time  peak MiB  ratio  differs by"
    )
    for index, (values, _) in enumerate(ROWS):
        if options.only not in (None, values["name"]):
            continue
        sides = contenders(index)
        results = [work(images, maps) for work in sides.values()]
        works = {name: partial(work, images, maps) for name, work in sides.items()}
        seconds = list(seconds_of(works, options.repeats).values())
        peaks = [peak_in_a_process(index, who, options.threads) for who in range(len(sides))]
        for who, name in enumerate(sides):
            text = f"{'  ' * (who > 0) + name:28} {options.images / seconds[who][0]:8.2f} "
            if who:
                wall, cpu = (theirs / ours for theirs, ours in zip(seconds[who], seconds[0]))
                text += f"{wall:6.2f}x {cpu:11.2f}x {peaks[who]:9.0f} {peaks[who] / peaks[0]:5.1f}x"
            else:
                text += f"{'':7} {'':12} {peaks[0]:9.0f}"
            theirs = results[who]
            if who and theirs is not None:
                worst = max(np.abs(a - b).max() for a, b in zip(results[0], theirs))
                text += f" {worst:11.0e}"
            print(text, flush=True)


if __name__ == "__main__":
    main()
