"""The demo's dataset `vehicles`, made by code: images alone, in folders that are their labels.

Small side views of automobiles and trucks, 32 pixels square with an alpha channel. Colours, place,
size, direction and background vary alike for both, so that only the shape tells them apart; some
are half transparent, some cut out of their background. The same seed gives the same bytes.
"""

from __future__ import annotations

import io
import random
from pathlib import Path

from PIL import Image, ImageDraw

from mm_assets.demo.story import TAKEN_IN, TRAINED, Step, Story

CLASSES = ("automobile", "truck")
SIDE = 32
_SCALE = 4  # drawn larger and scaled down, for smooth edges
Colour = tuple[int, int, int, int]


def make_vehicles(
    folder: Path, *, seed: int = 0, labelled: int = 400, unlabelled: int = 80, broken: int = 3
) -> dict[str, str]:
    """Write the uploads `labelled/` and `unlabelled/`; returns what each unlabelled image shows.

    labelled, unlabelled: the number of whole images in each; beside them each has `broken` files
    (up to 3) that are none. Labelled ones lie in `automobile/` and `truck/`, the others in no
    folder.
    """
    chance = random.Random(seed)  # noqa: S311  vehicles, not secrets
    answers: dict[str, str] = {}
    places = {kind: folder / "labelled" / kind for kind in CLASSES}
    nowhere = folder / "unlabelled"
    for place in (*places.values(), nowhere):
        place.mkdir(parents=True, exist_ok=True)
    for number in range(labelled + unlabelled):
        kind, name = CLASSES[number % 2], f"v{number:04d}"
        if number >= labelled:
            answers[name] = kind
        place = places[kind] if number < labelled else nowhere
        (place / f"{name}.png").write_bytes(draw_vehicle(kind, chance))
    whole = draw_vehicle("truck", chance)
    faults = {"cut": whole[: len(whole) // 2], "note": b"hello, no image\n", "empty": b""}
    for name, data in list(faults.items())[:broken]:
        for place in (places["truck"], nowhere):
            (place / f"broken-{name}.png").write_bytes(data)
    return answers


STORY = Story(
    dataset="vehicles",
    making="drawing vehicles",
    make=make_vehicles,
    steps=(
        Step(
            "Images arrive in two folders that are their labels; a few files are broken.",
            TAKEN_IN, "labelled", ("labelled",),
        ),
        Step(
            "Enough of them are whole: the training sensor asks for a model.",
            TRAINED, "training",
        ),
        Step(
            "Images in no folder arrive: automobile or truck?",
            "they are predicted", "unlabelled", ("unlabelled",),
        ),
    ),
)  # fmt: skip


def draw_vehicle(kind: str, chance: random.Random) -> bytes:
    """One image as PNG bytes: SIDE x SIDE pixels, RGBA."""
    pen = _Pen(chance)
    pen.background()
    (_automobile if kind == "automobile" else _truck)(pen)
    return pen.finish()


class _Pen:
    """Draws in units of the vehicle: x from 0 (tail) to 1 (nose), y from 0 (road) upwards."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.side = SIDE * _SCALE
        self.length = chance.uniform(0.62, 0.9) * self.side
        self.left = chance.uniform(0.02, 0.98 - self.length / self.side) * self.side
        self.road = chance.uniform(0.66, 0.9) * self.side
        self.turned = chance.random() < 0.5
        self.paint = self._colour(30, 235)
        self.image = Image.new("RGBA", (self.side, self.side), (0, 0, 0, 0))
        self.draw = ImageDraw.Draw(self.image)

    def _colour(self, low: int, high: int) -> Colour:
        red, green, blue = (self.chance.randint(low, high) for _ in range(3))
        return red, green, blue, 255

    def shade(self, factor: float) -> Colour:
        red, green, blue, _ = self.paint
        return int(red * factor), int(green * factor), int(blue * factor), 255

    def at(self, x: float, y: float) -> tuple[float, float]:
        x = 1 - x if self.turned else x
        return self.left + x * self.length, self.road - y * self.length

    def shape(self, points: list[tuple[float, float]], colour: Colour) -> None:
        self.draw.polygon([self.at(*point) for point in points], colour)

    def box(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        self.shape([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], colour)

    def wheel(self, x: float, radius: float) -> None:
        for share, colour in ((1.0, (24, 24, 26, 255)), (0.5, (150, 150, 156, 255))):
            middle, size = self.at(x, radius * 0.9), share * radius * self.length
            box = [middle[0] - size, middle[1] - size, middle[0] + size, middle[1] + size]
            self.draw.ellipse(box, colour)

    def background(self) -> None:
        """Sky and road, one colour, or none: the alpha channel is 0 there."""
        choice = self.chance.random()
        if choice < 0.25:
            return
        low, high = self.chance.choice(((20, 120), (60, 200), (140, 255)))
        self.draw.rectangle([0, 0, self.side, self.side], self._colour(low, high))
        if choice < 0.75:
            top = self.road - self.chance.uniform(0.0, 0.25) * self.side
            self.draw.rectangle([0, top, self.side, self.side], self._colour(40, 170))
            for _ in range(self.chance.randint(0, 3)):  # houses
                x, width = self.chance.uniform(0, self.side), self.chance.uniform(8, 40)
                roof = top - self.chance.uniform(0.1, 0.6) * self.side
                self.draw.rectangle([x, roof, x + width, top], self._colour(40, 220))

    def finish(self) -> bytes:
        chance = self.chance
        image = self.image.rotate(chance.uniform(-6, 6), Image.Resampling.BICUBIC)
        image = image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        if chance.random() < 0.2:
            strength = chance.uniform(0.55, 0.9)
            image.putalpha(image.getchannel("A").point(lambda alpha: int(alpha * strength)))
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return buffer.getvalue()


_GLASS: Colour = (176, 204, 222, 255)


def _automobile(pen: _Pen) -> None:
    """A low body with a rounded cabin in the middle (a saloon) or to the tail (an estate)."""
    chance = pen.chance
    height, roof = chance.uniform(0.17, 0.24), chance.uniform(0.36, 0.46)
    tail = chance.choice((chance.uniform(0.02, 0.08), chance.uniform(0.16, 0.26)))
    nose = chance.uniform(0.68, 0.78)
    pen.shape([(0.0, 0.06), (1.0, 0.06), (0.98, height * 0.9), (nose, height),
               (0.03, height)], pen.paint)  # fmt: skip
    cabin = [(tail, height), (nose, height), (nose - 0.16, roof), (tail + 0.1, roof)]
    pen.shape(cabin, pen.shade(0.92))
    middle = (tail + nose) / 2
    for left, right in ((tail + 0.09, middle - 0.02), (middle + 0.02, nose - 0.1)):
        pen.shape([(left, height + 0.02), (right, height + 0.02), (right - 0.04, roof - 0.03),
                   (left + 0.03, roof - 0.03)], _GLASS)  # fmt: skip
    for x in (chance.uniform(0.16, 0.22), chance.uniform(0.76, 0.82)):
        pen.wheel(x, chance.uniform(0.085, 0.11))


def _truck(pen: _Pen) -> None:
    """An upright cab at the nose, behind it a box, a tank, or a low bed (a pick-up)."""
    chance = pen.chance
    cab, roof = chance.uniform(0.66, 0.76), chance.uniform(0.36, 0.5)
    load = chance.choice(("box", "box", "tank", "bed"))
    pen.box(0.0, 0.08, 1.0, 0.07, pen.shade(0.5))
    pen.shape([(cab, 0.1), (1.0, 0.1), (1.0, roof * 0.62), (0.95, roof), (cab, roof)], pen.paint)
    pen.shape([(cab + 0.1, roof * 0.62), (0.98, roof * 0.62), (0.94, roof - 0.03),
               (cab + 0.1, roof - 0.03)], _GLASS)  # fmt: skip
    other = pen.shade(chance.uniform(0.7, 1.0)) if chance.random() < 0.5 else _white(chance)
    if load == "box":
        pen.box(0.0, 0.13, cab - 0.03, chance.uniform(0.3, 0.46), other)
    elif load == "tank":
        ends = [pen.at(0.0, 0.44), pen.at(cab - 0.03, 0.13)]
        (left, top), (right, bottom) = ends
        pen.draw.ellipse([min(left, right), top, max(left, right), bottom], other)
    else:
        pen.box(0.0, 0.13, cab - 0.03, chance.uniform(0.06, 0.12), other)
    wheels = [0.12, chance.uniform(0.24, 0.3), 0.84] if chance.random() < 0.6 else [0.18, 0.84]
    for x in wheels:
        pen.wheel(x, chance.uniform(0.07, 0.1))


def _white(chance: random.Random) -> Colour:
    tone = chance.randint(190, 245)
    return tone, tone, tone, 255
