"""The images of the demo `pets`, drawn by code: simple faces of cats and dogs with Pillow.

What the images tell and no table does: a glad pet sits upright in sunshine with its mouth open
and ears up; a sad one hangs its head in a dim kennel. Light, colours, place, size and tilt vary
for both, so that no single pixel gives it away.
"""

from __future__ import annotations

import io
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

SIDE = 96
_SCALE = 3  # drawn larger and scaled down, for smooth edges
Colour = tuple[int, int, int]

FURS: dict[str, Colour] = {
    "black": (58, 54, 60), "brown": (140, 92, 52), "ginger": (222, 140, 62),
    "grey": (142, 146, 152), "white": (238, 234, 226), "cream": (226, 200, 158),
}  # fmt: skip
_SUNNY: tuple[tuple[Colour, Colour], ...] = (
    ((146, 206, 246), (128, 196, 92)), ((190, 226, 250), (170, 214, 120)),
    ((255, 226, 158), (230, 198, 120)), ((170, 216, 236), (238, 216, 158)),
)  # fmt: skip
_DIM: tuple[tuple[Colour, Colour], ...] = (
    ((92, 96, 108), (70, 68, 72)), ((110, 104, 98), (84, 74, 66)),
    ((84, 92, 96), (96, 96, 92)), ((120, 118, 126), (88, 84, 96)),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the head is (in units of half a side) and what colours are around it."""

    x: float
    y: float
    size: float
    sky: Colour
    ground: Colour
    horizon: float
    fur: Colour


def draw_pet(species: str, fur: str, glad: bool, chance: random.Random) -> bytes:
    """One image as JPEG bytes, SIDE pixels square. The same `chance` gives the same bytes."""
    sky, ground = chance.choice(_SUNNY if glad else _DIM)
    light = chance.uniform(0.85, 1.15)
    pose = Pose(
        x=chance.uniform(-0.16, 0.16),
        y=chance.uniform(-0.1, 0.08) + (0 if glad else 0.12),
        size=chance.uniform(0.5, 0.66),
        sky=_lit(sky, light, chance),
        ground=_lit(ground, light, chance),
        horizon=chance.uniform(0.1, 0.6),
        fur=_lit(FURS[fur], light if glad else light * 0.88, chance),
    )
    side = SIDE * _SCALE
    image = Image.new("RGB", (side, side), pose.sky)
    pen = _Pen(ImageDraw.Draw(image), side, pose)
    _scene(pen, glad, chance)
    _ears(pen, species, glad)
    _head(pen, species)
    _face(pen, glad, chance)
    tilt = chance.uniform(-7, 7)
    image = image.rotate(tilt, Image.Resampling.BICUBIC, fillcolor=pose.ground)
    image = image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def _lit(colour: Colour, light: float, chance: random.Random) -> Colour:
    red, green, blue = (
        max(0, min(255, round(part * light + chance.uniform(-12, 12)))) for part in colour
    )
    return red, green, blue


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (max(0, min(255, round(part * factor))) for part in colour)
    return red, green, blue


class _Pen:
    """Draws in head units: (0, 0) is the middle of the head, 1 its radius."""

    def __init__(self, draw: ImageDraw.ImageDraw, side: int, pose: Pose) -> None:
        self.draw = draw
        self.side = side
        self.pose = pose

    def at(self, x: float, y: float) -> tuple[float, float]:
        half, pose = self.side / 2, self.pose
        return half * (1 + pose.x + x * pose.size), half * (1 + pose.y + y * pose.size)

    def oval(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        self.draw.ellipse([self.at(x - width, y - height), self.at(x + width, y + height)], colour)

    def shape(self, points: list[tuple[float, float]], colour: Colour) -> None:
        self.draw.polygon([self.at(x, y) for x, y in points], colour)

    def arc(
        self, x: float, y: float, width: float, height: float, start: int, end: int, colour: Colour
    ) -> None:
        box = [self.at(x - width, y - height), self.at(x + width, y + height)]
        self.draw.arc(box, start, end, colour, width=round(self.side / 38))


def _scene(pen: _Pen, glad: bool, chance: random.Random) -> None:
    side, pose = pen.side, pen.pose
    floor = side * (1 + pose.horizon) / 2
    pen.draw.rectangle([0, floor, side, side], pose.ground)
    if glad:
        x, y = chance.choice((0.12, 0.88)) * side, chance.uniform(0.08, 0.2) * side
        radius = chance.uniform(0.09, 0.14) * side
        pen.draw.ellipse([x - radius, y - radius, x + radius, y + radius], (255, 240, 150))
        for _ in range(chance.randint(4, 9)):
            x, y = chance.uniform(0, side), chance.uniform(floor, side)
            pen.draw.ellipse([x - 7, y - 7, x + 7, y + 7], chance.choice(_FLOWERS))
    else:
        step = chance.uniform(0.14, 0.22) * side
        x = chance.uniform(0, step)
        while x < side:
            pen.draw.line([x, 0, x, side], _shade(pose.sky, 0.7), width=round(side / 45))
            x += step


_FLOWERS: tuple[Colour, ...] = ((250, 120, 140), (255, 255, 255), (250, 210, 80), (180, 120, 220))
_DARK: Colour = (38, 30, 30)
_PINK: Colour = (236, 148, 150)


def _ears(pen: _Pen, species: str, glad: bool) -> None:
    outer, inner = _shade(pen.pose.fur, 0.86), _shade(pen.pose.fur, 0.66)
    for s in (-1, 1):
        if species == "cat" and glad:
            pen.shape([(s * 0.9, -0.35), (s * 0.82, -1.3), (s * 0.2, -0.88)], outer)
            pen.shape([(s * 0.78, -0.5), (s * 0.74, -1.1), (s * 0.36, -0.84)], _PINK)
        elif species == "cat":
            pen.shape([(s * 0.75, -0.7), (s * 1.45, -0.5), (s * 0.9, -0.1)], outer)
        elif glad:
            pen.oval(s * 0.72, -0.85, 0.3, 0.48, outer)
            pen.oval(s * 0.72, -0.85, 0.16, 0.3, inner)
        else:
            pen.oval(s * 1.0, 0.2, 0.26, 0.7, inner)


def _head(pen: _Pen, species: str) -> None:
    fur = pen.pose.fur
    pen.oval(0, 1.5, 0.75, 0.9, _shade(fur, 0.9))
    pen.oval(0, 0, 1.0, 0.92, fur)
    muzzle = _shade(fur, 1.2)
    if species == "dog":
        pen.oval(0, 0.42, 0.52, 0.44, muzzle)
    else:
        pen.oval(-0.2, 0.42, 0.3, 0.26, muzzle)
        pen.oval(0.2, 0.42, 0.3, 0.26, muzzle)
        for s in (-1, 1):
            for rise in (-0.08, 0.08):
                line = [pen.at(s * 0.45, 0.4 + rise / 2), pen.at(s * 1.1, 0.36 + rise * 2)]
                pen.draw.line(line, _shade(fur, 0.5), width=2)


def _face(pen: _Pen, glad: bool, chance: random.Random) -> None:
    look = chance.uniform(-0.05, 0.05)
    for s in (-1, 1):
        if glad:
            pen.oval(s * 0.4, -0.15, 0.17, 0.2, (255, 255, 255))
            pen.oval(s * 0.4 + look, -0.13, 0.12, 0.15, _DARK)
            pen.oval(s * 0.4 + look + 0.04, -0.19, 0.045, 0.05, (255, 255, 255))
        else:
            pen.oval(s * 0.4, -0.05, 0.16, 0.09, _DARK)
            brow = [pen.at(s * 0.2, -0.36), pen.at(s * 0.6, -0.2)]
            pen.draw.line(brow, _shade(pen.pose.fur, 0.45), width=round(pen.side / 50))
    pen.oval(0, 0.26, 0.15, 0.1, _DARK)
    if glad:
        box = [pen.at(-0.34, 0.14), pen.at(0.34, 0.8)]
        pen.draw.chord(box, 10, 170, (150, 40, 50))
        pen.oval(0, 0.72, 0.15, 0.14, _PINK)
    else:
        pen.arc(0, 0.74, 0.26, 0.2, 200, 340, _DARK)
