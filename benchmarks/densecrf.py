"""Our DenseCRF beside pydensecrf's, in one run, as ratios of medians.

    python benchmarks/densecrf.py [--repeats 5] [--n-iters 5]

Both sides get the same photographs and probabilities and return refined probabilities, so the
unary, the lattices and the inference are all in the time. Theirs runs its images one after another
in one thread, whatever ours does: it holds the GIL, so threads are no help to it. The ratio by CPU
time is the steadier one on a machine that others use too; threads do not raise it.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np

from wsss.densecrf import dense_crf

HEIGHT, WIDTH = 375, 500
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
SETTINGS = {"A": {"sigma_xy": 80, "sigma_rgb": 13}, "B": {"sigma_xy": 50, "sigma_rgb": 5}}
NUM_LABELS = (21, 2)
NUM_THREADS = (1, 2)


class Setting(TypedDict):
    sigma_xy: float
    sigma_rgb: float
    n_iters: int


def photographs() -> list[np.ndarray]:
    """(HEIGHT, WIDTH, 3) uint8 photographs that come with scikit-image."""
    from skimage import data, transform

    resized = [
        transform.resize(getattr(data, name)()[..., :3], (HEIGHT, WIDTH), anti_aliasing=True)
        for name in PHOTOGRAPHS
    ]
    return [np.ascontiguousarray((255 * image).round().astype(np.uint8)) for image in resized]


def noisy_probs(n_labels: int, rng: np.random.Generator) -> np.ndarray:
    """(n_labels, HEIGHT, WIDTH) float32: blobs of 16 pixels that prefer a label, with noise."""
    blobs = rng.normal(size=(n_labels, HEIGHT // 16 + 1, WIDTH // 16 + 1)) * 1.5
    scores = np.repeat(np.repeat(blobs, 16, axis=1), 16, axis=2)[:, :HEIGHT, :WIDTH]
    probs = np.exp(scores + rng.normal(size=scores.shape) * 0.5)
    return np.asarray(probs / probs.sum(axis=0), np.float32)


def our_dense_crf(
    images: list[np.ndarray], probs: list[np.ndarray], setting: Setting, num_threads: int
) -> Sequence[np.ndarray]:
    return dense_crf(images, probs, **setting, parity=True, num_threads=num_threads)


def peer_dense_crf(
    images: list[np.ndarray], probs: list[np.ndarray], setting: Setting
) -> Sequence[np.ndarray]:
    """pydensecrf as its README uses it."""
    import pydensecrf.densecrf as dcrf
    from pydensecrf.utils import unary_from_softmax

    refined = []
    for image, one in zip(images, probs, strict=True):
        crf = dcrf.DenseCRF2D(WIDTH, HEIGHT, len(one))
        crf.setUnaryEnergy(unary_from_softmax(one))
        crf.addPairwiseGaussian(sxy=3, compat=3)
        crf.addPairwiseBilateral(
            sxy=setting["sigma_xy"], srgb=setting["sigma_rgb"], rgbim=image, compat=10
        )
        refined.append(np.array(crf.inference(setting["n_iters"])).reshape(one.shape))
    return refined


@dataclass
class Timing:
    """Times of one contender over the repeats, in seconds, and its last answer."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    refined: Sequence[np.ndarray] = ()

    def measure(self, refine: Callable[..., Sequence[np.ndarray]], *arguments: object) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        self.refined = refine(*arguments)
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)


def compare(
    images: list[np.ndarray], probs: list[np.ndarray], setting: Setting, repeats: int, peer: bool
) -> tuple[Timing, dict[int, Timing]]:
    """The peer's timing and ours by number of threads, interleaved.

    Interleaved, so that a busy spell of the machine hits both sides.
    """
    theirs, ours = Timing(), {n: Timing() for n in NUM_THREADS}
    for _ in range(repeats):
        if peer:
            theirs.measure(peer_dense_crf, images, probs, setting)
        for n, timing in ours.items():
            timing.measure(our_dense_crf, images, probs, setting, n)
    return theirs, ours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--n-iters", type=int, default=5)
    options = parser.parse_args()
    try:
        import pydensecrf.densecrf  # noqa: F401

        has_peer = True
    except ImportError:
        has_peer = False
        print("pydensecrf is not installed: our times only, NO COMPARISON.")
        print("For the ratios: pip install 'wsss[parity]' (Python 3.11 or 3.12, needs a compiler).")

    images = photographs()
    rng = np.random.default_rng(0)
    print(f"{WIDTH}x{HEIGHT}, {options.n_iters} updates, median of {options.repeats}, ms an image")
    print("setting labels   peer | threads  ours  ratio  by CPU time   argmax mismatch  max |dQ|")
    for n_labels in NUM_LABELS:
        probs = [noisy_probs(n_labels, rng) for _ in images]
        for name, sigmas in SETTINGS.items():
            setting = Setting(
                sigma_xy=sigmas["sigma_xy"], sigma_rgb=sigmas["sigma_rgb"], n_iters=options.n_iters
            )
            theirs, ours = compare(images, probs, setting, options.repeats, has_peer)
            for n, timing in ours.items():
                print(line(name, n_labels, n, theirs, timing), flush=True)


def line(setting: str, n_labels: int, num_threads: int, theirs: Timing, ours: Timing) -> str:
    """One row of the table."""
    per_image = 1e3 / len(ours.refined)
    wall = statistics.median(ours.wall)
    if not theirs.wall:
        return f"{setting:>7} {n_labels:6d}      - | {num_threads:7d} {wall * per_image:5.0f}"
    peer_wall = statistics.median(theirs.wall)
    cpu_ratio = statistics.median(theirs.cpu) / statistics.median(ours.cpu)
    pairs = list(zip(ours.refined, theirs.refined, strict=True))
    mismatch = np.mean([(a.argmax(0) != b.argmax(0)).mean() for a, b in pairs])
    worst = max(np.abs(a - b).max() for a, b in pairs)
    return (
        f"{setting:>7} {n_labels:6d} {peer_wall * per_image:6.0f} | {num_threads:7d} "
        f"{wall * per_image:5.0f} {peer_wall / wall:5.1f}x {cpu_ratio:11.1f}x   "
        f"{mismatch:15.1e}  {worst:.1e}"
    )


if __name__ == "__main__":
    main()
