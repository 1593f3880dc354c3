"""Bins of time for the pictures: which bin a prediction falls in, and what the bin is called.

The time of a prediction is that of the upload its row came in, which the upload's key begins with;
it does not change when a backfill predicts again. Up to 24 uploads each get a bin of their own,
more share bins of equal length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes

MOST_POINTS = 24
MOST_BINS = 48
MOST_LABELS = 10
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_LENGTHS = (
    _MINUTE, 5 * _MINUTE, 15 * _MINUTE, _HOUR, 6 * _HOUR, _DAY, 7 * _DAY, 28 * _DAY, 91 * _DAY,
)  # fmt: skip
_KEY = re.compile(r"(\d{8}-\d{6})(\d{3})-")


@dataclass(frozen=True)
class Bins:
    """The bin of each record, and what the bins are called. Empty bins are kept as gaps.

    A second line of a label need only be shown where it differs from the one before.
    """

    codes: npt.NDArray[np.int64]
    labels: list[str]
    meaning: str

    @property
    def places(self) -> npt.NDArray[np.int_]:
        return np.arange(len(self.labels))


def time_of(upload: str) -> datetime:
    """When an upload arrived, in UTC, by its key. A key without a time counts as the year 1970."""
    match = _KEY.match(upload)
    if match is None:
        return datetime.fromtimestamp(0, UTC)
    moment = datetime.strptime(match[1], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    return moment + timedelta(milliseconds=int(match[2]))


def seconds_of(uploads: pa.Array) -> npt.NDArray[np.int64]:
    """`time_of` each of these, in whole seconds since 1970: there may be very many."""
    import pyarrow as pa
    import pyarrow.compute as pc

    timed = pc.match_substring_regex(uploads, f"^{_KEY.pattern}")
    text = pc.if_else(timed, pc.utf8_slice_codeunits(uploads, 0, 15), pa.scalar(None, pa.string()))
    moments = pc.strptime(text, format="%Y%m%d-%H%M%S", unit="s").cast(pa.int64())
    seconds: npt.NDArray[np.int64] = pc.fill_null(moments, 0).to_numpy(zero_copy_only=False)
    return seconds


def time_bins(predictions: pa.Table) -> Bins:
    """Sort records into bins: one for each upload, or equal lengths of time if there are many."""
    encoded = predictions["upload"].combine_chunks().dictionary_encode()
    uploads = encoded.dictionary.to_pylist()
    of_record = encoded.indices.to_numpy(zero_copy_only=False)
    if len(uploads) <= MOST_POINTS:
        ordered = sorted(uploads)
        place = np.array([ordered.index(upload) for upload in uploads], dtype=np.int64)
        labels, day = _labels([time_of(upload) for upload in ordered])
        return Bins(place[of_record], labels, f"uploads{day}")
    seconds = seconds_of(encoded.dictionary)
    length = next(
        (n for n in _LENGTHS if seconds.max() // n - seconds.min() // n < MOST_BINS),
        int(seconds.max() - seconds.min()) // (MOST_BINS - 1) + 1,
    )
    first = int(seconds.min()) // length
    number = seconds // length - first
    starts = [
        datetime.fromtimestamp((first + i) * length, UTC) for i in range(int(number.max()) + 1)
    ]
    labels, day = _labels(starts, only_days=length >= _DAY)
    return Bins(number[of_record], labels, f"uploads by {_in_words(length)}{day}")


def _labels(moments: list[datetime], only_days: bool = False) -> tuple[list[str], str]:
    """Short names of moments in order, and what all of them have in common."""
    days = {moment.date() for moment in moments}
    if only_days or len(days) == len(moments) > 1:
        if len({moment.year for moment in moments}) == 1:
            return [f"{m:%d %b}" for m in moments], f", {moments[0]:%Y} (UTC)"
        return [f"{m:%d %b}\n{m:%Y}" for m in moments], " (UTC)"
    minutes = {moment.replace(second=0, microsecond=0) for moment in moments}
    time = "%H:%M" if len(minutes) == len(moments) else "%H:%M:%S"
    if len(days) == 1:
        return [f"{m:{time}}" for m in moments], f", {moments[0]:%d %b %Y} (UTC)"
    return [f"{m:{time}}\n{m:%d %b}" for m in moments], " (UTC)"


def _in_words(seconds: int) -> str:
    for unit, name in ((_DAY, "day"), (_HOUR, "hour"), (_MINUTE, "minute")):
        if seconds >= unit:
            count = round(seconds / unit)
            return name if count == 1 else f"{count} {name}s"
    return f"{seconds} seconds"


def name_bins(axes: Axes, bins: Bins) -> None:
    """Write at most ten labels under the bins, so that they never touch."""
    n = len(bins.labels)
    chosen = range(0, n, max(1, -(-n // MOST_LABELS)))
    shown, before = [], ""
    for place in chosen:
        line, _, second = bins.labels[place].partition("\n")
        shown.append(f"{line}\n{second}" if second != before else line)
        before = second
    axes.set_xticks(list(chosen), shown)
    axes.set_xlabel(bins.meaning)
    axes.set_xlim(min(-0.7, n / 2 - 2.5), max(n - 0.3, n / 2 + 1.5))
    for each in axes.figure.axes:
        each.grid(visible=False, axis="x")
