"""What a prediction sees of a file is what prepare_data writes of it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from wsss.artifacts import Sample, read_image
from wsss.data.images import BadImageError, PixelRules, prepare_image
from wsss.prediction.at_learned_size import enlarged
from wsss.prediction.reading import Reader, check_videos, frames
from wsss.stages._shrinking import shrink_all

AS_IT_IS = {"pixel_range": "auto", "bands": None, "long_side_max": 0}
GREY = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
RGB = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(path, quality=95, exif=exif)


FILES: dict[str, Callable[[Path], Any]] = {
    "plain.jpg": lambda path: Image.fromarray(RGB).save(path),
    "grey.png": lambda path: Image.fromarray(GREY).save(path),
    "turned.jpg": turned,
    "alpha.png": lambda path: Image.fromarray(np.dstack([RGB, GREY])).save(path),
    "cmyk.jpg": lambda path: Image.fromarray(RGB).convert("CMYK").save(path),
    "palette.gif": lambda path: Image.fromarray(RGB).save(path),
    "deep.png": lambda path: Image.fromarray(GREY.astype(np.uint16) * 200).save(path),
    "deep.tif": lambda path: tifffile.imwrite(path, RGB.astype(np.uint16) * 100),
}


@pytest.mark.parametrize("name", FILES)
def test_a_prediction_sees_what_prepare_data_writes(name: str, tmp_path: Path) -> None:
    FILES[name](tmp_path / name)
    reader = Reader(AS_IT_IS)
    found = reader.read(tmp_path / name)
    prepared = prepare_image(tmp_path / name, tmp_path / "out", "a")
    assert np.array_equal(found.pixels, read_image(tmp_path / "out" / prepared.file))
    assert found.size == prepared.size == found.pixels.shape[:2]
    assert reader.size(tmp_path / name) == found.size
    assert found.conversions == prepared.conversions or prepared.conversions == ("GIF",)


def test_settings_of_the_data_are_kept(tmp_path: Path) -> None:
    """Bands and the range of values, and the size that images are shrunk to."""
    values = np.random.default_rng(2).integers(0, 4096, (40, 100, 5)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", planarconfig="contig")
    settings = {"pixel_range": [0, 4095], "bands": [3, 2, 1], "long_side_max": 50}
    found = Reader(settings).read(tmp_path / "a.tif")
    rules = PixelRules((0, 4095), (3, 2, 1))
    prepared = prepare_image(tmp_path / "a.tif", tmp_path / "out", "a", rules)
    sample = Sample("a", prepared.file, prepared.size, ())
    shrunk, count = shrink_all({"val": [sample]}, tmp_path / "out", tmp_path, 50)
    assert count == 1
    assert np.array_equal(found.pixels, read_image(tmp_path / "out" / shrunk["val"][0].image))
    assert found.size == (40, 100) and found.pixels.shape == (20, 50, 3)
    assert "shrunk" in found.conversions
    assert Reader(settings).size(tmp_path / "a.tif") == (20, 50)
    with pytest.raises(BadImageError, match=r"5 bands .* set prepare_data\.bands, such as"):
        Reader(AS_IT_IS).read(tmp_path / "a.tif")


def test_few_of_sixteen_bits_are_noticed(tmp_path: Path) -> None:
    for name, top in (("dark.png", 4000), ("bright.png", 65535)):
        values = np.random.default_rng(0).integers(0, top, (8, 8)).astype(np.uint16)
        Image.fromarray(values).save(tmp_path / name)
    reader = Reader(AS_IT_IS)
    assert reader.read(tmp_path / "dark.png").is_dark
    assert not reader.read(tmp_path / "bright.png").is_dark


def test_nearest_pixels_of_whole_factors_repeat() -> None:
    values = np.random.default_rng(0).integers(0, 9, (2, 4, 5))
    assert np.array_equal(enlarged(values, (12, 10)), values.repeat(3, axis=1).repeat(2, axis=2))
    assert enlarged(values, (4, 5)) is values
    assert np.array_equal(enlarged(values.repeat(3, axis=1), (4, 5)), values)


def test_each_so_manieth_frame_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [np.full((2, 2, 3), number, np.uint8) for number in range(7)]

    def broken(path: Path) -> Iterator[np.ndarray]:
        yield made[0]
        raise OSError("no such codec\nand more")

    monkeypatch.setattr("wsss.prediction.reading.find_spec", lambda name: name)
    monkeypatch.setattr("imageio.v3.imiter", lambda path: iter(made))
    found = dict(frames(Path("a.mp4"), 3))
    assert sorted(found) == [0, 3, 6]
    assert all((frame == number).all() for number, frame in found.items())
    monkeypatch.setattr("imageio.v3.imiter", broken)
    with pytest.raises(BadImageError, match=r"cannot be read as a video: no such codec$"):
        list(frames(Path("a.mp4"), 1))
    monkeypatch.setattr("wsss.prediction.reading.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'wsss\[video\]'"):
        check_videos()
