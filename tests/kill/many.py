"""Many kills in rounds, resumable: `make kills N=1000` starts it in the background.

    python -m tests.kill.many --kills 1000 --log data/kills/log.jsonl

A round is a project of its own: a quiet run, and the same uploads under fire (`harness.py`), by
turns on a folder with DuckDB and on S3 with DynamoDB and SQS. Each round that ended is a line of
the log, so what was cut off goes on behind it, with the next seed. A round that differs keeps its
folder.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import shutil
import sys
import time
import traceback
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from tests.aws_server import running_servers
from tests.kill.harness import KINDS, one_round, say

PLACES = {"folder": "folder + DuckDB", "aws": "S3 + DynamoDB + SQS"}
LOST = ("lost", "duplicated", "different")
MOST_FAILED = 3  # rounds; after that something is wrong that more rounds do not mend
PER_ROUND = 3 * len(KINDS)  # of each kind three times as many as in CI


def read_log(log: Path) -> list[dict[str, Any]]:
    """The rounds that ended."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def table(rounds: list[dict[str, Any]]) -> str:
    """What was found, as Markdown; `other` is all that must be equal besides."""
    lines = ["| where | rounds | kills | of which | lost | duplicated | different | other |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for place, words in PLACES.items():
        own = [one for one in rounds if one["place"] == place]
        kinds: Counter[str] = Counter()
        found: Counter[str] = Counter()
        for one in own:
            kinds.update(one["kills"])
            found.update({n: v for n, v in one["found"].items() if n in LOST})
            found["other"] += sum(v for n, v in one["found"].items() if n not in LOST)
        of_which = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
        cells = [words, len(own), kinds.total(), of_which, *(found[n] for n in (*LOST, "other"))]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def kills_at(rounds: list[dict[str, Any]], place: str) -> int:
    return sum(sum(one["kills"].values()) for one in rounds if one["place"] == place)


def go_on(log: Path, wanted: int, places: list[str], first_seed: int = 1) -> None:
    """Rounds until each place had its kills."""
    while True:
        rounds = read_log(log)
        if sum("failed" in one["found"] for one in rounds) >= MOST_FAILED:
            say(
                f"{MOST_FAILED} rounds did not end: look into {log.parent}, then remove their lines"
            )
            return
        place = min(places, key=lambda one: kills_at(rounds, one))
        left = wanted - kills_at(rounds, place)
        if left <= 0:
            return
        seed = 1 + max((one["seed"] for one in rounds), default=first_seed - 1)
        one = play(log.parent / f"round-{seed}", seed, min(left, PER_ROUND), place)
        with log.open("a") as file:
            file.write(json.dumps(one) + "\n")
        say(f"{place}: {kills_at(read_log(log), place)} of {wanted} kills; {one['found']}")


def play(folder: Path, seed: int, kills: int, place: str) -> dict[str, Any]:
    """One round; one that never got quiet, or raised, counts as different."""
    shutil.rmtree(folder, ignore_errors=True)
    began = time.time()
    try:
        with running_servers() if place == "aws" else nullcontext() as servers:
            done, found = one_round(folder, seed, kills, servers, say)
    except Exception:  # noqa: BLE001  the other rounds go on
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "traceback").write_text(traceback.format_exc())
        done, found = Counter(), {"failed": 1}
    if not any(found.values()):
        shutil.rmtree(folder, ignore_errors=True)
    return {"place": place, "seed": seed, "kills": dict(done), "found": found,
            "seconds": round(time.time() - began)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000, help="at each of the two places")
    parser.add_argument("--log", type=Path, default=Path("data/kills/log.jsonl"))
    parser.add_argument("--places", nargs="+", choices=PLACES, default=[*PLACES])
    parser.add_argument("--first-seed", type=int, default=1, help="another for each log")
    parser.add_argument("--show", action="store_true", help="only say what was found so far")
    arguments = parser.parse_args()
    log = arguments.log.resolve()
    log.parent.mkdir(parents=True, exist_ok=True)
    if not arguments.show:
        with (log.parent / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print("It is under way.")
            else:
                go_on(log, arguments.kills, arguments.places, arguments.first_seed)
    rounds = read_log(log)
    print(table(rounds))
    sys.exit(any(any(one["found"].values()) for one in rounds))


if __name__ == "__main__":
    main()
