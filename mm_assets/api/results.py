"""What the calls of the API give back: plain lists and dictionaries that print well.

In a notebook they show as tables with thumbnails; in a terminal as text. `.pandas()` makes a frame.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mm_assets.contract.ends import PLACES, End, LeftOut, read_ended, worst
from mm_assets.contract.errors import MMError
from mm_assets.display.cells import shown, visible
from mm_assets.display.html import escaped, html_image, html_table

if TYPE_CHECKING:
    import pandas as pd

    from mm_assets.orchestration.run import Outcome
    from mm_assets.uploads.check import Report
    from mm_assets.uploads.send import Sent

SHOWN_ROWS = 50


class Rows(list[dict[str, Any]]):
    """Rows with a title. columns: those that are shown, in order; a row may hold more.

    images: row number to the bytes of a small image that a notebook shows before the row.
    pictures: name to PNG, which a notebook shows below the rows.
    """

    def __init__(
        self,
        rows: Iterable[Mapping[str, Any]],
        columns: Sequence[str],
        title: str = "",
        images: Mapping[int, bytes] | None = None,
        pictures: Mapping[str, bytes] | None = None,
    ) -> None:
        super().__init__(dict(row) for row in rows)
        self.columns = list(columns)
        self.title = title
        self.images = dict(images or {})
        self.pictures = dict(pictures or {})

    def pandas(self) -> pd.DataFrame:
        """The rows as a frame, with all they hold."""
        import pandas as pd

        return pd.DataFrame(list(self))

    def __repr__(self) -> str:
        if not self:
            return visible(f"{self.title}: none".removeprefix(": "))
        table = Table(header_style="bold")
        for name in self.columns:
            table.add_column(escape(visible(name)), overflow="fold")
        for row in self[:SHOWN_ROWS]:
            table.add_row(*(escape(shown(row.get(name))) for name in self.columns))
        text = io.StringIO()
        # In a notebook rich would show it there and then, instead of writing it.
        console = Console(file=text, width=120, highlight=False, emoji=False, force_jupyter=False)
        console.print(table)
        title = f"{visible(self.title)}\n" if self.title else ""
        return title + text.getvalue().rstrip() + self._more()

    def _repr_html_(self) -> str:
        if not self:
            return f"<p>{escaped(repr(self))}</p>"
        table = html_table(self[:SHOWN_ROWS], self.columns, self.title, self.images)
        below = (html_image(png) for png in self.pictures.values())
        return f"{table}<p>{self._more()}</p>{''.join(below)}"

    def _more(self) -> str:
        return f"\n… and {len(self) - SHOWN_ROWS} more" if len(self) > SHOWN_ROWS else ""


@dataclass(frozen=True)
class Uploaded:
    """What was sent, where it lies now, and what the receiving side will refuse of it."""

    sent: Sent
    report: Report
    where: str

    @property
    def name(self) -> str:
        """Its name in the inbox, by which `receipt` finds it."""
        return self.sent.name

    @property
    def end(self) -> End:
        """How it will end, if it were all that ever came: used, used in part, nothing used."""
        return self.report.ended.end

    @property
    def words(self) -> str:
        """What will be left out of it, or ''."""
        return self.report.ended.words

    def __repr__(self) -> str:
        there = "was there already" if self.sent.already_there else "was sent"
        said = f"; {self.words}" if self.words else ""
        return visible(f"<{self.where} {there}{said}>")


class Outcomes(list["Outcome"]):
    """The runs that a call carried out, in order."""

    @property
    def failed(self) -> list[Outcome]:
        """Those that broke, or of which a check failed with ERROR."""
        return [one for one in self if one.end is End.FAILED]

    @property
    def end(self) -> End:
        """The worst end among them: failed, nothing used, used in part, used."""
        return worst(one.end for one in self)

    def raise_for_failure(self) -> None:
        """Raises RunFailed if one of them failed."""
        if self.failed:
            raise RunFailed(self)

    def rows(self) -> Rows:
        """What became of each run, a row a run."""
        columns = ("job", "upload", "end", "words", "problem", "failed_checks", "warnings")
        return Rows((one.as_row() for one in self), columns, "Runs")

    def __repr__(self) -> str:
        return repr(self.rows()) if self else "no runs: there was nothing to do"

    def _repr_html_(self) -> str:
        return self.rows()._repr_html_() if self else f"<p>{self!r}</p>"


class RunFailed(MMError):  # noqa: N818  said of the runs, beside the other errors
    """One or more runs failed; `outcomes` has all of them, the good ones, too."""

    def __init__(self, outcomes: Outcomes) -> None:
        self.outcomes = outcomes
        first = outcomes.failed[0]
        reasons = Counter(one.problem or "; ".join(one.failed_checks) for one in outcomes.failed)
        said = "; ".join(
            f"{reason} ({count} times)" if count > 1 else reason
            for reason, count in reasons.most_common()
        )
        super().__init__(
            code="run_failed",
            what=f"{len(outcomes.failed)} of {len(outcomes)} runs failed: {said}",
            where=f"{first.job}{f' {first.upload}' if first.upload else ''}",
            todo="Correct what is said there, then run it again; the others are done.",
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.outcomes,))


class Receipt(dict[str, Any]):
    """What came in an upload and what became of every file and row; see `files`, `rejects`."""

    def counts(self) -> Rows:
        """How many of what."""
        return Rows(
            ({"what": key, "number": value} for key, value in self["counts"].items()),
            ("what", "number"),
            f"{self['name']} ({self['upload']})",
        )

    def tables(self) -> Rows:
        """How each table was read: its format, and what was decided about it."""
        return Rows(self["tables"], ("table", "rows", "rejected", "read_as"), "Tables")

    def unused(self) -> Rows:
        """The files that are not used, each with its reason and what to do."""
        columns = ("file", "fate", "code", "reason", "todo")
        unused = (file for file in self["files"] if file["fate"] != "used")
        return Rows(unused, columns, "Files that are not used")

    def rejects(self) -> Rows:
        """The rows that were refused, each with its line, reason and what to do."""
        columns = ("file", "line", "record_id", "code", "reason", "todo")
        return Rows(self["rejects"], columns, "Rejected rows")

    def left_out(self) -> Rows:
        """Why files and rows are not used, a line for each reason: how many, and the first ones."""
        columns = ("why", "number", "first", "reason", "todo")
        told = [_as_row(one) for one in read_ended(self).left_out]
        kept: dict[str, list[dict[str, Any]]] = {}
        for file in self.unused():
            if not file["code"]:
                kept.setdefault(file["fate"], []).append(file)
        for fate, files in kept.items():
            places = tuple(file["file"] for file in files[:PLACES])
            reason, todo = files[0]["reason"] or "", files[0]["todo"] or ""
            told.append(_as_row(LeftOut(fate, "file", len(files), places, reason, todo)))
        return Rows(told, columns, "Not used")

    def _parts(self) -> list[Rows]:
        left_out = self.left_out()
        return [self.counts(), *(part for part in (self.tables(), left_out) if part)]

    def __repr__(self) -> str:
        return "\n".join([*self._said(), *map(repr, self._parts())])

    def _repr_html_(self) -> str:
        said = "".join(f"<p>{escaped(text)}</p>" for text in self._said())
        return said + "".join(part._repr_html_() for part in self._parts())

    def _said(self) -> list[str]:
        ended = read_ended(self)
        return [
            visible(ended.words or str(ended.end)),
            *([visible(f"What to do: {ended.todo}")] if ended.todo else []),
            *self["first_of_several"],
            *self["nearly"],
        ]


def _as_row(one: LeftOut) -> dict[str, Any]:
    more = ", …" if one.count > len(one.places) else ""
    return {
        "why": one.code, "number": one.count, "first": ", ".join(one.places) + more,
        "reason": one.reason, "todo": one.todo,
    }  # fmt: skip
