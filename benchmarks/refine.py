"""Every refiner beside a peer or a floor, in one run.

    python benchmarks/refine.py [--images 4] [--repeats 5] [--only pamr]

A refiner runs as in a chain: photographs and score maps on every 4th pixel go in, score maps come
out, and proposals and further CAMs are read from files. Below it stand its peers, which give the
same scores, and floors: work that it cannot do without. A peer whose scores differ by more than
`Row.tolerance` ends the run. Ratios are theirs over ours, so that above 1 ours is better. Times are
medians, and the sides take turns, so that a busy spell of the machine hits both; the ratio by CPU
time is the steadier one on a machine that others use too. A row has fewer turns than --repeats
where they would take more than BUDGET seconds.

Peak memory is that of one image above what the process holds before, each in a process of its own.
What takes more than SLOW seconds there is not run again, and its time is that one.

Photographs, stretched to 500x375, are those below $WSSS_SHARED of that shape, or the ones that come
with scikit-image. Superpixels are made beforehand, and networks have random weights, which take as
long: MobileNetV2 at stride 8 (affinity_net) and 16 (irn), ViT-S/14 (vit_affinity).

A refiner more is a `Row` more in `ROWS`.
"""

import argparse
import importlib.util
import logging
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import densecrf
import numpy as np
import torch
from cam import VOC_IMAGES
from PIL import Image
from torch import Tensor
from torch.nn import functional

from wsss.artifacts import ScoreMap, read_proposals, write_proposals, write_score_map
from wsss.config.sections import BackboneSettings
from wsss.models.affinity_net import AffinityNet, load_affinity_net, network_input, save_network
from wsss.models.irn import Irn, load_irn
from wsss.models.timm_backbone import TimmBackbone
from wsss.proposals.superpixels import SuperpixelsSettings
from wsss.refine import Chain, Context
from wsss.refine.affinity_net import AffinityNetSettings, pair_affinities
from wsss.refine.dense_crf import DenseCrfSettings, unary_probs
from wsss.refine.irn import IrnSettings
from wsss.refine.pamr import PamrSettings
from wsss.refine.random_walk import cells_with_partner, moved, pair_offsets, path_affinities
from wsss.refine.regions import RegionsSettings
from wsss.refine.vit_affinity import VitAffinitySettings
from wsss.registry import AFFINITIES, PROPOSALS, REFINERS

HEIGHT, WIDTH, GRID_STRIDE = 375, 500, 4
NETWORK = "mobilenetv2_100"
STRIDES = {"affinity_net": 8, "irn": 16}
"""Of networks that are trained, as published; irn works on a quarter of the image's size."""
FURTHER = {"same": 4, "coarse": 16}
"""Maps that fusion adds, and pixels per cell of them."""
SEEDS = {"threshold": 0.8, "min_iou": 0.02}
"""Of sepl and smoke; to blobs, which are scattered, smoke would add nothing with its defaults."""
BUDGET, SLOW = 12.0, 12.0
OURS = "ours"
COLUMNS = ("images/s", "ratio", "by CPU time", "peak, MiB", "ratio", "differs by")

logging.getLogger("wsss").setLevel(logging.ERROR)  # of random weights, which are meant


@dataclass(frozen=True)
class Inputs:
    """What a refiner gets: one of each per image, and where artefacts are."""

    images: Sequence[np.ndarray]
    maps: Sequence[ScoreMap]
    names: Sequence[str]
    context: Context

    def __iter__(self) -> Iterator[tuple[np.ndarray, ScoreMap, str]]:
        return zip(self.images, self.maps, self.names, strict=True)


Work = Callable[[Inputs], list[np.ndarray] | None]
"""Scores of every image, or nothing that could be compared."""


def photographs(count: int, height: int, width: int) -> tuple[list[np.ndarray], str]:
    """(height, width, 3) uint8, and where they are from."""
    folder = Path(os.environ.get("WSSS_SHARED", "")) / VOC_IMAGES
    found: list[np.ndarray] = []
    if "WSSS_SHARED" in os.environ and folder.is_dir():
        for path in sorted(folder.glob("*.jpg")):
            with Image.open(path) as image:
                if image.width * HEIGHT == image.height * WIDTH:
                    resized = image.convert("RGB").resize(
                        (width, height), Image.Resampling.BILINEAR
                    )
                    found.append(np.array(resized))  # pydensecrf takes no read-only one
            if len(found) == count:
                return found, "Pascal VOC"
    ours = densecrf.photographs(height, width)
    return [ours[index % len(ours)] for index in range(count)], "scikit-image"


def score_maps(
    count: int, height: int, width: int, *, stride: int = GRID_STRIDE, rng_seed: int = 0
) -> list[ScoreMap]:
    """Smooth blobs of one class or two, on the grid that generate_cams stores."""
    rng = np.random.default_rng(rng_seed)
    maps = []
    grid = (-(-height // stride), -(-width // stride))
    for index in range(count):
        cells = torch.from_numpy(rng.random((1, 1 + index % 2, 12, 16), np.float32))
        scores = functional.interpolate(cells, grid, mode="bilinear")[0].numpy()
        ids = np.arange(1, len(scores) + 1, dtype=np.uint8)
        maps.append(ScoreMap(ids, scores, (height, width), np.ones(len(ids), np.float32)))
    return maps


def inputs(count: int, shrink: int, context: Context) -> Inputs:
    """Photographs, each of their sides divided by `shrink`."""
    height, width = HEIGHT // shrink, WIDTH // shrink
    names = [f"{number}_{shrink}" for number in range(count)]
    images, _ = photographs(count, height, width)
    return Inputs(images, score_maps(count, height, width), names, context)


def small_inputs(context: Context) -> Inputs:
    """One image, to warm up."""
    images, _ = photographs(1, 32, 32)
    return Inputs(images, score_maps(1, 32, 32), ["small"], context)


def context_of(folder: Path) -> Context:
    """Artefacts below a folder."""
    return Context("cpu", folder / "proposals", folder / "affinities", folder / "further_cams")


def make_superpixels(data: Inputs) -> None:
    """As make_proposals does."""
    source = PROPOSALS.build(SuperpixelsSettings(), lambda: torch.device("cpu"))
    folder = data.context.proposals / RegionsSettings().proposals
    folder.mkdir(parents=True, exist_ok=True)
    for image, _, name in data:
        if not (folder / f"{name}.npz").exists():  # the rules share them
            write_proposals(folder / f"{name}.npz", source(image))


def make_network(data: Inputs, *, refiner: str) -> None:
    """As train_affinities does, but untrained."""
    settings: Any = REFINERS.settings(refiner)
    folder = data.context.affinities / settings().network
    if not folder.exists():
        torch.manual_seed(0)
        backbone = BackboneSettings(model_name=NETWORK, output_stride=STRIDES[refiner])
        learner = AFFINITIES.settings(settings.trained_by)()
        network = AFFINITIES.build(learner, backbone)
        with torch.no_grad():  # affinities of about 0.9, so that scores walk
            if refiner == "irn":
                network.edge.join.bias.sub_(2.5)
            else:
                network.join.weight.mul_(0.01)
        save_network(network, folder)


def make_further_cams(data: Inputs) -> None:
    """As generate_further_cams does."""
    height, width = data.images[0].shape[:2]
    for seed, (source, stride) in enumerate(FURTHER.items(), start=1):
        folder = data.context.further_cams / source
        folder.mkdir(parents=True, exist_ok=True)
        maps = score_maps(len(data.names), height, width, stride=stride, rng_seed=seed)
        for item, name in zip(maps, data.names, strict=True):
            write_score_map(folder / f"{name}.npz", item)


MAKE: dict[str, Callable[[Inputs], None]] = {
    "regions": make_superpixels,
    "affinity_net": partial(make_network, refiner="affinity_net"),
    "irn": partial(make_network, refiner="irn"),
    "fusion": make_further_cams,
}
"""The artefacts that a refiner reads."""


def peer_dense_crf(data: Inputs) -> list[np.ndarray]:
    """pydensecrf with the same unary, its background folded in as ours is."""
    settings = DenseCrfSettings()
    probs = [unary_probs(item.full_scores(), settings) for item in data.maps]
    setting = densecrf.Setting(
        sigma_xy=settings.sigma_xy, sigma_rgb=settings.sigma_rgb, n_iters=settings.n_iters
    )
    refined = densecrf.peer_dense_crf(list(data.images), probs, setting)
    return [item[1:] / (item[1:].max(axis=0) + item[0]) for item in refined]


def unfolded(planes: Tensor, dilations: Sequence[int]) -> Tensor:
    """(C, 9 * len(dilations), H, W): the windows of every pixel."""
    parts = []
    for dilation in dilations:
        padded = functional.pad(planes[:, None], [dilation] * 4, mode="replicate")
        window = functional.unfold(padded, 3, dilation=dilation)
        parts.append(window.view(len(planes), 9, *planes.shape[1:]))
    return torch.cat(parts, dim=1)


def unfold_pamr(data: Inputs, *, grid: str) -> list[np.ndarray]:
    """PAMR from windows laid out in memory, for the image once and for the scores every time."""
    settings, refined = PamrSettings(), []
    without_centre = [index for index in range(9 * len(settings.dilations)) if index % 9 != 4]
    for image, item, _ in data:
        scores = torch.tensor(item.full_scores() if grid == "image" else item.scores)
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


def traffic_of_weights(data: Inputs) -> None:
    """PAMR's weights of every pixel written once, and read as often as it averages."""
    settings = PamrSettings()
    for image in data.images:
        weights = torch.ones(8 * len(settings.dilations), *image.shape[:2])
        for _ in range(settings.n_iters):
            weights.sum()


def loop_over_masks(data: Inputs, *, rule: str) -> list[np.ndarray]:
    """The rules of regions, one mask after another by its list of pixels."""
    settings, refined = RegionsSettings.model_validate(SEEDS), []
    for image, sample, name in data:
        proposals = read_proposals(data.context.proposals / settings.proposals / f"{name}.npz")
        matrix = proposals.matrix()
        masks = np.split(matrix.indices, matrix.indptr[1:-1])
        scores = sample.full_scores().reshape(len(sample.class_ids), -1)
        if rule == "vote":
            result = averages(scores, masks)
        else:
            labels = (claims_sepl if rule == "sepl" else claims_smoke)(scores, masks, settings)
            mine = labels == np.arange(len(scores))[:, None]
            result = np.float32(0.49) * scores + np.float32(0.51) * mine
        refined.append(result.reshape(-1, *image.shape[:2]))
    return refined


def averages(scores: np.ndarray, masks: Sequence[np.ndarray]) -> np.ndarray:
    """(P, H*W): at a pixel the mean of its masks' mean scores."""
    total, count = np.zeros(scores.shape), np.zeros(scores.shape[1])
    for pixels in masks:
        total[:, pixels] += scores[:, pixels].mean(axis=1, dtype=np.float64, keepdims=True)
        count[pixels] += 1
    return np.where(count > 0, total / np.maximum(count, 1), scores)


def seeds_of(scores: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """(P, H*W) bool, and classes from the least to the most confident."""
    index = np.arange(len(scores))[:, None]
    seeds = (scores.argmax(axis=0) == index) & (scores > threshold)
    confidence = [row[own].mean(dtype=np.float64) if own.any() else 0.0
                  for row, own in zip(scores, seeds, strict=True)]  # fmt: skip
    return seeds, np.argsort(confidence)


def claims_sepl(
    scores: np.ndarray, masks: Sequence[np.ndarray], settings: RegionsSettings
) -> np.ndarray:
    """(H*W,) the index of a class, or -1."""
    seeds, order = seeds_of(scores, settings.threshold)
    sizes = seeds.sum(axis=1)
    claims, bare = np.zeros_like(seeds), np.ones(seeds.shape[1], bool)
    for pixels in masks:
        shared = seeds[:, pixels].sum(axis=1)
        fits = shared > settings.mask_share * len(pixels)
        fits |= (shared >= settings.seed_share * sizes) & (sizes > 0)
        if fits.any():
            claims[np.where(fits, shared, -1).argmax(), pixels] = True
        bare[pixels] = False
    labels = np.full(seeds.shape[1], -1)
    for index in order:
        labels[claims[index] | (seeds[index] & bare)] = index
    for index in np.flatnonzero(sizes):
        if not (labels == index).any():
            labels[seeds[index]] = index
    return labels


def claims_smoke(
    scores: np.ndarray, masks: Sequence[np.ndarray], settings: RegionsSettings
) -> np.ndarray:
    """(H*W,) the index of a class, or -1."""
    seeds, order = seeds_of(scores, settings.threshold)
    sizes, claims = seeds.sum(axis=1), seeds.copy()
    for pixels in masks:
        shared = seeds[:, pixels].sum(axis=1)
        fits = shared > settings.min_iou * (len(pixels) + sizes - shared)
        if len(pixels) <= settings.max_area_share * seeds.shape[1]:
            claims[np.ix_(fits, pixels)] = True
    labels = np.full(seeds.shape[1], -1)
    for index in order:
        labels[claims[index]] = index
    for index, own in enumerate(seeds):
        labels[own] = index
    return labels


def read_masks(data: Inputs) -> None:
    """What is known of superpixels, from their file."""
    for _, _, name in data:
        read_proposals(data.context.proposals / RegionsSettings().proposals / f"{name}.npz")


def scikit_image_superpixels(data: Inputs) -> None:
    """The label maps alone."""
    from skimage.segmentation import felzenszwalb, slic

    settings = SuperpixelsSettings()
    for image in data.images:
        colours = image / np.float32(255)
        sigma, least = settings.felzenszwalb_sigma, settings.felzenszwalb_min_size
        for scale in settings.felzenszwalb_scales:
            felzenszwalb(colours, scale, sigma, least)
        for number in settings.slic_segments:
            slic(colours, number, settings.slic_compactness, sigma=settings.slic_sigma)


@cache
def affinity_net(folder: Path) -> AffinityNet:
    return load_affinity_net(folder)


@cache
def irn(folder: Path) -> Irn:
    return load_irn(folder)


def dense_walk(maps: Tensor, affinities: Tensor, offsets: np.ndarray, beta: float) -> Tensor:
    """The formula of AffinityNet's and IRN's code: all pairs of cells, and eight squarings."""
    _, height, width = affinities.shape
    at = torch.arange(height * width).view(height, width)
    walk = torch.eye(height * width)
    for (dy, dx), pairs in zip(offsets.tolist(), affinities, strict=True):
        cells = cells_with_partner(dy, dx, height, width)
        first, second = at[*cells].flatten(), at[*moved(cells, dy, dx)].flatten()
        walk[first, second] = walk[second, first] = pairs[*cells].flatten()
    walk.pow_(beta)
    walk /= walk.sum(dim=0, keepdim=True)
    for _ in range(8):
        walk = walk @ walk
    return (maps.flatten(1) @ walk).view_as(maps)


@torch.inference_mode()
def dense_affinity_net(data: Inputs) -> list[np.ndarray]:
    """The same network and affinities."""
    settings, refined = AffinityNetSettings(), []
    network = affinity_net(data.context.affinities / settings.network)
    offsets = pair_offsets(settings.radius)
    for image, item, _ in data:
        features = network(network_input(image, network.backbone))
        scores = torch.tensor(item.full_scores())
        background = (1 - scores.amax(dim=0, keepdim=True)) ** settings.alpha
        cells = functional.adaptive_avg_pool2d(torch.cat([background, scores]), features.shape[2:])
        affinities = pair_affinities(features, offsets)[0]
        walked = dense_walk(cells, affinities, offsets, settings.beta)
        refined.append((walked[1:] / (walked[1:].amax(dim=0) + walked[0])).numpy())
    return refined


def boundary(network: Irn, image: np.ndarray) -> Tensor:
    """(h, w) of an image and its mirror image."""
    pixels = network_input(image, network.backbone)
    mirrored = network.boundary_logits(pixels.flip(-1)).flip(-1)
    return ((network.boundary_logits(pixels) + mirrored) / 2)[0].sigmoid()


@torch.inference_mode()
def dense_irn(data: Inputs) -> list[np.ndarray]:
    """The same network and affinities."""
    settings, refined = IrnSettings(), []
    network = irn(data.context.affinities / settings.network)
    offsets = pair_offsets(settings.radius)
    for image, item, _ in data:
        edges = boundary(network, image)
        cells = functional.adaptive_avg_pool2d(
            torch.tensor(item.full_scores()), (edges.shape[0], edges.shape[1])
        )
        affinities = path_affinities(edges, offsets)
        walked = dense_walk(cells * (1 - edges), affinities, offsets, settings.beta)
        refined.append((walked / walked.max()).numpy())
    return refined


def one_squaring(data: Inputs) -> None:
    """An eighth of the dense formula's work, on IRN's grid of every 4th pixel."""
    stride = STRIDES["irn"]
    for image in data.images:
        height, width = (-(-side // stride) * stride // 4 for side in image.shape[:2])
        walk = torch.rand(height * width, height * width)
        walk @ walk


@torch.inference_mode()
def network_of_affinity_net(data: Inputs) -> None:
    network = affinity_net(data.context.affinities / AffinityNetSettings().network)
    for image in data.images:
        network(network_input(image, network.backbone))


@torch.inference_mode()
def network_of_irn(data: Inputs) -> None:
    network = irn(data.context.affinities / IrnSettings().network)
    for image in data.images:
        boundary(network, image)


@cache
def vit() -> TimmBackbone:
    settings = VitAffinitySettings()
    wanted = BackboneSettings(model_name=settings.model_name, output_stride=settings.output_stride)
    return TimmBackbone(wanted).eval()


@torch.inference_mode()
def network_of_vit_affinity(data: Inputs) -> None:
    """Forward passes of ready pixels."""
    settings = VitAffinitySettings()
    for image in data.images:
        scale = settings.long_side / max(image.shape[:2]) / settings.output_stride
        height, width = (
            max(1, round(side * scale)) * settings.output_stride for side in image.shape[:2]
        )
        vit()(torch.zeros(1, 3, height, width))


def plain_fusion(data: Inputs) -> list[np.ndarray]:
    """The mean of maps that PyTorch reads into tensors and stretches."""
    fused = []
    for _, item, name in data:
        total = torch.tensor(item.scores)
        for source in FURTHER:
            with np.load(data.context.further_cams / source / f"{name}.npz") as arrays:
                scores = torch.tensor(arrays["scores"] * arrays["steps"][:, None, None])
            total += functional.interpolate(scores[None], total.shape[1:], mode="bilinear")[0]
        fused.append((total / (1 + len(FURTHER))).numpy())
    return fused


@dataclass(frozen=True)
class Row:
    """A refiner, or a source of proposals, and what stands beside it.

    Attributes:
        title: of ours.
        settings: as in params.yaml.
        beside: what it is compared with, by name.
        tolerance: greatest difference of a peer's scores.
        shrink: sides of photographs are divided by this.
    """

    title: str
    settings: dict[str, Any]
    beside: dict[str, Work]
    tolerance: float = 1e-5
    shrink: int = 1


ROWS = (
    Row("dense_crf", {"name": "dense_crf"}, {"pydensecrf": peer_dense_crf}, tolerance=1e-3),
    Row("pamr", {"name": "pamr"}, {"plain unfold": partial(unfold_pamr, grid="scores")}),
    Row(
        "pamr, every pixel",
        {"name": "pamr", "grid": "image"},
        {
            "plain unfold": partial(unfold_pamr, grid="image"),
            "floor: traffic of weights": traffic_of_weights,
        },
    ),
    Row(
        "superpixels, made",
        {"name": "superpixels"},
        {"floor: scikit-image's label maps": scikit_image_superpixels},
    ),
    Row(
        "regions, vote",
        {"name": "regions", "rule": "vote"},
        {"loop over masks": partial(loop_over_masks, rule="vote"), "floor: masks read": read_masks},
    ),
    Row(
        "regions, sepl",
        {"name": "regions", "rule": "sepl", **SEEDS},
        {"loop over masks": partial(loop_over_masks, rule="sepl")},
    ),
    Row(
        "regions, smoke",
        {"name": "regions", "rule": "smoke", **SEEDS},
        {"loop over masks": partial(loop_over_masks, rule="smoke")},
    ),
    Row(
        "affinity_net",
        {"name": "affinity_net"},
        {"dense matrix": dense_affinity_net, "floor: its network": network_of_affinity_net},
        tolerance=1e-3,
    ),
    Row(
        "irn",
        {"name": "irn"},
        {"floor: 1 of 8 dense squarings": one_squaring, "floor: its network": network_of_irn},
    ),
    Row(
        "irn, 250x187",
        {"name": "irn"},
        {"dense matrix": dense_irn, "floor: its network": network_of_irn},
        tolerance=1e-3,
        shrink=2,
    ),
    Row(
        "vit_affinity",
        {"name": "vit_affinity"},
        {"floor: its network": network_of_vit_affinity},
    ),
    Row(
        "fusion, of three",
        {"name": "fusion", "sources": dict.fromkeys(FURTHER, 1)},
        {"floor: plain mean": plain_fusion},
    ),
)


def contenders(row: Row, context: Context) -> dict[str, Work]:
    """Ours first, then what stands beside it and is installed."""
    name = row.settings["name"]
    if name in PROPOSALS.names():
        source = PROPOSALS.build(
            PROPOSALS.settings(name).model_validate(row.settings), context.device
        )

        def ours(data: Inputs) -> list[np.ndarray] | None:
            for image in data.images:
                source(image)
            return None
    else:
        chain = Chain([REFINERS.settings(name).model_validate(row.settings)], context)

        def ours(data: Inputs) -> list[np.ndarray] | None:
            return [item.scores for item in chain(data.images, data.maps, data.names)]

    there = importlib.util.find_spec("pydensecrf")
    beside = {key: work for key, work in row.beside.items() if there or key != "pydensecrf"}
    return {OURS: ours, **beside}


class Cost(NamedTuple):
    """Of one image: seconds by the clock and of the CPU, MiB above what the process held before."""

    wall: float
    cpu: float
    peak: float = float("nan")


def cost(work: Work, data: Inputs) -> Cost:
    """Seconds alone."""
    wall, cpu = time.perf_counter(), time.process_time()
    work(data)
    count = len(data.images)
    return Cost((time.perf_counter() - wall) / count, (time.process_time() - cpu) / count)


def alone(index: int, who: int, folder: Path, threads: int) -> Cost:
    """Of a row's contender, for a process that has done nothing else."""
    torch.set_num_threads(threads)
    context = context_of(folder)
    work = list(contenders(ROWS[index], context).values())[who]
    data = inputs(1, ROWS[index].shrink, context)
    work(small_inputs(context))  # to warm up
    if not Path("/proc/self/clear_refs").exists():
        return cost(work, data)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = densecrf.memory_megabytes("VmRSS")
    found = cost(work, data)
    return found._replace(peak=densecrf.memory_megabytes("VmHWM") - before)


def measure(index: int, folder: Path, processes: Any, options: argparse.Namespace) -> Iterator[str]:
    """The lines of a row."""
    row, context = ROWS[index], context_of(folder)
    data = inputs(options.images, row.shrink, context)
    if row.settings["name"] in MAKE:
        for wanted in (small_inputs(context), data):
            MAKE[row.settings["name"]](wanted)
    sides = contenders(row, context)
    costs: dict[str, Cost] = {}
    for who, name in enumerate(sides):
        with processes.Pool(1) as fresh:  # which is gone before anything is timed
            costs[name] = fresh.apply(alone, (index, who, folder, options.threads))
    quick = {name: work for name, work in sides.items() if costs[name].wall < SLOW}
    begin = time.perf_counter()
    results = {name: work(data) for name, work in quick.items()}
    turns = max(1, min(options.repeats, int(BUDGET / (time.perf_counter() - begin))))
    times = [{name: cost(work, data) for name, work in quick.items()} for _ in range(turns)]
    for name in quick:
        wall, cpu = (statistics.median(turn[name][kind] for turn in times) for kind in (0, 1))
        costs[name] = Cost(wall, cpu, costs[name].peak)

    ours, expected = costs.pop(OURS), results.get(OURS)
    yield line(row.title, "", rate(ours.wall), "", "", f"{ours.peak:.1f}", "", "")
    for name, item in costs.items():
        theirs, differs = results.get(name), ""
        if expected is not None and theirs is not None:
            worst = max(np.abs(a - b).max() for a, b in zip(expected, theirs, strict=True))
            differs = f"{worst:.0e}"
            if not worst <= row.tolerance:
                sys.exit(f"{name} differs from {row.title} by {worst}, above {row.tolerance}")
        yield line(
            "", name, rate(item.wall), f"{item.wall / ours.wall:.2f}", f"{item.cpu / ours.cpu:.2f}",
            f"{item.peak:.1f}", f"{item.peak / ours.peak:.1f}", differs,
        )  # fmt: skip


def rate(seconds: float) -> str:
    """Images per second, three digits."""
    return f"{1 / seconds:.0f}" if seconds < 0.01 else f"{1 / seconds:.3g}"


def line(title: str, beside: str, *cells: str) -> str:
    """Of a Markdown table."""
    right = (f"{cell:>{len(name)}}" for cell, name in zip(cells, COLUMNS, strict=True))
    return f"| {' | '.join((f'{title:17}', f'{beside:32}', *right))} |"


def main() -> None:
    """Measure and print one table."""
    names = sorted({row.settings["name"] for row in ROWS})
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=names, help="one of them alone")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if missing := set(REFINERS.names()) - set(names):
        print(f"NOT MEASURED: {', '.join(sorted(missing))}; add a row")
    if not importlib.util.find_spec("pydensecrf"):
        print("pydensecrf is not installed: dense_crf alone, NO COMPARISON; see densecrf.py")
    _, source = photographs(options.images, HEIGHT, WIDTH)
    print(
        f"{options.images} photographs of {source}, {WIDTH}x{HEIGHT}, one or two tags each, "
        f"{options.threads} threads, median of up to {options.repeats}\n"
    )
    print(line("refiner", "beside it", *COLUMNS))
    print("|---|---|" + "---:|" * len(COLUMNS))
    # every array of a process that measures memory is a mapping of its own: none hides in what the
    # heap kept from before
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
    processes = multiprocessing.get_context("forkserver")
    with tempfile.TemporaryDirectory() as folder:
        for index, row in enumerate(ROWS):
            if options.only in (None, row.settings["name"]):
                for text in measure(index, Path(folder), processes, options):
                    print(text, flush=True)


if __name__ == "__main__":
    main()
