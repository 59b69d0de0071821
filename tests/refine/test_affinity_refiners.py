"""Walks with AffinityNet and IRN against matrices that are written down."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from wsss.artifacts import ScoreMap
from wsss.config.sections import BackboneSettings
from wsss.loading.normalisation import Normalisation
from wsss.models.affinity_net import AffinityNet, save_network
from wsss.models.irn import Irn
from wsss.refine import Context
from wsss.refine.affinity_net import AffinityNetSettings, AffinityNetWalk, pair_affinities
from wsss.refine.irn import IrnSettings, IrnWalk
from wsss.refine.random_walk import pair_offsets
from wsss.registry import REFINERS

STRIDE = 4
TINY = BackboneSettings(
    model_name="vit_tiny_patch16_224",
    output_stride=STRIDE,
    timm_kwargs={"patch_size": STRIDE, "img_size": 32, "embed_dim": 24, "depth": 4, "num_heads": 2},
)
"""Random, it sees little but the colours of its patches."""


@pytest.fixture(scope="module")
def affinities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What train_affinities makes, for `Context`: random networks under the refiners' own names."""
    folder = tmp_path_factory.mktemp("affinities")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_network(AffinityNet(TINY), folder / "affinity_net")
        save_network(Irn(TINY), folder / "irn")
    return folder


def an_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def a_map(scores: np.ndarray, size: tuple[int, int]) -> ScoreMap:
    ids = np.arange(1, len(scores) + 1, dtype=np.uint8)
    return ScoreMap(ids, scores.astype(np.float32), size, np.full(len(ids), 0.9, np.float32))


def walked(
    scores: np.ndarray, affinity: Callable[[Any, Any], float], radius: int, beta: float, steps: int
) -> np.ndarray:
    """scores · T^steps with T written down, for (C, h, w) scores."""
    cells = list(np.ndindex(scores.shape[1:]))
    matrix = np.zeros((len(cells), len(cells)))
    for i, cell in enumerate(cells):
        for j, other in enumerate(cells):
            near = np.hypot(cell[0] - other[0], cell[1] - other[1]) < radius
            if i == j:
                matrix[i, j] = 1
            elif near:
                matrix[i, j] = affinity(cell, other) ** beta
    matrix /= matrix.sum(axis=0)
    flat = scores.reshape(len(scores), -1) @ np.linalg.matrix_power(matrix, steps)
    return flat.reshape(scores.shape)


def means(scores: np.ndarray, side: int) -> np.ndarray:
    """(C, h, w) means over blocks of side x side pixels."""
    count, height, width = scores.shape
    blocks = scores.reshape(count, height // side, side, width // side, side)
    return blocks.mean(axis=(2, 4))


def test_pair_affinities_are_those_of_every_pair() -> None:
    features = torch.randn(2, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    offsets = pair_offsets(3)
    found = pair_affinities(features, offsets)
    assert found.shape == (2, len(offsets), 4, 6)
    for b, k, y, x in np.ndindex(*found.shape):
        other_y, other_x = y + offsets[k, 0], x + offsets[k, 1]
        if other_y < 4 and 0 <= other_x < 6:
            distance = (features[b, :, y, x] - features[b, :, other_y, other_x]).abs().mean()
            assert found[b, k, y, x] == pytest.approx(float(np.exp(-distance)), abs=1e-6)
        else:
            assert found[b, k, y, x] == 0


def test_affinity_net_is_a_walk_with_the_background(affinities: Path) -> None:
    settings = AffinityNetSettings(alpha=3, beta=2, steps=5, radius=3)
    refiner = AffinityNetWalk(settings, Context(affinities=affinities))
    image, size = an_image(16, 24), (16, 24)
    cam = a_map(np.random.default_rng(1).random((2, *size)), size)
    (after,) = refiner([image], [cam], ["a"])

    pixels = functional.interpolate(  # its normalisation, by hand
        torch.from_numpy(image.transpose(2, 0, 1)[None] / 255).float(), size
    )
    mean, std = (
        torch.tensor(value).view(3, 1, 1)
        for value in vars(refiner.network.backbone.normalisation).values()
    )
    with torch.no_grad():
        f = refiner.network((pixels - mean) / std)[0].numpy()
    background = (1 - cam.scores.max(axis=0, keepdims=True)) ** 3
    cells = means(np.concatenate([background, cam.scores]), STRIDE)
    expected = walked(
        cells,
        lambda i, j: np.exp(-np.abs(f[:, *i] - f[:, *j]).mean()),
        radius=3,
        beta=2,
        steps=5,
    )
    folded = expected[1:] / (expected[1:].max(axis=0) + expected[0])
    assert after.scores.shape == (2, 4, 6)
    np.testing.assert_allclose(after.scores, folded, atol=1e-4)
    winner = expected.argmax(axis=0)
    mask = np.where(after.scores.max(axis=0) > 0.5, after.scores.argmax(axis=0) + 1, 0)
    np.testing.assert_array_equal(mask, winner)


def test_irn_is_a_walk_within_boundaries(
    affinities: Path, on_the_way: Callable[..., list[tuple[int, ...]]]
) -> None:
    settings = IrnSettings(beta=2, steps=5, radius=4)
    refiner = IrnWalk(settings, Context(affinities=affinities))
    image = an_image(20, 24)
    cam = a_map(np.random.default_rng(1).random((2, 20, 24)), (20, 24))
    (after,) = refiner([image], [cam], ["a"])
    with torch.no_grad():
        edge = refiner.boundary(image).double().numpy()
    assert edge.shape == (5, 6) and edge.std() > 0.01
    expected = walked(
        means(cam.scores, STRIDE) * (1 - edge),
        lambda i, j: 1 - max(edge[cell] for cell in on_the_way(i, j)),
        radius=4,
        beta=2,
        steps=5,
    )
    np.testing.assert_allclose(after.scores, expected / expected.max(), atol=1e-4)
    assert after.scores.max() == 1 and after.scores.max(axis=(1, 2)).min() < 1


def test_boundaries_of_the_mirrored_image_are_mirrored(affinities: Path) -> None:
    image = an_image(20, 24)
    mirrored = image[:, ::-1].copy()
    for flip, same in ((True, True), (False, False)):
        refiner = IrnWalk(IrnSettings(flip=flip), Context(affinities=affinities))
        with torch.no_grad():
            plain, other = refiner.boundary(image), refiner.boundary(mirrored).flip(-1)
        assert torch.allclose(plain, other, atol=1e-5) == same


class Colours(torch.nn.Module):
    """An AffinityNet that knows colours exactly: its features are 1000 times the pixel values."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = torch.nn.Linear(1, 1)
        self.backbone.__dict__ |= {
            "output_stride": 1,
            "normalisation": Normalisation((0, 0, 0), (1, 1, 1)),
        }

    def forward(self, images: Tensor) -> Tensor:
        return 1000 * images

    def boundary_logits(self, images: Tensor) -> Tensor:
        """A boundary on cells whose right or lower neighbour has another colour."""
        edge = torch.zeros(1, *images.shape[2:], dtype=torch.bool)
        edge[:, :-1] |= (images[:, :, 1:] != images[:, :, :-1]).any(dim=1)
        edge[:, :, :-1] |= (images[:, :, :, 1:] != images[:, :, :, :-1]).any(dim=1)
        return torch.where(edge, 100.0, -100.0)


def two_colours() -> tuple[np.ndarray, np.ndarray]:
    """A red block in the corner of a blue image, and where it is."""
    inside = np.zeros((12, 16), bool)
    inside[:6, :8] = True
    image = np.where(inside[..., None], [200, 30, 30], [30, 60, 200]).astype(np.uint8)
    return image, inside


def test_affinity_net_leaves_a_perfect_seed(affinities: Path) -> None:
    image, inside = two_colours()
    refiner = AffinityNetWalk(AffinityNetSettings(), Context(affinities=affinities))
    refiner.network = Colours()  # type: ignore[assignment]
    cam = a_map(inside[None].astype(np.float32), inside.shape)
    (after,) = refiner([image], [cam], ["a"])
    np.testing.assert_allclose(after.scores, cam.scores, atol=1e-5)


def test_walks_fill_the_region_of_a_partial_seed_and_no_more(affinities: Path) -> None:
    """A seed on a third of the block, and none on the rest of it and beside it."""
    image, inside = two_colours()
    seed = np.zeros((1, 12, 16), np.float32)
    seed[0, 1:4, 1:6] = 0.8
    walk = AffinityNetWalk(AffinityNetSettings(), Context(affinities=affinities))
    walk.network = Colours()  # type: ignore[assignment]
    (after,) = walk([image], [a_map(seed, inside.shape)], ["a"])
    assert after.scores[0][~inside].max() < 1e-4 < 0.2 < after.scores[0][inside].min()

    within = IrnWalk(IrnSettings(), Context(affinities=affinities))
    within.network = Colours()  # type: ignore[assignment]
    within.settings = IrnSettings(flip=False)
    (after,) = within([image], [a_map(seed, inside.shape)], ["a"])
    open_cells = inside.copy()
    open_cells[5, :8] = open_cells[:6, 7] = False  # the boundary itself
    assert after.scores[0][~inside].max() == 0
    assert after.scores[0][open_cells].min() > 0.8


def test_irn_leaves_a_perfect_seed(affinities: Path) -> None:
    image, inside = two_colours()
    refiner = IrnWalk(IrnSettings(flip=False), Context(affinities=affinities))
    refiner.network = Colours()  # type: ignore[assignment]
    cam = a_map(inside[None].astype(np.float32), inside.shape)
    (after,) = refiner([image], [cam], ["a"])
    edge = np.zeros_like(inside)
    edge[5, :8] = edge[:6, 7] = True
    np.testing.assert_allclose(after.scores[0][~edge], cam.scores[0][~edge], atol=1e-5)


def refiner_of(name: str, affinities: Path) -> Any:
    settings = REFINERS.settings(name)()
    return REFINERS.build(settings, Context(affinities=affinities))


@pytest.mark.parametrize("name", ["affinity_net", "irn"])
def test_classes_may_come_in_any_order(affinities: Path, name: str) -> None:
    """Also as a view of an array, whose rows lie backwards in memory."""
    refiner = refiner_of(name, affinities)
    cam = a_map(np.random.default_rng(1).random((2, 16, 24)), (16, 24))
    turned = replace(cam, class_ids=cam.class_ids[::-1], scores=cam.scores[::-1])
    image = an_image(16, 24)
    (plain,), (other,) = (refiner([image], [each], ["a"]) for each in (cam, turned))
    np.testing.assert_array_equal(plain.scores, other.scores[::-1])


@pytest.mark.parametrize("size", [(33, 21), (1, 9), (1, 1)])
@pytest.mark.parametrize("name", ["affinity_net", "irn"])
def test_the_grid_is_the_networks(affinities: Path, name: str, size: tuple[int, int]) -> None:
    refiner = refiner_of(name, affinities)
    cam = a_map(np.full((1, 3, 2), 0.5), size)
    (after,) = refiner([an_image(*size)], [cam], ["a"])
    assert after.scores.shape == (1, -(-size[0] // STRIDE), -(-size[1] // STRIDE))
    assert after == replace(cam, scores=after.scores)
    if name == "affinity_net":  # a constant stays, against a constant background
        np.testing.assert_allclose(after.scores, 0.5 / (0.5 + 0.5**16), atol=1e-5)


@pytest.mark.parametrize("walk", [AffinityNetWalk, IrnWalk])
def test_a_network_that_was_not_trained_is_named(walk: Any, tmp_path: Path) -> None:
    settings: Any = SimpleNamespace(network="mine", radius=5)
    with pytest.raises(ValueError, match=r"mine holds no trained network.*train_affinities"):
        walk(settings, Context(affinities=tmp_path))


def test_a_network_of_the_other_method_is_refused(affinities: Path) -> None:
    with pytest.raises(ValueError, match="a network of irn, but psa is asked for"):
        AffinityNetWalk(AffinityNetSettings(network="irn"), Context(affinities=affinities))
