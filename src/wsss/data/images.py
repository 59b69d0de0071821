"""Finding image files, and any of them to 8-bit upright RGB; what is that keeps its bytes."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from wsss.artifacts import atomic_path
from wsss.settings import ConfigError

__all__ = [
    "IMAGE_SUFFIXES",
    "BadImageError",
    "PreparedImage",
    "list_images",
    "open_rgb",
    "prepare_image",
    "to_rgb",
]

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".jp2", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
)

_ORIENTATION = 0x0112
_KEPT = {"JPEG": ".jpg", "PNG": ".png"}


class BadImageError(ValueError):
    """A file that cannot be decoded; the text says why."""


@dataclass(frozen=True)
class PreparedImage:
    """What became of an image.

    Attributes:
        file: name of the written file within the target folder.
        size: (height, width) in pixels, upright.
        conversions: what had to be done, such as "grey" or "rotated"; empty when the bytes
            were kept.
    """

    file: str
    size: tuple[int, int]
    conversions: tuple[str, ...]


def list_images(folder: Path, key: str, without: Path | None = None) -> dict[str, Path]:
    """All image files below a folder, by their path in it without the suffix, sorted.

    Hidden files and folders are passed over, and so are files of other kinds.

    Args:
        folder: where to search.
        key: what names it in params.yaml, for errors.
        without: a folder below it to pass over.

    Raises:
        ConfigError: it is not a folder.
        ValueError: it holds no image, or two of one name.
    """
    if not folder.is_dir():
        raise ConfigError(f"{key}: {folder} is not a folder")
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        passed_over = without is not None and path.is_relative_to(without)
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() not in IMAGE_SUFFIXES or passed_over or hidden or path.is_dir():
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in files:
            raise ValueError(
                f"{files[name]} and {path} have the same name; rename or remove one, since masks "
                "and results are named after images without suffix"
            )
        files[name] = path
    if not files:
        raise ValueError(f"{folder} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return files


def to_rgb(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """Make an opened image 8-bit upright RGB.

    Grey is repeated, alpha is laid on white, 16 bits are divided by 257, CMYK and others are
    converted without colour profiles, the first of several frames is taken, and the EXIF
    orientation is carried out.

    Returns:
        The image, mode "RGB", and the conversions that were needed, sorted.

    Raises:
        BadImageError: floating-point pixels, whose range cannot be known.
    """
    done = set()
    # Pillow gives colour PNGs of 16 bits as RGB, keeping the upper byte; known before loading
    sixteen = image.mode.startswith("I") or any(";16" in str(tile[3]) for tile in _tiles(image))
    if image.getexif().get(_ORIENTATION, 1) not in (0, 1):
        done.add("rotated")
    if getattr(image, "n_frames", 1) > 1:
        done.add("first frame")
    see_through = "A" in image.mode.upper().replace("LAB", "") or "transparency" in image.info
    mode = image.mode
    image = ImageOps.exif_transpose(image)
    if mode == "F":
        raise BadImageError("its pixels are floating-point numbers; save it with 8 or 16 bits")
    if mode.startswith("I"):
        levels = np.asarray(image).astype(np.int64)
        if levels.min() < 0 or levels.max() > 65535:
            raise BadImageError("its pixels exceed 16 bits; save it with 8 or 16 bits")
        image = Image.fromarray(np.rint(levels / 257).astype(np.uint8))
    if sixteen:
        done.add("16-bit")
    if see_through:
        done.add("alpha")
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    names = {
        "L": "grey",
        "LA": "grey",
        "1": "grey",
        "P": "palette",
        "PA": "palette",
        "CMYK": "CMYK",
    }
    if mode in names or mode.startswith("I"):
        done.add(names.get(mode, "grey"))
    elif mode not in ("RGB", "RGBA"):
        done.add(mode)
    return image.convert("RGB"), tuple(sorted(done))


def open_rgb(source: Path) -> tuple[Image.Image, tuple[str, ...], str]:
    """Decode a whole image file, so that a truncated one is noticed.

    Returns:
        The image and the conversions of `to_rgb`, and the kind of file, such as "JPEG".

    Raises:
        BadImageError: the file cannot be decoded.
    """
    try:
        with Image.open(source) as image:
            kind = image.format or "unknown"
            return *to_rgb(image), kind
    except (BadImageError, MemoryError):
        raise
    except FileNotFoundError:
        raise BadImageError("the file does not exist") from None
    except UnidentifiedImageError:
        raise BadImageError("the file is empty or no image") from None
    except Exception as error:  # decoders of broken files raise almost anything
        raise BadImageError(f"cannot be decoded: {error}") from None


def prepare_image(source: Path, folder: Path, name: str) -> PreparedImage:
    """Write an image as `folder`/`name`.jpg or .png: 8-bit upright RGB.

    A JPEG or PNG that needs nothing keeps its bytes; anything else becomes a PNG.

    Raises:
        BadImageError: the file cannot be decoded.
        OSError: the result cannot be written.
    """
    rgb, conversions, kind = open_rgb(source)
    if kind not in _KEPT and not conversions:
        conversions = (kind,)
    file = name + (".png" if conversions else _KEPT[kind])
    with atomic_path(folder / file) as temporary:
        if conversions:
            rgb.save(temporary, format="PNG", compress_level=3)
        else:
            shutil.copyfile(source, temporary)
    return PreparedImage(file, (rgb.height, rgb.width), conversions)


def _tiles(image: Image.Image) -> list[tuple[object, ...]]:
    return [tuple(tile) for tile in getattr(image, "tile", [])]
