"""`mm serve`: the same answers over HTTP."""

from __future__ import annotations

import logging
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

import mm_assets as mm
from mm_assets.cli.errors import speaking_errors
from mm_assets.cli.serve_keys import file_of_keys
from mm_assets.contract.listening import LOOPBACK
from mm_assets.display.console import good, say
from mm_assets.serving.options import Options

logger = logging.getLogger(__name__)


class LogFormat(StrEnum):
    AUTO = "auto"
    JSON = "json"
    TEXT = "text"


def serve(
    dataset: Annotated[
        list[str] | None,
        typer.Option("--dataset", "-d", help="Serve this dataset; repeatable. Default: all."),
    ] = None,
    model: Annotated[
        list[Path] | None,
        typer.Option(
            envvar="MM_SERVE_MODEL",
            help="Serve a folder that `mm models export` wrote; repeatable. In a container of "
            "SageMaker's: its model.",
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(envvar="MM_SERVE_HOST", help="Where it listens.", show_default="127.0.0.1"),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, envvar="MM_SERVE_PORT", help="0: any free port.", show_default="8080"
        ),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(min=1, envvar="MM_SERVE_WORKERS", help="Processes; each holds all models."),
    ] = 1,
    demo: Annotated[
        str | None, typer.Option(help="Serve what the demo of this dataset left behind.")
    ] = None,
    preload: Annotated[
        bool, typer.Option(help="Load the models at the start, not with the first request.")
    ] = True,
    refresh: Annotated[
        float, typer.Option(min=0.1, help="Seconds between looks for a promotion.")
    ] = 5.0,
    memory: Annotated[
        float | None,
        typer.Option(min=0.1, help="Gigabytes for models; those unused for longest are let go."),
    ] = None,
    allow_url: Annotated[
        list[str] | None,
        typer.Option(
            help="A host that images may be fetched from: example.org, *.example.org, "
            "example.org:8443; repeatable."
        ),
    ] = None,
    private_host: Annotated[
        list[str] | None,
        typer.Option(help="The same, and it may be in your own network; repeatable."),
    ] = None,
    allow_bucket: Annotated[
        list[str] | None, typer.Option(help="A bucket for images at s3:// addresses; repeatable.")
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(
            envvar="MM_SERVE_KEYS",
            help="File of API keys (`mm serve-keys`).",
            show_default="<data>/serve-keys.json, if it is there",
        ),
    ] = None,
    open_: Annotated[
        bool, typer.Option("--open", help="No keys: something else guards the address.")
    ] = False,
    record: Annotated[
        bool, typer.Option(help="Keep what was asked as uploads, for monitoring and review.")
    ] = False,
    max_records: Annotated[
        int, typer.Option(min=1, help="Records in one request.")
    ] = Options.most_records,
    max_body_mb: Annotated[
        float, typer.Option(min=0.001, help="Megabytes of a body, unpacked as well.")
    ] = Options.most_bytes / 2**20,
    max_upload_mb: Annotated[
        float, typer.Option(min=0.001, help="Megabytes of a file that is dropped on the page.")
    ] = Options.most_upload_bytes / 2**20,
    max_waiting: Annotated[
        int, typer.Option(min=1, help="Records of a dataset that may wait; then 503.")
    ] = Options.most_waiting,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds for a body to come, and for its answer.")
    ] = Options.seconds,
    log_format: Annotated[
        LogFormat, typer.Option(help="Of stderr. auto: text on a terminal, else JSON.")
    ] = LogFormat.AUTO,
) -> None:
    """Answer over HTTP with the champions, until Ctrl-C; a promotion is taken up by itself."""
    from mm_assets.serving.container import of_sagemaker
    from mm_assets.serving.logs import configure
    from mm_assets.serving.server import serve as run

    with speaking_errors():
        if demo is not None:
            from mm_assets.demo.run import left_behind

            left_behind(mm.Settings.from_environment(), demo)
        if not (dataset or model or demo) and (
            found := of_sagemaker(mm.Settings.from_environment())
        ):
            model, host, open_ = [found.model], host or found.host, True
            port = found.port if port is None else port
        if keys is None and not open_ and (usual := file_of_keys(None)).exists():
            keys = usual
        options = Options(
            datasets=tuple(dataset or ()), models=tuple(model or ()),
            host=host or LOOPBACK[0], port=8080 if port is None else port,
            workers=workers, preload=preload, refresh_seconds=refresh,
            memory_bytes=int(memory * 2**30) if memory else None,
            allow_urls=tuple(allow_url or ()), private_hosts=tuple(private_host or ()),
            allow_buckets=tuple(allow_bucket or ()),
            keys=keys, open=open_, record=record, log_format=log_format.value,
            most_records=max_records, most_bytes=int(max_body_mb * 2**20),
            most_upload_bytes=int(max_upload_mb * 2**20),
            most_waiting=max_waiting, seconds=timeout,
        )  # fmt: skip
        for_people = configure(options.log_format)
        tell, end = (say, good) if for_people else (logger.info, logger.info)
        tell("Looking for champions …")
        run(options, on_ready=lambda at: end(f"{at} is up, {at}/docs explains it; Ctrl-C ends it"))
        end("All that was asked is answered")
