"""Painting for the set of defects: scratches, dents, blowholes and stains with exact masks."""

from dataclasses import dataclass

import numpy as np

from wsss.data._scenery import Stencil
from wsss.data._surfaces import SIDE, smooth_noise

__all__ = ["FLAWS", "LARGEST", "SMALLEST", "Flaw", "draw_flaw"]

FLAWS = ("scratch", "dent", "blowhole", "stain")
SMALLEST, LARGEST = 0.0005, 0.05
"""Share of the image that a defect covers."""


@dataclass(frozen=True)
class Flaw:
    """One defect.

    Attributes:
        mask: (H, W) bool, the pixels that show it.
        change: (H, W, 3) float32 levels to add.
    """

    mask: np.ndarray
    change: np.ndarray


def draw_flaw(name: str, rng: np.random.Generator, size: tuple[int, int], contrast: float) -> Flaw:
    """Draw a defect of a share of the image between `SMALLEST` and `LARGEST`.

    Args:
        name: of `FLAWS`.
        rng: draws place, size and form.
        size: (H, W).
        contrast: 1 is as clear as they get.
    """
    draw = {"scratch": _scratch, "dent": _dent, "blowhole": _blowhole, "stain": _stain}[name]
    while True:  # nearly always the first
        margin = 0.06
        x, y = (rng.uniform(margin, 1 - margin) * side for side in size[::-1])
        flaw = draw(rng, size, x, y, contrast)
        if SMALLEST <= flaw.mask.mean() <= LARGEST:
            return flaw


def _grey(levels: np.ndarray) -> np.ndarray:
    return np.repeat(np.asarray(levels, np.float32)[..., None], 3, axis=2)


def _scratch(
    rng: np.random.Generator, size: tuple[int, int], x: float, y: float, contrast: float
) -> Flaw:
    """A thin bent line, lighter or darker."""
    unit = min(size) / SIDE
    width, length = rng.uniform(1.8, 3.4) * unit, rng.uniform(0.12, 0.7) * min(size)
    turn, bend, n_steps = rng.uniform(0, 2 * np.pi), rng.uniform(-0.8, 0.8), 16
    stencil = Stencil(size)
    for _ in range(n_steps):
        end = (x + length / n_steps * np.cos(turn), y + length / n_steps * np.sin(turn))
        stencil.line((x, y), end, width).ellipse(*end, width / 2, width / 2)
        (x, y), turn = end, turn + bend / n_steps + rng.normal(0, 0.03)
    alpha = stencil.alpha()
    depth = 1 + 0.15 * smooth_noise(rng, size, 4 * unit, 4 * unit)
    levels = rng.choice([-1, 1]) * rng.uniform(45, 80) * contrast
    return Flaw(alpha >= 0.5, _grey(levels * depth * alpha))


def _dent(
    rng: np.random.Generator, size: tuple[int, int], x: float, y: float, contrast: float
) -> Flaw:
    """A hollow: darker towards the light, lighter away from it."""
    across, down = _elliptic(size, x, y, rng.uniform(6, 30) * min(size) / SIDE, rng)
    square = across**2 + down**2
    slope = np.sqrt(np.clip(1 - square, 0, 1))
    turn = rng.uniform(0, 2 * np.pi)
    towards = np.cos(turn) * across + np.sin(turn) * down
    levels = rng.uniform(50, 80) * contrast * (2 * towards - 0.35) * slope
    return Flaw(square < 0.94, _grey(levels * (square < 1)))


def _elliptic(
    size: tuple[int, int], x: float, y: float, radius: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (H, W) in which an ellipse of about that radius is the unit circle."""
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32) + 0.5
    turn, aspect = rng.uniform(0, np.pi), rng.uniform(0.6, 1.0)
    right, below = columns - x, rows - y
    across = (np.cos(turn) * right + np.sin(turn) * below) / radius
    down = (np.cos(turn) * below - np.sin(turn) * right) / (radius * aspect)
    return across, down


def _blowhole(
    rng: np.random.Generator, size: tuple[int, int], x: float, y: float, contrast: float
) -> Flaw:
    """A small dark hole with a lighter rim on one side."""
    unit = min(size) / SIDE
    across, down = _elliptic(size, x, y, rng.uniform(3.8, 9) * unit, rng)
    angle = np.arctan2(down, across)
    waves = 0.1 * np.sin(3 * angle + rng.uniform(0, 6)) + 0.06 * np.sin(5 * angle)
    distance = np.hypot(across, down) - 1 - waves
    alpha = np.clip(0.5 - distance * 4, 0, 1)
    turn = rng.uniform(0, 2 * np.pi)
    rim = np.exp(-(((distance - 0.15) / 0.15) ** 2)) * np.clip(np.cos(angle - turn), 0, 1)
    depth = rng.uniform(60, 110) * contrast
    return Flaw(alpha >= 0.5, _grey(0.25 * depth * rim * (1 - alpha) - depth * alpha))


def _stain(
    rng: np.random.Generator, size: tuple[int, int], x: float, y: float, contrast: float
) -> Flaw:
    """A blob of another colour with a ragged, slightly soft edge."""
    from scipy import ndimage  # type: ignore[import-untyped]

    share = np.exp(rng.uniform(np.log(0.002), np.log(0.035)))
    radius = np.sqrt(share * size[0] * size[1] / np.pi)
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32) + 0.5
    distance = np.hypot(columns - x, rows - y) / radius
    wavy = distance - 1 + 0.22 * smooth_noise(rng, size, radius / 2, radius / 2)
    wavy += 0.08 * smooth_noise(rng, size, radius / 6, radius / 6)
    pieces, _ = ndimage.label(wavy < 0)
    inside = pieces == pieces[min(int(y), size[0] - 1), min(int(x), size[1] - 1)]
    inside = ndimage.binary_fill_holes(inside & (wavy < 0))
    alpha = ndimage.gaussian_filter(inside.astype(np.float32), 0.8 * min(size) / SIDE)
    tint = rng.choice([-1, 1], p=[0.75, 0.25]) * rng.uniform(32, 60) * contrast
    colour = tint * (1 + rng.uniform(-0.3, 0.3, 3))
    body = alpha * (1 + 0.15 * smooth_noise(rng, size, radius / 3, radius / 3))
    return Flaw(inside, np.asarray(body[..., None] * colour, np.float32))
