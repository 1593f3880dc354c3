"""Which encoding a text file is in: decided once for the whole file, never for a part of it.

What belongs here: byte order marks, UTF-8 and UTF-16 by their form, what the YAML names, and the
refusals. The guess at 8-bit and East Asian encodings is next door (encoding_guess.py).
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mm_assets.reading.encoding_guess import Reading, likely_readings
from mm_assets.reading.table import TableRefused

AUTO = "auto"
CHUNK = 256 << 10  # bytes; what decodes fastest
SAMPLE = 64 << 10  # bytes of lines beyond ASCII that are looked at, from the whole file
_LONG_LINE = 4 << 10  # bytes of one line that are enough
_DAMAGED = 0.5  # from this share of lines that are UTF-8 on, the others are faults in it
_MIXED = 0.05  # and from this on, the file is a mixture

# The longer marks first: that of UTF-32 begins as that of UTF-16 does.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8", "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le", "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32-be", "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "utf-16"),
)


@dataclass(frozen=True)
class Encoding:
    """How a file is decoded: leave `skip` bytes (its byte order mark) out, then use `codec`.

    name: for receipts and messages. why: how it was found, in words.
    """

    codec: str
    name: str
    why: str
    skip: int = 0


def detect_encoding(path: Path, wanted: str = AUTO) -> Encoding:
    """The one encoding of the whole file; `wanted` is what the YAML says and is taken strictly.

    Reads the file once, in chunks, if it is UTF-8; a few times if it is not.
    Raises TableRefused (table_encoding) when a byte does not fit, a byte order mark contradicts,
    or the bytes can be read in two ways that give other text.
    """
    with path.open("rb") as stream:
        head = stream.read(SAMPLE)
    marked = _marked(head)
    if wanted != AUTO:
        found = _wanted(head, marked, wanted)
    else:
        found = marked or _utf16_without_mark(path, head) or _by_its_bytes(path)
    if found.why != _VALID and (fault := _first_fault(path, found)):
        raise _refused(f"{fault.words} is not {found.name}", path, found, fault)
    return found


# -- what the file or the YAML says ---------------------------------------------------------------


_VALID = "every byte is valid UTF-8"


def _marked(head: bytes) -> Encoding | None:
    for mark, codec, name in _MARKS:
        if head.startswith(mark):
            count = 1  # programs that know of none put one before the other
            while head.startswith(mark * (count + 1)):
                count += 1
            return Encoding(codec, name, "its byte order mark says so", count * len(mark))
    return None


def _wanted(head: bytes, marked: Encoding | None, wanted: str) -> Encoding:
    """What the YAML names, if the beginning of the file does not contradict it."""
    codec = codecs.lookup(wanted).name.replace("_", "-")
    why = "set in the YAML"
    if marked and codec.removesuffix("-sig") in (marked.codec, marked.name):
        return Encoding(marked.codec, wanted, why, marked.skip)
    if marked:
        reason = f"the file is {marked.name.upper()} (its byte order mark says so), not {wanted}"
        raise TableRefused("table_encoding", reason, 1)
    if codec in ("utf-16", "utf-32"):
        raise TableRefused("table_encoding", f"no {codec.upper()} byte order mark at the start", 1)
    if not codec.startswith(("utf-16", "utf-32")) and _nul_places(head[:4]) is not None:
        reason = "the file looks like UTF-16 without a byte order mark"
        raise TableRefused("table_encoding", reason, 1)
    return Encoding(codec.removesuffix("-sig"), wanted, why)


def _utf16_without_mark(path: Path, head: bytes) -> Encoding | None:
    """UTF-16 by the NUL bytes in every second place, if all of the file decodes so."""
    codec = _nul_places(head)
    if codec is None:
        return None
    found = Encoding(codec, "utf-16", "NUL bytes stand in every second place")
    return None if _first_fault(path, found) else found


def _nul_places(head: bytes) -> str | None:
    """utf-16-le or utf-16-be if the NUL bytes stand all in odd or all in even places."""
    even, odd = head[::2].count(0), head[1::2].count(0)
    least = max(2, len(head) // 10)
    if odd >= least and even * 10 <= odd:
        return "utf-16-le"
    return "utf-16-be" if even >= least and odd * 10 <= even else None


# -- what the bytes say ---------------------------------------------------------------------------


def _by_its_bytes(path: Path) -> Encoding:
    utf8 = Encoding("utf-8", "utf-8", _VALID)
    fault = _first_fault(path, utf8)
    if fault is None:
        return utf8
    lines = _sample(path)
    share = sum(map(is_utf8, lines)) / len(lines)
    readings = likely_readings(b"\n".join(lines))
    if share >= _DAMAGED or not readings:
        raise _refused(f"{fault.words} is not utf-8", path, utf8, fault)
    one_byte_each = len(readings[0].text) == sum(map(len, lines)) + len(lines) - 1
    if share >= _MIXED and one_byte_each:
        reason = f"{fault.words} is not utf-8, but other lines are: the file mixes two encodings"
        raise _refused(reason, path, utf8, fault)
    if len(readings) > 1:
        raise _refused(_ambiguous(readings), path, utf8, fault)
    return Encoding(readings[0].codec, readings[0].name, "detected")


def is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _ambiguous(readings: list[Reading]) -> str:
    """Name the likely encodings, and a word of the file that shows how they differ."""
    texts = [reading.text.split() for reading in readings]
    even = all(len(words) == len(texts[0]) for words in texts)
    differing = (words for words in zip(*texts, strict=False) if len(set(words)) > 1)
    words = next(differing, ()) if even else ()
    if not words:
        words = tuple(next(w for w in text if not w.isascii()) for text in texts)
    ways = [
        f"as {reading.name} it reads '{word[:40]}'"
        for reading, word in list(zip(readings, words, strict=True))[:3]
    ]
    codec = readings[0].codec
    return (
        f"the encoding cannot be told with certainty: {', '.join(ways)}: look which is right and "
        f"set, for example, `encoding: {codec}` in the YAML"
    )


def _sample(path: Path) -> list[bytes]:
    """Distinct lines that hold bytes beyond ASCII, evenly from the whole file, in its order.

    A line with a byte that no other had is always among them, so that they hold every byte.
    """
    kept: dict[bytes, bool] = {}  # the line, and whether it must stay
    seen: set[int] = set()
    size, step, number = 0, 1, 0
    for line in _lines_beyond_ascii(path):
        if line in kept:
            continue
        number += 1
        new = set(line) - seen
        seen |= new
        if not new and number % step:
            continue
        kept[line] = bool(new)
        size += len(line)
        if size > SAMPLE:
            step *= 2
            kept = {
                one: stays for at, (one, stays) in enumerate(kept.items()) if stays or at % 2 == 0
            }
            size = sum(map(len, kept))
    return list(kept)


def _lines_beyond_ascii(path: Path) -> Iterator[bytes]:
    rest = b""
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            if rest.isascii() and chunk.isascii():
                rest = chunk[chunk.rfind(b"\n") + 1 :]
                continue
            lines = (rest + chunk).splitlines(keepends=True)
            rest = lines.pop()
            if len(rest) > CHUNK:  # a line without an end
                yield _cut(rest)
                rest = b""
            for line in lines:
                if not line.isascii():
                    yield _cut(line)
    if not rest.isascii():
        yield _cut(rest)


def _cut(line: bytes) -> bytes:
    """The line without its end; a very long one up to a sign that is no part of a character."""
    line = line.rstrip(b"\r\n")
    if len(line) <= _LONG_LINE:
        return line
    first = next(at for at, byte in enumerate(line) if byte >= 0x80)
    start = max(line.rfind(sign, 0, first) for sign in (b",", b" ", b"\t")) + 1
    part = line[start : start + _LONG_LINE]
    end = max(part.rfind(sign) for sign in (b",", b" ", b"\t"))
    return part[:end] if end > first - start else part


# -- faults ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Fault:
    at: int
    value: int

    @property
    def words(self) -> str:
        return f"byte {self.at} (0x{self.value:02x})"


def _first_fault(path: Path, encoding: Encoding) -> _Fault | None:
    """The first byte that does not decode, or None; flat memory."""
    decoder = codecs.getincrementaldecoder(encoding.codec)()
    start, pending = encoding.skip, 0
    with path.open("rb") as stream:
        stream.seek(start)
        while True:
            chunk = stream.read(CHUNK)
            if not (encoding.codec == "utf-8" and not pending and chunk and chunk.isascii()):
                try:
                    decoder.decode(chunk, final=not chunk)
                except UnicodeDecodeError as error:
                    at = min(error.start, len(error.object) - 1)
                    return _Fault(start - pending + at, error.object[at])
                if not chunk:
                    return None
                pending = len(decoder.getstate()[0])
            start += len(chunk)


def _refused(reason: str, path: Path, encoding: Encoding, fault: _Fault) -> TableRefused:
    return TableRefused("table_encoding", reason, _line_of(path, encoding, fault.at))


def _line_of(path: Path, encoding: Encoding, at: int) -> int:
    """The line in which the byte stands."""
    decoder = codecs.getincrementaldecoder(encoding.codec)(errors="replace")
    line, before, left = 1, "", at - encoding.skip
    with path.open("rb") as stream:
        stream.seek(encoding.skip)
        while left > 0 and (chunk := stream.read(min(CHUNK, left))):
            text = decoder.decode(chunk)
            # A CR LF that the chunks cut in two is one line.
            split = before.endswith("\r") and text.startswith("\n")
            line += text.count("\n") + text.count("\r") - text.count("\r\n") - split
            before = text or before
            left -= len(chunk)
    return line
