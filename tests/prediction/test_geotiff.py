"""Masks lie where their images do, as another library reads their tags."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from wsss.artifacts import palette
from wsss.data.images import BadImageError
from wsss.prediction.geotiff import geo_tags, write_label_tiff
from wsss.prediction.reading import Reader

SCALE, TIEPOINT, TRANSFORMATION = 33550, 33922, 34264
KEYS, DOUBLES, TEXTS = 34735, 34736, 34737
NAME = "a projection|WGS 84|"
PLACED: dict[int, Any] = {
    SCALE: (0.2, 0.2, 0.0),
    TIEPOINT: (0.0, 0.0, 0.0, 432100.25, 5712345.75, 0.0),
    KEYS: (1, 1, 0, 3, 1024, 0, 1, 1, 1026, 34737, 20, 0, 3072, 0, 1, 32632),
    DOUBLES: (6378137.0, 298.257223563),
    TEXTS: NAME,
}
TURNED: dict[int, Any] = {
    TRANSFORMATION: (0.1, 0.2, 0, 7e5, 0.2, -0.1, 0, 6e6, 0, 0, 0, 0, 0, 0, 0, 1),
    KEYS: (1, 1, 0, 1, 3072, 0, 1, 4326),
}
_TYPES = {KEYS: "H", TEXTS: "s"}


def write_geotiff(path: Path, image: np.ndarray, tags: dict[int, Any], **options: Any) -> None:
    extra = [
        (code, _TYPES.get(code, "d"), 0 if code == TEXTS else len(value), value, True)
        for code, value in tags.items()
    ]
    tifffile.imwrite(path, image, photometric="rgb", extratags=extra, metadata=None, **options)


@pytest.mark.parametrize("tags", [PLACED, TURNED])
@pytest.mark.parametrize("size", [(20, 30), (1030, 300)])
def test_a_mask_has_the_place_of_its_image(
    tmp_path: Path, tags: dict[int, Any], size: tuple[int, int]
) -> None:
    rng = np.random.default_rng(0)
    write_geotiff(tmp_path / "a.tif", rng.integers(0, 256, (*size, 3), np.uint8), tags)
    geo = geo_tags(tmp_path / "a.tif")
    assert geo is not None
    mask = rng.integers(0, 4, size).astype(np.uint8)
    write_label_tiff(tmp_path / "mask.tif", mask, palette(), geo)
    with Image.open(tmp_path / "a.tif") as image, Image.open(tmp_path / "mask.tif") as found:
        held: Any = found
        for code, value in tags.items():
            assert held.tag_v2[code] == image.tag_v2[code] == value, code  # type: ignore[attr-defined]
        assert found.mode == "P" and np.array_equal(np.asarray(found), mask)
        colours = np.array(found.getpalette(), np.uint8).reshape(-1, 3)
        assert np.array_equal(colours[:4], palette()[:4])
    if mask.size > 10_000:
        assert (tmp_path / "mask.tif").stat().st_size < mask.size / 2  # packed
    write_label_tiff(tmp_path / "again.tif", mask, palette(), geo)
    assert (tmp_path / "again.tif").read_bytes() == (tmp_path / "mask.tif").read_bytes()


def test_the_order_of_bytes_does_not_matter(tmp_path: Path) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    write_geotiff(tmp_path / "little.tif", image, PLACED, byteorder="<")
    write_geotiff(tmp_path / "big.tif", image, PLACED, byteorder=">")
    assert geo_tags(tmp_path / "little.tif") == geo_tags(tmp_path / "big.tif")


def test_what_lies_nowhere_has_no_tags(tmp_path: Path) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    tifffile.imwrite(tmp_path / "plain.tif", image, photometric="rgb")
    write_geotiff(tmp_path / "keys.tif", image, {KEYS: PLACED[KEYS]})  # without any place
    Image.fromarray(image).save(tmp_path / "named.tif", format="PNG")
    Image.fromarray(image).save(tmp_path / "a.png")
    for name in ("plain.tif", "keys.tif", "named.tif", "a.png"):
        assert geo_tags(tmp_path / name) is None


def test_broken_tags_are_a_fault_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0\x08\0\0\0\xff\xff" + b"\x0e\x83" * 40)
    reader = Reader({"pixel_range": "auto", "bands": None, "long_side_max": 0})
    for look in (reader.size, reader.read):
        with pytest.raises(BadImageError, match=r"cannot be (decoded|read)"):
            look(tmp_path / "a.tif")


def test_a_turned_geotiff_is_refused(tmp_path: Path) -> None:
    extra = [(274, "H", 1, 6, True)]
    options = {(SCALE, "d", 3, PLACED[SCALE], True), (TIEPOINT, "d", 6, PLACED[TIEPOINT], True)}
    image = np.zeros((8, 16, 3), np.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif", image, photometric="rgb", extratags=[*extra, *options], metadata=None
    )
    reader = Reader({"pixel_range": "auto", "bands": None, "long_side_max": 0})
    with pytest.raises(BadImageError, match=r"a GeoTIFF whose pixels are turned \(orientation 6\)"):
        reader.read(tmp_path / "a.tif")
