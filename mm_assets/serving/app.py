"""The web application: routes of every protocol around one `Answering`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from mm_assets.contract.errors import MMError
from mm_assets.contract.settings import Settings
from mm_assets.serving import inference_v2, label_studio, native, page, sagemaker
from mm_assets.serving.answering import Answering
from mm_assets.serving.entrance import Entrance
from mm_assets.serving.fetch import Fetching
from mm_assets.serving.keys import Keys
from mm_assets.serving.metrics import Metrics
from mm_assets.serving.metrics import routes as figures
from mm_assets.serving.openapi import describing
from mm_assets.serving.options import Options
from mm_assets.serving.people import pages
from mm_assets.serving.people.rooms import Rooms
from mm_assets.serving.problems import Problem
from mm_assets.serving.record import recording
from mm_assets.serving.service import Service, Source
from mm_assets.serving.sources import clean_up
from mm_assets.serving.traces import traces_asked_for
from mm_assets.serving.watched import Watched

# FastAPI's own OpenTelemetry would tell what exceptions say, and they quote records; ours does not.
NOTHING_OF_ITS_OWN: Any = {
    "tracing": False, "metrics": False, "logs": False, "auto_configure": False,
}  # fmt: skip


def make_app(options: Options, sources: Mapping[str, Source], settings: Settings) -> FastAPI:
    """sources: dataset to what loads it. settings: where the lake is that images may lie in.

    Raises SettingsError if there is a file of keys that cannot be read.
    """
    service = Service(options, sources)
    fetch = Fetching(options, settings)
    recorder = recording(settings) if options.record else None
    answering = Answering(service, fetch, recorder)
    rooms = Rooms(answering, settings)
    keys = Keys(options.keys) if options.keys is not None else None
    metrics, traces = Metrics(service), traces_asked_for()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with metrics.looking():
            await service.start()
            if recorder is not None:
                recorder.start()
            rooms.start()
            yield
            await rooms.close()
            await service.close()
            if recorder is not None:
                await asyncio.to_thread(recorder.close)
        await fetch.aclose()
        if traces is not None:
            await asyncio.to_thread(traces.close)
        clean_up()

    app = FastAPI(
        title="mm-assets",
        version=_version(),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        telemetry=NOTHING_OF_ITS_OWN,
    )
    app.state.options, app.state.service, app.state.answering = options, service, answering
    app.state.keys, app.state.rooms = keys, rooms
    for protocol in (native, sagemaker, inference_v2, label_studio):
        app.include_router(protocol.routes(answering))
    app.include_router(page.routes(service))
    app.include_router(pages.router)
    app.include_router(figures(metrics))
    app.openapi = describing(app, service)  # type: ignore[method-assign]
    _health(app, service)
    _problems(app)
    app.add_middleware(Entrance, options=options, keys=keys)
    app.add_middleware(
        Watched,
        service=service,
        began=[traces.began] if traces else [],
        ended=[metrics.request, *([traces.ended] if traces else [])],
    )  # the outermost
    return app


def _health(app: FastAPI, service: Service) -> None:
    @app.get("/live", tags=["health"], summary="Whether the process answers")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/ready", tags=["health"], summary="Whether every dataset can answer, and why not")
    async def ready() -> JSONResponse:
        told = service.readiness()
        return JSONResponse(told, 200 if told["ready"] else 503)


def _problems(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    async def problem(_: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)  # noqa: S101  by its registration
        return error.response()

    @app.exception_handler(MMError)
    async def unusable(_: Request, error: Exception) -> Response:
        assert isinstance(error, MMError)  # noqa: S101
        return Problem(503, error.code, error.what, error.todo).response()

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "refused")
        headers = dict(error.headers or {})
        return Problem(error.status_code, code, str(error.detail), headers=headers).response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: Exception) -> Response:
        return Problem(422, "request_invalid", str(error)[:1000]).response()


def _version() -> str:
    from importlib.metadata import version

    return version("mm-assets")
