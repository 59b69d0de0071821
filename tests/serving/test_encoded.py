"""Images as text."""

import base64
import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from wsss.serving.encoded import decoded, encoded_image, encoded_mask, images_of


def file_of(image: Image.Image, kind: str = "PNG", **options: object) -> str:
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return base64.b64encode(file.getvalue()).decode()


def test_kinds_of_files_become_rgb() -> None:
    rng = np.random.default_rng(0)
    grey = Image.fromarray(rng.integers(0, 256, (5, 7), dtype=np.uint8))
    assert np.array_equal(decoded(file_of(grey)), np.stack([np.asarray(grey)] * 3, axis=2))
    colours = grey.convert("RGB").convert("P")
    assert np.array_equal(decoded(file_of(colours)), np.asarray(colours.convert("RGB")))
    page = "data:image/png;base64," + file_of(grey)
    assert np.array_equal(decoded(page), decoded(file_of(grey)))
    exif = Image.Exif()
    exif[0x0112] = 6  # on its side, as cameras write it
    turned = decoded(file_of(grey.convert("RGB"), "JPEG", exif=exif, quality=95))
    assert turned.shape == (7, 5, 3)


def test_more_than_eight_bits_are_refused_and_not_cut() -> None:
    deep = Image.fromarray(np.full((4, 4), 3000, np.uint16))
    with pytest.raises(ValueError, match="has the mode I;16; give 8 bits"):
        decoded(file_of(deep))
    colours = io.BytesIO()
    tifffile.imwrite(colours, np.full((4, 4, 3), 3000, np.uint16), photometric="rgb")
    with pytest.raises(ValueError, match="has 16 bits a channel; give 8 bits"):
        decoded(base64.b64encode(colours.getvalue()))


def test_what_is_transparent_is_white_as_in_training() -> None:
    cutout = np.zeros((4, 6, 4), np.uint8)
    cutout[1:3, 2:4] = (255, 0, 0, 255)
    found = decoded(file_of(Image.fromarray(cutout)))
    assert (found[0, 0] == 255).all() and found[1, 2].tolist() == [255, 0, 0]


def test_masks_keep_their_ids() -> None:
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4)
    picture = Image.open(io.BytesIO(base64.b64decode(encoded_mask(mask))))
    assert picture.mode == "P" and np.array_equal(np.asarray(picture), mask)


def test_texts_and_arrays_do_not_mix() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    with pytest.raises(ValueError, match="give all in one way"):
        images_of([image, encoded_image(image)])
    assert images_of([]) == ([], False)
    found, are_texts = images_of(encoded_image(image))
    assert are_texts and np.array_equal(found[0], image)
