"""FINCH on many features: time, peak memory, and its neighbour search beside scikit-learn's.

    python benchmarks/finch.py [--points 100000] [--compared 10000] [--metric cosine]

The features are like those of a classifier: points around 2000 centres, 768 numbers each, the
negative ones cut to 0. Each measurement is a process of its own, and its peak memory counts from
when the features are there. Both sides of the comparison search the first neighbours of the same
points exactly, in as many threads as OMP_NUM_THREADS allows, and must agree; the ratio is
scikit-learn's number over ours, so that above 1 ours is better.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np

from wsss.clustering.finch import finch, first_neighbours

DIMS = 768
NUM_CENTERS = 2000
METRICS = ("cosine", "euclidean")


def features(num_points: int) -> np.ndarray:
    """(num_points, DIMS) float32."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(NUM_CENTERS, DIMS)).astype(np.float32)
    points = centers[rng.integers(NUM_CENTERS, size=num_points)]
    for rows in np.array_split(points, max(1, num_points // 1000)):
        rows += rng.normal(size=rows.shape).astype(np.float32)
    return np.maximum(points, 0, out=points)


def measure(what: str, num_points: int, metric: str) -> dict[str, object]:
    """Seconds and peak MiB of one measurement, in this process, and what came out."""
    points = features(num_points)
    if what == "sklearn":
        from sklearn.neighbors import NearestNeighbors  # its import is not in the time

        search = NearestNeighbors(n_neighbors=1, algorithm="brute", metric=metric)
    import scipy.sparse.csgraph  # noqa: F401

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    if what == "finch":
        out = [item.num_clusters for item in finch(points, metric=metric)]
    elif what == "ours":
        out = first_neighbours(points, metric=metric)[0].tolist()
    else:
        # without an argument, a point is not its own neighbour
        out = search.fit(points).kneighbors(return_distance=False)[:, 0].tolist()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "mib": (peak - before) / 1024, "out": out}


def in_a_process(what: str, num_points: int, metric: str) -> dict[str, object]:
    """The same, in a process of its own."""
    command = [sys.executable, __file__, "--one", what, "--points", str(num_points)]
    done = subprocess.run(
        [*command, "--metric", metric], stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--compared", type=int, default=10_000)
    parser.add_argument("--metric", choices=METRICS, help="one of them alone")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one, args.points, args.metric)))
        return
    for metric in [args.metric] if args.metric else METRICS:
        if args.compared:
            ours, theirs = (
                in_a_process(name, args.compared, metric) for name in ("ours", "sklearn")
            )
            same = np.mean(np.array(ours["out"]) == np.array(theirs["out"]))
            print(
                f"{metric}, first neighbours of {args.compared} x {DIMS}: "
                f"{ours['seconds']:.2f} s and {ours['mib']:.0f} MiB; scikit-learn "
                f"{theirs['seconds']:.2f} s and {theirs['mib']:.0f} MiB; "
                f"ratios {theirs['seconds'] / ours['seconds']:.2f} and "
                f"{theirs['mib'] / ours['mib']:.2f}; {same:.2%} of neighbours agree"
            )
        if args.points:
            found = in_a_process("finch", args.points, metric)
            print(
                f"{metric}, finch of {args.points} x {DIMS}: {found['seconds']:.1f} s and "
                f"{found['mib']:.0f} MiB beside the {args.points * DIMS * 4 / 2**20:.0f} MiB of "
                f"points; partitions of {found['out']}"
            )


if __name__ == "__main__":
    main()
