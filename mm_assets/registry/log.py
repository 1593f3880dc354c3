"""The promotion log of one modality: which model answers, since when and why, and who says so.

    datasets/<dataset>/models/<modality>/champions/<generation>.json

Entries are numbered without a gap. Where there are keys (signing.py), one is accepted only if it is
signed, follows the one before it, and none that was seen (seen.py) is gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any, NoReturn

from mm_assets.contract.dataset import Modality
from mm_assets.contract.errors import ModelError
from mm_assets.lake.documents import unpacked
from mm_assets.lake.lake import Lake
from mm_assets.registry.files import SHA256, tampered
from mm_assets.registry.seen import Seen
from mm_assets.registry.signing import Keys, digest_of, said_of

VERSION = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{10}")
_GENERATION = re.compile(r"([0-9]{8})\.json")
_READERS = 8
_TODO = (
    "Let nothing of it answer; find out who may write there; bring back what was there (S3 keeps "
    "earlier versions), or look at what is there and sign it (`mm models sign`)."
)


@dataclass(frozen=True)
class Champion:
    """One entry of the promotion log; the one with the highest generation is in use.

    by: who promoted it by hand on the page for people; '' where nobody was asked for a name.
    before: the digest of the entry before it; signature: of all else. Both '' where it is unsigned.
    """

    modality: Modality
    generation: int
    version: str
    manifest_sha256: str
    reason: str
    promoted_at: str
    previous: str | None
    by: str = ""
    before: str = ""
    signature: str = ""

    def to_json(self) -> dict[str, Any]:
        """As it stands in the lake."""
        may_lack = ("by", "before", "signature")
        return {n: value for n, value in asdict(self).items() if n not in may_lack or value}

    def said(self, dataset: str) -> bytes:
        """What is signed: all of it, and whose it is."""
        facts = {name: value for name, value in self.to_json().items() if name != "signature"}
        return said_of({"dataset": dataset, **facts})


class PromotionLog:
    """The log as it was listed just now.

    is_export: copies of some entries without the others; each is verified for itself. Raises
    StoreError where the table has to say what was seen, and can't be asked.
    """

    def __init__(
        self, lake: Lake, dataset: str, modality: Modality, keys: Keys, *, is_export: bool
    ) -> None:
        self._lake, self._dataset, self._modality = lake, dataset, modality
        self._keys, self._is_export = keys, is_export
        self.prefix = f"datasets/{dataset}/models/{modality.value}/champions/"
        self._asks = keys.are_there and not is_export  # for the order, not for signatures alone
        if self._asks:  # before it is listed: what comes in between is no fault
            self._seen = Seen(lake, dataset, modality, tells=bool(keys.name))
        names = (item.key.removeprefix(self.prefix) for item in lake.list(self.prefix))
        self.generations = sorted(
            int(match[1]) for name in names if (match := _GENERATION.fullmatch(name))
        )

    def newest(self, *, whole: bool = False) -> Champion | None:
        """The champion, verified with the entry before it, or with all. Raises ModelError."""
        if not self._is_whole():
            return None
        all_of_it = whole and self._asks
        return self._verified(self.generations if all_of_it else self.generations[-1:])[-1]

    def entry(self, generation: int) -> Champion:
        """One entry, verified with the one before it. Raises ModelError."""
        self._is_whole()
        return self._verified([generation])[-1]

    def entries(self) -> list[Champion]:
        """All of them, oldest first. Raises ModelError."""
        return self._verified(self.generations) if self._is_whole() else []

    def append(self, champion: Champion, before: Champion | None) -> Champion | None:
        """The entry as it was written, signed where there is a key; None if another came first."""
        signed = self._signed(champion, before)
        if not self._lake.create_json(self.key(champion.generation), signed.to_json()):
            return None
        self._note(signed)
        return signed

    def unsigned(self) -> Iterator[tuple[Champion, str]]:
        """Every entry as it stands, and what is wrong with it; '' if it is signed by our key."""
        before: Champion | None = None
        for number in self.generations:
            one = self._read(number)
            yield one, self._fault(one, before) or self._by_another(one)
            before = one

    def sign(self) -> list[Champion]:
        """Sign what stands there, whoever wrote it; returns the entries that were written."""
        self._keys.refuse_to_promote(self._where(), is_signed=True)
        before: Champion | None = None
        written = []
        for at, (one, fault) in enumerate([*self.unsigned()], 1):
            if one.generation != at:
                self._refuse_gap(at)
            follows = one.before == (digest_of(before.said(self._dataset)) if before else "")
            signed = one if follows and not fault else self._signed(one, before)
            if signed != one:
                self._lake.write_json(self.key(one.generation), signed.to_json())
                written.append(signed)
            before = signed
        if before:
            self._seen.replace(before.generation, digest_of(before.said(self._dataset)))
        return written

    def key(self, generation: int) -> str:
        return f"{self.prefix}{generation:08d}.json"

    def _signed(self, champion: Champion, before: Champion | None) -> Champion:
        if not self._keys.name:
            return champion
        digest = digest_of(before.said(self._dataset)) if before else ""
        linked = replace(champion, before=digest, signature="")
        return replace(linked, signature=self._keys.sign(linked.said(self._dataset)))

    def _is_whole(self) -> bool:
        """Whether there are entries. Raises ModelError where some are gone."""
        numbers = self.generations
        if not self._asks:
            return bool(numbers)
        for at, number in enumerate(numbers, 1):
            if number != at:
                self._refuse_gap(at)
        for who, (newest, _) in self._seen.newest.items():
            if newest > len(numbers):
                what = f"of {newest} promotions that {who} has seen, {len(numbers)} are there"
                tampered(what, self._where(newest), _TODO)
        return bool(numbers)

    def _verified(self, wanted: list[int]) -> list[Champion]:
        """These entries, without a gap, and those that vouch for them."""
        first = max(1, wanted[0] - 1) if self._asks else wanted[0]
        with ThreadPoolExecutor(_READERS) as pool:
            found = [*pool.map(self._read, range(first, wanted[0])), *pool.map(self._read, wanted)]
        before: Champion | None = None
        for one in found:
            follows = before is not None or one.generation == 1
            if fault := self._fault(one, before, follows=follows):
                self._refuse(one, fault)
            before = one
        self._note(found[-1])
        return found[-len(wanted) :]

    def _fault(self, one: Champion, before: Champion | None, *, follows: bool = True) -> str:
        if not self._keys.are_there:
            return ""
        said = one.said(self._dataset)
        if not one.signature:
            return "it is not signed"
        if not self._keys.fits(one.signature, said):
            return "no key that is accepted here signed it"
        if not self._asks:
            return ""
        if follows and one.before != (digest_of(before.said(self._dataset)) if before else ""):
            return "it does not follow the promotion before it"
        for who, (generation, digest) in self._seen.newest.items():
            if generation == one.generation and digest != digest_of(said):
                return f"{who} has seen another promotion of this number"
        return ""

    def _by_another(self, one: Champion) -> str:
        own = one.signature.split(":")[1:2] == [self._keys.name]
        return "" if own else "another key signed it"

    def _refuse_gap(self, at: int) -> NoReturn:
        todo = (
            "Bring back what was there (S3 keeps earlier versions); find out who may write there."
        )
        tampered(f"promotion {at} is missing", self._where(at), todo)

    def _refuse(self, one: Champion, fault: str) -> None:
        if one.signature:
            tampered(fault, self._where(one.generation), _TODO)
        raise ModelError(
            code="promotion_unsigned",
            what=f"promotion {one.generation} ({one.version}) is not signed, and a key is set",
            where=self._where(one.generation),
            todo="Look at what `mm models sign` shows, and let it sign that.",
        )

    def _note(self, newest: Champion) -> None:
        if self._asks and newest.signature:
            self._seen.note(newest.generation, digest_of(newest.said(self._dataset)))

    def _read(self, generation: int) -> Champion:
        key = self.key(generation)
        try:
            entry = unpacked(self._lake.read(key))
            champion = Champion(**{**entry, "modality": Modality(entry["modality"])})
            fits = (champion.modality, champion.generation) == (self._modality, generation)
            fits &= bool(VERSION.fullmatch(champion.version))
            fits &= bool(SHA256.fullmatch(champion.manifest_sha256))
        except (ValueError, TypeError, KeyError):
            fits = False
        if not fits:
            tampered("this promotion is not one that was written here", self._where(generation))
        return champion

    def _where(self, generation: int = 0) -> str:
        return f"{self._lake.url}/{self.key(generation) if generation else self.prefix}"
