"""The table that is shown, and the section of docs/results.md that is made of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality.page import END, PAGE, replace
from benchmarks.serve.servers import SERVERS

BEGIN = "<!-- made by `python -m benchmarks.serve --write`: do not edit -->"


RESULTS = Path(__file__).with_name("results.json")
WHAT = ("without image", "with image", "12 megapixels")


def put(results: dict[str, Any]) -> None:
    """Store what was measured, and replace the section in docs/results.md."""
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    replace(section(stored()), BEGIN, PAGE)


def stored() -> dict[str, Any]:
    """What was measured when the section was made."""
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


def section(results: dict[str, Any]) -> str:
    """The section as Markdown, between its two marks."""
    parts = [
        BEGIN,
        _opening(results["about"]),
        _one(results["one"]),
        _http(results),
        _goals(results),
    ]
    return "\n\n".join([*parts, END]) + "\n"


def _opening(about: dict[str, str]) -> str:
    return (
        f"Measured {about['date']} on {about['machine']}, in one run, with the demo of the "
        "pets: `python -m benchmarks.serve`. The client runs on the same cores. Compare the "
        "ratios; the milliseconds are of this machine, which did other work beside it "
        f"(load {about['load']} on {about['cores']} cores); of two rounds the better one counts."
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _one(one: dict[str, float]) -> str:
    rows = []
    for way in ("ours", "ours around AutoGluon", "predict_proba"):
        words = {"ours": "`Predictor`, the demo's champions",
                 "ours around AutoGluon": "`Predictor` around an AutoGluon model",
                 "predict_proba": "`predict_proba` of that model, on a file"}[way]  # fmt: skip
        told = [
            one.get(f"{way}, {what}") for what in ("without image", "with image", "12 megapixels")
        ]
        rows.append([words, *("" if t is None else _ms(t) for t in told)])
    header = ["One warm record in process", "without image", "with image", "JPEG of 12 megapixels"]
    return _table(header, rows)


def _http(results: dict[str, Any]) -> str:
    rows = []
    for name, told in results["http"].items():
        for what, m in told.items():
            rows.append([
                f"{SERVERS[name].words}, {what}", _ms(m["alone"]), f"{m['highest']:.0f}/s",
                f"{_ms(m['p50'])}, {_ms(m['p99'])}", f"{m['refused']}",
            ])  # fmt: skip
    header = ["Over HTTP", "one client, median", "highest load",
              "median and p99 at 80% of it", "refused"]  # fmt: skip
    return _table(header, rows)


def _goals(results: dict[str, Any]) -> str:
    one, many, ours = results["one"], results["many"], results["http"]["ours"]
    plain = ours["without image"]
    ratio = one["predict_proba, 12 megapixels"] / one["ours, 12 megapixels"]
    same = one["predict_proba, 12 megapixels"] / one["ours around AutoGluon, 12 megapixels"]
    together = f"{results['together'] / many['batch']:.2f} with 50 records a request"
    rows = [
        ["one warm record without image, in process", "at most 12 ms",
         _ms(one["ours, without image"])],
        ["the same over HTTP, at the median", "at most 1.5 times that",
         f"{plain['alone'] / one['ours, without image']:.1f} times"],
        ["p99 at 80% of the highest load", "at most 3 times the median",
         f"{plain['p99'] / plain['p50']:.1f} times"],
        ["throughput under load", "at least 0.8 of the batch path",
         f"{plain['highest'] / many['batch']:.2f} of {many['batch']:.0f} records/s; {together}"],
        ["a JPEG of 12 megapixels, beside `predict_proba`", "at least 5 times faster",
         f"{ratio:.1f} times; around the same model {same:.1f} times"],
    ]  # fmt: skip
    bare = (
        f"The model alone, on frames that are ready: {_ms(1 / many['bare, one'])} for one record, "
        f"{many['bare, 256']:.0f} records a second in batches of 256."
    )
    return _table(["What was aimed at", "goal", "measured"], rows) + "\n\n" + bare
