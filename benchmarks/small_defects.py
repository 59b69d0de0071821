"""Paint grey tiles with small defects of five classes, and tiles without any: images and masks.

    python benchmarks/small_defects.py build/defects
    wsss recipe apply small_defects --set prepare_data.dataset.root=build/defects \\
        --set prepare_data.dataset.images=images --set prepare_data.dataset.masks=masks \\
        --set 'prepare_data.dataset.mask_values={255: tag}'
    dvc repro
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDE = 160
DEFECTS, WITHOUT = 60, 150  # tiles of each class, and of none
LEVELS = {"scratch": 40, "hole": -60, "stain": -28, "crack": -45, "dent": 30}
"""By class, how much lighter than its surroundings."""

Draw = Callable[[ImageDraw.ImageDraw, np.random.Generator, int, int], None]


def _scratch(draw: ImageDraw.ImageDraw, rng: np.random.Generator, x: int, y: int) -> None:
    angle, half = rng.uniform(0, np.pi), rng.integers(10, 18)
    along, down = half * np.cos(angle), half * np.sin(angle)
    draw.line([x - along, y - down, x + along, y + down], fill=255, width=2)


def _hole(draw: ImageDraw.ImageDraw, rng: np.random.Generator, x: int, y: int) -> None:
    radius = rng.integers(3, 7)
    draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=255)


def _stain(draw: ImageDraw.ImageDraw, rng: np.random.Generator, x: int, y: int) -> None:
    for _ in range(4):
        right, down = rng.integers(-6, 6, 2)
        radius = rng.integers(4, 8)
        box = [x + right - radius, y + down - radius, x + right + radius, y + down + radius]
        draw.ellipse(box, fill=255)


def _crack(draw: ImageDraw.ImageDraw, rng: np.random.Generator, x: int, y: int) -> None:
    points = [(x, y)]
    for _ in range(6):
        right, down = rng.integers(-8, 9), rng.integers(2, 8)
        points.append((int(points[-1][0] + right), int(points[-1][1] + down)))
    draw.line(points, fill=255, width=2)


def _dent(draw: ImageDraw.ImageDraw, rng: np.random.Generator, x: int, y: int) -> None:
    half = rng.integers(6, 10)
    draw.rectangle([x - half, y - half // 2, x + half, y + half // 2], fill=255)


DRAW: dict[str, Draw] = {
    "scratch": _scratch,
    "hole": _hole,
    "stain": _stain,
    "crack": _crack,
    "dent": _dent,
}


def _surface(rng: np.random.Generator) -> np.ndarray:
    coarse = rng.normal(0, 1, (SIDE // 8, SIDE // 8)).astype(np.float32)
    smooth = np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return 128 + 10 * smooth + rng.normal(0, 7, (SIDE, SIDE))


def paint(folder: Path, seed: int = 1) -> None:
    """Write images/<class>/*.png and masks/<class>/*.png (0 and 255); "good" has no defect."""
    rng = np.random.default_rng(seed)
    for name in [*DRAW, "good"]:
        for at in range(DEFECTS if name in DRAW else WITHOUT):
            pixels, mask = _surface(rng), Image.new("L", (SIDE, SIDE))
            if name in DRAW:
                x, y = map(int, rng.integers(25, SIDE - 25, 2))
                DRAW[name](ImageDraw.Draw(mask), rng, x, y)
                soft = np.asarray(mask.filter(ImageFilter.GaussianBlur(0.7)), np.float64)
                pixels = pixels + LEVELS[name] * soft / 255
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            for kind, picture in (("images", image), ("masks", mask)):
                file = folder / kind / name / f"{name}{at:03}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                picture.save(file)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    paint(parser.parse_args().folder)
