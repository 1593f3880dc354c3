"""Which images are nearly the same: re-encoded, resized, brighter or slightly cropped copies.

Two likenesses (reading/likeness.py) are compared as one compares photographs: one is laid over the
other, moved and stretched a little until it fits best (Gauss-Newton on translation and scale, as in
Lucas and Kanade 1981), freed from brightness and contrast; what then differs, relative to what the
image shows at all, is the distance. Pairs worth comparing come from a k-d tree over coarse
likenesses, so that time does not grow with the square of the number of images.

Measured on 1,380 product photos, 1,797 digits and tiles of photographs: copies as JPEG of quality
70 and of half the size are near in 95 of 100 cases or more, so are those 10% darker or of more
contrast; 10% brighter in 95 of 100 tiles and 63 of 100 products (white ground cannot get brighter);
with 1% cut off each side in 95 of 100 products and 67 of 100 tiles (fine textures); with 2% in 77
and 43.
Of 950,000 pairs of different products 4 are near, of one model in another colour; of 1.6 million
pairs of digits, 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mm_assets.reading.likeness import SIDE

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

NEAR = 0.08
FLAT = 2.0  # grey levels; what varies less shows nothing that could be told apart
COARSE = (0.2, 0.14, 0.1, 0.07, 0.05, 0.035, 0.02)  # distances on the coarse likeness to try
COARSE_SIDE = 8
DIMENSIONS = 12  # of the k-d tree
PAIRS_AN_IMAGE = 30  # are compared at most, on average
ROUNDS = 3
HOPELESS = 2 * NEAR  # is given up early
AT_ONCE = 2_000


def near_pairs(likenesses: Sequence[bytes]) -> npt.NDArray[np.intp]:
    """[pairs, 2]: the places of different likenesses that are near, the smaller one first.

    likenesses: without doubles. Whether two are near depends on nothing but these two, as long as
    the images are not so alike that there are more than PAIRS_AN_IMAGE to compare for each.
    """
    import numpy as np

    whole = np.frombuffer(b"".join(likenesses), dtype=np.uint8)
    images = whole.reshape(len(likenesses), SIDE, SIDE, 3)
    if not len(images):
        return np.empty((0, 2), dtype=np.intp)
    shows = np.flatnonzero(~is_flat(likenesses))
    pairs = shows[_worth_comparing(images[shows])]
    kept = []
    for start in range(0, len(pairs), AT_ONCE):
        some = pairs[start : start + AT_ONCE]
        one, other = (images[some[:, side]].astype(np.float32) for side in (0, 1))
        distance = np.minimum(_distance(one, other), _distance(other, one))
        kept.append(some[distance <= NEAR])
    return np.concatenate(kept) if kept else np.empty((0, 2), dtype=np.intp)


def is_flat(likenesses: Sequence[bytes]) -> npt.NDArray[np.bool_]:
    """Which show one colour and nothing else, so that nothing could be the same in two of them."""
    import numpy as np

    whole = np.frombuffer(b"".join(likenesses), dtype=np.uint8).reshape(-1, SIDE * SIDE, 3)
    flat: npt.NDArray[np.bool_] = whole.std(axis=1).max(axis=1) < FLAT
    return flat


def _worth_comparing(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.intp]:
    import numpy as np
    from scipy.spatial import cKDTree

    none = np.empty((0, 2), dtype=np.intp)
    if len(images) < 2:
        return none
    step = SIDE // COARSE_SIDE
    shape = (len(images), COARSE_SIDE, step, COARSE_SIDE, step, 3)
    coarse = images.reshape(shape).mean(axis=(2, 4), dtype=np.float32)
    coarse -= coarse.mean(axis=(1, 2), keepdims=True)
    coarse = coarse.reshape(len(images), -1)
    coarse /= np.maximum(np.linalg.norm(coarse, axis=1, keepdims=True), 1e-6)
    # A projection brings points nearer and never apart, so no pair is missed.
    axes = np.linalg.eigh(np.cov(coarse.T))[1][:, -DIMENSIONS:]
    flat = (coarse @ axes).astype(np.float64)
    tree = cKDTree(flat)
    for radius in COARSE:
        if tree.count_neighbors(tree, radius) <= (1 + 2 * PAIRS_AN_IMAGE * 4) * len(images):
            pairs = tree.query_pairs(radius, output_type="ndarray")
            apart = np.concatenate(
                [np.linalg.norm(coarse[part[:, 0]] - coarse[part[:, 1]], axis=1)
                 for part in np.array_split(pairs, len(pairs) // 100_000 + 1)]
            )  # fmt: skip
            pairs = pairs[apart <= radius]
            if len(pairs) <= PAIRS_AN_IMAGE * len(images):
                return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    return none


def _distance(moved: Floats, fixed: Floats) -> Floats:
    """How much is left of `fixed` once `moved` lies on it. Both: [pairs, SIDE, SIDE, 3].

    1 is all that there is in it; HOPELESS and more may be given up before the best fit.
    """
    import numpy as np

    target = _inside(fixed)
    shown = np.linalg.norm(target, axis=1)
    centred = np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2
    found = np.full(len(moved), np.inf, dtype=np.float32)
    left = np.arange(len(moved))
    # Shift across and down, then scale across and down.
    place = np.tile(np.array([0, 0, 1, 1], np.float32), (len(moved), 1))
    for turn in range(ROUNDS + 1):
        laid = _laid(moved[left], place[left])
        parts = [laid]
        if turn < ROUNDS:
            down, across = np.gradient(laid, axis=1), np.gradient(laid, axis=2)
            parts += [across, down, across * centred[:, None], down * centred[:, None, None]]
        columns = np.stack([_inside(part) for part in parts], axis=1)
        weights = _fitted(columns, target[left])
        rest = target[left] - np.einsum("pk,pki->pi", weights, columns)
        distance = np.linalg.norm(rest, axis=1) / np.maximum(shown[left], 1e-6)
        if turn == ROUNDS:
            found[left] = distance
            break
        gain = np.where(np.abs(weights[:, :1]) > 0.2, weights[:, :1], 1)
        place[left] += weights[:, 1:] / gain
        place[:, :2] = place[:, :2].clip(-0.03 * SIDE, 0.03 * SIDE)
        place[:, 2:] = place[:, 2:].clip(0.93, 1.07)
        left = left[distance < HOPELESS]
        if not len(left):
            break
    return found


def _inside(images: Floats) -> Floats:
    """[pairs, values]: without the border, each colour around its mean, which is the light's."""
    inner = images[:, 1:-1, 1:-1]
    centred: Floats = inner - inner.mean(axis=(1, 2), keepdims=True)
    return centred.reshape(len(images), -1)


def _laid(images: Floats, place: Floats) -> Floats:
    """The images, sampled where `place` looks."""
    import numpy as np

    across = _sampling(place[:, 0], place[:, 2])
    down = _sampling(place[:, 1], place[:, 3])
    half = np.matmul(down, images.reshape(len(images), SIDE, -1)).reshape(images.shape)
    return np.matmul(across[:, None], half)


def _sampling(shift: Floats, scale: Floats) -> Floats:
    """[pairs, SIDE, SIDE]: how much of each pixel each new pixel takes, linearly between two."""
    import numpy as np

    pixels = np.arange(SIDE, dtype=np.float32)
    middle = (SIDE - 1) / 2
    at = scale[:, None] * (pixels - middle) + shift[:, None] + middle
    weights: Floats = np.maximum(0, 1 - np.abs(at.clip(0, SIDE - 1)[:, :, None] - pixels))
    return weights


def _fitted(columns: Floats, target: Floats) -> Floats:
    """Least squares for each pair. columns: [pairs, weights, values]; target: [pairs, values]."""
    import numpy as np

    squares = np.matmul(columns, columns.transpose(0, 2, 1)).astype(np.float64)
    size = squares.trace(axis1=1, axis2=2) / squares.shape[1]
    squares += 1e-6 * size[:, None, None] * np.eye(squares.shape[1])
    products = np.matmul(columns, target[:, :, None]).astype(np.float64)
    weights: Floats = np.linalg.solve(squares, products)[..., 0].astype(np.float32)
    return weights
