"""Images above a longer side are shrunk with their masks, once, also after a kill."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import Sample, read_label_png, write_label_png
from wsss.stages._shrinking import shrink_all


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    images, masks = tmp_path / "images", tmp_path / "masks"
    for folder in (images, masks):
        folder.mkdir()
    return images, masks


def sample(folders: tuple[Path, Path], file: str, size: tuple[int, int]) -> Sample:
    """An image whose left half is red, which is class 1."""
    images, masks = folders
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[:, : size[1] // 2, 0] = 255
    Image.fromarray(pixels).save(images / file, quality=95)
    name = Path(file).stem
    write_label_png(masks / f"{name}.png", (pixels[..., 0] > 127).astype(np.uint8))
    return Sample(name, file, size, (1,), f"{name}.png")


def test_image_and_mask_have_one_size_and_show_the_same(folders: tuple[Path, Path]) -> None:
    given = [sample(folders, "a.jpg", (60, 120)), sample(folders, "b.png", (80, 40))]
    small = sample(folders, "c.jpg", (20, 30))
    kept = (folders[0] / "c.jpg").read_bytes()
    found, count = shrink_all({"train": given, "val": [small]}, *folders, 40)
    assert count == 2
    assert [item.size for item in found["train"]] == [(20, 40), (40, 20)]
    assert found["val"] == [small]
    assert (folders[0] / "c.jpg").read_bytes() == kept
    assert sorted(path.name for path in folders[0].iterdir()) == ["a.png", "b.png", "c.jpg"]
    for item in found["train"]:
        pixels = np.asarray(Image.open(folders[0] / item.image))
        mask = read_label_png(folders[1] / str(item.mask))
        assert pixels.shape[:2] == mask.shape == item.size
        assert set(np.unique(mask)) == {0, 1}
        assert ((pixels[..., 0] > 127) == (mask == 1)).mean() > 0.95
    # as of a run that was killed after it: what is done stays
    before = (folders[0] / "b.png").read_bytes()
    again, _ = shrink_all({"train": [given[1]]}, *folders, 40)
    assert again["train"] == [found["train"][1]]
    assert (folders[0] / "b.png").read_bytes() == before


def test_zero_keeps_every_size(folders: tuple[Path, Path]) -> None:
    given = sample(folders, "a.jpg", (60, 120))
    assert shrink_all({"train": [given]}, *folders, 0) == ({"train": [given]}, 0)


def test_no_side_becomes_nothing(folders: tuple[Path, Path]) -> None:
    found, _ = shrink_all({"train": [sample(folders, "a.png", (2, 400))]}, *folders, 20)
    assert found["train"][0].size == (1, 20)
