"""The random walk beside the dense formula of AffinityNet's and IRN's code, in one run.

    python benchmarks/random_walk.py [--repeats 5]

First an image of 1920 x 1280 at strides 8 and 4, where the dense matrix has 6 and 94 GB. Each is a
process of its own, and its peak memory counts from when its input is there.

Then the grid of a photograph of 500 x 375 pixels at stride 8. The dense side gets its matrix of
affinities ready made; in its time are the power of its elements, the division by the sums of the
columns, eight squarings and the product with the maps. Ours begins at the affinities of pairs. The
ratio is of medians, the dense formula's over ours, so that above 1 ours is better.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import torch

from wsss.refine._random_walk import pair_offsets, path_affinities, random_walk

NUM_MAPS = 4
BETA = 8.0
PHOTOGRAPH = (47, 63)
LARGE = {8: (160, 240), 4: (320, 480)}
OFFSETS = pair_offsets(5)


def inputs(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps (NUM_MAPS, h, w) and a boundary (h, w), mostly low with some walls."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(NUM_MAPS, height, width, generator=generator)
    return maps, torch.rand(height, width, generator=generator) ** 4


def dense_affinities(affinities: torch.Tensor) -> torch.Tensor:
    """(h·w, h·w): A."""
    _, height, width = affinities.shape
    at = torch.arange(height * width).view(height, width)
    dense = torch.eye(height * width)
    for (dy, dx), pairs in zip(OFFSETS.tolist(), affinities, strict=True):
        left, right = max(-dx, 0), width - max(dx, 0)
        first = at[: height - dy, left:right].flatten()
        second = at[dy:, left + dx : right + dx].flatten()
        values = pairs[: height - dy, left:right].flatten()
        dense[first, second] = values
        dense[second, first] = values
    return dense


def dense_walk(maps: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
    """As the published code has it."""
    walk = dense**BETA
    walk /= walk.sum(dim=0, keepdim=True)
    for _ in range(8):
        walk = walk @ walk
    return (maps.flatten(1) @ walk).view_as(maps)


def compare(repeats: int) -> None:
    """Ours and the dense formula by turns, so that a busy spell of the machine hits both."""
    maps, boundary = inputs(*PHOTOGRAPH)
    affinities = path_affinities(boundary, OFFSETS)
    dense = dense_affinities(affinities)
    ours, theirs = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        walked = random_walk(maps, affinities, OFFSETS, beta=BETA)
        middle = time.perf_counter()
        expected = dense_walk(maps, dense)
        ours.append(middle - start)
        theirs.append(time.perf_counter() - middle)
    our, their = statistics.median(ours), statistics.median(theirs)
    height, width = PHOTOGRAPH
    print(
        f"{NUM_MAPS} maps of {width} x {height} cells, {torch.get_num_threads()} threads: "
        f"{1e3 * our:.1f} ms; dense formula {1e3 * their:.0f} ms; ratio {their / our:.1f}; "
        f"largest difference {(walked - expected).abs().max():.1e}"
    )


def measure(stride: int) -> dict[str, float]:
    """Seconds and peak MiB of the large image, in this process."""
    maps, boundary = inputs(*LARGE[stride])
    random_walk(maps[:, :9, :9], maps.new_ones(len(OFFSETS), 9, 9), OFFSETS, beta=BETA)  # warm up
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    affinities = path_affinities(boundary, OFFSETS)
    middle = time.perf_counter()
    random_walk(maps, affinities, OFFSETS, beta=BETA)
    end = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"paths": middle - start, "walk": end - middle, "mib": (peak - before) / 1024}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--stride", type=int, choices=LARGE, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stride:
        print(json.dumps(measure(args.stride)))
        return
    # before this process grows: a child's peak memory begins at its parent's
    for stride, (height, width) in LARGE.items():
        command = [sys.executable, __file__, "--stride", str(stride)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout)
        print(
            f"1920 x 1280 at stride {stride}, {NUM_MAPS} maps of {width} x {height} cells: "
            f"paths {found['paths']:.2f} s, walk {found['walk']:.2f} s, {found['mib']:.0f} MiB"
        )
    compare(args.repeats)


if __name__ == "__main__":
    main()
