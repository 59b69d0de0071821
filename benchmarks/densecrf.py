"""Our DenseCRF beside pydensecrf's, in one run, as ratios of medians.

    python benchmarks/densecrf.py [--repeats 5] [--n-iters 5]

Three tables: photographs of usual size in a batch, one large image with its peak memory, and the
filter of the dense CRF loss.

Both sides get the same photographs and probabilities and return refined probabilities, so the
unary, the lattices and the inference are all in the time. Theirs runs its images one after another
in one thread, whatever ours does: it holds the GIL, so threads are no help to it. The ratio by CPU
time is the steadier one on a machine that others use too; threads do not raise it.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import numpy as np

from wsss.densecrf import bilateral_filter, dense_crf

HEIGHT, WIDTH = 375, 500
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
SETTINGS = {"A": {"sigma_xy": 80, "sigma_rgb": 13}, "B": {"sigma_xy": 50, "sigma_rgb": 5}}
NUM_LABELS = (21, 2)
NUM_THREADS = (1, 2)
LARGE = (1280, 1920)
LOSS_SIDE, LOSS_CHANNELS = 256, (21, 2)
LOSS_SIGMAS = {"sigma_xy": 50, "sigma_rgb": 15}
RLOSS_MS = {21: 75.0, 2: 15.0}
"""Of rloss' bilateralfilter_batch for an image, as once measured on a Zen 4 core; it cannot be
installed beside a current Python, so this is not of the same run."""


class Setting(TypedDict):
    sigma_xy: float
    sigma_rgb: float
    n_iters: int


def photographs(
    height: int = HEIGHT, width: int = WIDTH, names: Sequence[str] = PHOTOGRAPHS
) -> list[np.ndarray]:
    """(height, width, 3) uint8 photographs that come with scikit-image."""
    from skimage import data, transform

    resized = [
        transform.resize(getattr(data, name)()[..., :3], (height, width), anti_aliasing=True)
        for name in names
    ]
    return [np.ascontiguousarray((255 * image).round().astype(np.uint8)) for image in resized]


def noisy_probs(
    n_labels: int, rng: np.random.Generator, height: int = HEIGHT, width: int = WIDTH
) -> np.ndarray:
    """(n_labels, height, width) float32: blobs of 16 pixels that prefer a label, with noise."""
    blobs = rng.normal(size=(n_labels, height // 16 + 1, width // 16 + 1)) * 1.5
    scores = np.repeat(np.repeat(blobs, 16, axis=1), 16, axis=2)[:, :height, :width]
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
    for image, image_probs in zip(images, probs, strict=True):
        crf = dcrf.DenseCRF2D(image.shape[1], image.shape[0], len(image_probs))
        crf.setUnaryEnergy(unary_from_softmax(image_probs))
        crf.addPairwiseGaussian(sxy=3, compat=3)
        crf.addPairwiseBilateral(
            sxy=setting["sigma_xy"], srgb=setting["sigma_rgb"], rgbim=image, compat=10
        )
        refined.append(np.asarray(crf.inference(setting["n_iters"])).reshape(image_probs.shape))
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
    parser.add_argument("--large-alone", choices=["peer", "1", "2"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.large_alone:
        return large_alone(options.large_alone, options.n_iters)
    try:
        import pydensecrf.densecrf  # noqa: F401

        has_peer = True
    except ImportError:
        has_peer = False
        print("pydensecrf is not installed: our times only, NO COMPARISON.")
        print("For the ratios: pip install 'wsss[parity]' (Python 3.11 or 3.12, needs a compiler).")
    usual_sizes(options.repeats, options.n_iters, has_peer)
    large(options.repeats, options.n_iters, has_peer)
    loss_filter(options.repeats)
    return None


def usual_sizes(repeats: int, n_iters: int, has_peer: bool) -> None:
    """Photographs of usual size, in a batch."""
    images = photographs()
    rng = np.random.default_rng(0)
    print(f"{WIDTH}x{HEIGHT}, {n_iters} updates, median of {repeats}, ms an image")
    print("setting labels   peer | threads  ours  ratio  by CPU time   argmax mismatch  max |dQ|")
    for n_labels in NUM_LABELS:
        probs = [noisy_probs(n_labels, rng) for _ in images]
        for name, sigmas in SETTINGS.items():
            setting = Setting(
                sigma_xy=sigmas["sigma_xy"], sigma_rgb=sigmas["sigma_rgb"], n_iters=n_iters
            )
            theirs, ours = compare(images, probs, setting, repeats, has_peer)
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


def large(repeats: int, n_iters: int, has_peer: bool) -> None:
    """One large image, each run in a process of its own, whose peak memory is its alone."""
    height, width = LARGE
    print(f"\n{width}x{height}, setting A, 21 labels, {n_iters} updates, median of {repeats}")
    print("             s  ratio   MB above the inputs  share of the peer's")
    runs: dict[str, list[dict[str, float]]] = {}
    for _ in range(repeats):
        for who in (["peer"] if has_peer else []) + [str(n) for n in NUM_THREADS]:
            command = [sys.executable, __file__, "--large-alone", who, "--n-iters", str(n_iters)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            runs.setdefault(who, []).append(json.loads(output))
    for who, results in runs.items():
        name = who if who == "peer" else f"{who} thread{'s' if who != '1' else ''}"
        seconds = statistics.median(result["seconds"] for result in results)
        megabytes = statistics.median(result["megabytes"] for result in results)
        text = f"{name:>9} {seconds:5.2f}"
        if "peer" in runs:
            peer_seconds = statistics.median(result["seconds"] for result in runs["peer"])
            peer_megabytes = statistics.median(result["megabytes"] for result in runs["peer"])
            text += f" {peer_seconds / seconds:5.1f}x {megabytes:21.0f} "
            text += f"{megabytes / peer_megabytes:20.2f}"
        print(text, flush=True)


def large_alone(who: str, n_iters: int) -> None:
    """One run of the large table; prints seconds and the peak of memory as JSON."""
    setting = Setting(**SETTINGS["A"], n_iters=n_iters)
    images = photographs(*LARGE, names=PHOTOGRAPHS[:1])
    probs = [noisy_probs(21, np.random.default_rng(0), *LARGE)]
    if who == "peer":
        import pydensecrf.densecrf  # noqa: F401
    process = Path("/proc/self")
    tracked = (process / "clear_refs").exists()
    if tracked:  # forget the peak so far
        (process / "clear_refs").write_text("5")
    before = memory_megabytes("VmRSS") if tracked else 0.0
    started = time.perf_counter()
    if who == "peer":
        peer_dense_crf(images, probs, setting)
    else:
        our_dense_crf(images, probs, setting, int(who))
    seconds = time.perf_counter() - started
    peak = memory_megabytes("VmHWM") - before if tracked else float("nan")
    print(json.dumps({"seconds": seconds, "megabytes": peak}))


def memory_megabytes(field_name: str) -> float:
    """A field of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field_name))


def loss_filter(repeats: int) -> None:
    """The filter of the loss, all channels at once beside one channel at a time, on one thread."""
    side = LOSS_SIDE
    y, x = np.mgrid[:side, :side].reshape(2, 1, -1) / LOSS_SIGMAS["sigma_xy"]
    images = photographs(side, side)
    colours = [image.reshape(-1, 3).T / LOSS_SIGMAS["sigma_rgb"] for image in images]
    features = np.stack([np.concatenate([x, y, colour]) for colour in colours]).astype(np.float32)
    print(
        f"\nloss filter, {side}x{side}, {LOSS_SIGMAS}, one thread, median of {repeats}, ms an image"
    )
    print("channels   ours  channel by channel  ratio  rloss (recorded)  ratio")
    for channels in LOSS_CHANNELS:
        rng = np.random.default_rng(0)
        values = rng.random((len(images), channels, side * side), np.float32)
        ours, one_by_one = Timing(), Timing()
        for _ in range(repeats):
            ours.measure(filter_by, features, values, channels)
            one_by_one.measure(filter_by, features, values, 1)
        times = [statistics.median(t.cpu) * 1e3 / len(images) for t in (ours, one_by_one)]
        print(
            f"{channels:8d} {times[0]:6.1f} {times[1]:19.1f} {times[1] / times[0]:5.1f}x "
            f"{RLOSS_MS[channels]:17.0f} {RLOSS_MS[channels] / times[0]:5.1f}x",
            flush=True,
        )


def filter_by(features: np.ndarray, values: np.ndarray, channels: int) -> Sequence[np.ndarray]:
    """Filter `channels` channels at a time, each time from the beginning as rloss does."""
    return [
        bilateral_filter(features, np.ascontiguousarray(values[:, k : k + channels]), num_threads=1)
        for k in range(0, values.shape[1], channels)
    ]


if __name__ == "__main__":
    main()
