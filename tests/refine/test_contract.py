"""What every refiner promises, checked on each name the registry finds."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wsss.artifacts import Proposals, ScoreMap, read_proposals, write_proposals
from wsss.config.sections import BackboneSettings
from wsss.models.affinity_net import save_network
from wsss.proposals.superpixels import Superpixels, SuperpixelsSettings
from wsss.refine import Chain, Context
from wsss.refine._windows import Windowed
from wsss.refine.dense_crf import PRESETS
from wsss.registry import AFFINITIES, REFINERS


def scene(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two coloured boxes on grey, and the mask that says which is which."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), np.uint8)
    mask[height // 5 : height // 2, width // 6 : width // 2] = 1
    mask[height // 2 :, 2 * width // 3 :] = 2
    colours = np.array([[128, 128, 128], [200, 60, 40], [30, 80, 200]])
    image = np.clip(colours[mask] + rng.normal(0, 4, (height, width, 3)), 0, 255).astype(np.uint8)
    return image, mask


def coarse(mask: np.ndarray, class_ids: list[int]) -> ScoreMap:
    """Scores as a CAM has them: high inside, reaching past the edge, on a quarter grid."""
    height, width = mask.shape
    grid = (max(1, height // 4), max(1, width // 4))
    scores = np.zeros((len(class_ids), *grid), np.float32)
    for index, class_id in enumerate(class_ids):
        for y, x in np.ndindex(grid):
            block = mask[4 * y : 4 * y + 8, 4 * x : 4 * x + 8] == class_id
            scores[index, y, x] = 0.15 + 0.8 * block.mean() if block.size else 0.1
    ids = np.array(class_ids, np.uint8)
    return ScoreMap(ids, scores, (height, width), np.full(len(ids), 0.9, np.float32))


SMALL = {"vit_affinity": {"model_name": "resnet10t", "output_stride": 16, "long_side": 64}}
"""What defaults would take too long for."""

CHAINS: dict[str, dict[str, Any]] = {
    **{name: {"name": name, **SMALL.get(name, {})} for name in REFINERS.names()},
    **{f"dense_crf-{preset}": {"name": "dense_crf", "preset": preset} for preset in PRESETS},
    **{
        f"regions-{rule}": {"name": "regions", "rule": rule, "threshold": 0.6}
        for rule in ("sepl", "smoke")
    },
}

WINDOW = 24
"""Pixels of a window: smaller than most images here, so that they are refined in several."""
WHOLE = ("class_evidence", "fusion", "rebalance", "regions")
"""Refiners that see no pixels, or the whole image."""
WINDOWED = [f"{name}-windows" for name in REFINERS.names() if name not in WHOLE]

UNTRAINED = dict.fromkeys(
    ("affinity_net", "irn", "vit_affinity"),
    "its network has random weights here; tests of its own train one",
)
NOT_TOWARDS_THE_TRUTH = UNTRAINED
NOT_OF_A_PERFECT_SEED = UNTRAINED
NOT_MIRRORED = dict.fromkeys(UNTRAINED, "networks see a mirrored image otherwise")
"""Refiners that a property does not hold for, and why."""

FLOORS_SCORES = {"dense_crf": "marginals are never 0, and its unary keeps logarithms finite"}
"""Refiners that may give a class some score where it has none anywhere."""


def except_for(chain: "Refine", reasons: dict[str, str]) -> None:
    """Skip the test for a refiner that has a reason."""
    if chain.name in reasons:
        pytest.skip(reasons[chain.name])


@pytest.fixture(scope="module")
def affinities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with random weights for each refiner that takes a trained one."""
    folder = tmp_path_factory.mktemp("affinities")
    torch.manual_seed(0)
    for settings in map(REFINERS.settings, REFINERS.names()):
        learner = getattr(settings, "trained_by", "")
        if learner:
            backbone = BackboneSettings(model_name="resnet10t")
            network = AFFINITIES.build(AFFINITIES.settings(learner)(), backbone)
            save_network(network, folder / settings().network)  # type: ignore[attr-defined]
    return folder


@pytest.fixture(params=[*CHAINS, *WINDOWED])
def chain(request: pytest.FixtureRequest, tmp_path: Path, affinities: Path) -> "Refine":
    proposals = tmp_path / "proposals/superpixels"
    proposals.mkdir(parents=True)
    name = request.param.removesuffix("-windows")
    window = WINDOW if name != request.param else 0
    return Refine(CHAINS[name], Context("cpu", proposals.parent, affinities), window)


class Refine:
    """A chain of one; images are named by their content, and their superpixels are made."""

    def __init__(self, values: dict[str, Any], context: Context, window: int) -> None:
        self.name = values["name"]
        settings = REFINERS.settings(self.name).model_validate(values)
        self.chain = Chain([settings], context, window=window)
        assert isinstance(self.chain.refiners[0], Windowed) == bool(window)
        self.folder = context.proposals / "superpixels"

    def __call__(self, images: Sequence[np.ndarray], maps: Sequence[ScoreMap]) -> list[ScoreMap]:
        for image in images:
            if not self._file(image).exists():
                source = Superpixels(SuperpixelsSettings(), lambda: torch.device("cpu"))
                write_proposals(self._file(image), source(image))
        return self.chain(images, maps, [self._file(image).stem for image in images])

    def _file(self, image: np.ndarray) -> Path:
        name = hashlib.md5(image.tobytes() + bytes(image.shape)).hexdigest()
        return self.folder / f"{name}.npz"

    def mirror(self, image: np.ndarray) -> np.ndarray:
        """The mirrored image, which gets the mirrored proposals of one that was refined."""
        found = read_proposals(self._file(image))
        masks = found.matrix().toarray().reshape(-1, *found.size) > 0
        mirrored = np.ascontiguousarray(image[:, ::-1])
        write_proposals(self._file(mirrored), Proposals.from_masks(masks[:, :, ::-1]))
        return mirrored


def mean_iou(cam: ScoreMap, mask: np.ndarray) -> float:
    """Of the best threshold, over the background and the classes of the map."""
    scores = cam.full_scores()
    best, winner = scores.max(axis=0), cam.class_ids[scores.argmax(axis=0)]
    found = []
    for theta in np.arange(0.05, 1, 0.05):
        guess = np.where(best > theta, winner, 0)
        pairs = [(guess == label, mask == label) for label in (0, *cam.class_ids)]
        found.append(np.mean([(a & b).sum() / max((a | b).sum(), 1) for a, b in pairs]))
    return float(max(found))


def valid(after: ScoreMap, before: ScoreMap) -> None:
    """Everything but the scores is as it was, and they are scores."""
    assert after.scores.dtype == np.float32
    assert np.isfinite(after.scores).all()
    assert after.scores.min(initial=0) >= 0 and after.scores.max(initial=0) <= 1
    np.testing.assert_array_equal(after.class_ids, before.class_ids)
    np.testing.assert_array_equal(after.class_probs, before.class_probs)
    assert after.size == before.size
    assert after.full_scores().shape == (len(before.class_ids), *before.size)


SIZES = [(40, 60), (33, 21), (8, 8), (1, 9), (9, 1), (1, 1)]


@pytest.mark.parametrize("class_ids", [[1, 2], [2], list(range(1, 21))], ids=["two", "one", "all"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_gives_valid_scores(chain: Refine, size: tuple[int, int], class_ids: list[int]) -> None:
    image, mask = scene(*size)
    before = coarse(mask, class_ids)
    (after,) = chain([image], [before])
    valid(after, before)


@pytest.mark.parametrize("size", SIZES[:3], ids=str)
def test_an_empty_map_gives_valid_scores(chain: Refine, size: tuple[int, int]) -> None:
    image, mask = scene(*size)
    cam = coarse(mask, [1, 2])
    before = replace(cam, scores=np.zeros_like(cam.scores))
    (after,) = chain([image], [before])
    valid(after, before)
    assert after.scores.max() < 0.5


def test_moves_the_mask_towards_the_truth(chain: Refine) -> None:
    except_for(chain, NOT_TOWARDS_THE_TRUTH)
    image, mask = scene(40, 60)
    before = coarse(mask, [1, 2])
    (after,) = chain([image], [before])
    assert mean_iou(after, mask) >= mean_iou(before, mask)


@pytest.mark.parametrize("seed", range(3))
def test_a_perfect_seed_stays_good(chain: Refine, seed: int) -> None:
    except_for(chain, NOT_OF_A_PERFECT_SEED)
    image, mask = scene(48, 64, seed)
    truth = np.stack([mask == 1, mask == 2]).astype(np.float32)
    before = replace(coarse(mask, [1, 2]), scores=truth)
    (after,) = chain([image], [before])
    assert mean_iou(after, mask) >= 0.95


def test_a_class_without_any_score_gets_none(chain: Refine) -> None:
    image, mask = scene(40, 60)
    before = coarse(mask, [1, 2, 3])
    before.scores[2] = 0
    (after,) = chain([image], [before])
    assert after.scores[2].max() <= (0.5 if chain.name in FLOORS_SCORES else 0)
    assert after.scores[:2].max() > 0


def test_a_mirrored_image_and_map_give_the_mirrored_result(chain: Refine) -> None:
    except_for(chain, NOT_MIRRORED)
    image, mask = scene(32, 48)
    before = coarse(mask, [1, 2])
    (plain,) = chain([image], [before])
    flipped = replace(before, scores=np.ascontiguousarray(before.scores[:, :, ::-1]))
    (mirrored,) = chain([chain.mirror(image)], [flipped])
    difference = np.abs(plain.full_scores() - mirrored.full_scores()[:, :, ::-1])
    assert difference.mean() < 0.01  # of a lattice, which has no centre; others are exact
    if not chain.name.startswith("dense_crf"):
        assert difference.max() < 1e-4


def test_permuting_the_classes_permutes_the_result(chain: Refine) -> None:
    image, mask = scene(24, 36)
    cam = coarse(mask, [1, 2])
    swapped = ScoreMap(cam.class_ids[::-1], cam.scores[::-1], cam.size, cam.class_probs[::-1])
    (plain,) = chain([image], [cam])
    (other,) = chain([image], [swapped])
    np.testing.assert_allclose(plain.scores, other.scores[::-1], atol=1e-5)


def test_a_batch_is_its_images_one_by_one(chain: Refine) -> None:
    scenes = [scene(24, 36, 1), scene(17, 40, 2), scene(9, 9, 3)]
    images = [image for image, _ in scenes]
    maps = [coarse(scenes[0][1], [1, 2]), coarse(scenes[1][1], [2]), coarse(scenes[2][1], [])]
    found = chain(images, maps)
    for image, cam, result in zip(images, maps, found, strict=True):
        (alone,) = chain([image], [cam])
        np.testing.assert_array_equal(alone.scores, result.scores)


def test_a_batch_without_tags_stays_empty(chain: Refine) -> None:
    scenes = [scene(9, 12, seed) for seed in range(2)]
    images = [image for image, _ in scenes]
    maps = [coarse(mask, []) for _, mask in scenes]
    for before, after in zip(maps, chain(images, maps), strict=True):
        valid(after, before)


def test_an_empty_chain_changes_nothing() -> None:
    image, mask = scene(24, 36)
    cam = coarse(mask, [1, 2])
    assert Chain([], Context())([image], [cam], ["a"]) == [cam]
