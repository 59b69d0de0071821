"""Masks as people draw them, placed beside their images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import read_label_png
from wsss.data.images import PreparedImage, prepare_image, turned
from wsss.evaluate.placing import PlacedMask, place_mask


def saved(path: Path, values: list[list[int]]) -> Path:
    Image.fromarray(np.array(values, np.uint8)).save(path)
    return path


def placed(
    source: Path, size: tuple[int, int], num_fg_classes: int = 2, **more: Any
) -> tuple[PlacedMask, Path]:
    """Place a mask beside an upright image, and where it is."""
    target = source.parent / "placed.png"
    image = PreparedImage("a.png", size, ())
    found = place_mask(
        source, target, source.parent / "a.png", image, num_fg_classes, more.pop("meanings", {})
    )
    return found, target


def test_many_unknown_values_are_cut_short(tmp_path: Path) -> None:
    path = saved(tmp_path / "photo.png", [list(range(255))])
    found, _ = placed(path, (1, 255), 1)
    assert "the values 2, 3, 4, 5, 6, 7, 8, 9 and 245 more" in str(found.problem)


def test_what_fits_keeps_its_bytes_and_what_does_not_is_not_written(tmp_path: Path) -> None:
    fits = saved(tmp_path / "fits.png", [[0, 2]])
    found, target = placed(fits, (1, 2))
    assert found == PlacedMask(None, {0: 1, 2: 1})
    assert target.read_bytes() == fits.read_bytes()
    target.unlink()
    assert "the value 2;" in str(placed(fits, (1, 2), 1)[0].problem)
    Image.new("RGB", (2, 1), "red").save(tmp_path / "colours.png")
    found, _ = placed(tmp_path / "colours.png", (1, 2))
    assert "has colours, such as #ff0000, instead of class ids" in str(found.problem)
    assert found.values == {"#ff0000": 2}
    (tmp_path / "cut.png").write_bytes(fits.read_bytes()[:45])
    assert "cut.png cannot be read" in str(placed(tmp_path / "cut.png", (1, 2))[0].problem)
    assert "gone.png cannot be read" in str(placed(tmp_path / "gone.png", (1, 2))[0].problem)
    assert not target.exists()


def test_values_are_mapped_at_once_and_not_one_after_the_other(tmp_path: Path) -> None:
    source = saved(tmp_path / "trimap.png", [[1, 2, 3]])
    found, target = placed(source, (1, 3), meanings={1: 2, 2: 0, 3: 255})
    assert read_label_png(target).tolist() == [[2, 0, 255]]
    assert found.values == {1: 1, 2: 1, 3: 1}  # as the file has them


def test_a_value_without_meaning_is_refused(tmp_path: Path) -> None:
    """Trimaps that count from 0 would otherwise come out with pet and background swapped."""
    source = saved(tmp_path / "trimap.png", [[0, 1, 2]])
    found, target = placed(source, (1, 3), meanings={1: 2, 2: 0, 3: 255})
    assert "trimap.png holds the value 0, but" in str(found.problem)
    assert "only 1, 2, 3" in str(found.problem)
    assert not target.exists()


@pytest.mark.parametrize("bits", ["16", "float"])
def test_values_beyond_8_bits_are_read_as_they_are(tmp_path, bits):
    values = np.array([[0, 1, 65535]], np.uint16 if bits == "16" else np.float32)
    path = tmp_path / ("a.png" if bits == "16" else "a.tif")
    Image.fromarray(values).save(path)
    assert "holds the value 65535" in str(placed(path, (1, 3))[0].problem)
    _, target = placed(path, (1, 3), meanings={0: 0, 1: 1, 65535: 255})
    assert read_label_png(target).tolist() == [[0, 1, 255]]


def test_masks_that_are_see_through_or_fractions_are_refused(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 1), (9, 9, 9, 100)).save(tmp_path / "a.png")
    assert "see-through" in str(placed(tmp_path / "a.png", (1, 2))[0].problem)
    Image.fromarray(np.array([[0, 0.5]], np.float32)).save(tmp_path / "a.tif")
    assert "fractions" in str(placed(tmp_path / "a.tif", (1, 2))[0].problem)


def test_palettes_are_read_by_colour_where_meanings_have_colours(tmp_path: Path) -> None:
    """Palettes that differ from file to file: the index says nothing, the colour does."""
    meanings = {"#000000": 0, "#ff0000": 1, "#0000ff": 2}
    for palette in ([0, 0, 0, 255, 0, 0, 0, 0, 255], [0, 0, 255, 0, 0, 0, 255, 0, 0]):
        image = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
        image.putpalette(palette)
        image.save(tmp_path / "a.png")
        _, target = placed(tmp_path / "a.png", (1, 3), meanings=meanings)
        with Image.open(tmp_path / "a.png") as opened:
            colours = np.asarray(opened.convert("RGB"))[0]
        wanted = [meanings[f"#{r:02x}{g:02x}{b:02x}"] for r, g, b in colours.tolist()]
        assert read_label_png(target).tolist() == [wanted]


ORIENTATIONS = range(2, 9)


def turned_image(folder: Path, pixels: np.ndarray, orientation: int) -> PreparedImage:
    """A stored image that EXIF turns, prepared."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(folder / "source.png", exif=exif)
    return prepare_image(folder / "source.png", folder, "prepared")


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_masks_are_turned_as_their_images_are(tmp_path, orientation):
    """The mask of the stored pixels, whose values are in the image too, stays on them."""
    ids = np.random.default_rng(orientation).integers(0, 3, (6, 9), np.uint8)
    image = turned_image(tmp_path, np.dstack([ids * 100] * 3), orientation)
    with Image.open(tmp_path / image.file) as opened:
        shown = np.asarray(opened)[..., 0] // 100
    np.testing.assert_array_equal(turned(ids, orientation), shown)
    for drawn, fits in ((ids, "stored"), (shown, "upright")):
        Image.fromarray(drawn).save(tmp_path / "mask.png")
        way = "upright" if fits == "upright" else "auto"
        found = place_mask(
            tmp_path / "mask.png", tmp_path / "out.png", tmp_path / image.file, image, 2, {}, way
        )
        assert found.fits == (fits if orientation > 4 else "either")
        np.testing.assert_array_equal(read_label_png(tmp_path / "out.png"), shown)
        if orientation <= 4:  # the sizes do not tell, but the image's edges do
            stored, upright = place_mask(
                tmp_path / "mask.png", tmp_path / "b.png", tmp_path / image.file, image, 2, {}
            ).outlines
            assert (stored > upright) == (fits == "stored")


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_of_a_mask_itself_is_carried_out(tmp_path, orientation):
    ids = np.random.default_rng(orientation).integers(0, 3, (6, 6), np.uint8)
    image = turned_image(tmp_path, np.dstack([ids * 100] * 3), orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(ids).save(tmp_path / "mask.png", exif=exif)
    out = tmp_path / "out.png"
    found = place_mask(tmp_path / "mask.png", out, tmp_path / image.file, image, 2, {})
    assert found.fits == ""
    np.testing.assert_array_equal(read_label_png(out), turned(ids, orientation))
    with Image.open(out) as written:
        assert written.getexif().get(0x0112, 1) == 1
