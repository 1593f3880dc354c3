"""Leaks: a column that says the label by itself.

Such a column is mostly known only after the label is, and a model that saw it in training knows
nothing without it. Judged on rows of which one half teaches and the other half is asked.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mm_assets.drafting.profile import Profile

if TYPE_CHECKING:
    import pyarrow as pa

FEWEST_ROWS = 40
SURE = 0.995  # of the answers must be right
_BINS = 50
_MOST_COLUMNS = 500


def leaks(
    rows: pa.Table,
    profiles: dict[str, Profile],
    kinds: dict[str, str],
    label: str,
    meant: dict[str, str],
) -> dict[str, str]:
    """What is suspicious about columns, by name.

    kinds: of the columns; meant: each label's class, empty for a regression.
    """
    truth = [(text or "").strip() for text in rows[label].to_pylist()]
    known = [at for at, text in enumerate(truth) if text in profiles[label].values]
    if len(known) < FEWEST_ROWS:
        return {}
    wanted = [meant.get(truth[at], truth[at]) for at in known]
    found = {}
    for name in list(kinds)[:_MOST_COLUMNS]:
        texts = [(text or "").strip() for text in rows[name].take(known).to_pylist()]
        if not meant:
            said = _same_numbers(profiles[name], texts, profiles[label], wanted)
        else:
            said = _says_the_class(profiles[name], kinds[name], texts, wanted)
        if said:
            found[name] = said
    return found


def _says_the_class(profile: Profile, kind: str, texts: Sequence[str], wanted: list[str]) -> str:
    teaching, asked = slice(0, None, 2), slice(1, None, 2)
    keys = _bins(profile, texts) if kind == "number" else list(texts)
    learnt: dict[str, Counter[str]] = defaultdict(Counter)
    for key, label in zip(keys[teaching], wanted[teaching], strict=True):
        learnt[key][label] += 1
    answers = [
        (learnt[key].most_common(1)[0][0], label)
        for key, label in zip(keys[asked], wanted[asked], strict=True)
        if key in learnt
    ]
    if len(answers) * 2 < len(wanted[asked]):
        return ""  # values that mostly stand once
    right = sum(answer == label for answer, label in answers) / len(answers)
    simplest = Counter(label for _, label in answers).most_common(1)[0][1] / len(answers)
    if right < SURE or simplest > 1 - 2 * (1 - SURE):
        return ""
    return f"it decides the label alone ({right:.1%} of held-out rows): a leak?"


def _bins(profile: Profile, texts: Sequence[str]) -> list[str]:
    """Numbers in bins of about as many rows; what is no number is by itself."""
    from bisect import bisect_right

    values = list(map(profile.parser(), texts))
    different = sorted({value for value in values if value is not None})
    step = max(1, len(different) // _BINS)
    edges = different[::step]
    return ["" if value is None else str(bisect_right(edges, value)) for value in values]


def _same_numbers(
    profile: Profile, texts: Sequence[str], label: Profile, wanted: Sequence[str]
) -> str:
    import numpy as np

    number, truth = profile.parser(), label.parser()
    pairs = [
        (x, y)
        for text, said in zip(texts, wanted, strict=True)
        if (x := number(text)) is not None and (y := truth(said)) is not None
    ]
    if len(pairs) < FEWEST_ROWS:
        return ""
    x, y = np.array(pairs).T
    if np.array_equal(x, y):
        return "it equals the label: a leak?"
    if x.std() == 0 or y.std() == 0 or abs(np.corrcoef(x, y)[0, 1]) < 0.9999:
        return ""
    return "it follows from the label by a straight line: a leak?"
