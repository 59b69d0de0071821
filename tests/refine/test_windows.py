"""Refiners in windows: nothing of a window shows but what it cannot see.

That every refiner keeps its promises in windows is tested in test_contract.
"""

import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from wsss.artifacts import Paths, Sample, ScoreMap
from wsss.config.sections import BackboneSettings, RefineSettings
from wsss.models.affinity_net import save_network
from wsss.refine import Chain, Context, _windows
from wsss.refine._windows import Windowed
from wsss.refine.dense_crf import DenseCrf, DenseCrfSettings
from wsss.refine.fusion import FusionSettings
from wsss.refine.irn import IrnLearnerSettings, IrnSettings
from wsss.refine.pamr import PamrSettings
from wsss.registry import AFFINITIES
from wsss.settings import Settings
from wsss.stages import refine_cams

Refine = Callable[[np.ndarray, ScoreMap], np.ndarray]


class Spy:
    """A refiner that is a function of one image and map, and knows what it was called with.

    Attributes:
        calls: of each, the shapes of images and scores, and the names.
    """

    windowed = True

    def __init__(self, function: Refine) -> None:
        self.function = function
        self.calls: list[list[tuple[tuple[int, ...], tuple[int, ...], str]]] = []

    def __call__(
        self,
        images: Sequence[np.ndarray],
        score_maps: Sequence[ScoreMap],
        names: Sequence[str],
    ) -> list[ScoreMap]:
        shapes = [(image.shape[:2], cam.scores.shape) for image, cam in zip(images, score_maps)]
        self.calls.append([(*both, name) for both, name in zip(shapes, names, strict=True)])
        return [
            replace(cam, scores=self.function(image, cam))
            for image, cam in zip(images, score_maps, strict=True)
        ]


def identity(image: np.ndarray, cam: ScoreMap) -> np.ndarray:
    assert image.shape[:2] == cam.size
    return cam.scores


def shaded(image: np.ndarray, cam: ScoreMap) -> np.ndarray:
    """Any function of a pixel's score and colour, at image size."""
    scores: np.ndarray = cam.full_scores() ** 2 * image[None, ..., 0] / np.float32(255)
    return scores


def score_map(scores: np.ndarray, size: tuple[int, int]) -> ScoreMap:
    count = len(scores)
    ids = np.arange(1, count + 1, dtype=np.uint8)
    return ScoreMap(ids, scores.astype(np.float32), size, np.full(count, 0.5, np.float32))


def noise(*size: int) -> np.ndarray:
    """(H, W, 3) uint8."""
    return np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)


def blurred(count: int, height: int, width: int) -> np.ndarray:
    """(count, height, width) float32 in [0, 1], smooth."""
    rng = np.random.default_rng(0)
    coarse = score_map(rng.random((count, height // 16 + 1, width // 16 + 1)), (height, width))
    return coarse.full_scores()


def in_windows(
    refine: Refine, image: np.ndarray, cam: ScoreMap, window: int, overlap: float = 0.5
) -> np.ndarray:
    (result,) = Windowed(Spy(refine), window, overlap)([image], [cam], ["a"])
    assert result.size == cam.size
    np.testing.assert_array_equal(result.class_ids, cam.class_ids)
    np.testing.assert_array_equal(result.class_probs, cam.class_probs)
    return result.scores


def through(settings: Settings, image: np.ndarray, cam: ScoreMap, window: int = 0) -> np.ndarray:
    (result,) = Chain([settings], Context(), window=window)([image], [cam], ["a"])
    return result.full_scores()


SIDES = st.integers(1, 50)


@hypothesis_settings(max_examples=60)
@given(
    rows=SIDES, columns=SIDES, stride=st.sampled_from([1, 2, 4]),
    window=st.integers(32, 80), overlap=st.floats(0, 0.8),
)  # fmt: skip
def test_a_refiner_that_changes_nothing_changes_nothing(
    rows: int, columns: int, stride: int, window: int, overlap: float
) -> None:
    size = (rows * stride, columns * stride)
    cam = score_map(np.random.default_rng(0).random((2, rows, columns)), size)
    found = in_windows(identity, noise(*size), cam, window, overlap)
    np.testing.assert_allclose(found, cam.scores, atol=1e-6)


@hypothesis_settings(max_examples=60)
@given(
    height=SIDES, width=SIDES, rows=SIDES, columns=SIDES, window=st.integers(3, 60),
    own=st.tuples(SIDES, SIDES), overlap=st.floats(0, 0.8),
)  # fmt: skip
@example(height=49, width=1, rows=3, columns=1, window=20, own=(1, 1), overlap=0.8)
def test_a_constant_stays_on_any_grids(
    height: int, width: int, rows: int, columns: int, window: int, own: tuple[int, int],
    overlap: float,
) -> None:  # fmt: skip
    # A cell that no window covers would be 0, and one that is counted twice above the others. In
    # the example windows are as large as a cell, and must not lie between the centres of two.
    cam = score_map(np.full((1, rows, columns), 0.7), (height, width))
    found = in_windows(
        lambda _, part: np.full((1, *own), part.scores.mean(), np.float32),
        noise(height, width), cam, window, overlap,
    )  # fmt: skip
    np.testing.assert_allclose(found, 0.7, atol=1e-6)


@pytest.mark.parametrize("cells", [10, 16, 21])
@pytest.mark.parametrize(("begin", "end"), [(0, 40), (7, 33), (13, 20), (24, 40)])
def test_a_part_is_of_the_resized_whole(cells: int, begin: int, end: int) -> None:
    # also at its ends, where the resized whole takes from cells beyond the part
    cam = score_map(np.random.default_rng(0).random((2, cells, cells)), (40, 40))
    span = (begin * cells / 40, end * cells / 40)
    found = _windows._resized(cam.scores, span, span, (end - begin, end - begin))
    np.testing.assert_allclose(found, cam.full_scores()[:, begin:end, begin:end], atol=1e-5)


@pytest.mark.parametrize("own", [None, (13, 13), (32, 32), (64, 64), (100, 100)])
@pytest.mark.parametrize("cells", [32, 50, 61, 97])
@pytest.mark.parametrize("length", [128, 200, 213])
def test_scores_stay_where_they_are(length: int, cells: int, own: tuple[int, int] | None) -> None:
    # A ramp shows a shift of a fraction of a cell, which no grid may bring about.
    ramp = (np.arange(cells) + 0.5) / cells
    cam = score_map(np.stack([np.tile(ramp, (cells, 1)), np.tile(ramp[:, None], cells)]),
                    (length, length))  # fmt: skip
    found = in_windows(
        lambda _, part: part.on_grid(own or part.scores.shape[1:]),
        noise(length, length), cam, 64,
    )  # fmt: skip
    middles = (np.arange(found.shape[2]) + 0.5) / found.shape[2]
    inner = (middles > 8 / length) & (middles < 1 - 8 / length)  # a resized ramp ends in a flat
    np.testing.assert_allclose(found[0].mean(axis=0)[inner], middles[inner], atol=0.4 / length)
    np.testing.assert_allclose(found[1].mean(axis=1)[inner], middles[inner], atol=0.4 / length)


@pytest.mark.parametrize(("stride", "most"), [(1, 1e-6), (4, 2e-3)])
def test_a_function_of_a_pixel_gives_what_it_gives_the_whole(stride: int, most: float) -> None:
    # of coarse scores but for the outermost pixels of windows, which count next to nothing
    image = noise(120, 200)
    cam = score_map(blurred(2, 120 // stride, 200 // stride), (120, 200))
    found = in_windows(shaded, image, cam, 64)
    np.testing.assert_allclose(found, shaded(image, cam), atol=most)


def test_windows_by_a_plain_loop() -> None:
    # A refiner that sees all of its window: what lies where, and its weight, matter.
    image = noise(40, 100)
    cam = score_map(np.random.default_rng(0).random((2, 40, 100)), (40, 100))

    def whole_window(image: np.ndarray, part: ScoreMap) -> np.ndarray:
        scores: np.ndarray = part.scores * np.float32(image.mean() / 255) * part.scores.mean()
        return scores

    total, weights = np.zeros((2, 40, 100)), np.zeros((40, 100))
    for top in (0, 8):
        for left in (0, 16, 32, 48, 64, 68):
            part = replace(
                cam, scores=cam.scores[:, top : top + 32, left : left + 32], size=(32, 32)
            )
            scores = whole_window(image[top : top + 32, left : left + 32], part)
            hann = torch.hann_window(64, periodic=True)[1::2].numpy()
            for y in range(32):
                for x in range(32):
                    weight = float(hann[y] * hann[x])
                    total[:, top + y, left + x] += weight * scores[:, y, x]
                    weights[top + y, left + x] += weight
    found = in_windows(whole_window, image, cam, 32)
    np.testing.assert_allclose(found, total / weights, atol=1e-5)


def test_pamr_sees_the_same_where_windows_reach_as_far() -> None:
    # Two steps of 2 cells, whose weights look 2 cells further.
    settings, reach = PamrSettings(dilations=(1, 2), n_iters=2), 6
    image, cam = noise(96, 160), score_map(blurred(2, 96, 160), (96, 160))
    whole, found = through(settings, image, cam), through(settings, image, cam, window=64)
    borders = [
        np.abs(np.arange(length)[:, None] - np.arange(32, length, 32)).min(axis=1) >= reach
        for length in (96, 160)
    ]
    np.testing.assert_allclose(
        found[:, borders[0]][:, :, borders[1]], whole[:, borders[0]][:, :, borders[1]], atol=1e-6
    )
    np.testing.assert_allclose(found, whole, atol=0.02)


def largest_jump(scores: np.ndarray) -> float:
    """Across the borders of windows of 64 pixels that begin every 32."""
    at = np.arange(32, scores.shape[2], 32)
    return float(np.abs(scores[:, :, at] - scores[:, :, at - 1]).max())


def test_dense_crf_leaves_no_seam() -> None:
    image = np.clip(np.random.default_rng(0).normal(128, 6, (64, 192, 3)), 0, 255).astype(np.uint8)
    cam = score_map(0.2 + 0.3 * blurred(1, 64, 192), (64, 192))
    settings = DenseCrfSettings(sigma_xy=10, sigma_rgb=10, compat_bilateral=1)
    whole, found = through(settings, image, cam), through(settings, image, cam, window=64)
    assert largest_jump(found) <= 1.05 * largest_jump(whole)
    # what there would be to see without the overlap
    (apart,) = Windowed(DenseCrf(settings, Context()), 64, 0.0)([image], [cam], ["a"])
    assert largest_jump(apart.scores) > 5 * largest_jump(whole)


def test_an_image_as_large_as_a_window_is_refined_as_ever() -> None:
    images = [noise(64, 40), noise(200, 100), noise(9, 64), noise(65, 1)]
    maps = [score_map(blurred(2, *picture.shape[:2]), picture.shape[:2]) for picture in images]
    spy = Spy(shaded)
    found = Windowed(spy, 64, 0.5)(images, maps, ["a", "b", "c", "d"])
    assert [name for _, _, name in spy.calls[0]] == ["a", "c"]  # in one batch
    assert {name for call in spy.calls[1:] for _, _, name in call} == {"b", "d"}
    for refined, image, before in zip(found, images, maps, strict=True):
        np.testing.assert_allclose(refined.scores, shaded(image, before), atol=1e-6)
    chain = [PamrSettings(), DenseCrfSettings()]
    for window in (64, 1000):
        plain = Chain(chain, Context())([images[0]], [maps[0]], ["a"])[0].scores
        other = Chain(chain, Context(), window=window)([images[0]], [maps[0]], ["a"])[0].scores
        np.testing.assert_array_equal(plain, other)


def test_a_line_of_pixels() -> None:
    for size in ((3000, 1), (1, 3000)):
        grid = (-(-size[0] // 4), -(-size[1] // 4))
        cam = score_map(np.random.default_rng(0).random((1, *grid)), size)
        np.testing.assert_allclose(
            in_windows(identity, noise(*size), cam, 512), cam.scores, atol=1e-6
        )
        settings = PamrSettings(dilations=(1, 2), n_iters=1)
        found = through(settings, noise(*size), cam, window=512)
        assert found.shape == (1, *size) and 0 < found.mean() < 1


def test_what_runs_at_once_does_not_grow_with_the_image() -> None:
    for side in (600, 1200, 2400):
        spy = Spy(identity)
        cam = score_map(np.ones((1, side // 4, side // 4)), (side, side))
        Windowed(spy, 512, 0.5)([np.zeros((side, side, 3), np.uint8)], [cam], ["a"])
        for call in spy.calls:
            assert sum(height * width for (height, width), _, _ in call) <= 2**22
            assert all(max(size) <= 512 and max(shape) <= 128 for size, shape, _ in call)


def test_memory_besides_the_result_is_that_of_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_windows, "BATCH_PIXELS", 2 * 128**2)
    image = np.zeros((1536, 1536, 3), np.uint8)
    cam = score_map(np.ones((1, 384, 384)), (1536, 1536))
    tracemalloc.start()
    try:
        in_windows(lambda _, part: part.full_scores(), image, cam, 128)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 1536**2 + 2**20


class Peaked(Spy):
    """Divides by the greatest score of an image, as IRN does."""

    def __call__(
        self,
        images: Sequence[np.ndarray],
        score_maps: Sequence[ScoreMap],
        names: Sequence[str],
    ) -> list[ScoreMap]:
        plain = self.unnormalised(images, score_maps, names)
        return [replace(cam, scores=cam.scores / cam.scores.max()) for cam in plain]

    def unnormalised(
        self,
        images: Sequence[np.ndarray],
        score_maps: Sequence[ScoreMap],
        names: Sequence[str],
    ) -> list[ScoreMap]:
        return super().__call__(images, score_maps, names)


def strong_and_faint() -> ScoreMap:
    """One class, strong far left and faint far right; another one is nowhere."""
    scores = np.zeros((2, 64, 256))
    scores[0, 20:40, 10:30], scores[0, 20:40, 220:240] = 0.5, 0.05
    return score_map(scores, (64, 256))


def test_a_trace_of_a_class_is_not_stretched() -> None:
    cam = strong_and_faint()
    (found,) = Windowed(Peaked(identity), 64, 0.5)([noise(64, 256)], [cam], ["a"])
    np.testing.assert_allclose(found.scores, 2 * cam.scores, atol=1e-6)


def test_irn_does_not_stretch_a_trace_of_a_class(tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = BackboneSettings(model_name="resnet10t")
    save_network(AFFINITIES.build(IrnLearnerSettings(), backbone), tmp_path / "irn")
    chain = Chain([IrnSettings()], Context(affinities=tmp_path), window=64)
    (found,) = chain([noise(64, 256)], [strong_and_faint()], ["a"])
    scores = found.full_scores()
    assert scores.max() > 0.9 and 0 < scores[0, :, 192:].max() < 0.25
    assert scores[1].max() == 0


@pytest.mark.parametrize("settings", [PamrSettings(), DenseCrfSettings()])
def test_where_no_class_is_none_appears(settings: Settings) -> None:
    scores = through(settings, noise(64, 256), strong_and_faint(), window=64)
    assert scores[0, 20:40, 10:30].max() > 0.1
    assert (scores[:, :, 96:160] == 0).all()  # these windows are left out
    assert scores[1].max() < 1e-3


def test_a_map_without_scores_stays() -> None:
    for count in (0, 2):
        cam = score_map(np.zeros((count, 16, 64)), (64, 256))
        spy = Spy(shaded)
        (found,) = Windowed(spy, 64, 0.5)([noise(64, 256)], [cam], ["a"])
        assert found.full_scores().max(initial=0) == 0
        assert not any(spy.calls)


def test_refiners_that_find_artifacts_by_name_run_whole() -> None:
    object_crf = DenseCrfSettings(background="object", object_source="salient")
    whole = [FusionSettings(), object_crf]
    chain = Chain([*whole, PamrSettings()], Context(), window=64, overlap=0.25)
    assert [isinstance(refiner, Windowed) for refiner in chain.refiners] == [False, False, True]
    assert isinstance(chain.refiners[2], Windowed) and chain.refiners[2].overlap == 0.25
    assert not any(isinstance(refiner, Windowed) for refiner in Chain(whole, Context()).refiners)


def test_the_stage_refines_a_large_image_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [(10, 10)] * 20 + [(10, 65), (64, 64), (65, 10)]
    samples = [Sample(str(at), str(at), size, (1,)) for at, size in enumerate(sizes)]
    image, cam = noise(1, 1), score_map(np.ones((1, 1, 1)), (1, 1))
    monkeypatch.setattr(refine_cams, "read_image", lambda path: image)
    monkeypatch.setattr(refine_cams, "read_score_map", lambda path: cam)
    for window, wanted in ((64, [1, 1, 5, 16]), (0, [7, 16])):
        chain, spy = Chain([], Context()), Spy(identity)
        chain.refiners = [spy]
        found = refine_cams.refined_maps(chain, samples, Paths(Path()), window)
        assert sorted(int(sample.name) for sample, _ in found) == list(range(23))
        assert sorted(map(len, spy.calls)) == wanted


def test_settings_have_bounds() -> None:
    assert RefineSettings().window == 0
    for values in ({"window": -1}, {"window_overlap": 1.0}, {"window_overlap": -0.1}):
        with pytest.raises(ValueError, match="window"):
            RefineSettings.model_validate(values)
