"""Figures for Prometheus, at /metrics.

Labels are few: datasets that are served, our own codes, models that answered. Nothing that a
client chooses becomes a label. With several workers each writes its figures into a folder that
they share, and whichever is asked adds them up.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import lru_cache
from typing import Any

from fastapi import APIRouter, Request, Response

from mm_assets.serving.logs import QUIET
from mm_assets.serving.notes import Note
from mm_assets.serving.service import Service

SHARED = "PROMETHEUS_MULTIPROC_DIR"  # as prometheus-client calls it
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
RECORDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)
CONFIDENCE = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
OTHER = "other"
_PROTOCOLS = {
    "v1": "native", "v2": "inference_v2", "invocations": "sagemaker", "endpoints": "sagemaker",
    "execution-parameters": "sagemaker", "label-studio": "label_studio",
}  # fmt: skip


class Metrics:
    """The figures of one service."""

    def __init__(self, service: Service) -> None:
        from prometheus_client import CollectorRegistry

        self.service = service
        # Of this service alone: what libraries count of themselves is not for whoever asks here.
        self.registry = CollectorRegistry()
        self._models: set[tuple[str, str, str]] = set()
        self._children: dict[tuple[Any, ...], Any] = {}
        self._make()
        service.on_batch = self._batch
        service.on_promotion = lambda name: self._of(self._promotions, name).inc()

    def _make(self) -> None:
        from prometheus_client import Counter, Gauge, Histogram

        def named(kind: Any, name: str, words: str, *labels: str, **more: Any) -> Any:
            return kind(f"mm_serve_{name}", words, labels, registry=self.registry, **more)

        live = {"multiprocess_mode": "livesum"}
        self._requests = named(Counter, "requests", "Requests.", "protocol", "status")
        self._problems = named(
            Counter, "problems", "Requests without an answer, by code.", "protocol", "code"
        )
        self._seconds = named(
            Histogram, "request_seconds",
            "Seconds of requests for answers: read (the body, the records, their images), wait "
            "(for their turn), answer (the model), whole.", "dataset", "stage", buckets=SECONDS,
        )  # fmt: skip
        self._batches = named(
            Histogram, "batch_records", "Records that were answered together.", "dataset",
            buckets=RECORDS,
        )  # fmt: skip
        self._records = named(
            Counter, "records",
            "Records by outcome: sure, review (an answer that a person should see), refused.",
            "dataset", "outcome",
        )  # fmt: skip
        self._confidence = named(
            Histogram, "confidence", "Confidence of answers.", "dataset", buckets=CONFIDENCE
        )
        self._refusals = named(
            Counter, "refusals", "Refused records, and images that were left out, by code.",
            "dataset", "code",
        )  # fmt: skip
        self._promotions = named(Counter, "promotions", "Promotions taken up.", "dataset")
        self._waiting = named(Gauge, "records_waiting", "Records in the queue.", "dataset", **live)
        self._model = named(
            Gauge, "model_in_use", "Processes that answer with this model.",
            "dataset", "modality", "version", **live,
        )  # fmt: skip
        self._ready = named(
            Gauge, "dataset_ready", "Whether it can answer, in every process.", "dataset",
            multiprocess_mode="livemin",
        )  # fmt: skip
        self._memory = named(Gauge, "memory_bytes", "Memory that the processes hold.", **live)

    # -- what is told while requests are answered ---------------------------------------------

    def request(self, note: Note) -> None:
        """A request has ended."""
        protocol = _protocol(note.path)
        self._of(self._requests, protocol, str(note.status)).inc()
        if note.status >= 400 and note.problem:
            self._of(self._problems, protocol, note.problem).inc()
        if not note.dataset or not note.stages.keys() - {"whole"}:
            return  # it asked for no answer
        dataset = note.dataset if note.dataset in self.service.served else OTHER
        for stage, (began, ended) in note.stages.items():
            self._of(self._seconds, dataset, stage).observe(ended - began)
        self._answers(dataset, note)

    def _answers(self, dataset: str, note: Note) -> None:
        if not note.answers:
            return
        refused = note.refused
        review = sum(answer["needs_review"] is True for answer in note.answers)
        sure = len(note.answers) - refused - review
        for outcome, count in (("sure", sure), ("review", review), ("refused", refused)):
            if count:
                self._of(self._records, dataset, outcome).inc(count)
        confidence = self._of(self._confidence, dataset)
        for answer in note.answers:
            if answer["confidence"] is not None:
                confidence.observe(answer["confidence"])
        for code, count in note.codes.items():
            self._of(self._refusals, dataset, code).inc(count)

    def _batch(self, dataset: str, records: int, _waited: float, _took: float) -> None:
        self._of(self._batches, dataset).observe(records)

    def _of(self, metric: Any, *labels: str) -> Any:
        """Its child with these labels, found at once the next time."""
        key = (metric, *labels)
        found = self._children.get(key)
        if found is None:
            found = self._children[key] = metric.labels(*labels)
        return found

    # -- what is looked at --------------------------------------------------------------------

    def look(self) -> None:
        """How things are in this process at this moment."""
        import psutil

        self._memory.set(psutil.Process().memory_info().rss)
        models: set[tuple[str, str, str]] = set()
        for name, one in self.service.served.items():
            self._of(self._waiting, name).set(one.lane.waiting if one.lane else 0)
            predictor = one.predictor
            self._of(self._ready, name).set(int(predictor is not None and predictor.is_ready))
            if predictor is not None:
                used = predictor.champions.in_use
                models |= {(name, m.value, one.champion.version) for m, one in used.items()}
        for gone in self._models - models:
            self._of(self._model, *gone).set(0)
        for there in models:
            self._of(self._model, *there).set(1)
        self._models |= models

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        """Where a page may be asked of another process, look every second."""
        task = asyncio.get_running_loop().create_task(self._every_second()) if shared() else None
        try:
            yield
        finally:
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _every_second(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(1)

    def page(self, accept: str = "") -> tuple[bytes, str]:
        """All figures, of every process, and their media type. accept: as in the header."""
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import choose_encoder
        from prometheus_client.multiprocess import MultiProcessCollector

        self.look()
        registry = self.registry
        if folder := shared():
            registry = CollectorRegistry()
            MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
        encode, media_type = choose_encoder(accept)
        return encode(registry), media_type


def _protocol(path: str) -> str:
    """Looks of machines apart, so that their 503 while models load are no failures of others."""
    if path in QUIET:
        return "health"
    return _PROTOCOLS.get(path.split("/", 2)[1] if path else "", OTHER)


def routes(metrics: Metrics) -> APIRouter:
    """The endpoint that Prometheus asks."""
    router = APIRouter(tags=["health"])

    @router.get("/metrics", summary="Figures for Prometheus")
    async def page(request: Request) -> Response:
        body, media_type = metrics.page(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": media_type})

    return router


@lru_cache(maxsize=1)
def shared() -> str:
    """The folder in which processes share their figures; empty where there is one process."""
    return os.environ.get(SHARED, "")


@contextmanager
def sharing() -> Iterator[str]:
    """A folder for the figures of the workers that are started inside; gone afterwards."""
    before = os.environ.get(SHARED)
    with tempfile.TemporaryDirectory(prefix="mm-serve-", ignore_cleanup_errors=True) as folder:
        os.environ[SHARED] = folder
        try:
            yield folder
        finally:
            os.environ.pop(SHARED)
            if before is not None:
                os.environ[SHARED] = before


def forget(folder: str, pid: int) -> None:
    """A process has ended: what it holds no longer counts; what it has counted does."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]
