"""What moved an answer: the model is asked again, with one thing at a time made ordinary.

A column is given what is usual in training; a patch of the image is painted over with the image's
own mean colour (occlusion, Zeiler and Fergus 2014). By as much as the answer changes, it hung on
what was taken away. Things that only count together are not seen this way.

How strong an effect is beside others, of a probability, is told by its log-odds (weight of
evidence, Robnik-Šikonja and Kononenko 2008): an answer of 99.9% hardly changes in points whatever
is taken away, and still hangs on some things more than on others.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Any

from mm_assets.serving.predictor import Answer
from mm_assets.serving.reading import Read, Reader
from mm_assets.training.known_records import Usual

Ask = Callable[[Sequence[Read]], Awaitable[list[Answer]]]

CELLS = 7  # along the longer side of an image
OVERLAP = 0.25  # of a cell, that a patch reaches into its neighbours
AT_ONCE = 8  # questions in a row, so that others are not kept waiting
LEAST = 0.2  # of the strongest effect, below which a cell is left clear
NOTHING = 0.005  # a change of a share that is none …
NO_EVIDENCE = 0.2  # … unless its log-odds change by more than this
NO_CHANGE = 1e-9  # of a number
SUREST = 1e-5  # from 0 and from 1, as far as probabilities are told


@dataclass(frozen=True)
class Moved:
    """One column. change: of the answer's probability, or of the number, by the value that it has
    instead of the usual one; share: of the strongest effect, from -1 to 1."""

    column: str
    value: Any
    usual: Any
    change: float
    share: float


@dataclass(frozen=True)
class Cell:
    """A part of the image, in hundredths of its width and height; share: as in `Moved`."""

    x: float
    y: float
    width: float
    height: float
    share: float


@dataclass(frozen=True)
class Regions:
    """strongest: the change that covering the part with the strongest effect makes."""

    cells: list[Cell]
    strongest: float


async def columns_moved(
    ask: Ask, read: Read, answer: Answer, usual: Mapping[str, Usual]
) -> list[Moved]:
    """The columns whose value moved the answer, the most first."""
    features = read.features or {}
    others = [
        (name, value, usual[name].value)
        for name, value in features.items()
        if name in usual and value is not None and value != usual[name].value
    ]
    variants = [replace(read, features={**features, n: instead}) for n, _, instead in others]
    effects = await _effects(ask, variants, answer)
    most = max((abs(one.weight) for one in effects), default=0.0) or 1.0
    found = [
        Moved(name, value, instead, effect.change, effect.weight / most)
        for (name, value, instead), effect in zip(others, effects, strict=True)
        if effect.is_any
    ]
    return sorted(found, key=lambda one: -abs(one.share))


async def regions(ask: Ask, reader: Reader, read: Read, answer: Answer) -> Regions:
    """Which parts of the record's image, of several the first, the answer hangs on."""
    first, *others = read.images
    boxes, covered = await asyncio.to_thread(_covered, first.data)

    def variant(data: bytes) -> Read:
        return replace(read, images=reader.images([data, *others] if others else data)[0])

    variants = await asyncio.to_thread(lambda: [variant(data) for data in covered])
    effects = await _effects(ask, variants, answer)
    strongest = max(effects, key=lambda one: abs(one.weight))
    if not strongest.is_any:
        return Regions([], strongest.change)
    cells = [
        Cell(*box, effect.weight / abs(strongest.weight))
        for box, effect in zip(boxes, effects, strict=True)
        if abs(effect.weight) >= LEAST * abs(strongest.weight)
    ]
    return Regions(cells, strongest.change)


@dataclass(frozen=True)
class _Effect:
    """How much less the answer is supported without something. weight: the same, in log-odds where
    it is a probability. is_any: whether that is worth to be told."""

    change: float = 0.0
    weight: float = 0.0
    is_any: bool = False


async def _effects(ask: Ask, variants: Sequence[Read], answer: Answer) -> list[_Effect]:
    """Of each variant; none where another model, or nobody, answers it."""
    found: list[_Effect] = []
    for start in range(0, len(variants), AT_ONCE):
        for other in await ask(variants[start : start + AT_ONCE]):
            is_same_model = other["model_version"] == answer["model_version"]
            found.append(_effect(other, answer) if is_same_model else _Effect())
    return found


def _effect(other: Answer, answer: Answer) -> _Effect:
    own, left = support(answer, answer), support(other, answer)
    if not answer["probabilities"]:
        return _Effect(own - left, own - left, abs(own - left) > NO_CHANGE)
    weight = _log_odds(own) - _log_odds(left)
    return _Effect(own - left, weight, abs(own - left) > NOTHING or abs(weight) > NO_EVIDENCE)


def _log_odds(share: float) -> float:
    near = min(max(share, SUREST), 1 - SUREST)
    return log(near / (1 - near))


def support(other: Answer, answer: Answer) -> float:
    """The probability that `other` gives to what `answer` says; or its number."""
    if answer["probabilities"]:
        return float(other["probabilities"].get(answer["prediction"], 0.0))
    return float(other["prediction"])


def _covered(data: bytes) -> tuple[list[tuple[float, float, float, float]], list[bytes]]:
    """Places of cells, and the image with each of them painted over."""
    from PIL import Image, ImageStat

    with Image.open(io.BytesIO(data)) as opened:  # ours: normalised
        image = opened.convert("RGB")
    width, height = image.size
    size = max(width, height) / CELLS
    across, down = max(1, round(width / size)), max(1, round(height / size))
    mean = tuple(round(one) for one in ImageStat.Stat(image).mean)
    more_x, more_y = OVERLAP * width / across, OVERLAP * height / down
    boxes, covered = [], []
    for row in range(down):
        for column in range(across):
            left, top = column * width / across, row * height / down
            patch = (
                round(max(0, left - more_x)), round(max(0, top - more_y)),
                round(min(width, left + width / across + more_x)),
                round(min(height, top + height / down + more_y)),
            )  # fmt: skip
            other = image.copy()
            other.paste(mean, patch)
            written = io.BytesIO()
            other.save(written, "PNG", compress_level=1)
            covered.append(written.getvalue())
            boxes.append((100 * column / across, 100 * row / down, 100 / across, 100 / down))
    return boxes, covered
