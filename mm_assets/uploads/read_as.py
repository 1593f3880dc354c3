"""How a file was read, in words: what was decided about it, and nothing that goes without saying.

The facts are those that a format's source noted; see mm_assets/reading.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mm_assets.contract.visible import visible

_FORMATS = {
    "delimited": "text", "json_lines": "JSON Lines", "json_array": "JSON", "parquet": "Parquet",
    "arrow": "Arrow", "workbook": "workbook", "names": "names of images",
}  # fmt: skip
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_SAID = {
    "compression": "compressed ({})",
    "sheet": "sheet '{}'",
    "other_sheets": "other sheets, not read: {}",
    "merged_cells": "cells merged over several rows, each of which has the value: {}",
    "header_line": "the header is in line {}",
    "separator_line": "a first line with `sep=`",
    "quote": "quoted with {}",
    "escape": 'quotes inside of a field are written {}"',
    "blanks_around_fields": "blanks around fields do not count",
    "columns_without_name": "columns without a name, left out: {}",
    "columns_named_twice": "columns of one name, left out: {}",
    "index_left_out": "the index that pandas wrote is left out: {}",
    "columns_nested": "columns of lists or objects, left out: {}",
    "images_in": "images inside, in column '{}'",
    "image_columns": "columns with images, of which the first is used: {}",
    "image_lists": "of several images in a cell of column '{}' the first is used",
    "image_lists_whole": "of several images in a cell of column '{}' all are used",
    "images_not_found": "images that rows name and are not in the upload: {}",
    "images_as_text": "cells that hold an image as text (base64), which is not read: {}",
    "rows_of_no_data": "rows that repeat the header or draw a line, passed over: {}",
    "formulas_without_value": "formulas without a saved value, empty here: {}",
}
_MOST = 10  # of one kind that are named


def in_words(table: Mapping[str, Any], numbers: Mapping[str, Any] | None = None) -> str:
    """table: its entry in a receipt. numbers: what the manifest notes of its columns."""
    facts: dict[str, Any] = dict(table.get("read_as") or {})
    told = [_format(facts), *_encoding(facts)]
    told += [words.format(_listed(facts[key])) for key, words in _SAID.items() if facts.get(key)]
    renamed = list((facts.get("renamed") or {}).items())
    told += [f"'{stands}' is taken for '{name}'" for stands, name in renamed[:_MOST]]
    if at := facts.get("images_at"):
        told.append(_fetched(at))
    if copy := table.get("copy_of"):
        told.append(
            f"a copy of {copy['file']}, by its name and {copy['same_rows']:,} rows that are the "
            "same; where both have an ID, the row there counts"
        )
    if blank := table.get("blank_rows"):
        told.append(f"rows without any value: {blank}")
    for name, form in list((numbers or {}).items())[:_MOST]:
        sign = "point" if form["decimal"] == "." else "comma"
        told.append(f"numbers in '{name}' have a decimal {sign} ({form['because']})")
    return "; ".join(told)


def _fetched(at: Mapping[str, Any]) -> str:
    words = f"images named by address: {at['addresses']:,}"
    if at["fetched"] is None:
        refused = f", {at['refused']:,} of them not allowed" if at["refused"] else ""
        return f"{words}, fetched once the upload is received{refused}"
    return f"{words}, {at['fetched']:,} of them fetched"


def _format(facts: Mapping[str, Any]) -> str:
    name = _FORMATS.get(facts.get("format", ""), "text")
    if delimiter := facts.get("delimiter"):
        return f"{name} with {_DELIMITERS.get(delimiter, repr(delimiter))}"
    return name


def _encoding(facts: Mapping[str, Any]) -> list[str]:
    if (encoding := facts.get("encoding")) is None:
        return []
    why = facts.get("encoding_because")
    return [f"{encoding} ({why})" if why and encoding != "utf-8" else str(encoding)]


def _listed(said: Any) -> str:
    names = said if isinstance(said, list) else [said]
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return ", ".join(map(str, names[:_MOST])) + more


def first_of(frames: int | None) -> str | None:
    """What is used of an image file that holds several; None if it holds one."""
    if frames is None or frames < 2:
        return None
    return f"it holds {frames:,} images (frames or pages); the first is used"


def firsts_in_words(files: Iterable[Mapping[str, Any]]) -> list[str]:
    """Of which files only the first image is used. files: rows of files.parquet."""
    several = [(one["file"], one["frames"]) for one in files if (one.get("frames") or 1) > 1]
    if not several:
        return []
    named = _listed([f"{visible(file)} ({frames:,})" for file, frames in several])
    number = f"{len(several):,} file{'s' * (len(several) > 1)}"
    return [f"only the first image is used of {number} with several frames or pages: {named}"]
