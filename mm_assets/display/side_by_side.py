"""Several images of one record as one picture, for places that show one."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

MOST = 25  # images in a picture; of more, the last place says how many there would be
SIDE = 1024  # pixels of the whole, at most
GAP = 2  # pixels between two


def side_by_side(images: Sequence[bytes]) -> bytes:
    """One image as it is; several as a PNG, in rows, each in its own shape."""
    if len(images) == 1:
        return images[0]
    from PIL import Image, ImageDraw

    shown = images if len(images) <= MOST else images[: MOST - 1]
    columns = math.ceil(math.sqrt(min(len(images), MOST)))
    rows = math.ceil(min(len(images), MOST) / columns)
    opened = [Image.open(io.BytesIO(one), formats=["PNG", "JPEG"]) for one in shown]
    cell = min(max(max(one.size) for one in opened), SIDE // columns)
    whole = Image.new("RGB", (columns * (cell + GAP) - GAP, rows * (cell + GAP) - GAP), "white")
    for place in range(min(len(images), MOST)):
        left, top = (n * (cell + GAP) for n in (place % columns, place // columns))
        if place == len(shown):
            middle = (left + cell // 2, top + cell // 2)
            words = f"+{len(images) - len(shown)}"
            ImageDraw.Draw(whole).text(middle, words, fill="#555555", anchor="mm", font_size=14)
            break
        with opened[place] as one:
            own = one.convert("RGB")
        own.thumbnail((cell, cell))
        whole.paste(own, (left + (cell - own.width) // 2, top + (cell - own.height) // 2))
    buffer = io.BytesIO()
    whole.save(buffer, "PNG")
    return buffer.getvalue()
