"""Asking the champion about one batch of an upload's records, here or in a worker.

What it says of a batch depends on the batch and the champion alone, not on the machine's number of
processors: see engines/shared/one_thread_each.py.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import Refusal
from mm_assets.engines.frames import feature_frame
from mm_assets.lake.lake import Lake
from mm_assets.predictions.ask import Loaded, ask, load
from mm_assets.predictions.offer import offered
from mm_assets.predictions.unlike import Counted, UnlikeCounter
from mm_assets.registry.store import Champion, ModelStore

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass
class Batch:
    """Some records, with what their images look like, if the champion sees them.

    home: the upload that the images lie in; None if that is in no lake that is kept.
    """

    records: pa.Table
    images: dict[str, bytes]
    home: str | None

    def __getstate__(self) -> dict[str, Any]:
        """Of a part of a table, Arrow would send the whole."""
        import pyarrow as pa

        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.records.schema) as stream:
            stream.write_table(self.records)
        return {**self.__dict__, "records": sink.getvalue().to_pybytes()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        import pyarrow as pa

        self.__dict__.update(state, records=pa.ipc.open_stream(state["records"]).read_all())


@dataclass(frozen=True)
class Said:
    """offered: rows of the predictions table; None if there is none. failed: records by name."""

    offered: pa.Table | None
    failed: list[Refusal]
    unlike: Counted


@dataclass
class Asking:
    """What is done to one batch. A worker loads the champion itself, verified, when it is asked
    first, and keeps it."""

    models: ModelStore
    spec: DatasetSpec
    modality: Modality
    champion: Champion
    generation: int
    run_id: str
    loaded: Loaded | None

    def __call__(self, batch: Batch) -> Said:
        if self.loaded is None:
            self.loaded = load(self.models, self.spec, self.modality, self.champion)
        loaded = self.loaded
        if batch.images:
            loaded.vectors.lie(batch.home, batch.images)
        frame = feature_frame(batch.records, self.spec, self.modality, batch.images)
        with blas_here(len(sys.modules)).limit(limits=1):  # by its threads' number a sum differs
            answered, answers, failed = ask(loaded, self.spec, batch.records, frame)
        unlike = UnlikeCounter(loaded.spellings, loaded.familiar).counted(frame, answers.doubts)
        if not answered.num_rows:
            return Said(None, failed, unlike)
        rows = offered(
            self.generation, answered, answers, loaded, self.modality, self.champion, self.run_id
        )
        return Said(rows, failed, unlike)

    def __getstate__(self) -> dict[str, Any]:
        """Where the lake is instead of the connections to it; no secret, and not the model."""
        settings = self.models.lake.settings.without_secrets()
        return {**self.__dict__, "models": (settings, self.models.cache), "loaded": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        settings, cache = state["models"]
        models = ModelStore(Lake(settings), state["spec"].dataset, cache)
        self.__dict__.update(state, models=models)


@lru_cache(maxsize=1)
def blas_here(_modules: int) -> Any:
    """What computes products of matrices in this process, to be limited.

    To look for it takes as long as to ask a small model, and it comes with a module: so it is
    looked for again when there are more of them.
    """
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")
