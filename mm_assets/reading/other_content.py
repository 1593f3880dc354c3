"""What a file is that is neither a table nor an image, by its first bytes, and what to do then.

Whoever called a film `P001.jpg` is not helped by hearing that it is damaged. What belongs here:
words. What is taken for a table or an image: formats.py, images/formats.py.
"""

from __future__ import annotations

import re

from mm_assets.reading.compressed import compression_of

_FILM = "a film; ffmpeg -i FILE -frames:v 1 IMAGE.png takes out its first image"
_SOUND = "a sound"
_PAGE = "a web page; what was to be downloaded was not, or not from this address"
_CALLED = {"zstd": "Zstandard"}
_AS_PARQUET = "write what is in it as Parquet or CSV"
_AS_TEXT = rb"\s*(?:b?['\"])?(?:data:image/|/9j/[4-9A-Za-z]|iVBORw0KGgo|R0lGOD[dl]h|UklGR)"
_START = rb"(?:\xef\xbb\xbf)?\s*"  # of a text
_KNOWN = tuple(
    (re.compile(pattern, re.DOTALL | re.IGNORECASE), words)
    for pattern, words in (
        (rb"%PDF-", "a PDF; its pages become images with pdftoppm -png"),
        (rb".{4}ftyp(?:qt|mp4|isom|iso\d|m4v|avc|3g|mmp4|dash|msnv|f4v)", _FILM),
        (rb".{4}(?:moov|mdat|wide)", _FILM),
        (rb"RIFF.{4}AVI |\x1a\x45\xdf\xa3|FLV\x01|\x00\x00\x01[\xb3\xba]", _FILM),
        (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", _FILM),  # Windows Media
        (rb"RIFF.{4}WAVE|ID3[\x02-\x04]|fLaC|OggS|.{4}ftypM4A", _SOUND),
        (rb"Rar!", "a RAR archive; unpack it, or make a zip of it"),
        (rb"\x93NUMPY", "an array of NumPy; save it as PNG, or hand it over in Python"),
        (rb"\x89HDF\r\n", f"an HDF5 file; {_AS_PARQUET}, images as PNG"),
        (rb"(?-i:ORC)[^ -~]", f"an ORC file; {_AS_PARQUET}"),
        (rb"Obj\x01", f"an Avro file; {_AS_PARQUET}"),
        (rb"<stata_dta>", f"a file of Stata; {_AS_PARQUET}"),
        (rb"\$FL[23]", f"a file of SPSS; {_AS_PARQUET}"),
        (rb"SQLite format 3", "a database of SQLite; write its table as CSV"),
        (
            rb"version https://git-lfs\.github\.com/spec/",
            "a pointer of Git LFS in place of the file; run git lfs pull, and send what is there",
        ),
        (_START + rb"(?:<\?xml[^>]*>\s*)?(?:<!--.{0,2000}?-->\s*)*<(?:!doctype )?html", _PAGE),
        (_START + rb"<(?:\?xml|Error>)", "XML, as a server answers that refuses"),
        (_START + rb"[{\[]\s*[\"{\[]", "JSON, as a server answers that refuses"),
        (_AS_TEXT, "an image that was written as text (base64); decode it first"),
    )
)  # fmt: skip


_WRITTEN_OUT = 100  # characters; no path that begins like an image's base64 is as long


def is_image_as_text(cell: str) -> bool:
    """Whether a field of a table holds an image itself, as base64."""
    return len(cell) > _WRITTEN_OUT and re.match(_AS_TEXT, cell[:40].encode()) is not None


def what_it_is(head: bytes) -> str | None:
    """What is known of a file that begins so, and what to do about it; None for anything else."""
    if head and not head.strip(b"\0"):
        return "nothing but zero bytes, as a copy leaves that was broken off"
    if (kind := compression_of(head)) is not None:
        return f"a compressed file ({_CALLED.get(kind, kind)}); unpack it"
    return next((words for pattern, words in _KNOWN if pattern.match(head)), None)


def no_image(head: bytes) -> str:
    """Why a file that is called an image is none."""
    known = what_it_is(head)
    if known is not None:
        return f"the content is no image: {known}"
    return (
        "the content is text, and no image" if _is_text(head) else "the content is no image at all"
    )


def neither(head: bytes) -> str:
    """Why a file is neither a table nor an image."""
    known = what_it_is(head)
    return f"neither a table nor an image, judged by its content{f': {known}' if known else ''}"


def _is_text(head: bytes) -> bool:
    """Words, whatever their encoding: hardly any control characters, and not all the same byte."""
    controls = len(head) - len(head.translate(None, _CONTROLS))
    return bool(head.strip(head[:1])) and controls * 100 <= len(head)


_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))
