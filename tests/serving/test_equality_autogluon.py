"""The law of serving, for AutoGluon."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.serving.worlds import as_json, ask, asked, check, serving, trained


def test_an_answer_of_autogluon_is_the_row_of_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MM_ROOT", str(tmp_path))
    ds = trained(tmp_path, "autogluon")
    some = asked(all_faults=False)

    async def alone_and_together() -> tuple[list, list]:
        async with serving(ds.name) as client:
            alone = [(await ask(client, ds.name, as_json(one)))[0] for one in some]
            return alone, await ask(client, ds.name, [as_json(one) for one in some])

    alone, together = asyncio.run(alone_and_together())
    check(some, alone, ds)
    check(some, together, ds)
