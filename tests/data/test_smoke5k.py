"""SMOKE5K whole: all images show smoke, in both layouts, and only val need be there."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsss.config import ConfigError
from wsss.data.smoke5k import Smoke5k, Smoke5kSettings


def write_smoke5k(root: Path, *, published: bool = False, count: int = 3, size: int = 48) -> Path:
    """Images with a bright block and masks of 0 and 255, as the set has them."""
    rng = np.random.default_rng(3)
    for split in ("train", "test"):
        folders = [root / split / kind for kind in ("img", "gt")]
        if not published:
            folders = [root / kind / split for kind in ("images", "masks")]
        for folder in folders:
            folder.mkdir(parents=True)
        for index in range(count):
            mask = np.zeros((size, size), np.uint8)
            mask[8 : 20 + index, 10:30] = 255
            pixels = rng.integers(0, 90, (size, size, 3), np.uint8)
            pixels[mask > 0] += 120
            Image.fromarray(pixels).save(folders[0] / f"{index}_+{index:05}.png")
            Image.fromarray(mask).save(folders[1] / f"{index}_+{index:05}.png")
    return root


@pytest.mark.parametrize("published", [True, False])
def test_all_images_have_the_tag_and_a_mask(tmp_path: Path, published: bool) -> None:
    root = write_smoke5k(tmp_path / "set", published=published)
    raw = Smoke5k(Smoke5kSettings(root=str(root))).collect(tmp_path, 0)
    assert raw.class_names == ("smoke",)
    assert {split: len(found) for split, found in raw.splits.items()} == {"train": 3, "val": 3}
    for split, samples in raw.splits.items():
        for sample in samples:
            assert sample.class_ids == (1,)
            assert sample.mask is not None
            assert sample.name == f"{split}/{sample.mask.stem}" == f"{split}/{sample.image.stem}"
            means = sample.mask_values
            assert {means[value] for value in np.unique(Image.open(sample.mask))} == {0, 1}
    assert not raw.problems


def test_training_images_may_be_missing_and_validation_may_not(tmp_path: Path) -> None:
    root = write_smoke5k(tmp_path / "set")
    (root / "images/train").rename(root / "images/other")
    raw = Smoke5k(Smoke5kSettings(root=str(root))).collect(tmp_path, 0)
    assert (len(raw.splits["train"]), len(raw.splits["val"])) == (0, 3)
    (root / "masks/test/1_+00001.png").unlink()
    raw = Smoke5k(Smoke5kSettings(root=str(root))).collect(tmp_path, 0)
    assert [problem.name for problem in raw.problems] == ["val/1_+00001"]
    with pytest.raises(ConfigError, match=r"dataset\.val: .*images/tests is not a folder; did you"):
        Smoke5k(Smoke5kSettings(root=str(root), val="tests")).collect(tmp_path, 0)
