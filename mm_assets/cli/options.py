"""The options that the commands of `mm` share."""

from __future__ import annotations

from typing import Annotated

import typer

from mm_assets.display.console import Format

DatasetOption = Annotated[
    str | None, typer.Option("--dataset", "-d", help="The dataset; may be left out if only one.")
]
FormatOption = Annotated[Format, typer.Option("--format", help="How to print the data.")]
