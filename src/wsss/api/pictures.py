"""Images as people have them, to 8-bit RGB: files, and arrays of several kinds."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image

from wsss.data.images import BadImageError, PixelRules, from_pillow, image_frame
from wsss.prediction.changing import image_settings

if TYPE_CHECKING:
    from torch import Tensor

    OneImage: TypeAlias = str | Path | Image.Image | np.ndarray | Tensor
else:
    OneImage = str | Path | Image.Image | np.ndarray
"""What stands for an image.

- a file of any kind that Pillow or tifffile reads, as prepare_data takes it: upright by EXIF, grey
  repeated, alpha laid on white, more than 8 bits scaled;
- a Pillow image, likewise;
- an array (H, W) or (H, W, 1), grey, (H, W, 3), RGB, or (H, W, 4), with alpha that is laid on
  white: uint8, or floating-point numbers in [0, 1];
- a tensor (H, W), (1, H, W), (3, H, W) or (4, H, W), likewise, on any device.
"""

__all__ = ["OneImage", "Picture", "as_rgb", "picture_list"]


@dataclass(frozen=True, eq=False)
class Picture:
    """An image, what it is called, and how a network sees it.

    Attributes:
        name: of its file without a suffix, or its number.
        source: its file, or (H, W, 3) uint8.
        settings: of prepare_data, which say how images became what the network has learned from;
            see `wsss.prediction.changing.image_settings`.
    """

    name: str
    source: Path | np.ndarray
    settings: Mapping[str, Any]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image itself, upright."""
        if isinstance(self.source, np.ndarray):
            return self.source.shape[0], self.source.shape[1]
        with self._named():
            rules = PixelRules.of(self.settings["pixel_range"], self.settings["bands"])
            return image_frame(self.source, rules).upright

    def pixels(self) -> np.ndarray:
        """(h, w, 3) uint8 RGB, shrunk where larger images were. A file is decoded each time.

        Raises:
            ValueError: the file cannot be read as an image.
        """
        if isinstance(self.source, np.ndarray) and not self.settings["long_side_max"]:
            return self.source
        from wsss.prediction.reading import Reader  # which brings PyTorch

        reader = Reader(self.settings)
        if isinstance(self.source, np.ndarray):
            return reader.of_frame(self.source).pixels
        with self._named():
            return reader.read(self.source).pixels

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except BadImageError as error:
            raise ValueError(f"{self.source}: {error}") from None


def picture_list(
    images: OneImage | Iterable[OneImage], settings: Mapping[str, Any] | None = None
) -> tuple[list[Picture], bool]:
    """The images that are meant, and whether it is one that stands alone.

    Args:
        images: one or many.
        settings: as of `Picture`; None is the defaults.

    Raises:
        ValueError: one is none of `OneImage`.
    """
    if _is_one(images):
        return [_picture(images, 0, "the image", image_settings(settings or {}))], True
    if not isinstance(images, Iterable):
        raise ValueError(_neither("images", images))
    known = image_settings(settings or {})
    return [_picture(image, at, f"images[{at}]", known) for at, image in enumerate(images)], False


def as_rgb(image: Any, what: str, rules: PixelRules | None = None) -> np.ndarray:
    """One `OneImage` that is no file, as (H, W, 3) uint8.

    Args:
        image: to convert.
        what: it is, for errors.
        rules: how values of a Pillow image become 8-bit RGB; None is the defaults.

    Raises:
        ValueError: it is no such image; the text says how it becomes one.

    Example:
        >>> as_rgb(np.array([[0.0, 1.0]]), "the image").tolist()
        [[[0, 0, 0], [255, 255, 255]]]
        >>> as_rgb(np.zeros((3, 40, 50), np.uint8), "the image")
        Traceback (most recent call last):
        ...
        ValueError: the image has the shape (3, 40, 50), channels first; take \
image.transpose(1, 2, 0)
    """
    if isinstance(image, Image.Image):
        try:
            return np.asarray(from_pillow(image, rules).rgb)
        except BadImageError as error:
            raise ValueError(f"{what}: {error}") from None
    if _is_tensor(image):
        values = image.detach().cpu()
        values = (values.float() if values.is_floating_point() else values).numpy()
        if values.ndim == 3:
            if len(values) not in (1, 3, 4):
                hint = "; take image.permute(2, 0, 1)" if values.shape[2] in (1, 3, 4) else ""
                raise ValueError(
                    f"{what} is a tensor of the shape {values.shape}, but must be (3, H, W){hint}"
                )
            values = values.transpose(1, 2, 0)
    elif isinstance(image, np.ndarray):
        values = image
    else:
        raise ValueError(_neither(what, image))
    return _of_values(values, what)


def _of_values(values: np.ndarray, what: str) -> np.ndarray:
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim == 4:
        raise ValueError(
            f"{what} has four axes, as a batch has; give the images of it: list(batch)"
        )
    if values.ndim != 3 or not values.size or values.shape[2] not in (1, 3, 4):
        first = values.ndim == 3 and len(values) in (1, 3, 4)
        hint = ", channels first; take image.transpose(1, 2, 0)" if first else ""
        hint = hint or ", but must be (H, W), (H, W, 3) or (H, W, 4), and not empty"
        raise ValueError(f"{what} has the shape {values.shape}{hint}")
    if values.dtype.kind == "f":
        low, high = float(values.min()), float(values.max())
        if not 0 <= low <= high <= 1:
            raise ValueError(
                f"{what} is {values.dtype} and spans [{low:g}, {high:g}], but floating-point "
                "numbers must lie in [0, 1]: divide by the greatest that there can be, or take "
                "back the normalisation for a network"
            )
        values = np.rint(values * 255).astype(np.uint8)
    if values.dtype != np.uint8:
        raise ValueError(
            f"{what} is {values.dtype}, but must be uint8; scale its values to 0..255, or give its "
            "file, whose range is read"
        )
    if values.shape[2] == 4:
        with_alpha = Image.fromarray(np.ascontiguousarray(values))
        return np.asarray(from_pillow(with_alpha).rgb)
    return np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:2], 3)))


def _picture(image: Any, number: int, what: str, settings: Mapping[str, Any]) -> Picture:
    if isinstance(image, str | Path):
        path = Path(image).expanduser()
        if path.is_dir():
            raise ValueError(
                f"{what} is the folder {path}; give its files, such as "
                f"sorted(Path('{path}').glob('*.jpg'))"
            )
        if not path.is_file():
            raise ValueError(f"{what} is {path}, and there is no such file")
        return Picture(path.stem, path, settings)
    name = Path(getattr(image, "filename", "") or "").stem
    rules = PixelRules.of(settings["pixel_range"], settings["bands"])
    return Picture(name or str(number), as_rgb(image, what, rules), settings)


def _is_one(images: Any) -> bool:
    return isinstance(images, str | Path | Image.Image | np.ndarray) or _is_tensor(images)


def _is_tensor(image: Any) -> bool:
    """Whether it is a tensor of PyTorch, which is not imported to find out."""
    return any(kind.__module__ == "torch" for kind in type(image).__mro__)


def _neither(what: str, value: Any) -> str:
    kind = type(value).__name__
    return f"{what}: {kind} is no image; give a path, a Pillow image, an array or a tensor"
