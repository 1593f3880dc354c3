"""Tables and thumbnails for notebooks. Everything that comes from data is escaped."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from typing import Any

from mm_assets.display.cells import shown, visible

_TABLE = 'style="border-collapse:collapse;font-size:0.9em"'
_CELL = 'style="text-align:left;padding:0.2em 0.7em;vertical-align:top"'


def html_table(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    title: str = "",
    images: Mapping[int, bytes] | None = None,
) -> str:
    """Rows as an HTML table. images: row number to the bytes of a small JPEG or PNG before it."""
    heads = [*([""] if images else []), *(name.replace("_", " ") for name in columns)]
    lines = [f"<p><b>{escaped(title)}</b></p>"] if title else []
    lines.append(f"<table {_TABLE}><thead><tr>")
    lines += [f"<th {_CELL}>{escaped(head)}</th>" for head in heads]
    lines.append("</tr></thead><tbody>")
    for number, row in enumerate(rows):
        cells = [f"<td {_CELL}>{escaped(shown(row.get(name)))}</td>" for name in columns]
        if images:
            image = images.get(number)
            cells.insert(0, f"<td {_CELL}>{html_image(image, 64) if image else ''}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    lines.append("</tbody></table>")
    return "".join(lines)


def html_image(data: bytes, height: int | None = None) -> str:
    """An image of ours (a normalised one, or a plot) in place."""
    kind = "jpeg" if data.startswith(b"\xff\xd8\xff") else "png"
    size = f' style="height:{height}px"' if height else ""
    return f'<img{size} src="data:image/{kind};base64,{base64.b64encode(data).decode("ascii")}"/>'


def escaped(text: str) -> str:
    """Text that cannot be markup; control characters are shown, not obeyed."""
    return html.escape(visible(text))
