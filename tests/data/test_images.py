"""Every kind of image file, against pixels computed by hand."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsss.data.images import BadImageError, prepare_image


def _prepared(source: Path, folder: Path) -> tuple[np.ndarray, tuple[str, ...], str]:
    made = prepare_image(source, folder, "sub/näme 1")
    with Image.open(folder / made.file) as image:
        assert image.mode == "RGB"
        pixels = np.asarray(image)
    assert pixels.shape[:2] == made.size
    return pixels, made.conversions, made.file


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_plain_rgb_keeps_its_bytes(tmp_path, rgb, suffix):
    source = tmp_path / f"a.{suffix}"
    Image.fromarray(rgb).save(source)
    _, conversions, file = _prepared(source, tmp_path / "out")
    assert conversions == ()
    assert file == f"sub/näme 1.{suffix}"
    assert (tmp_path / "out" / file).read_bytes() == source.read_bytes()


def test_grey_is_repeated(tmp_path, rgb):
    Image.fromarray(rgb[..., 0]).save(tmp_path / "a.png")
    pixels, conversions, _ = _prepared(tmp_path / "a.png", tmp_path / "out")
    assert conversions == ("grey",)
    np.testing.assert_array_equal(pixels, np.repeat(rgb[..., :1], 3, axis=2))


def test_alpha_lies_on_white(tmp_path, rgb):
    alpha = np.zeros((6, 9, 1), np.uint8)
    alpha[:, 3:6], alpha[:, 6:] = 128, 255
    Image.fromarray(np.concatenate([rgb, alpha], 2)).save(tmp_path / "a.png")
    pixels, conversions, _ = _prepared(tmp_path / "a.png", tmp_path / "out")
    share = alpha / 255
    expected = rgb * share + 255 * (1 - share)
    assert conversions == ("alpha",)
    assert np.abs(pixels - expected).max() <= 1


def test_transparent_palette_entry_becomes_white(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(tmp_path / "a.png", transparency=1)
    pixels, conversions, _ = _prepared(tmp_path / "a.png", tmp_path / "out")
    assert conversions == ("alpha", "palette")
    assert pixels.tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_16_bit_grey_is_scaled(tmp_path):
    levels = np.array([[0, 257, 128, 129, 257 * 100, 65535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / "a.png")
    pixels, conversions, _ = _prepared(tmp_path / "a.png", tmp_path / "out")
    assert conversions == ("16-bit", "grey")
    assert pixels[0, :, 0].tolist() == [0, 1, 0, 1, 100, 255]


def test_16_bit_colour_png_is_made_8_bit(tmp_path):
    """Pillow opens it as plain RGB: only the header tells."""
    row = b"\0" + struct.pack(">6H", 257 * 7, 257 * 8, 257 * 9, 65535, 0, 257 * 200)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(row))
        + chunk(b"IEND", b"")
    )
    pixels, conversions, file = _prepared(tmp_path / "a.png", tmp_path / "out")
    assert conversions == ("16-bit",)
    assert pixels.tolist() == [[[7, 8, 9], [255, 0, 200]]]
    assert (tmp_path / "out" / file).read_bytes()[24] == 8  # bit depth in the header


def test_cmyk(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    pixels, conversions, file = _prepared(tmp_path / "a.jpg", tmp_path / "out")
    assert conversions == ("CMYK",)
    assert file.endswith(".png")
    assert np.abs(pixels.astype(int) - [255, 0, 0]).max() < 12  # red, not its inverse


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [(1, lambda a: a), (3, lambda a: a[::-1, ::-1]), (6, lambda a: np.rot90(a, -1)), (8, np.rot90)],
)
def test_exif_rotation_is_carried_out(tmp_path, rgb, orientation, turn):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(rgb).save(tmp_path / "a.png", exif=exif)
    pixels, conversions, file = _prepared(tmp_path / "a.png", tmp_path / "out")
    assert conversions == (() if orientation == 1 else ("rotated",))
    np.testing.assert_array_equal(pixels, turn(rgb))
    with Image.open(tmp_path / "out" / file) as image:  # or a viewer would turn it again
        assert image.getexif().get(0x0112, 1) == 1


def test_other_formats_become_png(tmp_path, rgb):
    Image.fromarray(rgb).save(tmp_path / "a.bmp")
    pixels, conversions, file = _prepared(tmp_path / "a.bmp", tmp_path / "out")
    assert (conversions, file) == (("BMP",), "sub/näme 1.png")
    np.testing.assert_array_equal(pixels, rgb)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_truncated_is_refused_and_leaves_nothing(tmp_path, suffix):
    whole = tmp_path / f"whole.{suffix}"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)).save(whole)
    source = tmp_path / f"a.{suffix}"
    source.write_bytes(whole.read_bytes()[:-600])
    with pytest.raises(BadImageError, match=r"truncated|decoded"):
        prepare_image(source, tmp_path / "out", "a")
    assert not list((tmp_path / "out").rglob("*"))


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_what_is_no_image_is_refused(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(BadImageError):
        prepare_image(tmp_path / "a.png", tmp_path / "out", "a")


def test_floating_point_is_refused(tmp_path):
    Image.fromarray(np.zeros((3, 3), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(BadImageError, match="floating-point"):
        prepare_image(tmp_path / "a.tif", tmp_path / "out", "a")
