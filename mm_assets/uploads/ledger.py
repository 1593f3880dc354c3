"""Which uploads are under way, noted in the lake: one small document for each.

An upload is *pending* from the moment it is seen, by a listing or by an event, until Dagster holds
its predictions. Whatever dies in between, the document is still there, so the upload is asked for
again. After too many tries in vain it is *set aside* with the reason, and `mm retry` makes it
pending once more, in a new round of tries. One that was withdrawn (withdrawals.py) is pending
until the table has forgotten it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from mm_assets.contract.ends import End, read_ended
from mm_assets.contract.errors import LakeError, UploadError
from mm_assets.lake.each import READERS, of_each
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import of_upload, pending_prefix, set_aside_prefix, uploads_prefix
from mm_assets.lake.local import utc_now
from mm_assets.uploads.archives.opening import without_suffix
from mm_assets.uploads.find import Source, Waiting, look_at, read_source, register
from mm_assets.uploads.withdrawals import (
    ROUND,
    is_taken_back,
    read_withdrawal,
    to_take_back,
    withdrawn_uploads,
)

KEY = re.compile(r"\d{8}-\d{9}-[0-9a-f]{10}")  # as `find.upload_key` makes it
FEW = 12  # questions to S3 that cost as much as a listing
SMALL = 1 << 20  # bytes; an upload that is not larger keeps others waiting for a moment only


@dataclass(frozen=True, slots=True)
class Pending:
    """An upload that is under way. `round` counts how often a person asked for new tries.

    alone: it was taken up together with others and did not get through; from now on by itself.
    """

    source: Source
    round: int
    alone: bool = False

    @property
    def is_small(self) -> bool:
        """Whether it can be handled together with others: nothing speaks against its first try."""
        return not self.alone and not self.round and self.source.size <= SMALL


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an upload stands: pending, withdrawn, set aside, refused, empty, done …; in words.

    message: the ID of the queue's message that it came by, or ''.
    """

    upload: str
    name: str
    arrived: str
    state: str
    words: str
    message: str = ""


def note(lake: Lake, source: Source, round: int = 0) -> None:  # noqa: A002  the word for it
    """Note that an upload has to be taken through; safe to repeat.

    One that was set aside stays so, unless a person asks for another round: hints where to look
    come late and repeatedly.
    """
    register(lake, source)
    document = {"source": source.as_dict(), "round": round, "noted_at": utc_now()}
    key = f"{pending_prefix(source.dataset)}{source.upload}.json"
    if round:
        lake.write_json(key, document)
    elif read_set_aside(lake, source.dataset, source.upload) is None:
        lake.create_json(key, document)


def pending_uploads(lake: Lake, dataset: str) -> list[str]:
    """The keys of the uploads under way, oldest first. Few listings."""
    noted = _names(lake, pending_prefix(dataset))
    open_ones = to_take_back(lake, dataset)
    if not open_ones:
        return noted
    return sorted({*noted, *open_ones.difference(set_aside_uploads(lake, dataset))})


def set_aside_uploads(lake: Lake, dataset: str) -> list[str]:
    """The keys of the uploads that were set aside, oldest first. One listing."""
    return _names(lake, set_aside_prefix(dataset))


def read_pending(lake: Lake, dataset: str, upload: str) -> Pending | None:
    """What is noted of an upload under way. Raises UploadError for a note that says nothing."""
    key = f"{pending_prefix(dataset)}{upload}.json"
    try:
        document = lake.read_json(key)
        withdrawn = read_withdrawal(lake, dataset, upload)
        again = withdrawn is not None and not is_taken_back(lake, dataset, upload)
        if document is None and not again:
            return None
        rounds = [int(document["round"])] if document else []
        rounds += [withdrawn.round] if withdrawn is not None and again else []
        source = Source(**document["source"]) if document else read_source(lake, dataset, upload)
        # What is taken back, and what a person asks for, goes by itself.
        return Pending(source, max(rounds), again or bool(document and document.get("alone")))
    except LakeError as error:
        if error.code != "lake_damaged":
            raise
    except (ValueError, TypeError, KeyError):
        pass
    raise UploadError(
        code="note_unreadable",
        what="what is noted of this upload cannot be read",
        where=f"{lake.url}/{key}",
        todo=f"Run `mm retry {upload}`, which writes it anew.",
    )


def read_many_pending(lake: Lake, dataset: str, uploads: Sequence[str]) -> list[Pending]:
    """What is noted of these, of those that are under way and whose note can be read."""
    # One listing instead of a question for each, where it costs less.
    withdrawn = withdrawn_uploads(lake, dataset) if len(uploads) > FEW else frozenset(uploads)

    def read(upload: str) -> Pending | None:
        try:
            if upload in withdrawn:
                return read_pending(lake, dataset, upload)
            return _pending_of(lake.read_json(f"{pending_prefix(dataset)}{upload}.json"))
        except (LakeError, UploadError, ValueError, TypeError, KeyError) as error:
            if isinstance(error, LakeError) and error.code != "lake_damaged":
                raise
            return None  # it cannot be read, and its own run says so

    return [one for one in of_each(lake, read, uploads) if one is not None]


def _pending_of(document: dict[str, Any] | None) -> Pending | None:
    """What is noted of an upload that was not withdrawn."""
    if document is None:
        return None
    source = Source(**document["source"])
    return Pending(source, int(document["round"]), bool(document.get("alone")))


def leave_alone(lake: Lake, dataset: str, uploads: Sequence[str]) -> None:
    """Note that these are no more to be handled together with others. Safe to repeat."""
    for upload in uploads:
        key = f"{pending_prefix(dataset)}{upload}.json"
        document = lake.read_json(key)
        if document is not None and not document.get("alone"):
            lake.write_json(key, {**document, "alone": True})


def read_set_aside(lake: Lake, dataset: str, upload: str) -> dict[str, Any] | None:
    """Why an upload was set aside: reason, tries, round, run_id, set_aside_at."""
    return lake.read_json(f"{set_aside_prefix(dataset)}{upload}.json")


def settle(lake: Lake, dataset: str, upload: str) -> None:
    """The upload is through: nothing is left to do for it."""
    lake.delete(f"{pending_prefix(dataset)}{upload}.json")


def set_aside(lake: Lake, pending: Pending, reason: str, tries: int, run_id: str) -> None:
    """Stop trying, and say why. The reason is there before the note is gone."""
    dataset, upload = pending.source.dataset, pending.source.upload
    document = {
        "upload": upload, "name": pending.source.name, "reason": reason, "tries": tries,
        "round": pending.round, "run_id": run_id, "set_aside_at": utc_now(),
    }  # fmt: skip
    lake.write_json(f"{set_aside_prefix(dataset)}{upload}.json", document)
    settle(lake, dataset, upload)


def retry(lake: Lake, dataset: str, upload: str) -> None:
    """Make an upload pending again, with a new round of tries. Raises UploadError if unknown."""
    source = read_source(lake, dataset, upload)
    before = lake.read_json(of_upload(dataset, upload, ROUND)) or {"round": 0}
    lake.write_json(of_upload(dataset, upload, ROUND), {"round": before["round"] + 1})
    note(lake, source, before["round"] + 1)
    lake.delete(f"{set_aside_prefix(dataset)}{upload}.json")


def known_uploads(lake: Lake, dataset: str) -> list[str]:
    """Every upload that was ever noted in the lake, oldest first."""
    return lake.names(uploads_prefix(dataset))


def newest_keys(lake: Lake, dataset: str, limit: int) -> list[str]:
    """The keys of the newest uploads, oldest first; how many others there are is no matter."""
    now = datetime.now(UTC)
    # A key begins with the time: that of a minute, of half an hour, of a day and so on ago.
    ago = (now - timedelta(minutes=30**power) for power in range(5))
    starts = (f"{moment:%Y%m%d-%H%M%S}" for moment in ago)
    return lake.last_names(uploads_prefix(dataset), limit, starts) if limit > 0 else []


def newest_uploads(lake: Lake, dataset: str, limit: int) -> list[Standing]:
    """Where the newest uploads stand, newest first."""
    keys = newest_keys(lake, dataset, limit)[::-1]

    def standing(upload: str) -> Standing:
        source = lake.read_json(of_upload(dataset, upload, "source")) or {}
        state, words = state_of(lake, dataset, upload)
        name, arrived, message = (source.get(n, "") for n in ("name", "arrived_at", "message"))
        return Standing(upload, name, arrived, state, words, message)

    return of_each(lake, standing, keys)


def state_of(lake: Lake, dataset: str, upload: str) -> tuple[str, str]:
    """Where an upload stands, in one word or two, and what there is to say about it.

    `empty` is one of which nothing could be used; `refused` one that was refused whole.
    """
    withdrawn = read_withdrawal(lake, dataset, upload)
    if withdrawn is not None and is_taken_back(lake, dataset, upload):
        return "withdrawn", withdrawn.words
    if withdrawn is not None and not read_set_aside(lake, dataset, upload):
        later = "its run, which makes the table forget it, is yet to come"
        return "withdrawn", f"{withdrawn.words}; {later}"
    if lake.stat(f"{pending_prefix(dataset)}{upload}.json"):
        return "pending", "it is waiting for its run, or being taken through"
    if aside := read_set_aside(lake, dataset, upload):
        return "set aside", f"{aside['tries']} tries: {aside['reason']}"
    receipt = lake.read_json(of_upload(dataset, upload, "raw_uploads"))
    if receipt is None:
        return "unknown", "nothing was received; `mm retry` takes it through"
    if refused := receipt.get("refused"):
        return "refused", f"[{refused['code']}] {refused['what']}"
    merged = lake.read_json(of_upload(dataset, upload, "predictions"))
    if merged is None:
        return "received", "its predictions were not made; `mm retry` takes it through"
    ended = read_ended(merged)
    if ended.end is End.NOTHING:
        return "empty", ended.words
    waiting = merged["counts"]["waiting"]
    words = [*(merged["reasons"] if waiting else []), *([ended.words] if ended.words else [])]
    return ("waiting" if waiting else "done"), "; ".join(words)


def resolve(lake: Lake, dataset: str, name: str) -> str:
    """An upload's key from its key or its name in the inbox (then the newest of that name).

    Raises UploadError, with the reason if a folder of that name is not finished.
    """
    if KEY.fullmatch(name) and lake.stat(of_upload(dataset, name, "source")):
        return name
    keys = known_uploads(lake, dataset)
    if name in keys:
        return name

    def has_the_name(key: str) -> bool:
        source = lake.read_json(of_upload(dataset, key, "source"))
        return source is not None and name in (source["name"], without_suffix(source["name"]))

    newest_first = keys[::-1]
    for start in range(0, len(keys), 8 * READERS):
        some = newest_first[start : start + 8 * READERS]
        for key, it_is in zip(some, of_each(lake, has_the_name, some), strict=True):
            if it_is:
                return key
    there = look_at(lake, dataset, name, folder=True)
    reason = "it is not known"
    if isinstance(there, Waiting):
        reason = f"it is not finished: {there.reason}"
    raise UploadError(
        code="upload_unknown",
        what=f"there is no upload '{name}' of dataset '{dataset}': {reason}",
        where=f"{lake.url}/{uploads_prefix(dataset)}",
        todo="Run `mm sync` (or wait for the sensor) and look again; `mm uploads` lists all, "
        f"the newest known uploads are: {', '.join(keys[-5:]) or 'none'}.",
    )


def _names(lake: Lake, prefix: str) -> list[str]:
    return [item.key[len(prefix) :].removesuffix(".json") for item in lake.list(prefix)]
