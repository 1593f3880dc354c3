"""The process, or processes, that serve: uvicorn around the application of app.py."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from mm_assets.contract.errors import UsageError
from mm_assets.contract.listening import LOOPBACK
from mm_assets.contract.packages import optional
from mm_assets.contract.settings import Settings
from mm_assets.serving.options import Options

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    from mm_assets.serving.app import make_app
    from mm_assets.serving.connections import address_of, listen
    from mm_assets.serving.sources import of_environment
    from mm_assets.serving.workers import Workers, run_here

    with listen(options) as listener:
        up = partial(on_ready, address_of(listener, options))
        if options.workers == 1:
            settings, found = own or of_environment(options)
            run_here(make_app(options, found, settings), options, listener, up=up)
        else:
            Workers(options, listener, up=up).run()


def check(options: Options, own: tuple[Settings, Mapping[str, Source]] | None = None) -> None:
    """Raises what would keep the service from starting: wrong datasets, no keys where needed."""
    from mm_assets.serving.fetch import allow_list
    from mm_assets.serving.sources import of_environment

    if options.host not in LOOPBACK and options.keys is None and not options.open:
        raise UsageError(
            code="keys_needed",
            what=f"whoever reaches {options.host} could ask this service. Make a key "
            "(`mm serve-keys add NAME`), or say --open if something else guards the address",
        )
    allow_list(options)
    if options.record and options.models:
        raise UsageError(
            code="arguments",
            what="--record keeps records in the project's lake, and exported models (--model) "
            "belong to none",
        )
    if own is None:
        of_environment(options)
