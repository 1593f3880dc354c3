"""The images of the demo `houses`, drawn by code: fronts of houses with Pillow.

What the images tell and no table does: whether the house was renovated (even paint, a whole roof,
flowers; else stains, cracks, missing tiles, a boarded window) and whether there is a garden (else
asphalt). Light, colours, weather, shape, place and size vary alike for all, so that no single
pixel gives it away.
"""

from __future__ import annotations

import io
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

SIDE = 96
_SCALE = 3  # drawn larger and scaled down, for smooth edges
Colour = tuple[int, int, int]
Point = tuple[float, float]

_PAINTS: tuple[Colour, ...] = (
    (236, 224, 196), (214, 196, 170), (226, 184, 150), (198, 206, 212), (240, 238, 232),
    (214, 206, 150), (186, 150, 128), (170, 190, 170),
)  # fmt: skip
_ROOFS: tuple[Colour, ...] = ((160, 78, 56), (120, 66, 58), (92, 88, 92), (74, 78, 88))
_SKIES: tuple[Colour, ...] = (
    (150, 200, 240), (190, 214, 232), (206, 208, 212), (170, 180, 194), (240, 214, 180),
)  # fmt: skip
_GREEN: tuple[Colour, ...] = ((96, 156, 74), (120, 170, 90), (84, 130, 66))
_GREY: tuple[Colour, ...] = ((128, 126, 124), (150, 144, 136), (104, 104, 108))
_FLOWERS: tuple[Colour, ...] = ((226, 72, 92), (250, 210, 80), (180, 110, 210), (250, 250, 250))
_GLASS: Colour = (70, 92, 112)
_BOARD: Colour = (140, 108, 70)


@dataclass(frozen=True, slots=True)
class Look:
    """What is to be seen of a house. floors: 1 to 3."""

    floors: int
    renovated: bool
    garden: bool


def draw_house(look: Look, chance: random.Random) -> bytes:
    """One image as JPEG bytes, SIDE pixels square. The same `chance` gives the same bytes."""
    pen = _Pen(look, chance)
    _surroundings(pen)
    _front(pen)
    _roof(pen)
    _openings(pen)
    _before_it(pen)
    image = pen.image.rotate(chance.uniform(-3, 3), Image.Resampling.BICUBIC, fillcolor=pen.sky)
    image = image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def _lit(colour: Colour, light: float) -> Colour:
    red, green, blue = (max(0, min(255, round(part * light))) for part in colour)
    return red, green, blue


class _Pen:
    """Draws in units of the image: x from 0 to 1, y from 0 (top) to 1."""

    def __init__(self, look: Look, chance: random.Random) -> None:
        self.look, self.chance = look, chance
        self.light = chance.uniform(0.72, 1.12)
        self.sky = self.of(_SKIES)
        self.paint = self.of(_PAINTS)
        self.ground = chance.uniform(0.78, 0.88)
        self.width = chance.uniform(0.42, 0.66)
        self.left = chance.uniform(0.08, 0.92 - self.width)
        self.height = 0.12 + 0.135 * look.floors
        self.top = self.ground - self.height
        side = SIDE * _SCALE
        self.image = Image.new("RGB", (side, side), self.sky)
        self.draw = ImageDraw.Draw(self.image)

    def of(self, colours: tuple[Colour, ...]) -> Colour:
        """One of them by chance, a little off and in the light of the day."""
        red, green, blue = (part + self.chance.randint(-14, 14) for part in
                            self.chance.choice(colours))  # fmt: skip
        return _lit((red, green, blue), self.light)

    def at(self, point: Point) -> Point:
        side = SIDE * _SCALE
        return point[0] * side, point[1] * side

    def box(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        self.draw.rectangle([self.at((x, y)), self.at((x + width, y + height))], colour)

    def shape(self, points: list[Point], colour: Colour) -> None:
        self.draw.polygon([self.at(point) for point in points], colour)

    def oval(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        ends = [self.at((x - width, y - height)), self.at((x + width, y + height))]
        self.draw.ellipse(ends, colour)

    def line(self, points: list[Point], colour: Colour, width: int) -> None:
        self.draw.line([self.at(point) for point in points], colour, width=width)


def _surroundings(pen: _Pen) -> None:
    chance = pen.chance
    for _ in range(chance.randint(0, 3)):  # other houses, far away
        width, height = chance.uniform(0.1, 0.3), chance.uniform(0.1, 0.3)
        x = chance.uniform(-0.1, 0.9)
        pen.box(x, pen.ground - height, width, height, pen.of(_PAINTS + _GREY))
    pen.box(0, pen.ground, 1, 1, pen.of(_GREEN if pen.look.garden else _GREY))
    if pen.look.garden:
        for _ in range(chance.randint(1, 3)):
            x = chance.choice((chance.uniform(0.0, 0.16), chance.uniform(0.84, 1.0)))
            height = chance.uniform(0.2, 0.42)
            pen.box(x - 0.012, pen.ground - height * 0.5, 0.024, height * 0.5, (92, 66, 44))
            pen.oval(x, pen.ground - height * 0.75, 0.1, height * 0.42, pen.of(_GREEN))


def _front(pen: _Pen) -> None:
    chance = pen.chance
    pen.box(pen.left, pen.top, pen.width, pen.height, pen.paint)
    if pen.look.renovated:
        pen.box(pen.left, pen.ground - 0.035, pen.width, 0.035, _lit(pen.paint, 0.72))
        return
    for _ in range(chance.randint(4, 8)):  # stains
        x, y = chance.uniform(0.02, 0.86), chance.uniform(0.05, 0.85)
        wide, high = chance.uniform(0.04, 0.12) * pen.width, chance.uniform(0.05, 0.16)
        shade = _lit(pen.paint, chance.choice((0.72, 0.8, 0.86, 1.1)))
        place = pen.left + x * pen.width, pen.top + y * pen.height
        pen.oval(*place, wide, high * pen.height, shade)
    for _ in range(chance.randint(1, 3)):  # cracks
        x, y = pen.left + chance.uniform(0.1, 0.9) * pen.width, pen.top
        points = [(x, y)]
        for _ in range(5):
            x, y = x + chance.uniform(-0.03, 0.03), y + pen.height * chance.uniform(0.08, 0.2)
            points.append((min(max(x, pen.left), pen.left + pen.width), min(y, pen.ground)))
        pen.line(points, _lit(pen.paint, 0.45), 2)


def _roof(pen: _Pen) -> None:
    chance, colour = pen.chance, pen.of(_ROOFS)
    over, rise = chance.uniform(0.02, 0.05), chance.uniform(0.1, 0.2)
    left, right = pen.left - over, pen.left + pen.width + over
    inset = chance.choice((0.0, 0.06, pen.width / 2 + over))  # a slope, a hip, a gable
    ridge = pen.top - rise
    pen.shape([(left, pen.top), (left + inset, ridge), (right - inset, ridge), (right, pen.top)],
              colour)  # fmt: skip
    chimney = pen.left + chance.uniform(0.3, 0.6) * pen.width
    if chance.random() < 0.6:
        pen.box(chimney, ridge - 0.05, 0.05, 0.09, _lit(colour, 0.8))
    if not pen.look.renovated:
        for _ in range(chance.randint(3, 7)):  # tiles are missing
            x = pen.left + chance.uniform(0.25, 0.7) * pen.width
            y = pen.top - chance.uniform(0.15, 0.55) * rise
            pen.box(x, y, chance.uniform(0.02, 0.05), 0.018, _lit(colour, 0.5))


def _openings(pen: _Pen) -> None:
    chance, look = pen.chance, pen.look
    across = chance.randint(2, 4)
    step = pen.width / across
    frame = (246, 246, 242) if look.renovated else _lit(pen.paint, 0.6)
    door = chance.randrange(across)
    boarded = (chance.randrange(look.floors), chance.randrange(across))
    for floor in range(look.floors):
        y = pen.ground - 0.12 - 0.135 * floor
        for place in range(across):
            x = pen.left + (place + 0.25) * step
            if floor == 0 and place == door:
                colour = pen.of(_ROOFS + _PAINTS)
                pen.box(x, y - 0.01, step * 0.5, pen.ground - y + 0.01, _lit(colour, 0.8))
                continue
            pen.box(x - 0.01, y - 0.01, step * 0.5 + 0.02, 0.1, _lit(frame, pen.light))
            covered = not look.renovated and (floor, place) == boarded
            pen.box(x, y, step * 0.5, 0.08, _lit(_BOARD if covered else _GLASS, pen.light))
            if look.renovated and chance.random() < 0.6:
                for number in range(4):
                    spot = x + (number + 0.5) * step * 0.125
                    pen.oval(spot, y + 0.092, 0.013, 0.013, chance.choice(_FLOWERS))


def _before_it(pen: _Pen) -> None:
    chance = pen.chance
    path = pen.left + chance.uniform(0.2, 0.7) * pen.width
    pen.shape([(path, pen.ground), (path + 0.08, pen.ground), (path + 0.16, 1), (path - 0.1, 1)],
              _lit((186, 178, 164), pen.light))  # fmt: skip
    if chance.random() < 0.3:  # a car, which says nothing
        x = chance.uniform(0.05, 0.7)
        colour = pen.of(_ROOFS + _SKIES)
        pen.box(x, 0.9, 0.22, 0.06, colour)
        pen.box(x + 0.05, 0.86, 0.11, 0.05, _lit(colour, 0.8))
        for wheel in (0.05, 0.17):
            pen.oval(x + wheel, 0.965, 0.022, 0.022, (30, 30, 32))
