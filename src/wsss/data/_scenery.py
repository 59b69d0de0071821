"""Painting for the synthetic set: layers with soft edges that know what they cover.

Shapes are stencilled at four times the resolution and averaged down, so an edge pixel has a
share of coverage. The same shares mix the colours and keep the books of which class a pixel
shows, hence the masks are exact.
"""

import colorsys
from collections.abc import Sequence
from typing import Self

import numpy as np
from PIL import Image, ImageDraw

__all__ = ["Canvas", "Stencil", "balloon", "boat", "hsv", "scenery", "sheep", "tree"]

_SCALE = 4
Point = tuple[float, float]


def hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """(3,) float32 RGB in [0, 1] of hue (turns), saturation and value."""
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value), np.float32)


class Stencil:
    """A union of shapes in pixel coordinates (x, y) of the canvas; `alpha` is its coverage."""

    def __init__(self, size: tuple[int, int]) -> None:
        height, width = size
        self._image = Image.new("L", (width * _SCALE, height * _SCALE))
        self._draw = ImageDraw.Draw(self._image)

    def polygon(self, points: Sequence[Point]) -> Self:
        self._draw.polygon([(x * _SCALE, y * _SCALE) for x, y in points], fill=255)
        return self

    def ellipse(self, x: float, y: float, radius_x: float, radius_y: float) -> Self:
        box = (x - radius_x, y - radius_y, x + radius_x, y + radius_y)
        self._draw.ellipse([side * _SCALE for side in box], fill=255)
        return self

    def line(self, start: Point, end: Point, thickness: float) -> Self:
        points = [(x * _SCALE, y * _SCALE) for x, y in (start, end)]
        self._draw.line(points, fill=255, width=max(2, round(thickness * _SCALE)))
        return self

    def alpha(self) -> np.ndarray:
        """(H, W) float32 in [0, 1]."""
        return np.asarray(self._image.reduce(_SCALE), np.float32) / 255


class Canvas:
    """Layers painted from back to front.

    Attributes:
        rgb: (H, W, 3) float32, about [0, 1].
        coverage: (K, H, W) float32 in [0, 1], the share of a pixel that shows each class.
        x, y: (H, W) float32 pixel centres.
    """

    def __init__(self, size: tuple[int, int], num_classes: int, rng: np.random.Generator) -> None:
        self.size = size
        self.rng = rng
        self.rgb = np.zeros((*size, 3), np.float32)
        self.coverage = np.zeros((num_classes, *size), np.float32)
        self.y, self.x = np.mgrid[: size[0], : size[1]].astype(np.float32) + 0.5

    def stencil(self) -> Stencil:
        return Stencil(self.size)

    def paint(self, alpha: np.ndarray, colour: np.ndarray, class_id: int = 0) -> None:
        """Cover with a colour, (3,) or (H, W, 3), that belongs to a class (0: background)."""
        rows, columns = (np.flatnonzero(alpha.any(axis)) for axis in (1, 0))
        if not rows.size:
            return
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]  # the rest stays
        alpha = alpha[box]
        colour = colour if colour.ndim == 1 else colour[box]
        self.rgb[box] += alpha[..., None] * (colour - self.rgb[box])
        self.coverage[:, *box] *= 1 - alpha
        if class_id:
            self.coverage[class_id - 1][box] += alpha

    def noise(self, cells_x: float, cells_y: float | None = None) -> np.ndarray:
        """(H, W) float32 smooth noise in about [-1, 1] with that many cells per side."""
        height, width = self.size
        shape = (max(2, round(cells_y or cells_x)), max(2, round(cells_x)))
        grid = Image.fromarray(self.rng.uniform(-1, 1, shape).astype(np.float32))
        return np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC))

    def image(self, grain: float) -> np.ndarray:
        """(H, W, 3) uint8, with sensor noise of that standard deviation in levels."""
        levels = self.rgb * 255 + self.rng.normal(0, grain, self.rgb.shape).astype(np.float32)
        return np.asarray(np.clip(np.rint(levels), 0, 255), dtype=np.uint8)

    def mask(self) -> np.ndarray:
        """(H, W) uint8: what most of each pixel shows; 0 background, 1..K."""
        shares = np.concatenate([1 - self.coverage.sum(0, keepdims=True), self.coverage])
        return np.asarray(shares.argmax(0), dtype=np.uint8)

    def ridge(self, base: float, height: float, cells: float) -> np.ndarray:
        """(H, W) float32 coverage of what lies below a wavy line around y = `base`."""
        line = base + height * self.noise(cells, 2)[:1]
        below: np.ndarray = np.clip(self.y - line + 0.5, 0, 1)
        return below


def _shaded(colour: np.ndarray, factor: np.ndarray) -> np.ndarray:
    shaded: np.ndarray = np.clip(colour * factor[..., None], 0, 1)
    return shaded


def scenery(canvas: Canvas, horizon: float, shore: float | None) -> None:
    """Paint sky, clouds, hills and, below the horizon, water or a meadow.

    Args:
        canvas: what to paint on.
        horizon: its y in pixels.
        shore: y where water ends and a meadow begins; None is meadow all the way.
    """
    rng, (height, width) = canvas.rng, canvas.size
    mood = rng.choice(3, p=[0.6, 0.2, 0.2])
    top, low = (
        (hsv(rng.uniform(0.56, 0.61), 0.65, rng.uniform(0.75, 0.92)), hsv(0.54, 0.22, 0.97)),
        (hsv(rng.uniform(0.58, 0.66), 0.40, 0.78), hsv(rng.uniform(0.06, 0.11), 0.38, 0.98)),
        (hsv(rng.uniform(0.62, 0.70), 0.45, 0.60), hsv(rng.uniform(0.00, 0.05), 0.42, 0.92)),
    )[mood]
    light = (1.0, 0.93, 0.80)[mood]
    fade = np.clip(canvas.y / horizon, 0, 1)[..., None]
    sky = top * (1 - fade) + low * fade
    canvas.paint(np.ones(canvas.size, np.float32), sky)
    if rng.random() < 0.4:
        sun_x, sun_y = rng.uniform(0.1, 0.9) * width, rng.uniform(0.15, 0.8) * horizon
        glow = np.exp(-np.hypot(canvas.x - sun_x, canvas.y - sun_y) / (0.09 * height))
        canvas.paint(0.7 * glow, hsv(0.14, 0.25, 1.0))
        disc = canvas.stencil().ellipse(sun_x, sun_y, 0.035 * height, 0.035 * height)
        canvas.paint(disc.alpha(), hsv(0.14, 0.15, 1.0))
    clouds = canvas.noise(4, 9) + 0.5 * canvas.noise(10, 20) + 0.25 * canvas.noise(25, 40)
    cover = np.clip((clouds - rng.uniform(0.1, 0.8)) * 1.5, 0, 0.85)
    canvas.paint(cover * np.clip(1.1 - fade[..., 0] ** 3, 0, 1), (low + 3) / 4)

    for depth in (0.75, 0.45):
        base = horizon - height * rng.uniform(0.02, 0.16) * depth
        alpha = canvas.ridge(base, height * rng.uniform(0.03, 0.12), rng.uniform(3, 6))
        green = hsv(rng.uniform(0.28, 0.48), 0.40, 0.50 * light)
        texture = 1 + 0.12 * canvas.noise(30) + 0.10 * canvas.noise(9)
        canvas.paint(alpha, _shaded(low * depth + green * (1 - depth), texture))

    below = np.clip((canvas.y - horizon) / (height - horizon), 0, 1)  # 0 far, 1 near
    if shore is not None:
        ripples = canvas.noise(7, 60) * 0.5 + canvas.noise(14, 90) * 0.5
        deep = hsv(rng.uniform(0.50, 0.60), rng.uniform(0.5, 0.75), 0.62 * light)
        near = np.clip(0.45 + 0.5 * below, 0, 1)[..., None]
        water = low * (1 - near) + deep * near
        water = _shaded(water, 1 + ripples * (0.06 + 0.20 * below))
        canvas.paint(np.clip(canvas.y - horizon + 0.5, 0, 1), water)
        glints = np.clip((canvas.noise(22, 90) - 0.62) * 5, 0, 0.7) * (canvas.y > horizon)
        canvas.paint(glints, (low + 2) / 3)
    edge = horizon if shore is None else shore
    if edge < height:
        _meadow(canvas, edge, below, light, sand=shore is not None)


def _meadow(canvas: Canvas, edge: float, below: np.ndarray, light: float, *, sand: bool) -> None:
    rng, (height, width) = canvas.rng, canvas.size
    bank = canvas.ridge(edge, 0.02 * height, 4)
    if sand:
        rim = canvas.ridge(edge - 0.025 * height, 0.02 * height, 4)
        canvas.paint(np.maximum(rim, bank), hsv(0.11, 0.32, 0.80 * light))
    hue = rng.uniform(0.20, 0.32)
    grass = hsv(hue, rng.uniform(0.5, 0.7), 0.62 * light)
    texture = 1.12 - 0.30 * below + 0.10 * canvas.noise(6, 10) + 0.16 * canvas.noise(64, 32)
    canvas.paint(bank, _shaded(grass, texture))
    petals = [hsv(0.13, 0.75, 1.0), hsv(0.0, 0.0, 1.0), hsv(0.95, 0.45, 0.95)]
    for _ in range(3):
        dots = canvas.stencil()
        for _ in range(int(rng.integers(0, 14))):
            y = rng.uniform(edge + 0.06 * height, height + 4)
            radius = 0.35 + 0.7 * (y - edge) / height
            dots.ellipse(rng.uniform(0, width), y, radius, radius)
        canvas.paint(dots.alpha() * (canvas.y > edge), petals[int(rng.integers(3))])


def tree(canvas: Canvas, x: float, ground: float, tall: float) -> None:
    """Paint a background tree: a round crown, or a conifer."""
    rng = canvas.rng
    trunk = canvas.stencil().line((x, ground), (x, ground - 0.5 * tall), 0.08 * tall)
    canvas.paint(trunk.alpha(), hsv(0.07, 0.5, 0.35))
    crown = canvas.stencil()
    if rng.random() < 0.5:
        for step in range(3):
            tip, reach = (ground - tall * (0.58 + 0.21 * step), tall * (0.30 - 0.06 * step))
            foot = tip + 0.40 * tall
            crown.polygon([(x, tip), (x + reach, foot), (x - reach, foot)])
        colour = hsv(rng.uniform(0.33, 0.43), 0.55, rng.uniform(0.28, 0.42))
    else:
        for _ in range(9):
            angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.22) * tall
            centre = (x + reach * np.cos(angle), ground - 0.68 * tall + reach * np.sin(angle))
            crown.ellipse(*centre, 0.17 * tall, 0.17 * tall)
        colour = hsv(rng.uniform(0.24, 0.38), 0.6, rng.uniform(0.32, 0.5))
    canvas.paint(crown.alpha(), _shaded(colour, 1 + 0.25 * canvas.noise(40)))


def balloon(canvas: Canvas, x: float, y: float, radius: float, class_id: int) -> None:
    """Paint a hot-air balloon with gores of two or three colours, centred on its envelope."""
    rng = canvas.rng
    down = np.linspace(-1, 1.25, 40)
    wide = np.where(down < 0.4, np.sqrt(np.clip(1 - down**2, 0, 1)), 0.9165 - 0.82 * (down - 0.4))
    right = [(x + radius * w, y + radius * d) for d, w in zip(down, wide, strict=True)]
    left = [(2 * x - px, py) for px, py in reversed(right)]
    alpha = canvas.stencil().polygon(right + left).alpha()

    basket_y, basket = y + 1.55 * radius, canvas.stencil()
    for side in (-1, 1):
        foot = (x + side * 0.13 * radius, basket_y)
        basket.line((x + side * 0.2 * radius, y + 1.2 * radius), foot, 0.03 * radius)
    corner = 0.17 * radius
    canvas.paint(basket.alpha(), hsv(0.08, 0.4, 0.3), class_id)
    top, bottom = basket_y, basket_y + 0.3 * radius
    sides = [(x - corner, top), (x + corner, top), (x + 0.8 * corner, bottom)]
    box = canvas.stencil().polygon([*sides, (x - 0.8 * corner, bottom)])
    canvas.paint(box.alpha(), _shaded(hsv(0.08, 0.6, 0.5), 1 + 0.2 * canvas.noise(60)), class_id)

    hue = rng.choice([0.0, 0.04, 0.13, 0.8, 0.9])
    colours = [hsv(hue, 0.85, 0.92), hsv(hue + rng.uniform(0.08, 0.16), 0.75, 0.98)]
    if rng.random() < 0.5:
        colours.append(hsv(0.12, 0.15, 0.98))
    half = np.interp((canvas.y - y) / radius, down, wide).astype(np.float32)
    across = np.clip((canvas.x - x) / (radius * np.maximum(half, 0.05)), -1, 1)
    gores = int(rng.integers(7, 11))
    gore = np.floor((np.arcsin(across) / np.pi + 0.5) * gores).astype(int)
    colour = np.stack(colours)[gore % len(colours)]
    sheen = 1.05 - 0.22 * across - 0.10 * (canvas.y - y) / radius - 0.15 * across**2
    canvas.paint(alpha, _shaded(colour, sheen + 0.03 * canvas.noise(40)), class_id)


def boat(
    canvas: Canvas, x: float, waterline: float, tall: float, class_id: int, *, afloat: bool
) -> None:
    """Paint a sailing boat; afloat, it has a reflection, which is no part of it."""
    rng = canvas.rng
    facing = rng.choice([-1, 1])
    deck, foot = waterline - 0.13 * tall, waterline - 0.19 * tall

    def shape(points: Sequence[Point], squash: float = 1.0) -> np.ndarray:
        moved = [
            (x + facing * tall * px, waterline + squash * (py - waterline)) for px, py in points
        ]
        return canvas.stencil().polygon(moved).alpha()

    hull = [(-0.36, deck), (0.42, deck - 0.04 * tall), (0.28, waterline + 0.03 * tall)]
    hull += [(-0.28, waterline + 0.03 * tall)]
    curve = np.linspace(0, 1, 8)
    belly = 0.05 * np.sin(np.pi * curve)
    main = [
        (-0.02 - 0.34 * t - b, waterline - tall + t * (0.81 * tall))
        for t, b in zip(curve, belly, strict=True)
    ]
    main += [(-0.02, foot)]
    jib = [(0.03, waterline - 0.92 * tall), (0.36, foot), (0.03, foot)]
    canvas_hue = rng.choice([0.0, 0.03, 0.10, 0.62])
    cloth = hsv(canvas_hue, rng.uniform(0.65, 0.85), 0.85)
    pale = hsv(0.11, rng.uniform(0.05, 0.2), 0.97)
    sails = [cloth, pale] if rng.random() < 0.5 else [cloth, cloth * 0.88]
    wood = hsv(rng.choice([0.05, 0.07, 0.64]), rng.uniform(0.55, 0.75), rng.uniform(0.30, 0.45))

    if afloat:
        ripple = 0.32 + 0.25 * canvas.noise(8, 70)
        for points, colour in ((main, sails[0]), (jib, sails[1]), (hull, wood)):
            mirrored = shape(points, -0.55) * np.clip(ripple, 0, 1) * (canvas.y > waterline)
            canvas.paint(mirrored, colour * 0.8)
    mast = [
        (-0.02, waterline - 1.03 * tall),
        (0.01, waterline - 1.03 * tall),
        (0.02, deck),
        (-0.02, deck),
    ]
    canvas.paint(shape(mast), hsv(0.08, 0.5, 0.35), class_id)
    seams = 1 - 0.10 * (np.mod((canvas.y - waterline) / (0.11 * tall), 1) < 0.14)
    folds = seams * (1 + 0.10 * facing * (canvas.x - x) / (0.4 * tall)) + 0.03 * canvas.noise(30)
    for points, colour in ((main, sails[0]), (jib, sails[1])):
        canvas.paint(shape(points), _shaded(colour, folds), class_id)
    planks = 1.15 - 0.25 * (np.mod((canvas.y - deck) / (0.05 * tall), 1) < 0.25)
    canvas.paint(shape(hull), _shaded(wood, planks), class_id)


def sheep(canvas: Canvas, x: float, ground: float, length: float, class_id: int) -> None:
    """Paint a sheep whose body is `length` long, with its shadow, which is no part of it."""
    rng = canvas.rng
    facing = rng.choice([-1, 1])
    y = ground - 0.48 * length  # centre of the body
    shadow = canvas.stencil().ellipse(x, ground, 0.55 * length, 0.08 * length).alpha()
    canvas.paint(0.35 * shadow, hsv(0.3, 0.4, 0.1))
    dark = hsv(rng.uniform(0.04, 0.1), rng.uniform(0.15, 0.4), rng.uniform(0.14, 0.26))
    legs = canvas.stencil()
    for step in (-0.30, -0.18, 0.16, 0.28):
        legs.line((x + step * length, y), (x + step * length, ground), 0.075 * length)
    canvas.paint(legs.alpha(), dark, class_id)

    fleece = canvas.stencil().ellipse(x, y, 0.44 * length, 0.27 * length)
    for angle in np.linspace(0, 2 * np.pi, 17)[:-1] + rng.uniform(0, 1):
        edge = (x + 0.42 * length * np.cos(angle), y + 0.26 * length * np.sin(angle))
        puff = length * rng.uniform(0.08, 0.12)
        fleece.ellipse(*edge, puff, puff)
    curls = 0.10 * canvas.noise(canvas.size[1] / 3) + 0.05 * canvas.noise(24)
    wool = hsv(rng.uniform(0.08, 0.13), rng.uniform(0.03, 0.18), rng.uniform(0.88, 0.97))
    roundness = 1.0 - 0.30 * np.clip((canvas.y - y) / (0.36 * length), -0.3, 1)
    canvas.paint(fleece.alpha(), _shaded(wool, roundness + curls), class_id)

    head_x, head_y = x + facing * 0.52 * length, y - 0.14 * length
    ears = canvas.stencil()
    for side in (-1, 1):
        ears.ellipse(
            head_x + side * 0.13 * length, head_y - 0.06 * length, 0.07 * length, 0.035 * length
        )
    canvas.paint(ears.alpha(), dark * 0.9, class_id)
    face = canvas.stencil().ellipse(head_x, head_y + 0.03 * length, 0.105 * length, 0.16 * length)
    canvas.paint(face.alpha(), dark, class_id)
    tuft = canvas.stencil().ellipse(head_x, head_y - 0.12 * length, 0.10 * length, 0.06 * length)
    canvas.paint(tuft.alpha(), _shaded(wool, 1 + curls), class_id)
    eyes = canvas.stencil()
    for side in (-1, 1):
        eyes.ellipse(head_x + side * 0.045 * length, head_y, 0.018 * length, 0.024 * length)
    canvas.paint(eyes.alpha(), hsv(0.1, 0.05, 0.95), class_id)
