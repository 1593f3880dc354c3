"""What the service writes to stderr: a line for each request, and what happens to the service.

A line never holds what a record holds, its ID, an address of an image or a key: only how many there
were. What an exception says may quote a record, so of one that a request meets only its kind and
the places in the code are written.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, Literal

from mm_assets.serving.notes import CURRENT, Note

LogFormat = Literal["auto", "json", "text"]
OURS = ("mm_assets", "uvicorn")
# Asked every few seconds by machines: of interest only where it is not as it should be.
QUIET = ("/live", "/ready", "/ping", "/metrics", "/v2/health/live", "/v2/health/ready")
requests = logging.getLogger("mm_assets.serving.requests")
_FIELDS = "fields"  # of a record of logging: what stands in its line beside the message


def configure(form: LogFormat) -> bool:
    """Have everything that this process logs written to stderr; returns whether as text.

    auto: text on a terminal, else JSON.
    """
    for_people = form == "text" or (form == "auto" and sys.stderr.isatty())
    root = logging.getLogger()
    root.handlers[:] = [_ForPeople() if for_people else _ForPrograms()]
    root.setLevel(logging.WARNING)
    for name in OURS:
        logging.getLogger(name).setLevel(logging.INFO)
    return for_people


def log_request(note: Note) -> None:
    """The line of a request that has ended."""
    level = logging.DEBUG if note.path in QUIET else logging.INFO
    if note.status >= 500 and note.problem == "unexpected":
        level = logging.ERROR
    if not requests.isEnabledFor(level):
        return
    fields: dict[str, Any] = {
        "request_id": note.request_id,
        "method": note.method,
        "path": note.path or None,
        "status": note.status,
        "duration_ms": round(note.seconds * 1000, 2),
    }
    if note.dataset:
        fields["dataset"] = note.dataset
    if note.answers:
        fields |= {
            "records": len(note.answers), "refused": note.refused, "models": note.versions,
        }  # fmt: skip
    if note.problem and note.status >= 400:
        fields["code"] = note.problem
    if note.trace_id:
        fields["trace_id"] = note.trace_id
    requests.log(level, "request", extra={_FIELDS: fields})


def log_failure(note: Note, error: BaseException) -> None:
    """Where something went wrong that nobody expected; what it says may quote a record."""
    fields = {"request_id": note.request_id, "error": _kinds(error), "traceback": _places(error)}
    requests.error("a request failed", extra={_FIELDS: fields})


def _chain(error: BaseException | None) -> list[BaseException]:
    """What it was caused by, first to last."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        parts = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
        found = [*(one for part in parts for one in _chain(part)), error, *found]
        error = error.__cause__ or error.__context__
    return found


def _kinds(error: BaseException) -> str:
    return " > ".join(type(one).__name__ for one in _chain(error))


def _places(error: BaseException) -> list[str]:
    """As a traceback, the innermost last."""
    return [
        f"{frame.filename}:{frame.lineno} in {frame.name}: {frame.line}"
        for one in _chain(error)
        for frame in traceback.extract_tb(one.__traceback__)
    ]


class _ForPrograms(logging.Handler):
    """One JSON object a line."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
        except Exception:  # noqa: BLE001  as every handler of logging
            self.handleError(record)

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        document: dict[str, Any] = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if (note := CURRENT.get()) is not None:
            document.setdefault("request_id", note.request_id)
        if record.exc_info:
            told = traceback.format_exception(*record.exc_info)
            document["traceback"] = "".join(told).splitlines()
        return json.dumps(document, ensure_ascii=True, default=str)


class _ForPeople(logging.Handler):
    """A short line, for a terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        from mm_assets.display.console import err, line

        try:
            at = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
            told = getattr(record, _FIELDS, None)
            if told is not None and "status" in told:
                err().print(f"[dim]{at}[/dim] {_in_short(told)}")
                return
            colour = "red" if record.levelno >= logging.ERROR else "yellow"
            words = line(record.getMessage())
            if record.levelno >= logging.WARNING:
                words = f"[{colour}]{words}[/{colour}]"
            err().print(f"[dim]{at}[/dim] {words}")
            for more in (told or {}).get("traceback", ()):
                err().print(f"    {line(more)}")
            if record.exc_info:
                err().print(line("".join(traceback.format_exception(*record.exc_info))))
        except Exception:  # noqa: BLE001  as every handler of logging
            self.handleError(record)


def _in_short(told: dict[str, Any]) -> str:
    from mm_assets.display.console import line

    status = told["status"]
    colour = "green" if status < 400 else "yellow" if status < 500 else "red"
    words = [f"[{colour}]{status}[/{colour}]", told["method"], line(told["path"] or "elsewhere")]
    if "dataset" in told:
        words.append(line(f"({told['dataset']})"))
    if "records" in told:
        refused = f", {told['refused']} refused" if told["refused"] else ""
        words.append(f"{told['records']} record{'s' * (told['records'] != 1)}{refused}")
    if "code" in told:
        words.append(line(told["code"]))
    return " ".join([*words, f"[dim]{told['duration_ms']:g} ms {told['request_id']}[/dim]"])
