"""What a file is that is neither a table nor an image: said by its first bytes."""

from __future__ import annotations

import base64
import gzip
import io
from pathlib import Path

import numpy as np
import pytest

from mm_assets.reading.other_content import neither, no_image
from mm_assets.uploads.check import check
from tests.make import dataset, draw_image


def _array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros((4, 4, 3), np.uint8))
    return file.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n"
KNOWN = {
    "pdf": (b"%PDF-1.4\n1 0 obj\n", "a PDF"),
    "mp4": (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "a film"),
    "mov": (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "a film"),
    "mov-without-type": (b"\0\0\0\x08wide\0\0\0\0mdat", "a film"),
    "mkv": (b"\x1a\x45\xdf\xa3\x93\x42\x82\x88matroska", "a film"),
    "avi": (b"RIFF\0\x10\0\0AVI LIST", "a film"),
    "wav": (b"RIFF\0\x10\0\0WAVEfmt ", "a sound"),
    "gzip": (gzip.compress(draw_image(1)), "a compressed file (gzip)"),
    "numpy": (_array(), "an array of NumPy"),
    "git-lfs": (POINTER, "run git lfs pull"),
    "page": (b"\r\n<!DOCTYPE html>\n<html><head>404", "a web page"),
    "xhtml": (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- x -->\n<html>", "a web page"),
    "xml": (b"<?xml version='1.0'?><Error><Code>AccessDenied", "XML"),
    "json": (b'{"error": "Access denied"}', "JSON"),
    "base64": (base64.b64encode(draw_image(1)), "base64"),
    "data-url": (b"data:image/png;base64,iVBOR", "base64"),
    "zeros": (b"\0" * 5000, "nothing but zero bytes"),
}


@pytest.mark.parametrize("kind", KNOWN)
def test_what_is_known_is_called_by_its_name(kind: str) -> None:
    head, words = KNOWN[kind]
    assert no_image(head).startswith("the content is no image: ")
    assert words in no_image(head)
    assert words in neither(head)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"a note about the photo\n", "the content is text, and no image"),
        (b"\xff" * 5000, "the content is no image at all"),
        (bytes(range(256)) * 9, "the content is no image at all"),
        (b"\x80\x04\x95\x10", "the content is no image at all"),
    ],
    ids=["text", "one byte", "bytes", "pickle"],
)
def test_of_anything_else_it_is_said_whether_it_is_text(head: bytes, words: str) -> None:
    assert no_image(head) == words
    assert neither(head) == "neither a table nor an image, judged by its content"


def test_an_upload_names_what_is_only_called_an_image(tmp_path: Path) -> None:
    for number, (data, _) in enumerate(KNOWN.values()):
        (tmp_path / f"{number}.jpg").write_bytes(data)
    report = check(tmp_path, dataset(image_name="{id}"))
    assert report.problems_by_code == {"image_unreadable": len(KNOWN)}
    said = {problem.file: problem.reason for problem in report.problems}
    for number, (_, words) in enumerate(KNOWN.values()):
        assert words in said[f"{number}.jpg"]
