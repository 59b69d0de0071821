from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import image, read_image


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_large_image_is_read_in_bands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, suffix: str
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (37, 20, 3), np.uint8)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels).convert(mode).save(path)
    whole = read_image(path)
    for band in (1, 20, 100, 36 * 20):
        monkeypatch.setattr(image, "BAND", band)
        np.testing.assert_array_equal(read_image(path), whole)


def test_read_image_names_a_bad_file(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), pixels)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    with pytest.raises(ValueError, match=r"b\.png cannot be read.*rerun the stage"):
        read_image(tmp_path / "b.png")
