"""Images of more than 8 bits, of numbers, and of bands: never black in silence."""

import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from wsss.data.images import BadImageError, PixelRules, header_fault, image_frame, open_rgb

TWELVE = PixelRules(span=(0, 4095))
DEEP = np.random.default_rng(0).integers(0, 4096, (5, 7, 3), np.uint16)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def write_png(path: Path, values: np.ndarray) -> None:
    """A PNG of 16 bits per value, which Pillow does not write in colour."""
    kind = {3: 2, 4: 6}[values.shape[2]]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def write_pgm(path: Path, values: np.ndarray, maximum: int = 65535) -> None:
    size = f"P5 {values.shape[1]} {values.shape[0]} {maximum}\n".encode()
    path.write_bytes(size + values.astype(">u2").tobytes())


def tiff(**more: Any) -> Any:
    return lambda path, values: tifffile.imwrite(path, values, **more)


def as_planes(path: Path, values: np.ndarray) -> None:
    tifffile.imwrite(path, values.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")


GREY, ALPHA = DEEP[..., 0], np.dstack([DEEP, np.full((5, 7), 65535, np.uint16)])
FORMS: dict[str, tuple[Any, np.ndarray, str]] = {
    "TIFF": (tiff(photometric="rgb"), DEEP, "tif"),
    "TIFF, deflated": (tiff(photometric="rgb", compression="zlib"), DEEP, "tif"),
    "TIFF, big-endian": (tiff(photometric="rgb", byteorder=">"), DEEP, "tif"),
    "TIFF in planes": (as_planes, DEEP, "tif"),
    "TIFF with alpha": (tiff(photometric="rgb", extrasamples=["unassalpha"]), ALPHA, "tif"),
    "BigTIFF": (tiff(photometric="rgb", bigtiff=True), DEEP, "tif"),
    "grey TIFF": (tiff(), GREY, "tif"),
    "grey TIFF, LZW": (
        lambda path, values: Image.fromarray(values).save(path, compression="tiff_lzw"),
        GREY,
        "tif",
    ),
    "PNG": (write_png, DEEP, "png"),
    "PNG with alpha": (write_png, ALPHA, "png"),
    "grey PNG": (lambda path, values: Image.fromarray(values).save(path), GREY, "png"),
    "PGM": (write_pgm, GREY, "pgm"),
    "JPEG 2000": (
        lambda path, values: Image.fromarray(values).save(path, irreversible=False),
        GREY,
        "jp2",
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_twelve_bits_in_a_file_of_sixteen_keep_their_contrast(form, tmp_path):
    write, values, suffix = FORMS[form]
    path = tmp_path / f"a.{suffix}"
    write(path, values)
    found = np.asarray(open_rgb(path, TWELVE).rgb)
    colours = values[..., :3] if values.ndim == 3 else np.repeat(values[..., None], 3, axis=2)
    np.testing.assert_array_equal(found, np.rint(colours / 4095 * 255))
    untold = open_rgb(path)
    assert untold.levels is not None
    assert untold.levels.is_dark
    assert untold.levels.span() == (0, 4095)


@pytest.mark.parametrize("form", FORMS)
def test_all_sixteen_bits_need_no_setting(form, tmp_path):
    write, values, suffix = FORMS[form]
    values = np.where(values < 65535, values * 16, values)
    write(tmp_path / f"a.{suffix}", values)
    opened = open_rgb(tmp_path / f"a.{suffix}")
    colours = values[..., :3] if values.ndim == 3 else np.repeat(values[..., None], 3, axis=2)
    np.testing.assert_array_equal(np.asarray(opened.rgb), np.rint(colours / 257.0))
    assert opened.levels is not None
    assert not opened.levels.is_dark


def test_a_range_that_the_file_states_is_taken(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY, extratags=[(281, 3, 1, 4095, True)])
    write_pgm(tmp_path / "a.pgm", GREY, 4095)
    for name in ("a.tif", "a.pgm"):
        opened = open_rgb(tmp_path / name)
        np.testing.assert_array_equal(np.asarray(opened.rgb)[..., 0], np.rint(GREY / 4095 * 255))
        assert opened.levels is not None
        assert not opened.levels.is_dark


def test_a_setting_counts_in_the_values_of_the_file(tmp_path):
    """Pillow stretches a PGM's values by the maximum it states."""
    write_pgm(tmp_path / "a.pgm", GREY, 4095)
    found = np.asarray(open_rgb(tmp_path / "a.pgm", PixelRules(span=(0, 2000))).rgb)[..., 0]
    np.testing.assert_array_equal(found, np.rint(np.clip(GREY / 2000, 0, 1) * 255))


def test_8_bits_that_were_stretched_to_16_are_not_dark(tmp_path):
    night = np.arange(35, dtype=np.uint16).reshape(5, 7) * 257
    Image.fromarray(night).save(tmp_path / "a.png")
    levels = open_rgb(tmp_path / "a.png").levels
    assert levels is not None
    assert not levels.is_dark


def test_white_may_be_zero(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY, photometric="miniswhite")
    found = np.asarray(open_rgb(tmp_path / "a.tif", TWELVE).rgb)[..., 0]
    assert np.abs(found.astype(int) - (255 - GREY / 4095 * 255)).max() <= 1


NUMBERS = {
    "float32 in 0..1": (np.linspace(0, 1, 35, dtype=np.float32), "[0, 1]"),
    "float64": (np.linspace(-3, 8, 35), "[-3, 8]"),
    "float32 in 0..255": (np.linspace(3, 251, 35, dtype=np.float32), "[0, 255]"),
    "float16": (np.linspace(0, 0.5, 35).astype(np.float16), "[0, 1]"),
    "negative int16": (np.arange(-20, 15, dtype=np.int16), "[-20, 14]"),
    "int32": (np.arange(-200, 150, 10, dtype=np.int32), "[-200, 140]"),
    "uint32": (np.arange(0, 350000, 10000, dtype=np.uint32), "[0, 524287]"),
}


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("bands", [1, 3])
def test_numbers_of_no_known_range_are_named_with_a_range_that_works(kind, bands, tmp_path):
    values, advice = NUMBERS[kind]
    values = values.reshape(5, 7)
    image = values if bands == 1 else np.dstack([values] * 3)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb" if bands == 3 else None)
    with pytest.raises(BadImageError, match=r"numbers .* set pixel_range") as refused:
        open_rgb(tmp_path / "a.tif")
    assert str(refused.value).endswith(f"pixel_range: {advice}")
    low, high = (float(end) for end in advice[1:-1].split(", "))
    found = np.asarray(open_rgb(tmp_path / "a.tif", PixelRules(span=(low, high))).rgb)
    wanted = np.rint((values.astype(float) - low) / (high - low) * 255)
    assert np.abs(found - wanted[..., None]).max() <= 1
    assert found.std() > 20


def test_what_is_no_data_is_black_and_does_not_count(tmp_path):
    values = np.linspace(0, 1, 35, dtype=np.float32).reshape(5, 7)
    values[0, 0], values[0, 1], values[0, 2] = np.nan, np.inf, -9999
    tifffile.imwrite(tmp_path / "a.tif", values, extratags=[(42113, 2, 0, "-9999", True)])
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.pages.first.nodata == -9999
    found = np.asarray(open_rgb(tmp_path / "a.tif", PixelRules(span=(0, 1))).rgb)[..., 0]
    assert found[0, :3].tolist() == [0, 0, 0]
    assert found[-1, -1] == 255
    tifffile.imwrite(tmp_path / "b.tif", np.full((5, 7), np.nan, np.float32))
    with pytest.raises(BadImageError, match="all its pixels are NaN"):
        open_rgb(tmp_path / "b.tif", PixelRules(span=(0, 1)))


@pytest.mark.parametrize("count", [4, 5, 8])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_bands_that_are_no_colours_are_chosen_by_a_setting(count, dtype, planar, tmp_path):
    values = np.random.default_rng(1).integers(0, 256, (5, 7, count)).astype(dtype)
    stored = values if planar == "contig" else values.transpose(2, 0, 1)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stored, photometric="minisblack", planarconfig=planar)
    with pytest.raises(BadImageError, match=rf"{count} bands of {np.dtype(dtype)}.* set bands"):
        open_rgb(path)
    rules = PixelRules((0, 255), (3, 1, 0))
    np.testing.assert_array_equal(np.asarray(open_rgb(path, rules).rgb), values[..., [3, 1, 0]])
    grey = np.asarray(open_rgb(path, PixelRules((0, 255), (2,))).rgb)
    np.testing.assert_array_equal(grey, np.repeat(values[..., [2]], 3, axis=2))
    with pytest.raises(BadImageError, match=rf"0 to {count - 1}, but bands is .* names 9"):
        open_rgb(path, PixelRules((0, 255), (0, 1, 9)))


def test_bands_leave_pictures_as_they_are(tmp_path):
    pixels = (DEEP >> 4).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels).convert("RGBA").save(tmp_path / "b.png")
    Image.fromarray(pixels).save(tmp_path / "c.tif")
    for name in ("a.png", "b.png", "c.tif"):
        found = open_rgb(tmp_path / name, PixelRules(bands=(2, 1, 0))).rgb
        np.testing.assert_array_equal(np.asarray(found), pixels)


GEO_TAGS = [
    (33550, "d", 3, (10.0, 10.0, 0.0), True),  # the size of a pixel on the ground
    (33922, "d", 6, (0.0, 0.0, 0.0, 5e5, 4.6e6, 0.0), True),  # where the first one lies
    (42113, "s", 0, "0", True),  # no data, as GDAL writes it
]


@pytest.mark.parametrize("count", [2, 3, 4, 13])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("how", [{}, {"tile": (16, 16)}, {"compression": "zlib", "predictor": 1}])
def test_every_form_of_a_geotiff_gives_the_bands_that_are_asked_for(
    count, dtype, planar, how, tmp_path
):
    values = np.random.default_rng(1).integers(1, 251, (19, 23, count)).astype(dtype)
    stored = values if planar == "contig" else values.transpose(2, 0, 1)
    path = tmp_path / "a.tif"
    more = {"photometric": "minisblack", "planarconfig": planar, "metadata": None, **how}
    tifffile.imwrite(path, stored, extratags=GEO_TAGS, **more)
    span = None if dtype == np.uint8 else (0, 250)
    scaled = values if dtype == np.uint8 else np.rint(values / 250 * 255)
    for bands in ((count - 1,), (1, 0, count - 1)):
        rules = PixelRules(span, bands)
        found = np.asarray(open_rgb(path, rules).rgb)
        np.testing.assert_array_equal(found, np.broadcast_to(scaled[..., bands], (19, 23, 3)))
        assert image_frame(path, rules).stored == (19, 23)
        assert header_fault(path, rules) == ""
    for bands in ((count,), (0, 1, 99)):
        rules = PixelRules(span, bands)
        fault = f"it has the bands 0 to {count - 1}, but bands is {list(bands)} and names"
        assert header_fault(path, rules).startswith(fault)
        with pytest.raises(BadImageError, match=re.escape(fault)):
            open_rgb(path, rules)


def test_a_grey_file_does_not_have_three_bands(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY)
    rules = PixelRules((0, 4095), (2, 1, 0))
    assert "has the band 0 alone, but bands is [2, 1, 0]" in header_fault(tmp_path / "a.tif", rules)
    with pytest.raises(BadImageError, match="has the band 0 alone"):
        open_rgb(tmp_path / "a.tif", rules)
    assert not header_fault(tmp_path / "a.tif", PixelRules((0, 4095), (0,)))
    found = np.asarray(open_rgb(tmp_path / "a.tif", PixelRules((0, 4095), (0,))).rgb)
    np.testing.assert_array_equal(found[..., 1], np.rint(GREY / 4095 * 255))


def test_a_compression_that_needs_a_package_names_it(tmp_path, monkeypatch):
    """A file of LZW, written by hand: codes of 9 bits for clear, four values of 7, and the end."""
    codes = [256, 7, 7, 7, 7, 257]
    bits = "".join(f"{code:09b}" for code in codes)
    strip = bytes(int(bits[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(bits), 8))
    entries = [(256, 3, 1), (257, 3, 1), (259, 3, 5), (262, 3, 1), (273, 4, 8), (277, 3, 4)]
    entries += [(278, 3, 1), (279, 4, len(strip))]
    ifd = struct.pack("<H", len(entries) + 1)
    for tag, kind, value in (*entries[:2], (258, 3, 0), *entries[2:]):
        count = 4 if tag == 258 else 1
        place = 8 + len(strip) if tag == 258 else value
        ifd += struct.pack("<HHII", tag, kind, count, place)
    depths = struct.pack("<4H", 8, 8, 8, 8)
    start = 8 + len(strip) + len(depths)
    header = b"II*\0" + struct.pack("<I", start)
    (tmp_path / "a.tif").write_bytes(header + strip + depths + ifd + bytes(4))
    rules = PixelRules(bands=(0, 1, 2))
    monkeypatch.setattr("wsss.data.levels.find_spec", lambda name: None)
    for fault in (header_fault(tmp_path / "a.tif", rules), _refusal(tmp_path / "a.tif", rules)):
        assert "its compression (LZW) needs imagecodecs" in fault
        assert 'pip install "wsss[geotiff]"' in fault
    pytest.importorskip("imagecodecs")
    monkeypatch.undo()
    assert np.asarray(open_rgb(tmp_path / "a.tif", rules).rgb).tolist() == [[[7, 7, 7]]]


def _refusal(path: Path, rules: PixelRules) -> str:
    with pytest.raises(BadImageError) as refused:
        open_rgb(path, rules)
    return str(refused.value)


def test_near_infrared_in_the_place_of_alpha_is_left_out_by_bands(tmp_path):
    four = np.dstack([(DEEP >> 4).astype(np.uint8), np.zeros((5, 7), np.uint8)])
    tifffile.imwrite(tmp_path / "a.tif", four, photometric="rgb", extrasamples=["unassalpha"])
    assert np.asarray(open_rgb(tmp_path / "a.tif").rgb).min() == 255  # all of it see-through
    found = open_rgb(tmp_path / "a.tif", PixelRules(bands=(0, 1, 2))).rgb
    np.testing.assert_array_equal(np.asarray(found), four[..., :3])


OTHER_FILES = {
    b"": "is empty",
    b"<!DOCTYPE html><html>": "a web page",
    b"version https://git-lfs.github.com/spec/v1\n": "git lfs pull",
    b"\0\0\0\x18ftypheic\0\0\0\0": "HEIC",
    b"%PDF-1.4\n": "a PDF",
    b"PK\x03\x04 and more": "a ZIP",
    b"\0" * 400: "zeros alone",
    b"hello": "no image that Pillow or tifffile read",
    b"II*\0\x08\0\0\0broken": "cannot be decoded",
}


@pytest.mark.parametrize("content", OTHER_FILES)
def test_what_is_no_image_is_named(content, tmp_path):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(BadImageError, match=OTHER_FILES[content]):
        open_rgb(tmp_path / "a.jpg")


def test_colours_of_which_the_upper_bytes_alone_can_be_had_are_refused_where_dark(tmp_path):
    for factor, dark in ((1, True), (16, False)):
        path = tmp_path / "a.ppm"
        path.write_bytes(b"P6 7 5 65535\n" + (DEEP * factor).astype(">u2").tobytes())
        if dark:
            with pytest.raises(BadImageError, match="small values only"):
                open_rgb(path)
        else:
            found = np.asarray(open_rgb(path).rgb).astype(int)
            assert np.abs(found - DEEP * factor / 257.0).max() <= 1
