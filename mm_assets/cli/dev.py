"""`mm dev`: Dagster's UI and daemon on the project."""

from __future__ import annotations

from typing import Annotated

import typer

import mm_assets as mm
from mm_assets.cli.errors import speaking_errors
from mm_assets.contract.listening import LOOPBACK, url_of
from mm_assets.display.console import good, say, warn


def dev(
    host: Annotated[str, typer.Option(help="Where the UI listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The UI's port.")] = 3000,
    demo: Annotated[
        str | None, typer.Option(help="Show what the demo of this dataset left behind.")
    ] = None,
) -> None:
    """Dagster's UI and daemon on this project's datasets, until Ctrl-C."""
    from mm_assets.orchestration.dev import run_dev

    with speaking_errors():
        settings = mm.Settings.from_environment()
        if demo is not None:
            from mm_assets.demo.run import left_behind

            settings = left_behind(settings, demo)
        if host not in LOOPBACK:
            warn(f"whoever reaches {host} can use the UI: it has no login")
        address = url_of(host, port)
        say(f"Starting Dagster on {settings.defs_folder} …")
        run_dev(
            settings, host, port,
            on_ready=lambda: good(f"{address} is up; Ctrl-C ends it"),
            on_end=lambda: say("Ending Dagster; Ctrl-C again does not wait for runs …"),
        )  # fmt: skip
        good("Dagster has ended, with all that it had started")
