"""The process, or processes, that serve: uvicorn around the application of app.py."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mm_assets.contract.errors import UsageError
from mm_assets.contract.packages import optional
from mm_assets.contract.settings import Settings
from mm_assets.contract.spec_file import load_specs
from mm_assets.serving.options import LOOPBACK, Options

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fastapi import FastAPI

    from mm_assets.serving.service import Source

HANDED_ON = "MM_SERVING"  # the options, for worker processes
DRAIN_SECONDS = 30


def serve(
    options: Options,
    on_ready: Callable[[str], None] = lambda _: None,
    own: tuple[Settings, Mapping[str, Source]] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; what came before it is answered.

    The environment says where the project and its lake are, unless `own` does: settings, and
    dataset to what loads it; in one process. on_ready: is told the address once the port is open.
    Raises UsageError, SettingsError, SpecError, LakeError, ModelError before that.
    """
    uvicorn = optional("uvicorn", "serve", "mm serve")
    optional("fastapi", "serve", "mm serve")
    check(options, own)
    settings: dict[str, Any] = {
        "host": options.host,
        "port": options.port,
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "timeout_graceful_shutdown": DRAIN_SECONDS,
        "timeout_keep_alive": 65,
        "backlog": 1024,
    }
    address = f"http://{f'[{options.host}]' if ':' in options.host else options.host}"
    if options.workers == 1:
        app = create(options, own)
        server = uvicorn.Server(uvicorn.Config(app, **settings))
        _telling(server, lambda port: on_ready(f"{address}:{port}"))
        server.run()
        return
    with _handed_on(options):
        on_ready(f"{address}:{options.port}")
        uvicorn.run(f"{__name__}:create", factory=True, workers=options.workers, **settings)


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
    allow_list(options)
    if own is None:
        _of_environment(options)


def create(
    options: Options | None = None, own: tuple[Settings, Mapping[str, Source]] | None = None
) -> FastAPI:
    """The application; options: those that `serve` handed on to this process."""
    from mm_assets.serving.app import make_app

    if options is None:
        options = Options.from_document(json.loads(os.environ[HANDED_ON]))
    settings, found = own or _of_environment(options)
    return make_app(options, found, settings)


def _of_environment(options: Options) -> tuple[Settings, Mapping[str, Source]]:
    from mm_assets.serving.sources import sources

    settings = Settings.from_environment()
    return settings, sources(options, settings, load_specs(settings.defs_folder))


@contextmanager
def _handed_on(options: Options) -> Iterator[None]:
    os.environ[HANDED_ON] = json.dumps(options.as_document())
    try:
        yield
    finally:
        os.environ.pop(HANDED_ON, None)


def _telling(server: Any, tell: Callable[[int], None]) -> None:
    """Have `tell` called with the port once the server listens."""
    startup = server.startup

    async def telling(sockets: Any = None) -> None:
        await startup(sockets)
        if server.started:
            tell(server.servers[0].sockets[0].getsockname()[1])

    server.startup = telling
