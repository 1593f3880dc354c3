"""What all assets and checks share: keys, partitions, resources, metadata. No logic."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import PrivateAttr

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.ends import Ended
from mm_assets.contract.settings import Settings, present_settings
from mm_assets.display.cells import visible
from mm_assets.lake.lake import Lake
from mm_assets.lake.remembering import RememberingLake
from mm_assets.orchestration.columns import column_schema
from mm_assets.registry.store import Champion, ModelStore
from mm_assets.tables.open import open_store
from mm_assets.tables.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

# Steps that write the table take turns: DuckDB has one writer at a time.
TABLE_POOL = "table"
SHOWN_ROWS = 50
LEFT_OUT = "left out"  # the metadata with what was left out, by code
STOPPED = "stopped early"  # the metadata of a model that is the best of a training cut short
# The page of `mm serve` that belongs to an asset, by the first word of its name.
_PAGES = {
    "model": "models/{dataset}",
    "training": "models/{dataset}",
    "monitoring": "monitoring/{dataset}",
    "predictions": "review/{dataset}",
    "raw": "uploads/{dataset}",
    "manifest": "uploads/{dataset}",
    "records": "uploads/{dataset}",
}
# A run's tag with the process that carries it out, so that its death can be noticed.
WORKER = "mm/worker"
# A run's tag with the uploads that it has in its hands, where it handles several.
GROUP = "mm/group"


@dataclass(frozen=True)
class Scope:
    """One dataset's place in Dagster: its asset keys and its upload partitions."""

    spec: DatasetSpec

    @property
    def dataset(self) -> str:
        return self.spec.dataset

    @property
    def partitions(self) -> dg.DynamicPartitionsDefinition:
        return dg.DynamicPartitionsDefinition(name=f"{self.dataset}_uploads")

    @property
    def table_kind(self) -> str:
        """What the predictions table is kept in, as the UI's icons have it."""
        return "dynamodb" if present_settings().is_dynamodb else "duckdb"

    def key(self, name: str) -> dg.AssetKey:
        return dg.AssetKey([self.dataset, name])

    def options(
        self, name: str, *, partitioned: bool, description: str, **more: Any
    ) -> dict[str, Any]:
        """The arguments that every asset of the dataset shares."""
        schema = column_schema(self.spec, name)
        return {
            "key": self.key(name),
            "group_name": self.dataset,
            "partitions_def": self.partitions if partitioned else None,
            "owners": list(self.spec.owners) or None,
            "metadata": {} if schema is None else {"dagster/column_schema": schema},
            "description": f"{description}{self._for_people(name)}",
            **more,
        }

    def _for_people(self, name: str) -> str:
        """A link, as Markdown, to the page that belongs to an asset; '' without an address.

        Dagster shows the description of an asset at once, and pictures only after a click.
        """
        address = present_settings().serve_url.rstrip("/")
        if not address:
            return ""
        place = _PAGES[name.partition("_")[0]].format(dataset=self.dataset)
        return f"\n\n[The page for people]({address}/{place})"


@dataclass(frozen=True)
class OneOfSeveral:
    """What the functions of an upload's assets and checks are given, when one run has several.

    `champions`: what the run predicts this upload with; None where there was none.
    """

    partition_key: str
    run_id: str
    log: Any
    champions: Mapping[Modality, Champion | None]


class LakeResource(dg.ConfigurableResource[Lake]):
    """The lake, the predictions table and the models, as the environment names them.

    The environment is read when a step starts, not when the code location loads.
    """

    _of_run: Lake | None = PrivateAttr(default=None)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Write into the run which process carries it out; what it writes, it remembers."""
        if context.run is not None and context.instance is not None:
            self._of_run = RememberingLake(_lake(self.settings().model_dump_json()))
            context.instance.add_run_tags(context.run.run_id, {WORKER: worker_name(os.getpid())})

    def settings(self) -> Settings:
        return present_settings()

    def lake(self) -> Lake:
        return self._of_run or _lake(self.settings().model_dump_json())

    def table(self, patience: float = 60.0) -> Store:
        return open_store(self.settings(), patience)

    def models(self, dataset: str) -> ModelStore:
        return ModelStore(self.lake(), dataset)


@lru_cache(maxsize=4)
def _lake(_settings_json: str) -> Lake:
    """One lake, and so one S3 client, for each set of settings in a process."""
    return Lake(Settings.from_environment())


def group_of(tags: Mapping[str, str]) -> list[str]:
    """The uploads that a run of several has in its hands, or had when it died."""
    return [upload for upload in tags.get(GROUP, "").split(",") if upload]


def worker_name(pid: int) -> str:
    """`host/pid/start`: the start, in seconds since 1970, tells a process from a later namesake.

    Empty when there is no such process, or only what is left of one that ended.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return ""
        return f"{socket.gethostname()}/{pid}/{process.create_time():.0f}"
    except psutil.NoSuchProcess:
        return ""


def numbers(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Counts and figures as metadata: readable names, six digits of what was measured."""
    return {
        name.replace("_", " "): float(f"{value:.6g}") if isinstance(value, float) else value
        for name, value in counts.items()
        if value is not None
    }


def shown_end(ended: Ended) -> dict[str, Any]:
    """How an upload ended, as metadata."""
    shown: dict[str, Any] = {"end": ended.end.value}
    if ended.words:
        shown["in words"] = ended.words
    return shown


def shown_left_out(ended: Ended) -> dict[str, Any]:
    """What was left out, as metadata for programs: long, so it stands last."""
    if not ended.left_out:
        return {}
    return {LEFT_OUT: dg.MetadataValue.json([one.as_dict() for one in ended.left_out])}


def told(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata as people may see it: names and texts may come from data, and nothing acts."""
    return {
        visible(name): visible(value, keep="\n") if isinstance(value, str) else value
        for name, value in metadata.items()
    }


class Log:
    """What a step or a sensor logs, in which nothing that came from data acts."""

    def __init__(self, context: Any) -> None:
        self._log = context.log

    def info(self, text: str) -> None:
        self._log.info(visible(text, keep="\n"))

    def warning(self, text: str) -> None:
        self._log.warning(visible(text, keep="\n"))


def shown_table(table: pa.Table, columns: Sequence[str]) -> dg.MetadataValue[Any]:
    """The first rows of a table as metadata.

    The UI shows it in place; up to four short columns fit beside the rest of the page.
    """
    rows = table.select(list(columns)).slice(0, SHOWN_ROWS).to_pylist()
    records = [dg.TableRecord({name: _plain(value) for name, value in row.items()}) for row in rows]
    schema = dg.TableSchema([dg.TableColumn(name, "string") for name in columns])
    return dg.MetadataValue.table(records, schema)


def table_of(rows: Sequence[Mapping[str, Any]]) -> dg.MetadataValue[Any]:
    """Rows of the same columns as metadata."""
    import pyarrow as pa

    names = list(rows[0])
    return shown_table(pa.table({name: [row[name] for row in rows] for name in names}), names)


def chart(markdown: str) -> dg.MetadataValue[Any] | None:
    """A small chart (display/small_charts.py) that the UI shows at once."""
    return dg.MetadataValue.md(markdown) if markdown else None


def picture(png: bytes, alt: str) -> dg.MetadataValue[Any]:
    """A picture that Dagster's UI shows in place."""
    from mm_assets.display.pictures import markdown_picture

    return dg.MetadataValue.md(markdown_picture(png, alt))


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if value is None or isinstance(value, bool | int):
        return "" if value is None else value
    return visible(str(value)[:300])


def check(
    passed: bool,
    description: str,
    *,
    warn: bool = False,
    metadata: Mapping[str, Any] | None = None,
) -> dg.AssetCheckResult:
    """A check's result; `warn` makes a failure a warning instead of an error."""
    severity = dg.AssetCheckSeverity.WARN if warn else dg.AssetCheckSeverity.ERROR
    return dg.AssetCheckResult(
        passed=bool(passed),
        severity=severity,
        description=visible(description),
        metadata=told(metadata or {}),
    )
