"""A painted town as an aerial camera sees it: near infrared, red and green as red, green, blue."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw

__all__ = ["paint_town"]

_SCALE = 2  # shapes are drawn larger, and averaged down
_STREET, _BUILDING, _GRASS, _TREE, _CAR, _CLUTTER = 1, 2, 3, 4, 5, 6
_SHADOW = (0.6, 0.35)  # of a height, to the right and down

Point = tuple[float, float]
Colour = tuple[int, int, int]


def paint_town(
    size: tuple[int, int], rng: np.random.Generator, car: float
) -> tuple[np.ndarray, np.ndarray]:
    """Paint streets, roofs, gardens, trees, cars and, rarely, clutter.

    Args:
        size: (height, width) in pixels.
        rng: of all that is drawn.
        car: length of a car in pixels, by which all else is scaled.

    Returns:
        (H, W, 3) uint8; and (H, W) uint8 of 1 impervious surface, 2 building, 3 low vegetation, 4
        tree, 5 car, 6 clutter.
    """
    town = _Town(size, rng, car)
    blocks = town.streets()
    for block in blocks:
        town.fill(block)
    town.parked()
    town.clutter()
    return town.finished()


class _Town:
    """What is drawn so far, twice as large."""

    def __init__(self, size: tuple[int, int], rng: np.random.Generator, car: float) -> None:
        self.size, self.rng, self.unit = size, rng, car * _SCALE
        self.height, self.width = (side * _SCALE for side in size)
        red = int(rng.integers(105, 150))
        self.grass = (red, int(red * 0.62), int(red * 0.55))
        self.asphalt = int(rng.integers(95, 135))
        self.traffic = float(rng.uniform(0.1, 0.5))
        large = (self.width, self.height)
        self._image = Image.new("RGB", large, self.grass)
        self._ids = Image.new("L", large, _GRASS)
        self._shade = Image.new("L", large, 255)
        self._lanes: list[tuple[Point, float]] = []

    def streets(self) -> list[tuple[float, float, float, float]]:
        """Draw streets along and across; the blocks between them: left, top, right, bottom."""
        lines = []
        for length in (self.width, self.height):
            at, own = self.rng.uniform(0.3, 2.5) * self.unit, []
            while at < length:
                wide = self.rng.uniform(2.2, 3.2) * self.unit
                own.append((at, at + wide))
                at += wide + self.rng.uniform(9, 17) * self.unit
            lines.append(own)
        across, down = lines
        for start, stop in across:
            self._street((start, 0, stop, self.height), upright=True)
        for start, stop in down:
            self._street((0, start, self.width, stop), upright=False)
        edges = [
            list(zip([0.0, *(stop for _, stop in own)], [*(start for start, _ in own), length]))
            for own, length in ((across, self.width), (down, self.height))
        ]
        return [
            (left, top, right, bottom)
            for left, right in edges[0]
            for top, bottom in edges[1]
            if right - left > 2 * self.unit and bottom - top > 2 * self.unit
        ]

    def fill(self, block: tuple[float, float, float, float]) -> None:
        """Houses in rows, a car park or a park; and trees."""
        left, top, right, bottom = block
        kind = self.rng.choice(4, p=[0.55, 0.12, 0.13, 0.2])
        if kind == 1:
            self._car_park(block)
        elif kind == 2:  # one large roof among asphalt
            self._rectangle(block, self._grey(self.asphalt, 14), _STREET)
            wide, deep = right - left - 1.8 * self.unit, bottom - top - 1.8 * self.unit
            self._roof((left + right) / 2, (top + bottom) / 2, wide, deep, 0)
        elif kind == 0:
            step = 4.2 * self.unit
            for y in np.arange(top + step / 2, bottom - step / 3, step):
                for x in np.arange(left + step / 2, right - step / 3, step):
                    if self.rng.random() < 0.82:
                        self._house(float(x), float(y))
        dense = self.rng.uniform(2, 6) if kind == 3 else self.rng.choice([0, 0.3, 1.2])
        for _ in range(int(dense * (right - left) / self.unit)):
            x, y = self.rng.uniform(left, right), self.rng.uniform(top, bottom)
            self._tree(float(x), float(y), self.rng.uniform(0.35, 0.8) * self.unit)

    def parked(self) -> None:
        """Cars along the lanes of streets and in car parks."""
        for (x, y), angle in self._lanes:
            self._car(x, y, angle + self.rng.normal(0, 0.04))

    def clutter(self) -> None:
        """Now and then water or a tank, which belongs to none of the classes."""
        if self.rng.random() < 0.5:
            x, y = self.rng.uniform(0, self.width), self.rng.uniform(0, self.height)
            radius = self.rng.uniform(0.5, 1.1) * self.unit
            self._ellipse(x, y, radius, (30, 70, 95), _CLUTTER)

    def finished(self) -> tuple[np.ndarray, np.ndarray]:
        """The image with its textures, and the class ids."""
        ids = np.asarray(self._ids)[_SCALE // 2 :: _SCALE, _SCALE // 2 :: _SCALE]
        image = np.asarray(self._image.reduce(_SCALE), np.float32)
        shade = np.asarray(self._shade.reduce(_SCALE), np.float32)[..., None] / 255
        fine = self.rng.normal(0, 1, ids.shape)
        rough = self._noise(3)
        amount = np.select([ids == _GRASS, ids == _TREE, ids == _STREET], [5.0, 5.0, 3.0], 2.5)
        blobs = np.select([ids == _GRASS, ids == _TREE, ids == _STREET], [6.0, 20.0, 3.0], 2.0)
        image = (image + (fine * amount + rough * blobs + 10 * self._noise(60))[..., None]) * shade
        return np.clip(np.rint(image), 0, 255).astype(np.uint8), np.ascontiguousarray(ids)

    def _noise(self, cell: float) -> np.ndarray:
        height, width = self.size
        shape = max(2, round(height / cell)), max(2, round(width / cell))
        grid = Image.fromarray(self.rng.normal(0, 1, shape).astype(np.float32))
        return np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC))

    def _grey(self, level: int, spread: int) -> Colour:
        value = int(np.clip(level + self.rng.integers(-spread, spread + 1), 20, 240))
        return value, value, value + 4

    def _street(self, box: tuple[float, float, float, float], *, upright: bool) -> None:
        self._rectangle(box, self._grey(self.asphalt, 8), _STREET)
        left, top, right, bottom = box
        length, wide = (bottom - top, right - left) if upright else (right - left, bottom - top)
        for side in (0.2, 0.8):
            at = self.rng.uniform(0, 3) * self.unit
            while at < length:
                point = (left + side * wide, at) if upright else (at, top + side * wide)
                if self.rng.random() < self.traffic:
                    self._lanes.append((point, math.pi / 2 if upright else 0.0))
                at += self.rng.uniform(1.3, 3.5) * self.unit

    def _car_park(self, block: tuple[float, float, float, float]) -> None:
        self._rectangle(block, self._grey(self.asphalt + 10, 10), _STREET)
        left, top, right, bottom = block
        for y in np.arange(top + 0.9 * self.unit, bottom - 0.6 * self.unit, 2.1 * self.unit):
            for x in np.arange(left + 0.6 * self.unit, right - 0.5 * self.unit, 0.68 * self.unit):
                if self.rng.random() < 0.5:
                    self._lanes.append(((float(x), float(y)), math.pi / 2))

    def _house(self, x: float, y: float) -> None:
        wide, deep = (self.rng.uniform(1.7, 3.1) * self.unit for _ in range(2))
        if self.rng.random() < 0.5:  # a paved yard
            side = 0.75 * max(wide, deep)
            yard = (x - side, y - side / 2, x + side, y + side)
            self._rectangle(yard, self._grey(self.asphalt + 22, 14), _STREET)
            if self.rng.random() < 0.5:
                self._lanes.append(
                    ((x - side * 0.8, y + side * 0.7), float(self.rng.choice([0, 1.57])))
                )
        angle = self.rng.choice([0.0, 0.0, 0.0, self.rng.uniform(-0.35, 0.35)])
        self._roof(x, y, wide, deep, float(angle))

    def _roof(self, x: float, y: float, wide: float, deep: float, angle: float) -> None:
        rise = 0.5 * self.unit
        self._polygon(
            _corners(x + _SHADOW[0] * rise, y + _SHADOW[1] * rise, wide, deep, angle), None
        )
        kind = self.rng.choice(3, p=[0.5, 0.25, 0.25])
        base: Colour
        if kind == 0:  # tiles
            base = (int(self.rng.integers(120, 160)), int(self.rng.integers(80, 100)), 72)
        elif kind == 1:  # slate
            base = self._grey(72, 12)
        else:  # a flat roof of gravel
            base = self._grey(178, 18)
        self._polygon(_corners(x, y, wide, deep, angle), base, _BUILDING)
        if kind != 2:  # the side away from the sun
            half = _corners(
                x - math.sin(angle) * deep / 4,
                y + math.cos(angle) * deep / 4,
                wide,
                deep / 2,
                angle,
            )
            self._polygon(half, tuple(int(level * 0.74) for level in base), _BUILDING)  # type: ignore[arg-type]
        for _ in range(int(self.rng.integers(0, 3))):
            dx, dy = (self.rng.uniform(-0.3, 0.3) * side for side in (wide, deep))
            chimney = _corners(x + dx, y + dy, 0.16 * self.unit, 0.16 * self.unit, angle)
            self._polygon(chimney, (210, 205, 200), _BUILDING)

    def _tree(self, x: float, y: float, radius: float) -> None:
        shadow = (x + 0.7 * radius, y + 0.45 * radius)
        ImageDraw.Draw(self._shade).ellipse(_around(*shadow, radius), fill=150)
        red = int(self.rng.integers(135, 205))
        self._ellipse(x, y, radius, (red, int(red * 0.38), int(red * 0.36)), _TREE)
        for _ in range(4):
            dx, dy = self.rng.uniform(-0.55, 0.55, 2) * radius
            lighter = (min(255, red + 22), int(red * 0.45), int(red * 0.42))
            self._ellipse(x + dx, y + dy, 0.35 * radius, lighter, _TREE)

    def _car(self, x: float, y: float, angle: float) -> None:
        long, wide = self.unit, 0.44 * self.unit
        self._polygon(_corners(x + 2, y + 1.5, long, wide, angle), None)
        paint = [(225, 225, 228), (40, 40, 45), (150, 35, 40), (45, 60, 130), (165, 168, 172)]
        colour: Colour = paint[int(self.rng.integers(len(paint)))]
        self._polygon(_corners(x, y, long, wide, angle), colour, _CAR)
        dark = (25, 30, 38) if sum(colour) > 200 else (95, 100, 110)
        for place, share in ((-0.22, 0.1), (0.16, 0.16)):
            glass = (x + math.cos(angle) * place * long, y + math.sin(angle) * place * long)
            self._polygon(_corners(*glass, share * long, 0.8 * wide, angle), dark, _CAR)

    def _rectangle(
        self, box: tuple[float, float, float, float], colour: Colour, class_id: int
    ) -> None:
        left, top, right, bottom = box
        self._polygon(
            [(left, top), (right, top), (right, bottom), (left, bottom)], colour, class_id
        )

    def _polygon(self, points: Sequence[Point], colour: Colour | None, class_id: int = 0) -> None:
        """Fill it; without a colour it is a shadow."""
        whole = [(round(x), round(y)) for x, y in points]
        if colour is None:
            ImageDraw.Draw(self._shade).polygon(whole, fill=140)
            return
        self._fill(class_id, colour, lambda draw, fill: draw.polygon(whole, fill=fill))

    def _ellipse(self, x: float, y: float, radius: float, colour: Colour, class_id: int) -> None:
        box = _around(x, y, radius)
        self._fill(class_id, colour, lambda draw, fill: draw.ellipse(box, fill=fill))

    def _fill(self, class_id: int, colour: Colour, draw) -> None:  # type: ignore[no-untyped-def]
        for image, fill in ((self._image, colour), (self._ids, class_id)):
            draw(ImageDraw.Draw(image), fill)
        if class_id in (_BUILDING, _TREE, _CAR):  # what is high stands in no shadow drawn before
            draw(ImageDraw.Draw(self._shade), 255)


def _around(x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    return x - radius, y - radius, x + radius, y + radius


def _corners(x: float, y: float, wide: float, deep: float, angle: float) -> list[Point]:
    return [*_turned(x, y, angle, ((-wide, -deep), (wide, -deep), (wide, deep), (-wide, deep)))]


def _turned(x: float, y: float, angle: float, doubled: Sequence[Point]) -> Iterator[Point]:
    cosine, sine = math.cos(angle), math.sin(angle)
    for across, down in doubled:
        yield x + (across * cosine - down * sine) / 2, y + (across * sine + down * cosine) / 2
