from typing import Any

import numpy as np
import pytest
from scipy.ndimage import label  # type: ignore[import-untyped]

from wsss.artifacts import Proposals
from wsss.config.params import parse_params
from wsss.proposals.superpixels import Superpixels, SuperpixelsSettings
from wsss.settings import ConfigError


def boxes(height: int = 48, width: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """An image of flat colours with a little noise, and which box a pixel is of."""
    labels = np.zeros((height, width), np.int64)
    labels[8:30, 10:40] = 1
    labels[20:44, 34:60] = 2
    colours = np.array([[120, 120, 120], [210, 60, 40], [30, 80, 210]])
    noise = np.random.default_rng(0).normal(0, 3, (height, width, 3))
    return np.clip(colours[labels] + noise, 0, 255).astype(np.uint8), labels


def superpixels(image: np.ndarray, **settings: Any) -> Proposals:
    def device() -> Any:
        raise AssertionError("superpixels need no device")

    return Superpixels(SuperpixelsSettings(**settings), device)(image)


LEVELS = {
    "felzenszwalb": {"felzenszwalb_scales": (100,), "slic_segments": ()},
    "slic": {"felzenszwalb_scales": (), "slic_segments": (30,)},
}


@pytest.mark.parametrize("level", LEVELS.values(), ids=LEVELS)
def test_a_level_is_a_partition_into_connected_regions_of_one_box(level: dict[str, Any]) -> None:
    image, labels = boxes()
    found = superpixels(image, **level)
    np.testing.assert_array_equal(found.scatter(np.ones((1, len(found)))), np.ones((1, 48, 64)))
    masks = found.matrix().toarray().reshape(-1, 48, 64)
    assert [label(mask, np.ones((3, 3)))[1] for mask in masks] == [1] * len(masks)
    per_box = found.sums(np.stack([labels == box for box in range(3)]))
    assert per_box.max(axis=0).sum() > 0.97 * labels.size  # pixels in regions of their own box
    assert 3 <= len(found) <= 45


def test_levels_come_in_order_and_larger_values_are_coarser_or_finer() -> None:
    image, _ = boxes()
    single = [
        superpixels(image, felzenszwalb_scales=scales, slic_segments=segments)
        for scales, segments in [((10,), ()), ((1000,), ()), ((), (12,)), ((), (100,))]
    ]
    joined = superpixels(image, felzenszwalb_scales=(10, 1000), slic_segments=(12, 100))
    np.testing.assert_array_equal(joined.starts, Proposals.join(single).starts)
    counts = [len(level) for level in single]
    assert counts[0] > counts[1] and counts[2] < counts[3]
    assert 6 <= counts[2] <= 14 and 50 <= counts[3] <= 120


@pytest.mark.parametrize("level", LEVELS.values(), ids=LEVELS)
def test_a_large_image_is_looked_at_in_a_smaller_size(level: dict[str, Any]) -> None:
    image, _ = boxes()
    found = superpixels(np.kron(image, np.ones((3, 3, 1), np.uint8)), long_side=64, **level)
    assert found.size == (144, 192)
    small = superpixels(image, **level).matrix().toarray().reshape(-1, 48, 64)
    large = found.matrix().toarray().reshape(-1, 144, 192)
    np.testing.assert_array_equal(large, np.kron(small, np.ones((3, 3))))
    one_row = superpixels(np.zeros((1, 300, 3), np.uint8), long_side=100, **level)
    assert one_row.size == (1, 300)


def test_small_regions_are_merged() -> None:
    image, _ = boxes()
    image[2:4, 2:4] = 255  # four bright pixels
    settings = {"felzenszwalb_scales": (50,), "felzenszwalb_sigma": 0, "slic_segments": ()}
    areas = superpixels(image, felzenszwalb_min_size=30, **settings).areas()
    assert areas.min() >= 30
    assert 4 in superpixels(image, felzenszwalb_min_size=0, **settings).areas()


def test_some_level_is_needed() -> None:
    values = {"name": "superpixels", "felzenszwalb_scales": [], "slic_segments": []}
    with pytest.raises(ConfigError, match="name at least one level"):
        parse_params({"make_proposals": {"a": values}})
