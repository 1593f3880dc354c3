"""Encodings: decided once for the whole file; read right, or refused, never as other text."""

from __future__ import annotations

import codecs
import time
import tracemalloc
import unicodedata
from pathlib import Path

import pytest

from mm_assets.reading.encodings import CHUNK, Encoding, detect_encoding
from mm_assets.reading.table import TableRefused
from tests.reading.encoding_rows import LANGUAGES, table

TONES = "\u0300\u0301\u0303\u0309\u0323"


def saved(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    return path


def read(path: Path, wanted: str = "auto") -> str:
    found = detect_encoding(path, wanted)
    return path.read_bytes()[found.skip :].decode(found.codec)


def refusal(path: Path, wanted: str = "auto") -> TableRefused:
    with pytest.raises(TableRefused) as caught:
        detect_encoding(path, wanted)
    assert caught.value.code == "table_encoding"
    return caught.value


def encoded(text: str, codec: str) -> bytes:
    """As programs of the language save it: Vietnamese tones stand behind their letters."""
    if codec != "cp1258":
        return text.encode(codec)
    parts = []
    for letter in unicodedata.normalize("NFC", text):
        apart = unicodedata.normalize("NFD", letter)
        tone = "".join(c for c in apart if c in TONES)
        base = unicodedata.normalize("NFC", "".join(c for c in apart if c not in TONES))
        parts.append((base + tone).encode(codec))
    return b"".join(parts)


# -- the matrix -----------------------------------------------------------------------------------

SAVED = [(language, codec) for language, of in LANGUAGES.items() for codec in of.codecs]


def test_a_table_is_read_as_it_was_written_or_refused(tmp_path: Path) -> None:
    refused = []
    for language, codec in SAVED:
        for rows in (2, 20, 200):
            data = encoded(table(language, rows), codec)
            path = saved(tmp_path, data)
            try:
                assert read(path) == data.decode(codec), (language, codec, rows)
            except TableRefused as error:
                refused.append((language, codec, rows))
                told = error.code == "table_encoding" and "`encoding: " in error.reason
                assert told, error  # noqa: PT017  beside the cases that are read
    assert len(refused) <= 0.02 * 3 * len(SAVED)
    assert not any(codec.startswith("cp125") for _, codec, _ in refused)


@pytest.mark.parametrize("text", [
    "5 € – „müde“", "schön", "Zürich", "größer", "25 °C", "5 µm", "12 m²", "£5", "it’s late",
    "“quoted”", "«oui»", "Malmö", "coração", "œuvre", "señorita", "città", "Besançon", "Préférence",
    "MÜLLER", "© 2020", "El Niño", "Ångström",
])  # fmt: skip
def test_a_little_western_text_is_windows_1252(tmp_path: Path, text: str) -> None:
    path = saved(tmp_path, f"id;age;note\r\nP1;5,5;red\r\nP2;6;{text}\r\n".encode("cp1252"))
    found = detect_encoding(path)
    assert (found.codec, found.name, found.why) == ("cp1252", "windows-1252", "detected")


def test_what_may_be_french_or_czech_is_refused_with_both_readings(tmp_path: Path) -> None:
    error = refusal(saved(tmp_path, "id;city\n1;x\n2;élève\n".encode("cp1252")))
    assert error.line == 3
    assert "as windows-1250 it reads '2;élčve'" in error.reason
    assert "as windows-1252 it reads '2;élève'" in error.reason
    assert "set, for example, `encoding: cp125" in error.reason


def test_the_guess_looks_at_the_whole_file(tmp_path: Path) -> None:
    plain = "x,plain text in a row\n" * 200_000  # 4 MB before the first letter beyond ASCII
    text = plain + table("Polish", 20)
    assert read(saved(tmp_path, text.encode("cp1250"))) == text
    german = table("German", 200) * 200
    late = german + "R9;Ž;“late”\n"  # bytes that no line before had, after 2 MB
    path = saved(tmp_path, late.encode("cp1252"))
    assert read(path) == late


def test_a_line_of_millions_of_characters_is_looked_at_in_part(tmp_path: Path) -> None:
    text = "id;" + "schön und groß, " * 200_000
    assert read(saved(tmp_path, text.encode("cp1252"))) == text


# -- UTF-8, UTF-16, UTF-32 ------------------------------------------------------------------------


@pytest.mark.parametrize(("mark", "codec", "name"), [
    (codecs.BOM_UTF8, "utf-8", "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "utf-16"),
    (codecs.BOM_UTF32_LE, "utf-32-le", "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32-be", "utf-32"),
])  # fmt: skip
def test_a_byte_order_mark_decides_and_is_no_part_of_the_text(
    tmp_path: Path, mark: bytes, codec: str, name: str
) -> None:
    text = "id,x\n1,grün 猫\n"
    path = saved(tmp_path, mark + text.encode(codec))
    found = detect_encoding(path)
    assert found == Encoding(codec, name, "its byte order mark says so", len(mark))
    assert read(path) == text
    assert read(path, name) == text


@pytest.mark.parametrize("text", ["", "id\n1\n", table("Russian", 20), table("Japanese", 2), "é"])
def test_what_is_valid_utf8_is_utf8(tmp_path: Path, text: str) -> None:
    found = detect_encoding(saved(tmp_path, text.encode()))
    assert found == Encoding("utf-8", "utf-8", "every byte is valid UTF-8", 0)


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("language", ["German", "Polish", "Russian", "Greek"])
def test_utf16_without_its_mark_is_found(tmp_path: Path, codec: str, language: str) -> None:
    path = saved(tmp_path, table(language, 20).encode(codec))
    assert detect_encoding(path).codec == codec
    assert read(path) == table(language, 20)


def test_characters_that_chunks_cut_in_two_are_whole(tmp_path: Path) -> None:
    for shift in range(4):
        text = "x" * (CHUNK - shift) + "猫😀é" + "y" * CHUNK + "é"
        assert read(saved(tmp_path, text.encode())) == text


def test_a_damaged_utf8_file_is_not_read_as_something_else(tmp_path: Path) -> None:
    text = table("German", 200).encode()
    at = text.index("ü".encode(), len(text) // 2)
    error = refusal(saved(tmp_path, text[:at] + text[at + 1 :]))
    line = text.count(b"\n", 0, at) + 1
    assert (error.reason, error.line) == (f"byte {at} (0xbc) is not utf-8", line)
    error = refusal(saved(tmp_path, ("id\n" + "grün\n" * 9 + "schö").encode()[:-1]))
    assert (error.line, "(0xc3) is not utf-8" in error.reason) == (11, True)


def test_two_files_of_different_encodings_in_one_are_refused(tmp_path: Path) -> None:
    data = table("German", 60).encode("cp1252") + table("German", 12).encode()
    assert "mixes two encodings" in refusal(saved(tmp_path, data)).reason


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-32-be"])
def test_a_marked_file_that_breaks_off_is_refused_with_its_line(tmp_path: Path, codec: str) -> None:
    data = ("\ufeffid,x\r\n1,a\r\n2,b").encode(codec)[:-1]
    assert refusal(saved(tmp_path, data)).line == 3


# -- what the YAML says ---------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "codec", "wanted"), [
    ("id;x\n1;Gdańsk\n", "cp1250", "cp1250"),
    ("id;x\n1;Gdańsk\n", "cp1250", "windows-1250"),
    ("id;x\n1;grün\n", "latin-1", "latin-1"),
    ("id;x\n1;grün\n", "utf-8", "utf8"),
    ("id;x\n1;grün\n", "utf-8", "utf-8-sig"),
    ("id;x\n1;grün\n", "utf-16-le", "utf-16-le"),
    ("番号;市\n1;東京\n", "cp932", "shift_jis"),
])  # fmt: skip
def test_what_the_yaml_names_is_taken(tmp_path: Path, text: str, codec: str, wanted: str) -> None:
    path = saved(tmp_path, text.encode(codec))
    found = detect_encoding(path, wanted)
    assert (read(path, wanted), found.name, found.why) == (text, wanted, "set in the YAML")


@pytest.mark.parametrize(("data", "wanted", "reason", "line"), [
    ("id,x\r\n1,grün".encode("latin-1"), "utf-8", "byte 10 (0xfc) is not utf-8", 2),
    (b"id\n1\n\x81\n", "cp1252", "byte 5 (0x81) is not cp1252", 3),
    ("\ufeffid".encode("utf-16-le"), "utf-8",
     "the file is UTF-16 (its byte order mark says so), not utf-8", 1),
    ("\ufeffid".encode("utf-16-le"), "utf-16-be",
     "the file is UTF-16 (its byte order mark says so), not utf-16-be", 1),
    ("\ufeffid".encode(), "latin-1",
     "the file is UTF-8 (its byte order mark says so), not latin-1", 1),
    ("\ufeffid".encode("utf-32-le"), "utf-16",
     "the file is UTF-32 (its byte order mark says so), not utf-16", 1),
    (b"id,x\n", "utf-16", "no UTF-16 byte order mark at the start", 1),
    ("id,x".encode("utf-16-le"), "latin-1",
     "the file looks like UTF-16 without a byte order mark", 1),
])  # fmt: skip
def test_what_contradicts_the_yaml_is_refused(
    tmp_path: Path, data: bytes, wanted: str, reason: str, line: int
) -> None:
    error = refusal(saved(tmp_path, data), wanted)
    assert (error.reason, error.line) == (reason, line)


# -- size -----------------------------------------------------------------------------------------


def test_the_memory_is_flat_and_ascii_and_utf8_are_quick(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for row in (b"1,plain text,2.5\n", "1,grün und schön,2,5\n".encode()):
        block = row * (4_000_000 // len(row))
        with path.open("wb") as file:
            for _ in range(5):
                file.write(block)
        rates = []
        for _ in range(3):
            start = time.process_time()
            detect_encoding(path)
            rates.append(path.stat().st_size / (time.process_time() - start) / 1e6)
        assert max(rates) > 60  # 300 on a machine that does nothing else
    path.write_bytes(table("German", 200).encode("cp1252") * 2_000)  # 20 MB, not UTF-8
    detect_encoding(path)  # what guesses is loaded
    tracemalloc.start()
    detect_encoding(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20
