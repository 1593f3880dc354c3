"""`python -m benchmarks.serve`: serve the demo's champions by every way, and show what it costs."""

from __future__ import annotations

import asyncio
import os
import platform
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markdown import Markdown

from benchmarks.serve import page
from benchmarks.serve.in_process import many_records, one_record
from benchmarks.serve.load import closed, steady
from benchmarks.serve.servers import SERVERS, running
from benchmarks.serve.world import World

out, err = Console(), Console(stderr=True)
LOADS = (8, 32)  # clients; the better of them is the highest load
SHARE = 0.8
ROUNDS = 2  # what else the machine does comes and goes
EACH = 50  # records in a request
BODIES = 2_000  # no image comes twice before so many


def run(
    servers: Annotated[str, typer.Option(help="Some of them, with commas.")] = "",
    seconds: Annotated[float, typer.Option(min=0.5, help="For each measurement.")] = 5.0,
    records: Annotated[int, typer.Option(min=100, help="For the batch path.")] = 2_000,
    port: Annotated[int, typer.Option(help="Where the servers listen, one at a time.")] = 8190,
    demo: Annotated[Path | None, typer.Option(help="What `make demo` left; default: here.")] = None,
    write: Annotated[bool, typer.Option(help="Put it into docs/results.md.")] = False,
) -> None:
    """Needs what `make demo` left behind. A server that does not start is named, and left out."""
    names = [name.strip() for name in servers.split(",") if name.strip()] or list(SERVERS)
    world = World.open(demo)
    err.print("training an AutoGluon model, unless it is there …")
    world.train()
    results: dict[str, Any] = {"about": about(), "http": {}}
    err.print("one record in process …")
    results["one"] = one_record(world, seconds / 2)
    err.print("many records …")
    results["many"] = many_records(world, records)
    for name in names:
        err.print(f"{name} …")
        try:
            with running(name, port):
                results["http"][name] = asyncio.run(measure(world, name, port, seconds))
                if name == "ours":
                    results["together"] = asyncio.run(together(world, port, seconds))
        except (RuntimeError, OSError, asyncio.IncompleteReadError) as error:
            err.print(f"[bold red]left out[/] {name}: {error}")
        port += 1
    out.print(Markdown(page.section(results)))
    if write:
        page.put(results)


async def measure(
    world: World, name: str, port: int, seconds: float
) -> dict[str, dict[str, float]]:
    """One server: alone, at its highest load, and steadily at SHARE of it. Of ROUNDS the best."""
    path, found = SERVERS[name].path, {}
    for with_image in (False, True):
        bodies = world.bodies(with_image=with_image, count=BODIES)
        ask = partial(closed, port, path, bodies)
        await ask(clients=2, seconds=1.0)  # warm
        alone = [await ask(clients=1, seconds=seconds) for _ in range(ROUNDS)]
        loaded = [
            await ask(clients=clients, seconds=seconds) for clients in LOADS for _ in range(ROUNDS)
        ]
        highest = max(one.rate for one in loaded)
        if not highest:
            raise RuntimeError(f"it answers with {alone[0].statuses}")
        at = [
            await steady(port, path, bodies, rate=SHARE * highest, seconds=seconds)
            for _ in range(ROUNDS)
        ]
        best = min(at, key=lambda one: one.p99)
        found["with image" if with_image else "without image"] = {
            "alone": min(one.p50 for one in alone), "highest": highest,
            "p50": best.p50, "p99": best.p99, "refused": best.refused,
        }  # fmt: skip
    return found


async def together(world: World, port: int, seconds: float) -> float:
    """Records a second where each request to ours has EACH of them."""
    bodies = world.many(EACH, 40)
    path = SERVERS["ours"].path
    await closed(port, path, bodies, clients=2, seconds=1.0)
    return EACH * (await closed(port, path, bodies, clients=4, seconds=seconds)).rate


def about() -> dict[str, str]:
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "cores": str(os.cpu_count()),
        "load": f"{os.getloadavg()[0]:.1f}",
    }


if __name__ == "__main__":
    typer.run(run)
