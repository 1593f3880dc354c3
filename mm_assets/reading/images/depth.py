"""Greyscale of more than 8 bits to 8 bits, so that it is never black or white by accident.

What is white is told by the file, where it tells: BitsPerSample below 16 (TIFF), significant bits
(PNG's sBIT), the highest value in use (TIFF's MaxSampleValue, which is looked at as a value). Else
by the values: the fewest of 8, 10, 12, 14 and 16 bits that hold all of them. So a 12-bit camera's
images are alike whether one is dark or bright, 0 stays black, and what fills 16 bits keeps its
high byte. Values that were 8 or 12 bits and were moved up (all multiples of 16 or of 257) fill 16.

Signed and floating values: from 0 to 1 if the highest is between 0.25 and 1; the fewest bits if
none is below 0 or above 65,535; else from the lowest to the highest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_DEPTHS = (8, 10, 12, 14)
_FULL = 65_535


def eight_bits(values: np.ndarray, *, bits: int = 0, most: int = 0) -> np.ndarray:
    """[height, width] of any number as uint8. bits, most: what the file tells; 0: nothing.

    Raises ValueError where no value is a number.
    """
    import numpy as np

    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        return (values >> (_depth(values, bits, most) - 8)).astype(np.uint8)
    return _ranged(values, bits, most)


def _depth(values: np.ndarray, bits: int, most: int) -> int:
    """How many bits of 16 the values use."""
    highest = int(values.max())
    if (bits or highest >= 1 << 12) and _moved_up(values):
        return 16
    if 8 <= bits < 16 and highest < 1 << bits:
        return bits
    highest = max(highest, most)
    return next((depth for depth in _DEPTHS if highest < 1 << depth), 16)


def _moved_up(values: np.ndarray) -> bool:
    import numpy as np

    if not int(np.bitwise_or.reduce(values, axis=None)) & 15:
        return True
    return not (values % 257).any()


def _ranged(values: np.ndarray, bits: int, most: int) -> np.ndarray:
    import numpy as np

    known = values[np.isfinite(values)]
    if not known.size:
        raise ValueError("no value in it is a number")
    low, high = float(known.min()), float(known.max())
    if low >= 0 and 1 < high <= _FULL and not (known % 1).any():
        whole = np.nan_to_num(values, nan=0, posinf=_FULL, neginf=0).astype(np.uint16)
        return eight_bits(whole, bits=bits, most=most)
    black, white = (min(low, 0.0), high)
    if low >= 0:
        if 0.25 < high <= 1:
            white = 1.0
        elif 1 < high <= _FULL:
            white = next((2.0**depth - 1 for depth in _DEPTHS if high < 1 << depth), float(_FULL))
    spread = (white - black) or 1.0
    # In parts: 50 megapixels as doubles are 400 MB.
    made = np.empty(values.shape, np.uint8)
    for row in range(0, values.shape[0], 256):
        part = (values[row : row + 256].astype(np.float64) - black) * (255 / spread)
        part = np.nan_to_num(part, nan=0, posinf=255, neginf=0)
        made[row : row + 256] = np.clip(part + 0.5, 0, 255)
    return made
