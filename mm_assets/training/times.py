"""The column that says how new a record is: dates, times or plain numbers, read strictly.

Numbers, or ISO 8601, or other dates whose order of day and month the column itself decides. What
may be read in two ways is refused, never guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_assets.contract.errors import ModelError
from mm_assets.reading.in_memory import in_memory

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

EXAMPLES = 3
MOST_UNREADABLE = 0.1  # of the values; more, and it is hardly the right column
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
_NAMED = ("%d %B %Y", "%d %b %Y", "%d. %B %Y", "%d-%b-%Y", "%d-%b-%y", "%B %d, %Y", "%b %d, %Y",
          "%B %d %Y", "%b %d %Y", "%Y-%m", "%Y.%m.%d")  # fmt: skip
_SIGNS = ("/", ".", "-")


@dataclass(frozen=True)
class Times:
    """values: [records] that grow with time; NaN where a record has none, or none can be read.

    unreadable: how many could not be read, with `examples`.
    """

    values: npt.NDArray[np.float64]
    unreadable: int
    examples: list[str]


def read_times(texts: Sequence[str | None], column: str, where: str) -> Times:
    """Read the values of `column`. Raises ModelError: time_ambiguous, time_unreadable."""
    import numpy as np
    import pandas as pd

    code, told = pd.factorize(np.array(texts, dtype=object))
    counts = np.bincount(code[code >= 0], minlength=len(told))
    numbers = _as_numbers(list(told))
    finite = np.isfinite(numbers)
    are_numbers = counts[~finite].sum() <= MOST_UNREADABLE * counts.sum()
    found = (
        np.where(finite, numbers, np.nan)
        if are_numbers
        else _as_dates(list(told), counts, column, where)
    )
    values = np.append(found, np.nan)[code]  # the code of what is missing is -1
    unread = np.flatnonzero(np.isnan(found))
    unreadable = int(counts[unread].sum())
    examples = [told[place] for place in unread[:EXAMPLES]]
    if unreadable > MOST_UNREADABLE * counts.sum():
        raise ModelError(
            code="time_unreadable",
            what=f"{unreadable} of {int(counts.sum())} values of `{column}` are no times: "
            + _shown(examples),
            where=where,
            todo="Write dates as 2026-11-28 or 2026-11-28 14:30 (ISO 8601), or plain numbers, or "
            "correct `time_column` in the dataset's YAML.",
        )
    return Times(values, unreadable, examples)


def _as_numbers(told: list[str]) -> npt.NDArray[np.float64]:
    import pandas as pd

    return pd.to_numeric(pd.Series(told, dtype=object), errors="coerce").to_numpy("float64")


def _as_dates(
    told: list[str], counts: npt.NDArray[np.intp], column: str, where: str
) -> npt.NDArray[np.float64]:
    """Microseconds since 1970 for each value; NaN for what is no date."""
    import numpy as np
    import pandas as pd

    day_first, month_first = (
        [f"{first}{sign}{second}{sign}%{year}{clock}"
         for sign in _SIGNS for year in "yY" for clock in _CLOCKS]
        for first, second in (("%d", "%m"), ("%m", "%d"))
    )  # fmt: skip
    named = [f"{one}{clock}" for one in _NAMED for clock in _CLOCKS]
    with in_memory() as db:
        db.register("told", pd.DataFrame({"n": range(len(told)), "t": told}))
        rows = db.execute(
            f"""
            SELECT CASE WHEN regexp_matches(t, '^[0-9]{{4}}[-/][0-9]') THEN
                    epoch_us(try_cast(t AS TIMESTAMP)) END AS iso,
                epoch_us(try_strptime(t, {named})) AS named,
                CASE WHEN short THEN epoch_us(try_strptime(t, {day_first})) END AS day_first,
                CASE WHEN short THEN epoch_us(try_strptime(t, {month_first})) END AS month_first,
                contains(t, '.') AS dotted
            FROM (SELECT *, regexp_matches(
                t, '^[0-9]{{1,2}}([./-])[0-9]{{1,2}}[./-]([0-9]{{2}}|[0-9]{{4}})( |$)') AS short
                FROM told) ORDER BY n"""
        ).fetchnumpy()
    found: list[npt.NDArray[np.float64]] = [
        np.ma.filled(np.ma.asarray(rows[name], dtype="float64"), np.nan)
        for name in ("iso", "named", "day_first", "month_first")
    ]
    iso, words, days, months = found
    both = ~np.isnan(days) & ~np.isnan(months) & (days != months)
    only_days = ~np.isnan(days) & np.isnan(months)
    only_months = np.isnan(days) & ~np.isnan(months)
    dotted = np.asarray(rows["dotted"], dtype=bool)[both].all()  # 1.2.2026: nobody means January
    if both.any() and only_days.any() == only_months.any() and (only_days.any() or not dotted):
        some = np.flatnonzero(both)
        raise ModelError(
            code="time_ambiguous",
            what=f"{int(counts[some].sum())} values of `{column}` have the day or the month "
            f"first: {_shown([told[place] for place in some[:EXAMPLES]])}",
            where=where,
            todo="Write dates as 2026-11-28 (ISO 8601).",
        )
    short = months if only_months.any() and not only_days.any() else days
    # Where both orders stand in one column and nothing is open, each says what it is.
    short = np.where(np.isnan(short), np.where(np.isnan(days), months, days), short)
    return np.where(np.isnan(iso), np.where(np.isnan(words), short, words), iso)


def _shown(examples: Sequence[str]) -> str:
    return ", ".join(f"'{one[:60]}'" for one in examples)
