"""The process, or processes, that serve: uvicorn around the application of app.py."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from mm_assets.contract.errors import UsageError
from mm_assets.contract.packages import optional
from mm_assets.contract.settings import Settings
from mm_assets.contract.spec_file import load_specs
from mm_assets.serving.options import LOOPBACK, Options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI

    from mm_assets.serving.service import Source


def serve(
    options: Options,
    on_ready: Callable[[str], None] = lambda _: None,
    own: tuple[Settings, Mapping[str, Source]] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; what came before it is answered.

    The environment says where the project and its lake are, unless `own` does: settings, and
    dataset to what loads it; in one process. on_ready: is told the address once requests are taken.
    Raises UsageError, SettingsError, SpecError, LakeError, ModelError before that, and
    ModelError (workers_ended) where no process can be kept running.
    """
    optional("uvicorn", "serve", "mm serve")
    optional("fastapi", "serve", "mm serve")
    check(options, own)
    from mm_assets.serving.connections import address_of, listen
    from mm_assets.serving.workers import Workers, run_here

    with listen(options) as listener:
        up = partial(on_ready, address_of(listener, options))
        if options.workers == 1:
            run_here(create(options, own), options, listener, up=up)
        else:
            Workers(options, listener, up=up).run()


def check(options: Options, own: tuple[Settings, Mapping[str, Source]] | None = None) -> None:
    """Raises what would keep the service from starting: wrong datasets, no keys where needed."""
    from mm_assets.serving.fetch import allow_list

    if options.host not in LOOPBACK and options.keys is None and not options.open:
        raise UsageError(
            code="keys_needed",
            what=f"whoever reaches {options.host} could ask this service",
            todo="Make a key (`mm serve-keys add NAME`) and serve with --keys, or say --open if "
            "something else guards the address.",
        )
    if options.record and options.models:
        raise UsageError(
            code="arguments",
            what="models that were exported have no inbox in which answered records could be kept",
            todo="Take --record out, or serve datasets of the project.",
        )
    allow_list(options)
    if own is None:
        _of_environment(options)


def create(options: Options, own: tuple[Settings, Mapping[str, Source]] | None = None) -> FastAPI:
    """The application of one process."""
    from mm_assets.serving.app import make_app

    settings, found = own or _of_environment(options)
    return make_app(options, found, settings)


def _of_environment(options: Options) -> tuple[Settings, Mapping[str, Source]]:
    from mm_assets.serving.sources import sources

    settings = Settings.from_environment()
    return settings, sources(options, settings, load_specs(settings.defs_folder))
