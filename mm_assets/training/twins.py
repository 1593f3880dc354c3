"""Records whose rows are equal under different IDs, unless chance explains it.

Rows of a few small categories are equal by chance. How many twins chance would bring a row follows
from how frequent its values are: the product of their shares, as if columns knew nothing of each
other, times the number of records. Only where that is far below one are equal rows one thing that
was recorded twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

CHANCE = 0.02  # twins that chance may bring a row whose twin is believed
LONG_TEXT = 40  # letters that nobody writes twice by chance
MISSED = -1


def twins(
    frame: pd.DataFrame, kinds: Mapping[str, str]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """For each record which cluster of equal rows it is in, MISSED for none; and whether it has a
    twin that chance explains.

    frame: the feature columns, without the image. kinds: column to "number", "category" or "text".
    """
    import numpy as np
    import pandas as pd

    records = len(frame)
    clusters = np.full(records, MISSED, dtype=np.intp)
    if not kinds or not records:
        return clusters, np.zeros(records, dtype=bool)
    codes = {c: pd.factorize(frame[c], use_na_sentinel=False)[0] for c in kinds}
    row = np.zeros(records, dtype=np.int64)
    for code in codes.values():
        row = pd.factorize(row * (int(code.max()) + 1) + code)[0].astype(np.int64)
    sizes = np.bincount(row)[row]
    doubled = sizes > 1
    expected = np.full(records, np.log(records - 1) if records > 1 else 0.0)
    for column, kind in kinds.items():
        code = codes[column]
        counts = np.bincount(code)[code]
        # The twins themselves say nothing of how frequent a value is.
        share = (counts - sizes + 1) / records
        if kind == "text":
            letters = frame[column].str.len().fillna(0).to_numpy()
            share = np.where((letters >= LONG_TEXT) & (counts == sizes), share / records, share)
        expected += np.log(share)
    believed = doubled & (expected <= np.log(CHANCE))
    clusters[believed] = row[believed]
    return clusters, doubled & ~believed
