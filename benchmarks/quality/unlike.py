"""How often what a model never saw is marked, and how often an ordinary record is by mistake.

    python -m benchmarks.quality.unlike

Over resampled splits of every set: what is noticed is learnt from four fifths of the records, and
asked for the others, as they are (`ordinary`) and with one thing changed. Of each kind the share
that has the right reason is printed; an image counts as noticed if it is `foreign_image`.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.quality.sets import DataSet, every_set, normalised
from benchmarks.quality.vectors import KeptVectors
from mm_assets.contract.dataset import IMAGE
from mm_assets.doubt.familiar import Familiar
from mm_assets.doubt.unlike import Code
from mm_assets.engines.shared.spellings import Spellings

SPLITS = 20
IMAGES_OF_EACH = 60  # of every other set
Shares = dict[str, list[float]]
ALIKE = frozenset(("digits", "digits_halves"))  # the same digits, whole and in half


def changed(
    part: pd.DataFrame, learnt: pd.DataFrame, columns: dict[str, str], known: Familiar, seed: int
) -> Iterator[tuple[str, Code, pd.DataFrame]]:
    """The held-out records with one thing changed: what, the right reason, and the records."""
    draw = np.random.default_rng(seed)
    numbers = [name for name, kind in columns.items() if kind == "number"]
    texts = [name for name, kind in columns.items() if kind == "text"]
    if known.table.watched:
        yield "unseen category", "unseen_category", _each(
            part, draw, list(known.table.watched), lambda _: "zzz unheard of"
        )  # fmt: skip
    if numbers:
        spans = {n: (learnt[n].max(), learnt[n].max() - learnt[n].min() or 1.0) for n in numbers}
        yield "number 10 ranges above", "far_number", _each(
            part, draw, numbers, lambda name: spans[name][0] + 10 * spans[name][1]
        )  # fmt: skip
        yield "number 10 ranges below", "far_number", _each(
            part, draw, numbers, lambda name: learnt[name].min() - 10 * spans[name][1]
        )  # fmt: skip
        yield "1000 times the median", "far_number", _each(
            part, draw, numbers, lambda name: 1000 * (learnt[name].median() or 1.0)
        )  # fmt: skip
    if texts:
        yield "text in another script", "other_script", _each(
            part, draw, texts, lambda _: "Синяя рубашка для мальчика"
        )  # fmt: skip
    if named := [name for name in columns if name != IMAGE]:
        empty = part.copy()
        for name in named:
            empty[name] = np.nan if columns[name] == "number" else None
        yield "empty record", "empty_record", empty


def _each(
    part: pd.DataFrame,
    draw: np.random.Generator,
    names: list[str],
    value: Callable[[str], float | str],
) -> pd.DataFrame:
    """In each record one of these columns, by chance, has another value."""
    new = part.reset_index(drop=True).copy()
    for place, name in enumerate(draw.choice(names, len(new)) if len(new) else []):
        new.at[place, name] = value(name)
    return new


def drawn_images() -> dict[str, list[bytes]]:
    """Noise, and flat colours."""
    draw = np.random.default_rng(0)
    noise = [draw.integers(0, 256, (96, 128, 3), dtype=np.uint8) for _ in range(IMAGES_OF_EACH)]
    flat = [np.full((96, 128, 3), draw.integers(0, 256, 3), np.uint8) for _ in range(40)]
    flat += [np.full((64, 64, 3), grey, np.uint8) for grey in (0, 128, 255)]
    return {"noise": [_png(one) for one in noise], "flat colours": [_png(one) for one in flat]}


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return normalised(buffer.getvalue())


def measured(data: DataSet, foreign: dict[str, list[bytes]], splits: int) -> Shares:
    """The shares, one for each split, of `ordinary` and of every kind of change."""
    shares: Shares = defaultdict(list)
    vectors = KeptVectors()
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(data.records))
        cut = int(0.8 * len(order))
        learnt, part = (
            data.records.iloc[some].reset_index(drop=True) for some in (order[:cut], order[cut:])
        )
        spellings, _ = Spellings.learn([learnt], data.columns)
        known = Familiar.learn(
            spellings.applied(learnt), data.columns, spellings, vectors=vectors, seconds=3600
        )
        doubts = known.doubts(part)
        shares["ordinary"].append(float(np.mean([bool(own) for own in doubts])))
        table = {name: kind for name, kind in data.columns.items() if name != IMAGE}
        of_table = Familiar(known.table, known.n)
        for what, code, new in changed(part, learnt, table, known, seed):
            found = [any(one.code == code for one in own) for own in of_table.doubts(new)]
            shares[what].append(float(np.mean(found)))
        if known.images is not None:
            for what, images in foreign.items():
                shares[what].append(len(known.images.foreign(images)) / len(images))
    return shares


def main() -> None:
    sets = {name: data for name, make in every_set().items() if (data := make()) is not None}
    imaged = {name: data for name, data in sets.items() if IMAGE in data.columns}
    images = {name: data.records[IMAGE].tolist() for name, data in imaged.items()}
    for name, data in sets.items():
        own = IMAGE in data.columns
        foreign = drawn_images() if own else {}
        for other in images if own else ():
            if other != name and not {other, name} <= ALIKE:
                foreign[f"images of {other}"] = images[other][:IMAGES_OF_EACH]
        print(f"{name} ({len(data.records):,} records)", flush=True)
        for what, found in measured(data, foreign, SPLITS // 4 if own else SPLITS).items():
            worst = max(found) if what == "ordinary" else min(found)
            print(f"    {what:32} {np.mean(found):7.2%}   worst {worst:7.2%}", flush=True)


if __name__ == "__main__":
    main()
