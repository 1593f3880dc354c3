"""Tables of docs/input-contract.md that the code knows; `python -m tests.contract_page` makes them.

Each stands between `<!-- made: NAME -->` and `<!-- end -->` and is written anew from the code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from mm_assets.contract.errors import REFUSED_ADDRESSES, REFUSED_FILES, REFUSED_ROWS
from mm_assets.contract.errors import REFUSED_ARCHIVES as REMEDIES
from mm_assets.contract.ids import MAXIMUM_BYTES
from mm_assets.manifest.numbers import MARKERS
from mm_assets.reading import apart, compressed, header, table, workbook
from mm_assets.reading.formats import SUFFIXES, Format
from mm_assets.uploads.archives.rules import Caps
from mm_assets.uploads.deliver import IN_MEMORY
from tests.contract_causes import CAUSES
from tests.make import dataset

PAGE = Path(__file__).parents[1] / "docs" / "input-contract.md"
_MADE = re.compile(r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

FORMATS = {
    Format.DELIMITED: "delimited text",
    Format.JSON_LINES: "JSON Lines",
    Format.JSON_ARRAY: "JSON, an array of objects",
    Format.PARQUET: "Parquet",
    Format.ARROW: "Arrow, Feather",
    Format.WORKBOOK: "workbooks",
}
READ_BY = {
    Format.DELIMITED: "pyarrow, and Python's `csv` where quotes are irregular",
    Format.JSON_LINES: "DuckDB",
    Format.JSON_ARRAY: "DuckDB",
    Format.PARQUET: "pyarrow, in a process of its own",
    Format.ARROW: "pyarrow, in a process of its own",
    Format.WORKBOOK: "python-calamine, in a process of its own",
}


def rows_of(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("|" + "|".join(f" {cell} " for cell in line) + "|\n" for line in lines).replace(
        "| --- ", "|---"
    )


def of_codes(codes: Mapping[str, str]) -> str:
    rows = ((f"`{code}`", CAUSES[code], todo) for code, todo in codes.items())
    return rows_of(["code", "cause", "what to do"], rows)


def of_formats() -> str:
    rows = (
        (FORMATS[one], ", ".join(f"`{suffix}`" for suffix in SUFFIXES[one]), READ_BY[one])
        for one in Format
    )
    return rows_of(["format", "usual names", "read by"], rows)


def of_markers() -> str:
    return ", ".join(f"`{marker}`" for marker in MARKERS) + "\n"


def of_limits() -> str:
    caps = Caps()
    spec = dataset()
    limits = {
        "a field": f"{table.FIELD_LIMIT:,} characters",
        "a row of text, a JSON object": f"{table.ROW_LIMIT >> 20} MiB",
        "an ID": f"{MAXIMUM_BYTES:,} bytes",
        "columns of a table": f"{table.MOST_COLUMNS:,}",
        "rows of a table that cannot be read": f"{table.MOST_REJECTS:,}",
        "rows in which the header is looked for": f"{header.ROWS_TRIED}",
        "a compressed table, unpacked": f"{compressed.LIMIT_BYTES >> 30} GiB and "
        f"{compressed.LIMIT_RATIO} times its size",
        "the parts of a workbook, unpacked": f"{workbook.MOST_BYTES >> 30} GiB",
        "memory and processor time for a workbook, Parquet or Arrow": f"{apart.MEMORY / 2**30:g} "
        f"GiB, {apart.SECONDS // 60} minutes",
        "an image": f"{IN_MEMORY >> 20} MiB, {spec.image_maximum_megapixels:g} megapixels",
        "an archive": f"{caps.entries:,} entries, {caps.total_bytes >> 30} GiB",
        "an entry of an archive": f"{caps.entry_bytes >> 30} GiB and {caps.ratio} times its "
        "packed size",
    }
    return rows_of(["what", "at most"], limits.items())


TABLES: dict[str, Callable[[], str]] = {
    "formats": of_formats,
    "markers": of_markers,
    "limits": of_limits,
    "rows": lambda: of_codes(REFUSED_ROWS),
    "files": lambda: of_codes(REFUSED_FILES),
    "addresses": lambda: of_codes(REFUSED_ADDRESSES),
    "archives": lambda: of_codes(REMEDIES),
}


def made_anew(page: str) -> str:
    """The page with its tables as the code has them now."""
    return _MADE.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}{found[3]}", page)


if __name__ == "__main__":
    PAGE.write_text(made_anew(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
