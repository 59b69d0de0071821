"""Painting for the set of defects: surfaces as of metal, fabric and tiles, and what is on them.

Lengths are in pixels of an image whose shorter side has 256; `unit` makes them those of another.
"""

from typing import Literal

import numpy as np

from wsss.data._scenery import Stencil, hsv

__all__ = ["SURFACES", "Surface", "light", "paint_surface", "smooth_noise"]

Surface = Literal["metal", "fabric", "tile"]
SURFACES: tuple[Surface, ...] = ("metal", "fabric", "tile")
SIDE = 256


def smooth_noise(
    rng: np.random.Generator, size: tuple[int, int], sigma_y: float, sigma_x: float
) -> np.ndarray:
    """(H, W) float32 of mean 0 and standard deviation 1, as smooth along each axis as its sigma."""
    from scipy import ndimage  # type: ignore[import-untyped]

    white = rng.standard_normal(size, np.float32)
    noise = ndimage.gaussian_filter(white, (sigma_y, sigma_x), mode="wrap")
    noise -= noise.mean()
    scaled: np.ndarray = noise / max(float(noise.std()), 1e-6)
    return scaled


def paint_surface(
    name: str, rng: np.random.Generator, size: tuple[int, int], *, clutter: bool
) -> np.ndarray:
    """Paint a surface without a defect.

    Args:
        name: of `SURFACES`.
        rng: draws the rest.
        size: (H, W).
        clutter: also what is no defect but may look like a faint one: dust, joints, thick
            threads, veins, polishing marks, reflections.

    Returns:
        (H, W, 3) float32 levels, before light and sensor noise.
    """
    unit = min(size) / SIDE
    grey = {"metal": _metal, "fabric": _fabric, "tile": _tile}[name](rng, size, unit, clutter)
    if clutter:
        grey = grey + _clutter(rng, size, unit)
    saturation = {"metal": 0.08, "fabric": 0.5, "tile": 0.25}[name] * rng.random()
    colour = hsv(rng.uniform(0, 1), saturation, 1.0)
    return np.asarray(grey[..., None] * (colour / colour.mean()), np.float32)


def light(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """(H, W) float32 factors around 1: light from a side, and darker corners."""
    y, x = np.meshgrid(np.linspace(-1, 1, size[0]), np.linspace(-1, 1, size[1]), indexing="ij")
    turn = rng.uniform(0, 2 * np.pi)
    slope, corners = rng.uniform(0, 0.16), rng.uniform(0, 0.12)
    factors = 1 + slope * (np.cos(turn) * x + np.sin(turn) * y) - corners * (x**2 + y**2) / 2
    return np.asarray(factors, np.float32)


def _metal(
    rng: np.random.Generator, size: tuple[int, int], unit: float, clutter: bool
) -> np.ndarray:
    """Rolled or brushed, with lines along one axis; or cast, with none."""
    del clutter
    base = rng.uniform(105, 175)
    if rng.random() < 0.3:
        fine, coarse = smooth_noise(rng, size, unit, unit), smooth_noise(rng, size, 7, 7)
        return np.asarray(base + rng.uniform(3, 6) * fine + rng.uniform(2, 5) * coarse)
    upright = rng.random() < 0.5
    shape = size[::-1] if upright else size
    lines = smooth_noise(rng, shape, 0.6 * unit, rng.uniform(15, 60) * unit)
    bands = smooth_noise(rng, shape, 5 * unit, 150 * unit)
    pits = smooth_noise(rng, shape, 0.7 * unit, 0.7 * unit)
    grey = base + rng.uniform(3, 8) * lines + rng.uniform(1, 4) * bands + rng.uniform(1, 3) * pits
    return np.asarray(grey.T if upright else grey)


def _fabric(
    rng: np.random.Generator, size: tuple[int, int], unit: float, clutter: bool
) -> np.ndarray:
    """A plain weave whose threads bend a little and differ in brightness."""
    period = rng.uniform(5, 9) * unit
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    across = x / period + 0.12 * smooth_noise(rng, size, 14 * unit, 14 * unit)
    down = y / period * rng.uniform(0.85, 1.2) + 0.12 * smooth_noise(
        rng, size, 14 * unit, 14 * unit
    )
    warp, weft = np.abs(np.sin(np.pi * across)), np.abs(np.sin(np.pi * down))
    over = (np.floor(across) + np.floor(down)) % 2 == 0
    height = np.where(over, warp * (0.6 + 0.4 * weft), weft * (0.6 + 0.4 * warp))
    column, row = np.floor(across).astype(int), np.floor(down).astype(int)
    spread = rng.uniform(0.01, 0.04)
    threads = spread * rng.standard_normal((2, max(column.max(), row.max()) + 8))
    if clutter and rng.random() < 0.4:
        threads[int(rng.integers(2)), int(rng.integers(4, threads.shape[1] - 4))] += 0.1
    factor = 1 + np.where(over, threads[0, column], threads[1, row])
    base, depth = rng.uniform(90, 180), rng.uniform(0.1, 0.3)
    fibres = rng.uniform(2, 4) * smooth_noise(rng, size, 0.8 * unit, 0.8 * unit)
    return np.asarray(base * factor * (1 - depth + depth * height) + fibres)


def _tile(
    rng: np.random.Generator, size: tuple[int, int], unit: float, clutter: bool
) -> np.ndarray:
    """Mottled ceramic or marble, often speckled."""
    grey = np.full(size, rng.uniform(110, 195), np.float32)
    for sigma, most in ((24, 7), (9, 5), (3, 4)):
        grey += rng.uniform(0.2, 1) * most * smooth_noise(rng, size, sigma * unit, sigma * unit)
    if rng.random() < 0.6:
        spots = smooth_noise(rng, size, 0.9 * unit, 0.9 * unit)
        grey += rng.uniform(5, 14) * (np.clip(spots - 1.6, 0, 1) - np.clip(-spots - 1.6, 0, 1))
    if clutter and rng.random() < 0.35:
        field = smooth_noise(rng, size, 20 * unit, 20 * unit)
        vein = np.exp(-((field / rng.uniform(0.03, 0.08)) ** 2))
        grey += rng.choice([-1, 1]) * rng.uniform(4, 9) * vein
    if clutter and rng.random() < 0.3:
        along = int(rng.integers(2))
        place, width = rng.uniform(0.1, 0.9) * size[along], rng.uniform(3, 6) * unit
        distance = np.abs(np.arange(size[along], dtype=np.float32) + 0.5 - place)
        joint = np.clip((width - distance) / unit, 0, 1) * rng.uniform(-45, -20)
        grey += joint[:, None] if along == 0 else joint[None]
    return grey


def _clutter(rng: np.random.Generator, size: tuple[int, int], unit: float) -> np.ndarray:
    """(H, W) float32 levels to add: dust, faint marks, a reflection."""
    height, width = size
    added = np.zeros(size, np.float32)
    for _ in range(int(rng.integers(0, 10))):
        dot, radius = Stencil(size), rng.uniform(0.5, 1.3) * unit
        dot.ellipse(rng.uniform(0, width), rng.uniform(0, height), radius, radius)
        added += rng.choice([-1, 1]) * rng.uniform(12, 32) * dot.alpha()
    for _ in range(int(rng.integers(0, 3))):
        mark, turn = Stencil(size), rng.uniform(0, 2 * np.pi)
        x, y, reach = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(15, 90) * unit
        end = (x + reach * np.cos(turn), y + reach * np.sin(turn))
        mark.line((x, y), end, unit)
        added += rng.choice([-1, 1]) * rng.uniform(3, 7) * mark.alpha()
    if rng.random() < 0.4:
        y, x = np.mgrid[:height, :width]
        reach = rng.uniform(0.12, 0.3) * min(size)
        from_centre = np.hypot(x - rng.uniform(0, width), y - rng.uniform(0, height)) / reach
        added += rng.uniform(-14, 18) * np.exp(-(from_centre**2))
    return added
