"""OpenTelemetry, where its own environment variables ask for it.

A span for each request that is a part of the caller's trace (W3C traceparent), and one below it for
each stage. They hold what the log line holds, and no more.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import os
import sys
from collections.abc import Mapping
from typing import Any

from mm_assets.serving.notes import WHOLE, Note

logger = logging.getLogger(__name__)
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
EXPORTER = "OTEL_TRACES_EXPORTER"
_GROUP = "opentelemetry_traces_exporter"  # where packages say which exporters they have
_NAMES = {"otlp": ("otlp_proto_http", "otlp_proto_grpc", "otlp")}
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


class Traces:
    """Of one process. Made by `traces_asked_for`."""

    def __init__(self, exporter: Any) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        named = "OTEL_SERVICE_NAME" in os.environ
        resource = Resource.create({} if named else {"service.name": "mm-assets"})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("mm_assets.serving")
        self._propagator = TraceContextTextMapPropagator()

    def began(self, note: Note, headers: Mapping[bytes, bytes]) -> None:
        """A request has come: its span begins, below the caller's if it names one."""
        from opentelemetry.trace import SpanKind

        carrier = {
            name: headers[name.encode()].decode("latin-1")
            for name in ("traceparent", "tracestate")
            if name.encode() in headers
        }
        note.span = self._tracer.start_span(
            note.method, self._propagator.extract(carrier), SpanKind.SERVER
        )
        note.trace_id = format(note.span.get_span_context().trace_id, "032x")

    def ended(self, note: Note) -> None:
        """The request has ended, and so have its stages."""
        from opentelemetry.trace import StatusCode, set_span_in_context

        span = note.span
        if span is None or not span.is_recording():
            return
        span.update_name(f"{note.method} {note.path}".strip())
        span.set_attributes({key: value for key, value in _attributes(note).items() if value})
        if note.status >= 500:
            span.set_status(StatusCode.ERROR)
        # Stages are told by the clock of performance counters, spans by that of the day.
        offset = span.start_time - int(note.began * 1e9)
        context = set_span_in_context(span)
        for stage, (began, ended) in note.stages.items():
            if stage != WHOLE:
                child = self._tracer.start_span(
                    stage, context, start_time=offset + int(began * 1e9)
                )
                child.end(offset + int(ended * 1e9))
        span.end(offset + int(note.stages[WHOLE][1] * 1e9))

    def close(self) -> None:
        """Send what has not been sent."""
        self._provider.shutdown()


def _attributes(note: Note) -> dict[str, Any]:
    return {
        "http.request.method": note.method,
        "http.route": note.path,
        "http.response.status_code": note.status,
        "error.type": note.problem if note.status >= 500 else "",
        "mm.dataset": note.dataset,
        "mm.records": len(note.answers),
        "mm.refused": note.refused,
        "mm.models": note.versions,
        "mm.request_id": note.request_id,
    }


def traces_asked_for() -> Traces | None:
    """What the environment asks for; None where it asks for nothing, or a package is missing."""
    said = os.environ.get(EXPORTER, "").strip()
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if disabled or said == "none" or not (said or any(map(os.environ.get, ENDPOINTS))):
        return None
    wanted = said or "otlp"
    try:
        importlib.import_module("opentelemetry.sdk.trace")
        return Traces(_exporter(wanted))
    except Exception as error:  # noqa: BLE001  a service without traces is better than none
        logger.warning(
            "no traces: the environment asks for OpenTelemetry, which can't be used (%s). "
            "It needs opentelemetry-sdk and, for %s, opentelemetry-exporter-otlp-proto-http",
            f"{type(error).__name__}: {error}", wanted,
        )  # fmt: skip
        return None


def _exporter(wanted: str) -> Any:
    """Raises LookupError where no installed package has it."""
    protocol = next((said for name in _PROTOCOLS if (said := os.environ.get(name))), "")
    names = _NAMES.get(wanted, (wanted,))
    if wanted == "otlp" and protocol:
        names = ("otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http",)
    for name in names:
        for found in importlib.metadata.entry_points(group=_GROUP, name=name):
            # The console's own default is what stdout was when the package was first imported.
            return found.load()(**({"out": sys.stdout} if name == "console" else {}))
    raise LookupError(f"no exporter {wanted!r} is installed")
