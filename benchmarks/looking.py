"""What a look at all answers costs over DynamoDB: all of them read, or the one upload that is new.

    AWS_ENDPOINT_URL_DYNAMODB=http://127.0.0.1:4567 python -m benchmarks.looking [--uploads N,N]

A table of its own is made at that address, which should be a local server (dynalite), and filled
without Dagster, five rows an upload. Shown are the processor time of this process, requests, and
the read and write units that the server counts.
"""

from __future__ import annotations

import os
import statistics
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.sizes import TIMES, main, no_images, offered, rows_of, upload_of
from benchmarks.speed.lines.many import DATASET

READS = ("Query", "GetItem", "BatchGetItem")


def count_units(client: Any) -> Counter[str]:
    """What is asked of the server from now on, and what it says that this took."""
    counted: Counter[str] = Counter()

    def ask(params: dict[str, Any], **_: Any) -> None:
        params.setdefault("ReturnConsumedCapacity", "TOTAL")

    def told(parsed: dict[str, Any], model: Any, **_: Any) -> None:
        took = parsed.get("ConsumedCapacity", [])
        units = sum(one["CapacityUnits"] for one in (took if isinstance(took, list) else [took]))
        counted["requests"] += 1
        counted["read units" if model.name in READS else "write units"] += units

    for operation in (*READS, "PutItem", "DeleteItem", "BatchWriteItem"):
        client.meta.events.register(f"provide-client-params.dynamodb.{operation}", ask)
        client.meta.events.register(f"after-call.dynamodb.{operation}", told)
    return counted


def measure(folder: Path, sizes: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Some lines for each size."""
    from mm_assets.contract.settings import Settings
    from mm_assets.lake.lake import Lake
    from mm_assets.tables.answers import ANSWERS, read_answers
    from mm_assets.tables.dynamodb.requests import Requests, client_for
    from mm_assets.tables.dynamodb.store import DynamoDBStore
    from mm_assets.tables.dynamodb.table import create
    from mm_assets.tables.store import Query

    os.environ.setdefault("AWS_ACCESS_KEY_ID", "local")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "local")
    name = f"looking-{uuid.uuid4().hex}"
    settings = Settings(lake=str(folder / "lake"), data=folder, table=f"dynamodb://{name}")
    client = client_for(settings)
    create(Requests(client, name, 60.0), lambda _: None)
    lake, store, there = Lake(settings), DynamoDBStore(client, name), 0
    counted = count_units(client)

    def look() -> None:
        read_answers(lake, store, DATASET)

    def measured(works: dict[str, Callable[[str], object]]) -> Iterator[dict[str, Any]]:
        """Each work of some new uploads, in turns: a line for each."""
        lines: dict[str, list[Counter[str]]] = {what: [] for what in works}
        took: dict[str, list[float]] = {what: [] for what in works}
        for number in range(TIMES):
            for what, work in works.items():
                counted.clear()
                before = time.process_time()
                work(f"n{there}-{number}")
                took[what].append(round(time.process_time() - before, 3))
                lines[what].append(counted.copy())
        for what in works:
            each = {key: lines[what][-1][key] for key in sorted(lines[what][-1])}
            yield {"uploads": there, "what": what, "seconds": statistics.median(took[what]), **each}

    for size in sizes:
        _fill(store, [upload_of(number) for number in range(there, size)])
        there = size
        yield from measured(
            {
                "all are read": lambda _: store.read(
                    DATASET, Query(columns=ANSWERS, in_order=False)
                ),
                "an upload is published": lambda new: store.publish(
                    DATASET, new, rows_of([new]), no_images()
                ),
                "its answers are merged": lambda new: store.merge(DATASET, offered([new])),
                "a look": lambda _: look(),
                "a look, nothing is new": lambda _: look(),
            }
        )


def _fill(store: Any, uploads: Sequence[str]) -> None:
    """Older answers, as they lie in the table."""
    from mm_assets.tables.dynamodb.items import order_key, prediction_item

    for start in range(0, len(uploads), 1000):
        some = offered(uploads[start : start + 1000]).to_pylist()
        items = (prediction_item(DATASET, one, order_key(one)) for one in some)
        store.requests.write_all({"PutRequest": {"Item": item}} for item in items)


if __name__ == "__main__":
    main(__doc__.splitlines()[0], measure, "100,1000")
