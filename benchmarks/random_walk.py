"""The random walk of a large image, where the dense matrix of refine.py would have 6 and 94 GB.

    python benchmarks/random_walk.py

An image of 1920 x 1280 at strides 8 and 4. Each is a process of its own, and its peak memory counts
from when its input is there.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import torch

from wsss.refine.random_walk import pair_offsets, path_affinities, random_walk

NUM_MAPS = 4
BETA = 8.0
LARGE = {8: (160, 240), 4: (320, 480)}
OFFSETS = pair_offsets(5)


def inputs(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps (NUM_MAPS, h, w) and a boundary (h, w), mostly low with some walls."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(NUM_MAPS, height, width, generator=generator)
    return maps, torch.rand(height, width, generator=generator) ** 4


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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stride", type=int, choices=LARGE, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stride:
        print(json.dumps(measure(options.stride)))
        return
    print(f"{torch.get_num_threads()} threads")
    for stride, (height, width) in LARGE.items():
        command = [sys.executable, __file__, "--stride", str(stride)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout)
        print(
            f"1920 x 1280 at stride {stride}, {NUM_MAPS} maps of {width} x {height} cells: "
            f"paths {found['paths']:.2f} s, walk {found['walk']:.2f} s, {found['mib']:.0f} MiB"
        )


if __name__ == "__main__":
    main()
