"""A column that looks like whose a record is: a patient, a house, a seller with several records."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mm_assets.drafting.profile import Profile, shown

FEWEST_GROUPS = 20  # fewer are rather a category
MOST_ALONE = 0.9  # of the records; where nearly each value stands once, nothing is shared
_OWNER = re.compile(
    r"(.*[^a-z])?(patient|lesion|subject|person|user|owner|seller|customer|client|vendor|rescuer"
    r"|house(hold)?|building|property|animal|specimen|slide|case|study|session|series|scene|group"
    r"|family|author|player|driver|account|device|camera|vehicle|plot|burst|video|clip)s?"
    r"([^a-z]?(id|nr|no|num|number|key|uuid|code))?",
    re.IGNORECASE,
)


def group_hint(profiles: Mapping[str, Profile], id_column: str) -> str | None:
    """The column that `group_column` could name, if one looks like it: many values, which repeat,
    under a name that says whose a record is. Only a person knows.
    """
    fitting = {
        name: len(profile.values)
        for name, profile in profiles.items()
        if name != id_column
        and _OWNER.fullmatch(name)
        and FEWEST_GROUPS <= len(profile.values) <= MOST_ALONE * profile.present
    }
    return max(fitting, key=lambda name: fitting[name]) if fitting else None


def in_words(name: str, profile: Profile) -> str:
    """What `mm init` says of it."""
    return (
        f"column '{shown(name)}' has {len(profile.values):,} values for {profile.present:,} rows: "
        "if records of one value are alike, `group_column` in the YAML keeps them on one side of "
        "each split, and figures honest"
    )
