"""A set of small defects of which nothing was learned, as files between stages."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import Manifest, Paths, Sample, ScoreMap, write_label_png, write_score_map
from wsss.config.params import Params, parse_params

DEFECTS = ("crack", "dent", "hole", "scratch", "stain")
SIZE = (20, 24)


@pytest.fixture
def chance_params() -> Params:
    """Settings with one chain, the maps as they are."""
    return parse_params(
        {
            "machine": {"accelerator": "cpu", "num_workers": 0},
            "refine": {"chains": {"none": []}},
            "make_pseudo_masks": {"chain": "none"},
        }
    )


@pytest.fixture
def defects_at_chance(tmp_path: Path) -> Paths:
    """Grey tiles with a small defect each, or none; of most the map is empty, of others noise.

    By split 20 tiles of defects and 5 without any tag; all have masks.
    """
    paths, rng = Paths(tmp_path), np.random.default_rng(0)
    paths.images.mkdir(parents=True)
    splits = {}
    for split in ("train", "selection", "val"):
        samples = []
        for index in range(25):
            name = f"{split}{index:02}"
            ids = (index % 5 + 1,) if index < 20 else ()
            gt_mask = np.zeros(SIZE, np.uint8)
            y, x = rng.integers(2, 14, 2)
            gt_mask[y : y + 3, x : x + 4] = ids[0] if ids else 0
            Image.fromarray(np.full((*SIZE, 3), 120, np.uint8)).save(paths.images / f"{name}.png")
            write_label_png(paths.masks / f"{name}.png", gt_mask)
            scores = rng.random((len(ids), *SIZE), np.float32) * (index % 3 == 0)
            scores[:, gt_mask > 0] = 0
            write_maps(paths, name, ids, scores.astype(np.float32))
            samples.append(Sample(name, f"{name}.png", SIZE, ids, f"{name}.png"))
        splits[split] = tuple(samples)
    Manifest(DEFECTS, splits).write(paths.splits)
    return paths


def write_maps(paths: Paths, name: str, ids: tuple[int, ...], scores: np.ndarray) -> None:
    """The CAM of an image, and the same as what the chain 'none' makes of it."""
    probs = np.full(len(ids), 0.5, np.float32)
    score_map = ScoreMap(np.array(ids, np.uint8), scores, scores.shape[1:], probs)
    for folder in (paths.cams, paths.refined("none")):
        write_score_map(folder / f"{name}.npz", score_map)


@pytest.fixture
def with_masks() -> Callable[[Paths, Callable[[np.ndarray], np.ndarray]], None]:
    """Redraws all ground truth with a function of it."""

    def redraw(paths: Paths, change: Callable[[np.ndarray], np.ndarray]) -> None:
        for path in sorted(paths.masks.iterdir()):
            write_label_png(path, change(np.asarray(Image.open(path))).astype(np.uint8))

    return redraw
