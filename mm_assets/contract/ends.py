"""How a piece of work ends: used, used in part, nothing used; or it failed.

The one place that decides it, for uploads, runs, trainings and commands, from counts alone.

*Left out* are refused rows and refused files. No one else is: a system file holds no data; of a
`duplicate_row` the same row is there already; an image without a row is kept and waits for it; a
record that waits for a champion is kept, too. An upload is *used in part* if anything was left out,
and ends as *nothing used* if neither a record nor a label nor an image came through, whatever the
reason: it was refused whole, every row was refused, or there was none (a table that is only a
header). So images alone are used, also before their rows come; labels alone are used; and so is
what came before in another upload, for it is the same records once more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

PLACES = 3  # of each code, so many are named
# Checks that speak of what somebody sent, not of what became of it here.
OF_CONTENT = ("upload_accepted", "something_used", "refused_share")
NOT_LEFT_OUT = ("system_file", "duplicate_row")


class End(StrEnum):
    """How something ended. `exit_code` is what a command leaves with."""

    USED = "used"
    IN_PART = "used in part"
    NOTHING = "nothing used"
    FAILED = "failed"

    @property
    def exit_code(self) -> int:
        return {End.USED: 0, End.FAILED: 1, End.NOTHING: 2, End.IN_PART: 3}[self]


def worst(ends: Iterable[End]) -> End:
    """The end of several things: one that failed before all, then nothing, then in part."""
    order = (End.FAILED, End.NOTHING, End.IN_PART, End.USED)
    return min(ends, key=order.index, default=End.USED)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What was left out for one reason.

    what: row, file, record, model, image (the one that a record would have), or the whole upload.
    places, reason: of the first ones.
    """

    code: str
    what: str
    count: int
    places: tuple[str, ...] = ()
    reason: str = ""
    todo: str = ""

    @property
    def words(self) -> str:
        return f"{self.code} {self.count}{_listed(self.places, self.count)}"

    @property
    def remedy(self) -> str:
        """What was wrong with the first of them, and what to do."""
        return f"{self.code}: {self.reason.rstrip('.')}. {self.todo}".strip()

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "places": list(self.places)}

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> LeftOut:
        """What `as_dict` wrote."""
        return cls(**{**document, "places": tuple(document["places"])})


@dataclass(frozen=True, slots=True)
class Ended:
    """An end, why in one line, and what was left out, the most first."""

    end: End
    words: str = ""
    left_out: tuple[LeftOut, ...] = ()

    @property
    def todo(self) -> str:
        """What to do about it first, or ''."""
        if self.left_out:
            return self.left_out[0].todo
        return "Send a table with rows, or images." if self.end is End.NOTHING else ""

    def as_document(self) -> dict[str, Any]:
        """What a published document holds of it."""
        return {
            "end": self.end.value,
            "end_words": self.words,
            "left_out": [one.as_dict() for one in self.left_out],
        }


def read_ended(document: Mapping[str, Any]) -> Ended:
    """What a published document says; one that was made before there were ends says `used`."""
    left = map(LeftOut.read, document.get("left_out") or ())
    end = End(document.get("end") or End.USED)
    return Ended(end, document.get("end_words") or "", tuple(left))


def place_of(file: str, line: int | None) -> str:
    """`file:line`, as terminals and editors understand it."""
    return f"{file}:{line}" if line else file


def end_of_upload(
    *,
    rows: int,
    files: int,
    used: int,
    left_out: Iterable[LeftOut],
    refused: Mapping[str, str] | None = None,
) -> Ended:
    """How an upload ends.

    rows, files: how many came, without system files. used: records, labels that were joined and
    images that came through, together. left_out: what was refused, by code. refused: code, what
    and todo, if the upload was refused whole.
    """
    out = [one for one in left_out if one.code not in NOT_LEFT_OUT and one.count]
    out.sort(key=lambda one: (-one.count, one.code))
    if refused:
        one = LeftOut(refused["code"], "upload", 1, (), refused["what"], refused["todo"])
        return Ended(End.NOTHING, f"{End.NOTHING}: [{one.code}] {one.reason}", (one,))
    if not used and not out:
        return Ended(End.NOTHING, f"{End.NOTHING}: no row and no image is in it")
    if not out:
        return Ended(End.USED)
    end = End.IN_PART if used else End.NOTHING
    return Ended(end, f"{end}: {_shares(rows, files, out)}: {_by_code(out)}", tuple(out))


def _shares(rows: int, files: int, out: Sequence[LeftOut]) -> str:
    """Such as `12 of 200 rows and 3 of 40 files left out`."""
    totals = {"row": rows, "file": files}
    counts = {what: sum(one.count for one in out if one.what == what) for what in totals}
    said = [
        f"{count} of {totals[what]} {what}{'' if totals[what] == 1 else 's'}"
        for what, count in counts.items()
        if count
    ]
    if unclear := sum(one.count for one in out if one.what == "image"):
        said.append(f"the image of {unclear} record{'' if unclear == 1 else 's'}")
    return f"{' and '.join(said)} left out"


def _by_code(out: Sequence[LeftOut]) -> str:
    return ", ".join(one.words for one in out)


def _listed(places: Sequence[str], count: int) -> str:
    shown = ", ".join(place for place in places if place)
    return f" ({shown}{', …' if count > len(places) else ''})" if shown else ""


def failed_too(ended: Ended, failed: int, records: int, example: LeftOut | None) -> Ended:
    """The end of an upload of which predictions failed: its records wait, so it is used in part."""
    if not failed or example is None:
        return ended
    words = f"{failed} of {records} predictions failed: {example.words}"
    before = f"{ended.words}; " if ended.words else f"{End.IN_PART}: "
    return Ended(worst([ended.end, End.IN_PART]), before + words, (*ended.left_out, example))


def end_of_training(
    trained: Sequence[str], not_trained: Sequence[LeftOut], stopped: Sequence[str] = ()
) -> Ended:
    """How a training ends: the models that were trained, and why the others were not.

    A dataset to which no image ever came has no model with images yet; that alone is no part that
    is missing (`no_images`). A model that was trained but not promoted was trained. stopped: those
    of them that are the best of a training that was cut short.
    """
    missing = [one for one in not_trained if one.code != "no_images"]
    short = f"{', '.join(stopped)} stopped early, with the best so far" if stopped else ""
    said = ", ".join(f"{place} {one.code}" for one in not_trained for place in one.places)
    if not trained and not_trained:
        return Ended(End.NOTHING, f"{End.NOTHING}: no model was trained: {said}",
                     tuple(not_trained))  # fmt: skip
    if missing:
        words = f"{End.IN_PART}: {len(missing)} of {len(missing) + len(trained)} models"
        words = f"{words} not trained: {said}" + (f"; {short}" if short else "")
        return Ended(End.IN_PART, words, tuple(not_trained))
    if short:
        return Ended(End.IN_PART, f"{End.IN_PART}: {short}", tuple(not_trained))
    words = f"{End.USED}: {', '.join(trained)} trained; not yet: {said}" if not_trained else ""
    return Ended(End.USED, words, tuple(not_trained))
