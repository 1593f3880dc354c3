"""What was decided about a table is said in words, and nothing that goes without saying."""

from __future__ import annotations

import gzip

from mm_assets.lake.lake import Lake
from mm_assets.predictions.receipt import build_receipt
from mm_assets.tables.open import open_store
from mm_assets.uploads.read_as import in_words
from tests.make import dataset, drop_zip, processed


def test_a_plain_table_is_named_in_three_words() -> None:
    facts = {"format": "delimited", "delimiter": ",", "encoding": "utf-8"}
    assert in_words({"read_as": facts, "blank_rows": 0}) == "text with commas; utf-8"


def test_whatever_was_decided_stands_in_the_receipt(lake: Lake) -> None:
    rows = ["sep=;", "ID;age;Colour;;", *(f"{i};{i},5;grün;;" for i in range(3)), ";;;;"]
    content = gzip.compress("\r\n".join(rows).encode("cp1252"), mtime=0)
    drop_zip(lake, "a.zip", {"t.csv.gz": content})
    store = open_store(lake.settings)
    spec = dataset(columns={"age": "number", "colour": "category"})
    upload = processed(lake, store, spec, "a.zip")["upload"]
    (table,) = build_receipt(lake, store, spec, upload)["tables"]
    assert (table["table"], table["rows"], table["rejected"]) == ("t.csv.gz", 3, 0)
    for words in (
        "text with semicolons", "windows-1252 (", "compressed (gzip)", "the header is in line 2",
        "a first line with `sep=`", "'ID' is taken for 'id'", "'Colour' is taken for 'colour'",
        "columns without a name, left out: 4, 5", "rows without any value: 1",
        "numbers in 'age' have a decimal comma (its own values say so)",
    ):  # fmt: skip
        assert words in table["read_as"]
