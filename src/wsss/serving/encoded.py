"""What comes to a served model, as arrays or as text, to arrays; and masks to text again."""

import base64
import binascii
import io
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from wsss.artifacts import check_label_map, palette
from wsss.data.images import from_pillow
from wsss.data.levels import has_deep_channels

__all__ = ["decoded", "encoded_image", "encoded_mask", "images_of"]

_EIGHT_BITS = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")


def images_of(model_input: Any) -> tuple[list[np.ndarray], bool]:
    """The images of what MLflow hands to a model, and whether they came as text.

    Args:
        model_input: (N, H, W, 3) numbers in 0..255; or N of (H, W, 3), or base64 texts of image
            files, in a list, an array of objects or the one column of a data frame.

    Returns:
        N of (H, W, 3) uint8.

    Raises:
        ValueError: it is none of these; the text names the image.
    """
    if hasattr(model_input, "columns"):  # a data frame
        if len(model_input.columns) != 1:
            raise ValueError(
                f"the data frame has the columns {', '.join(map(str, model_input.columns))}; give "
                "it one, with an image in each row"
            )
        model_input = model_input.iloc[:, 0].tolist()
    if isinstance(model_input, dict):
        if len(model_input) != 1:
            raise ValueError(f"the input has the keys {', '.join(model_input)}; give it one")
        (model_input,) = model_input.values()
    if isinstance(model_input, str | bytes):
        model_input = [model_input]
    items = list(model_input)
    texts = [isinstance(item, str | bytes) for item in items]
    if any(texts) and not all(texts):
        raise ValueError("some images are texts and others arrays; give all in one way")
    read = decoded if any(texts) else _array
    images = []
    for number, item in enumerate(items):
        try:
            images.append(read(item))
        except ValueError as error:
            raise ValueError(f"image {number} {error}") from None
    return images, any(texts)


def decoded(text: str | bytes) -> np.ndarray:
    """(H, W, 3) uint8 RGB of the base64 text of an image file, such as a PNG or JPEG.

    It is upright, and what is transparent is laid on white, as prepare_data does.

    Raises:
        ValueError: it is not base64, no image, or has more than 8 bits.
    """
    data = text.encode() if isinstance(text, str) else text
    if data.startswith(b"data:"):  # as web pages write it
        data = data.partition(b",")[2]
    try:
        file = io.BytesIO(base64.b64decode(data, validate=True))
    except (binascii.Error, ValueError):
        raise ValueError("is a text that is not base64; encode the bytes of a PNG file") from None
    try:
        with Image.open(file) as image:
            if image.mode not in _EIGHT_BITS or has_deep_channels(image):
                deep = f"the mode {image.mode}" * (image.mode not in _EIGHT_BITS)
                raise ValueError(
                    f"has {deep or '16 bits a channel'}; give 8 bits a channel, as prepare_data "
                    "makes them"
                )
            return np.asarray(from_pillow(image).rgb)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot be read as an image: {error}") from None


def encoded_image(image: np.ndarray) -> str:
    """The base64 text of a PNG of an image, (H, W, 3) uint8.

    Example:
        >>> image = np.full((2, 2, 3), 7, np.uint8)
        >>> bool((decoded(encoded_image(image)) == image).all())
        True
    """
    return _text(Image.fromarray(image))


def encoded_mask(mask: np.ndarray) -> str:
    """The base64 text of a PNG of a mask, (H, W) uint8 class ids, with the colours of VOC."""
    check_label_map("mask", mask)
    picture = Image.fromarray(mask)
    picture.putpalette(palette().tobytes())
    return _text(picture)


def _text(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")


def _array(item: Any) -> np.ndarray:
    """(H, W, 3) uint8 of numbers, which JSON has as lists."""
    try:
        values = np.array(
            item.tolist() if isinstance(item, np.ndarray) and item.dtype == object else item
        )
    except ValueError:
        raise ValueError("has rows of different lengths") from None
    if values.ndim != 3 or values.shape[2] != 3:
        raise ValueError(f"has the shape {values.shape}; give (height, width, 3), RGB")
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind not in "iu" or values.min(initial=0) < 0 or values.max(initial=0) > 255:
        raise ValueError(
            f"holds {values.dtype} values from {values.min(initial=0):g} to "
            f"{values.max(initial=0):g}; give whole numbers in 0..255"
        )
    return values.astype(np.uint8)
