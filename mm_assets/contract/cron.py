"""Cron lines, as far as it can be said without Dagster that one is none."""

from __future__ import annotations

import re

_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))
_NAMES = {
    "month": ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    "weekday": ["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
}
_SHORT = ("@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@annually", "@yearly")
EXAMPLE = '"0 3 * * *" is each day at 3:00'


def fault_of_cron(line: str) -> str | None:
    """Why this is no cron line, or None."""
    if line.strip().lower() in _SHORT:
        return None
    fields = line.split()
    if len(fields) != len(_FIELDS):
        return f"'{line}' has {len(fields)} fields, a cron line has 5: {EXAMPLE}"
    for text, (name, least, most) in zip(fields, _FIELDS, strict=True):
        for part in text.lower().split(","):
            if not _fits(part, name, least, most):
                return (
                    f"'{part}' in '{line}' is no {name} of a cron line ({least} to {most}): "
                    f"{EXAMPLE}"
                )
    return None


def _fits(part: str, name: str, least: int, most: int) -> bool:
    if name in ("day", "weekday") and re.fullmatch(r"l|l?[a-z0-9]+(#[1-5l])?|\?", part):
        plain = part.removeprefix("l").partition("#")[0]
        return not plain or part == "?" or _value(plain, name, least, most) is not None
    found = re.fullmatch(r"(\*|[a-z0-9]+)(?:-([a-z0-9]+))?(?:/([0-9]+))?", part)
    if found is None or (found[3] is not None and int(found[3]) == 0):
        return False
    if found[1] == "*":
        return found[2] is None
    ends = [_value(one, name, least, most) for one in (found[1], found[2]) if one is not None]
    return None not in ends


def _value(text: str, name: str, least: int, most: int) -> int | None:
    names = _NAMES.get(name, [])
    value = names.index(text) + least if text in names else int(text) if text.isdigit() else -1
    return value if least <= value <= most else None
