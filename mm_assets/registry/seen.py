"""What was seen of promotion logs: the newest entry, and that nobody may go back behind it.

A log that was cut short is a whole log of an earlier day; no signature tells that. So each machine
notes the newest entry that it has verified. A machine that begins empty has no notes: where the
predictions are in DynamoDB, whoever signs notes it there as well, and everybody looks there.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mm_assets.lake.lake import Lake

if TYPE_CHECKING:
    from mm_assets.tables.dynamodb.promotions import NewestPromotion

Entry = tuple[int, str]  # generation, digest
PATIENCE = 20.0  # seconds for a busy table


class Seen:
    """`newest`: what this machine and what the table knew of one log when this was made.

    tells: whether this process notes in the table, too. Raises StoreError where the table can't be
    asked.
    """

    def __init__(self, lake: Lake, dataset: str, modality: str, *, tells: bool) -> None:
        place = hashlib.sha256(lake.url.encode()).hexdigest()[:16]
        folder = lake.settings.data_folder / "promotions-seen" / place
        self._here = SeenHere(folder / dataset / modality)
        self._table = _in_table(lake, dataset, modality)
        self._tells = tells
        self._in_table = self._table.newest() if self._table else None
        self.newest = {
            who: entry
            for who, entry in (("this machine", self._here.newest()), ("the table", self._in_table))
            if entry
        }

    def note(self, generation: int, digest: str) -> None:
        self._here.note(generation, digest)
        known = self._in_table[0] if self._in_table else 0
        if self._table and self._tells and generation > known:
            self._table.note(generation, digest)

    def replace(self, generation: int, digest: str) -> None:
        """Forget what was seen: somebody looked at the log and signed it as it is."""
        self._here.replace(generation, digest)
        if self._table:
            self._table.replace(generation, digest)


def _in_table(lake: Lake, dataset: str, modality: str) -> NewestPromotion | None:
    """A DuckDB file lies on the machine whose notes are there anyway."""
    if not lake.settings.is_dynamodb:
        return None
    from mm_assets.tables.dynamodb.promotions import NewestPromotion
    from mm_assets.tables.dynamodb.requests import Requests, client_for

    requests = Requests(client_for(lake.settings), lake.settings.dynamodb_table, PATIENCE)
    return NewestPromotion(requests, dataset, modality)


class SeenHere:
    """The newest promotion of each log that this machine has verified: empty files by name.

    Names only ever come; so processes need not wait for each other. Where the disk is read-only,
    the process remembers for itself.
    """

    _here: dict[Path, Entry] = {}  # noqa: RUF012  of this process, by log

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def newest(self) -> Entry | None:
        """Generation and digest of the newest entry that was seen; None if there was none."""
        noted = [_parsed(path.name) for path in self.folder.glob("*-*")]
        found = [one for one in (*noted, self._here.get(self.folder)) if one]
        return max(found, default=None)

    def note(self, generation: int, digest: str) -> None:
        before = self.newest()
        if before and before[0] >= generation:
            return
        self._here[self.folder] = (generation, digest)
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / f"{generation:08d}-{digest}").touch()
            for path in self.folder.glob("*-*"):
                if (one := _parsed(path.name)) and one[0] < generation:
                    path.unlink(missing_ok=True)

    def replace(self, generation: int, digest: str) -> None:
        """Forget what was seen: somebody looked at the log and signed it as it is."""
        self._here.pop(self.folder, None)
        with suppress(OSError):
            for path in self.folder.glob("*-*"):
                path.unlink(missing_ok=True)
        self.note(generation, digest)


def _parsed(name: str) -> Entry | None:
    number, _, digest = name.partition("-")
    return (int(number), digest) if number.isdigit() else None
