"""What was refused is counted once for each upload, and is what all documents say together."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import of_upload, refused_prefix
from mm_assets.manifest.join import MANIFEST
from mm_assets.monitoring import refused
from mm_assets.monitoring.refused import refused_of
from mm_assets.uploads.joined import joined, note_joined
from mm_assets.uploads.received import RAW

UPLOADS = [f"20261129-1200000{n:02d}-0123456789" for n in range(6)]


def join(lake: Lake, dataset: str, upload: str, count: int) -> None:
    """As a run leaves it: the receipt, then the manifest, then the note."""
    codes = {"image_unreadable": count} if count else {}
    refused_whole = {"code": "archive_unreadable"} if count == 3 else None
    raw = {"quarantined_by_code": codes, "refused": refused_whole}
    lake.write_json(of_upload(dataset, upload, RAW), raw)
    lake.write_json(of_upload(dataset, upload, MANIFEST), {"rejected_by_code": {"id_blank": count}})
    note_joined(lake, dataset, upload)


def read_all(lake: Lake, dataset: str, uploads: list[str]) -> dict[str, Any]:
    """The same, of all documents."""
    return dict(zip(uploads, refused._read(lake, dataset, uploads), strict=True))


class Moments:
    """A lake in which something else happens before a document is created, or a note taken away."""

    def __init__(self, lake: Lake, happens: Any) -> None:
        self.lake, self.happens = lake, happens

    def __getattr__(self, name: str) -> Any:
        if name in ("create_json", "delete") and (happens := self.happens):
            self.happens = None
            happens(name)
        return getattr(self.lake, name)


step = st.one_of(
    st.tuples(st.just("join"), st.sampled_from(UPLOADS), st.integers(0, 3)),
    st.tuples(st.just("count"), st.sets(st.sampled_from(UPLOADS)), st.just(0)),
    st.tuples(st.just("two count"), st.sampled_from(UPLOADS), st.integers(0, 3)),
    st.tuples(st.just("killed"), st.sampled_from(["create_json", "delete"]), st.just(0)),
    st.tuples(st.just("damage"), st.just(""), st.just(0)),
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(step, max_size=14), st.integers(0, 10**9))
def test_whatever_happened_it_is_what_all_documents_say(
    folder_settings: Settings, steps: list[tuple[str, Any, int]], number: int
) -> None:
    lake, dataset = Lake(folder_settings), f"d{number}"
    there: set[str] = set(lake.names(f"datasets/{dataset}/uploads/"))
    for what, which, count in steps:
        if what == "join":
            join(lake, dataset, which, count)
            there.add(which)
        elif what == "count":  # some were withdrawn, or are no longer among the newest
            some = sorted(there & which)
            assert refused_of(lake, dataset, some) == read_all(lake, dataset, some)
        elif what == "two count":

            def meanwhile(_: str, which: str = which, count: int = count) -> None:
                join(lake, dataset, which, count)
                refused_of(lake, dataset, sorted({*there, which}))

            refused_of(Moments(lake, meanwhile), dataset, sorted(there))  # type: ignore[arg-type]
            if of_upload(dataset, which, RAW) in [i.key for i in lake.list(f"datasets/{dataset}/")]:
                there.add(which)
        elif what == "killed":

            def dies(name: str, which: str = which) -> None:
                if name == which:
                    raise KeyboardInterrupt

            with suppress(KeyboardInterrupt):
                refused_of(Moments(lake, dies), dataset, sorted(there))  # type: ignore[arg-type]
        else:
            for item in list(lake.list(refused_prefix(dataset))):
                lake.write(item.key, lake.read(item.key).replace(b":", b";", 1))
    every = sorted(there)
    assert refused_of(lake, dataset, every) == read_all(lake, dataset, every)
    assert not joined(lake, dataset)
    assert len(list(lake.list(refused_prefix(dataset)))) <= 1


def test_what_is_read_is_what_is_new(
    folder_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, uploads = Lake(folder_settings), [f"u{number:03d}" for number in range(60)]
    for upload in uploads:
        join(lake, "pets", upload, 1)
    refused_of(lake, "pets", uploads)
    asked: Counter[str] = Counter()
    for name in ("read", "list", "write", "create_json", "delete"):
        whole = getattr(Lake, name)

        def counted(*given: Any, whole: Any = whole, name: str = name, **named: Any) -> Any:
            asked[name] += 1
            return whole(*given, **named)

        monkeypatch.setattr(Lake, name, counted)
    refused_of(lake, "pets", uploads)
    assert asked == {"read": 1, "list": 2}
    for number in (5, 59):
        join(lake, "pets", uploads[number], 2)
    asked.clear()
    found = refused_of(lake, "pets", uploads)
    assert sum(one["rejected"]["id_blank"] for one in found.values()) == 62
    # What was counted and two documents of each; the notes, and what was counted, are taken away.
    assert asked == {"read": 1 + 4, "list": 3, "create_json": 1, "delete": 2 + 1}
