"""What docstrings say of dtypes and ranges is checked, so that nothing else passes for it."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wsss.artifacts import (
    Corrections,
    Proposals,
    ScoreMap,
    class_parts,
    mask_hash,
    mask_of_size,
    write_label_png,
)
from wsss.artifacts.background import BackgroundSettings, background_scores, power_background
from wsss.cam.clip_es import in_boxes, log_odds, spread_in_boxes
from wsss.cam.making import CamMaker
from wsss.cam.multiscale import multiscale_cams, windowed_cams
from wsss.cam.scaled_image import ScaledImage
from wsss.cam.sliding_window import SlidingWindow
from wsss.clustering.kmeans import kmeans
from wsss.config.kernels import CrfKernelSettings
from wsss.config.sections import BackboneSettings, GenerateCamsSettings
from wsss.config.segmentation import PredictMasksSettings, RetrievalSettings
from wsss.evaluate import ThresholdCurve, confusion_matrix, score_histogram, threshold_grid
from wsss.evaluate.failures import find_failures
from wsss.evaluate.objects import object_overlaps
from wsss.proposals.superpixels import Superpixels, SuperpixelsSettings
from wsss.refine import Chain, Context
from wsss.refine.dense_crf import DenseCrfSettings, marginals, unary_probs
from wsss.refine.fusion import fuse
from wsss.refine.pamr import Pamr, PamrSettings
from wsss.refine.rebalance import prices, transport_plan
from wsss.refine.regions import RegionsSettings, average_in_regions, sepl_labels, smoke_labels
from wsss.registry import CAM_METHODS
from wsss.report.layers import mask_layer, outline_layer, photo
from wsss.report.overlays import mask_above, outline, overlay_mask, overlay_scores
from wsss.segment.filtering import recall_thresholds
from wsss.segment.predict import predict_mask_in_windows, predict_probs
from wsss.segment.predictor import Predictor
from wsss.segment.pseudo_masks import pseudo_mask
from wsss.segment.retrieval import RegionIndex, RetrievalModel
from wsss.segment.retrieval.predictor import RetrievalPredictor, painted
from wsss.segment.retrieval.regions import pooled_features, regions_of
from wsss.segment.smoothing import smooth
from wsss.windows import window_starts

SRC = Path(__file__).parents[1] / "src" / "wsss"
PACKAGES = (
    "artifacts",
    "evaluate",
    "cam",
    "refine",
    "proposals",
    "clustering",
    "report",
    "segment",
    "windows",
)
RULE = re.compile(
    r"\buint8\b|\[0, 1[\])]|\(0, 1\]|\b1\.\.K|0\.\.255|0\.\.2\*\*32|\bbool\b(?<!or bool)"
)

WRONG_DTYPE = np.full((4, 6), -1)
MASK = np.zeros((4, 6), np.uint8)
FLOATS = np.zeros((4, 6, 3), np.float32)
IMAGE = np.zeros((4, 6, 3), np.uint8)
ABOVE = np.full((1, 4, 6), 1.5, np.float32)
SCORES = np.full((1, 4, 6), 0.5, np.float32)
ONE_CLASS = np.ones(1, np.uint8)
PROBS = np.ones(1, np.float32)
MAP = ScoreMap(ONE_CLASS, SCORES, (4, 6), PROBS)
REGIONS = Proposals.from_labels(np.zeros((4, 6), int))
SEEDS = np.zeros((1, 4, 6), bool)
CAM = CAM_METHODS.build(CAM_METHODS.settings("cam")())
STAGES = CAM_METHODS.settings("layer_cam")(layers=("stage3",))
GRADIENTS = GenerateCamsSettings(method=STAGES)


class Model:
    """As far as anything looks before it looks at its arguments."""

    class_names = ("a", "b")

    def parameters(self) -> Iterator[torch.Tensor]:
        yield torch.zeros(1)


class Device:
    """A fabric that leaves everything where it is."""

    def to_device(self, item: Any) -> Any:
        return item


def views(**changes: Any) -> dict[str, Any]:
    return {"grid": (4, 6), "scales": (1.0,), "flip": False, "align_corners": False} | changes


def windowed(image: np.ndarray, ids: list[int]) -> Any:
    method = SlidingWindow(CAM, 2, 0.5)
    return windowed_cams(Model(), method, image, ids, normalise=torch.Tensor.float, **views())


def curve_with(ids: np.ndarray) -> None:
    ThresholdCurve(3, 0.5).add(np.zeros((3, 1, 4), np.int64), ids)


def labels_of(values: list[int]) -> np.ndarray:
    return np.array([[*values, 0]], np.uint8)


def below_one(overlap: float) -> dict[str, Callable[[], Any]]:
    """Everything that takes an overlap of windows."""
    return {
        "windows.window_starts.overlap": lambda: window_starts(8, 4, overlap),
        "cam.sliding_window.SlidingWindow.overlap": lambda: SlidingWindow(CAM, 4, overlap),
        "refine.chain.Chain.overlap": lambda: Chain([], Context(), overlap=overlap),
        "segment.predict.predict_mask_in_windows.overlap": lambda: predict_mask_in_windows(
            torch.nn.Identity(), IMAGE, normalise=torch.Tensor.float, window=2, overlap=overlap
        ),
    }


INDEX = RegionIndex(
    np.ones((1, 1), np.float32), np.ones(1, np.uint8), np.array(["a"]), np.zeros((1, 4), np.int32)
)

CASES: dict[str, list[Callable[[], Any]]] = {
    "artifacts.corrections.Corrections.add.mask": [
        lambda: Corrections.add(
            Path(), "a", WRONG_DTYPE, who="a", when="2026-01-01Z", origin="", origin_hash=""
        )
    ],
    "artifacts.corrections.mask_hash.mask": [lambda: mask_hash(WRONG_DTYPE)],
    "artifacts.corrections.mask_of_size.mask": [lambda: mask_of_size(WRONG_DTYPE, (1, 1))],
    "artifacts.parts.class_parts.mask": [lambda: next(class_parts(WRONG_DTYPE))],
    "artifacts.background.power_background.best": [lambda: power_background(np.array(1.5), 4)],
    "artifacts.background.background_scores.scores": [
        lambda: background_scores(ABOVE, BackgroundSettings(), 0.3),
        lambda: background_scores(SCORES * np.nan, BackgroundSettings(background="power"), 0),
    ],
    "artifacts.background.background_scores.threshold": [
        lambda: background_scores(SCORES, BackgroundSettings(), 30)
    ],
    "artifacts.background.background_scores.objects": [
        lambda: background_scores(
            SCORES, BackgroundSettings(background="object", object_source="a"), 0, ABOVE
        )
    ],
    "artifacts.label_png.write_label_png.mask": [lambda: write_label_png(Path("x"), WRONG_DTYPE)],
    "artifacts.proposals.Proposals.from_masks.masks": [
        lambda: Proposals.from_masks(np.full((1, 4, 6), 2))
    ],
    "artifacts.score_map.ScoreMap.class_ids": [
        lambda: ScoreMap(np.array([1]), SCORES, (4, 6), PROBS),
        lambda: ScoreMap(np.zeros(1, np.uint8), SCORES, (4, 6), PROBS),
    ],
    "artifacts.score_map.ScoreMap.scores": [
        lambda: ScoreMap(ONE_CLASS, ABOVE, (4, 6), PROBS),
        lambda: ScoreMap(ONE_CLASS, -SCORES, (4, 6), PROBS),
        lambda: ScoreMap(ONE_CLASS, SCORES * np.nan, (4, 6), PROBS),
        lambda: ScoreMap(ONE_CLASS, SCORES.astype(float), (4, 6), PROBS),
    ],
    "artifacts.score_map.ScoreMap.class_probs": [
        lambda: ScoreMap(ONE_CLASS, SCORES, (4, 6), 2 * PROBS)
    ],
    "cam.clip_es.log_odds.present": [lambda: log_odds(torch.zeros(1, 2), torch.ones(1, 2))],
    "cam.clip_es.in_boxes.maps": [lambda: in_boxes(torch.full((1, 2, 2), 2.0), 0.4)],
    "cam.clip_es.spread_in_boxes.inside": [
        lambda: spread_in_boxes(torch.eye(4), torch.ones(1, 2, 2), torch.full((1, 2, 2), 2))
    ],
    "cam.making.CamMaker.whole.pixels": [
        lambda: CamMaker(Model(), GRADIENTS, Device()).whole(torch.zeros(1, 3, 4, 6), [[1]])
    ],
    "cam.multiscale.multiscale_cams.class_ids": [
        lambda: multiscale_cams(Model(), CAM, torch.zeros(1, 3, 4, 6), [(0,)], **views()),
        lambda: multiscale_cams(Model(), CAM, torch.zeros(1, 3, 4, 6), [(3,)], **views()),
    ],
    "cam.multiscale.windowed_cams.image": [lambda: windowed(FLOATS, [1])],
    "cam.multiscale.windowed_cams.class_ids": [lambda: windowed(IMAGE, [0])],
    "cam.scaled_image.ScaledImage.image": [
        lambda: ScaledImage(FLOATS, torch.Tensor.float, (2, 3), align_corners=0, antialias=0)
    ],
    "clustering.kmeans.kmeans.rng_seed": [lambda: kmeans(np.zeros((2, 1)), 1, rng_seed=-1)],
    "evaluate.confusion.confusion_matrix.gt_mask": [
        lambda: confusion_matrix(WRONG_DTYPE, MASK, 3),
        lambda: confusion_matrix(labels_of([3]), labels_of([0]), 3),
    ],
    "evaluate.confusion.confusion_matrix.mask": [
        lambda: confusion_matrix(MASK, WRONG_DTYPE, 3),
        lambda: confusion_matrix(MASK, MASK.astype(bool), 3),
        lambda: confusion_matrix(labels_of([0]), labels_of([3]), 3),
    ],
    "evaluate.curves.score_histogram.gt_mask": [
        lambda: score_histogram(WRONG_DTYPE, MAP, 3, np.array([0.5])),
        lambda: score_histogram(MASK + np.uint8(3), MAP, 3, np.array([0.5])),
    ],
    "evaluate.failures.find_failures.gt_mask": [lambda: find_failures(WRONG_DTYPE, MASK)],
    "evaluate.failures.find_failures.mask": [lambda: find_failures(MASK, WRONG_DTYPE)],
    "evaluate.objects.object_overlaps.gt_mask": [lambda: object_overlaps(WRONG_DTYPE, MASK)],
    "evaluate.objects.object_overlaps.mask": [lambda: object_overlaps(MASK, WRONG_DTYPE)],
    "evaluate.curves.threshold_grid.step": [lambda: threshold_grid(0), lambda: threshold_grid(2)],
    "evaluate.curves.ThresholdCurve.step": [lambda: ThresholdCurve(3, 0)],
    "evaluate.curves.ThresholdCurve.add.class_ids": [
        lambda: curve_with(np.array([1])),
        lambda: curve_with(np.array([0], np.uint8)),
        lambda: curve_with(np.array([3], np.uint8)),
    ],
    "proposals.superpixels.Superpixels.image": [
        lambda: Superpixels(SuperpixelsSettings(), lambda: torch.device("cpu"))(FLOATS)
    ],
    "refine.chain.Chain.images": [
        lambda: Chain([], Context())([FLOATS], [MAP], ["a"]),
        lambda: Chain([], Context())([IMAGE[:3]], [MAP], ["a"]),
    ],
    "refine.dense_crf.unary_probs.scores": [lambda: unary_probs(ABOVE, DenseCrfSettings())],
    "refine.dense_crf.marginals.images": [lambda: marginals([FLOATS], [MAP], DenseCrfSettings())],
    "refine.fusion.fuse.maps": [lambda: fuse(ABOVE[None], np.ones(1), "mean")],
    "refine.rebalance.prices.scores": [lambda: prices(ABOVE, 0.1, 1)],
    "refine.rebalance.transport_plan.scores": [lambda: transport_plan(ABOVE, 0.1, 1)],
    "refine.pamr.Pamr.images": [lambda: Pamr(PamrSettings(), Context())([FLOATS], [MAP], ["a"])],
    "refine.regions.average_in_regions.scores": [lambda: average_in_regions(ABOVE, REGIONS)],
    "refine.regions.sepl_labels.scores": [
        lambda: sepl_labels(ABOVE, SEEDS, REGIONS, RegionsSettings())
    ],
    "refine.regions.sepl_labels.seeds": [
        lambda: sepl_labels(SCORES, SEEDS.astype(int), REGIONS, RegionsSettings())
    ],
    "refine.regions.smoke_labels.scores": [
        lambda: smoke_labels(ABOVE, SEEDS, REGIONS, RegionsSettings())
    ],
    "refine.regions.smoke_labels.seeds": [
        lambda: smoke_labels(SCORES, SEEDS.astype(int), REGIONS, RegionsSettings())
    ],
    "report.layers.mask_layer.mask": [lambda: mask_layer(WRONG_DTYPE, 10)],
    "report.layers.outline_layer.mask": [lambda: outline_layer(WRONG_DTYPE, 10)],
    "report.layers.photo.image": [lambda: photo(FLOATS, 10)],
    "report.overlays.mask_above.threshold": [lambda: mask_above(MAP, 1.5)],
    "report.overlays.outline.mask": [lambda: outline(WRONG_DTYPE)],
    "report.overlays.overlay_mask.image": [lambda: overlay_mask(FLOATS, MASK)],
    "report.overlays.overlay_mask.mask": [lambda: overlay_mask(IMAGE, WRONG_DTYPE)],
    "report.overlays.overlay_scores.image": [lambda: overlay_scores(FLOATS, MAP)],
    "segment.predict.predict_mask_in_windows.image": [
        lambda: predict_mask_in_windows(
            torch.nn.Identity(), FLOATS, normalise=torch.Tensor.float, window=2, overlap=0.5
        )
    ],
    "segment.pseudo_masks.pseudo_mask.threshold": [
        lambda: pseudo_mask(MAP, DenseCrfSettings(), 1.5)
    ],
    "segment.filtering.recall_thresholds.recall": [
        lambda: recall_thresholds(np.zeros((1, 1)), np.zeros((1, 1)), 99)
    ],
    "segment.predict.predict_probs.present": [
        lambda: predict_probs(torch.nn.Identity(), torch.ones(1, 3, 4, 6), present=torch.ones(1, 3))
    ],
    "segment.predict.predict_mask_in_windows.present": [
        lambda: predict_mask_in_windows(
            torch.nn.Identity(),
            IMAGE,
            normalise=torch.Tensor.float,
            window=2,
            overlap=0,
            present=torch.ones(3),
        )
    ],
    "segment.predictor.Predictor.probs.pixels": [
        lambda: Predictor(Model(), PredictMasksSettings(), Device()).whole([], torch.ones(1))
    ],
    "segment.retrieval.index.RegionIndex.class_ids": [
        lambda: RegionIndex(
            np.zeros((1, 2), np.float32), np.ones(1), np.array(["a"]), np.zeros((1, 4))
        )
    ],
    "segment.retrieval.index.RegionIndex.trimmed.share": [lambda: INDEX.trimmed(1.0)],
    "segment.retrieval.index.RegionIndex.vote.allowed": [
        lambda: INDEX.vote(INDEX.features, 1, np.ones(2))
    ],
    "segment.retrieval.predictor.painted.class_ids": [
        lambda: painted(Proposals.from_masks(np.ones((1, 4, 6), bool)), np.zeros(1), np.ones(1))
    ],
    "segment.retrieval.predictor.RetrievalPredictor.whole.pixels": [
        lambda: RetrievalPredictor(
            RetrievalModel(RetrievalSettings(), (), Model(), BackboneSettings(), INDEX),
            Path(),
            Device(),
        ).whole([], torch.ones(1))
    ],
    "segment.retrieval.regions.pooled_features.shown": [
        lambda: pooled_features(
            Proposals.from_masks(np.ones((1, 4, 6), bool)), np.ones((1, 2, 2)), (1.5, 1.0)
        )
    ],
    "segment.retrieval.regions.regions_of.mask": [
        lambda: regions_of(WRONG_DTYPE, erosions=1, min_area=1)
    ],
    "segment.smoothing.smooth.images": [
        lambda: smooth([FLOATS], torch.ones(1, 2, 4, 6), CrfKernelSettings())
    ],
} | {key: [call, below_one(-0.1)[key]] for key, call in below_one(1.0).items()}
"""By function and argument, calls with what the docstring rules out."""


@pytest.mark.parametrize(
    ("name", "call"), [(name, call) for name, calls in CASES.items() for call in calls]
)
def test_every_documented_dtype_and_range_is_checked(name: str, call: Callable[[], Any]) -> None:
    argument = name.rpartition(".")[2]
    with pytest.raises(ValueError, match=rf"^{argument}(\[0\])? (must|holds)"):
        call()


def arguments(doc: str) -> Iterator[tuple[str, str]]:
    """Names and descriptions of what a docstring lists under Args or Attributes."""
    for section in re.findall(r"^(?:Args|Attributes):\n((?:    .*\n|\n)+)", doc + "\n", re.M):
        yield from re.findall(r"^    (\w+): ((?:.*\n)(?:     .*\n)*)", section, re.M)


def documented(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            own = f"{prefix}.{node.name}"
            for name, text in arguments(ast.get_docstring(node) or ""):
                if RULE.search(text):
                    yield f"{own}.{name}"
            if isinstance(node, ast.ClassDef):
                yield from documented(node.body, own)


ELSEWHERE = {
    "artifacts.manifest.Sample.class_ids": "Manifest, which knows K",
    "cam.multiscale.windowed_cams.normalise": "a function",
    "cam.scaled_image.ScaledImage.normalise": "a function",
    "segment.predict.predict_mask_in_windows.normalise": "a function",
    "evaluate.ground_truth.read_ground_truth.num_fg_classes": "a number; the file is checked",
}
"""What the rule finds, but is no range of an argument."""

IN_A_STEP = {
    "refine.affinity_labels.affinity_labels.images",
    "refine.affinity_labels.affinity_loss.affinities",
    "refine.affinity_labels.affinity_terms.affinities",
    "refine.affinity_labels.pair_labels.labels",
    "refine.random_walk.path_affinities.boundary",
    "refine.random_walk.random_walk.affinities",
    "segment.forms.tag_loss.lse_pool.inside",
    "segment.forms.tag_loss.tag_cross_entropy.labels",
    "segment.forms.tag_loss.tag_cross_entropy.probs",
}
"""Tensors that a network has just made: to look at their values is to wait for the GPU."""


def test_no_documented_range_is_without_a_case() -> None:
    found = set()
    for path in sorted(SRC.rglob("*.py")):
        parts = path.relative_to(SRC).with_suffix("").parts
        if parts[0] in PACKAGES and not parts[-1].startswith("_"):
            body = ast.parse(path.read_text(encoding="utf-8")).body
            found |= set(documented(body, ".".join(parts)))
    assert found - set(ELSEWHERE) - IN_A_STEP - set(CASES) == set()
    assert set(ELSEWHERE) | IN_A_STEP <= found
