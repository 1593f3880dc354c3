"""What the lake remembers of uploads under way, over a folder and over S3."""

from __future__ import annotations

import pytest

from mm_assets.contract.errors import UploadError
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import inbox, of_upload, pending_prefix
from mm_assets.uploads import ledger
from mm_assets.uploads.find import Source, read_source
from tests.make import drop_zip, found


def noted(lake: Lake, name: str = "a.zip") -> Source:
    drop_zip(lake, name, {"t.csv": name.encode()})
    source = found(lake, name)
    ledger.note(lake, source)
    return source


def aside(lake: Lake, source: Source, reason: str = "it broke") -> None:
    pending = ledger.read_pending(lake, "pets", source.upload)
    assert pending is not None
    ledger.set_aside(lake, pending, reason, 5, "run")


def rounds(lake: Lake, upload: str) -> int | None:
    pending = ledger.read_pending(lake, "pets", upload)
    return pending.round if pending else None


def test_what_is_noted_is_pending_until_it_is_settled(lake: Lake) -> None:
    first, second = noted(lake, "a.zip"), noted(lake, "b.zip")
    ledger.note(lake, first)
    assert set(ledger.pending_uploads(lake, "pets")) == {first.upload, second.upload}
    assert ledger.read_pending(lake, "pets", first.upload) == ledger.Pending(first, 0)
    for _ in range(2):
        ledger.settle(lake, "pets", first.upload)
    assert ledger.pending_uploads(lake, "pets") == [second.upload]
    assert ledger.read_pending(lake, "pets", first.upload) is None


def test_a_pending_upload_can_be_run_from_its_key_alone(lake: Lake) -> None:
    source = noted(lake)
    assert read_source(lake, "pets", source.upload) == source


def test_setting_aside_keeps_the_reason_and_a_late_hint_changes_nothing(lake: Lake) -> None:
    source = noted(lake)
    aside(lake, source)
    ledger.note(lake, source)
    assert ledger.pending_uploads(lake, "pets") == []
    assert ledger.set_aside_uploads(lake, "pets") == [source.upload]
    said = ledger.read_set_aside(lake, "pets", source.upload)
    assert said is not None
    assert (said["reason"], said["tries"], said["run_id"]) == ("it broke", 5, "run")


def test_every_retry_is_a_round_of_its_own_whatever_came_between(lake: Lake) -> None:
    source = noted(lake)
    seen = [rounds(lake, source.upload)]
    for between in ("set aside", "settled", "pending"):
        if between == "set aside":
            aside(lake, source)
        elif between == "settled":
            ledger.settle(lake, "pets", source.upload)
        ledger.retry(lake, "pets", source.upload)
        assert ledger.set_aside_uploads(lake, "pets") == []
        seen.append(rounds(lake, source.upload))
    assert seen == [0, 1, 2, 3]


def test_what_nobody_knows_cannot_be_retried(lake: Lake) -> None:
    with pytest.raises(UploadError):
        ledger.retry(lake, "pets", "20261121-101530123-1f0c9a2b3c")


@pytest.mark.parametrize("data", [b"{", b"[]", b"{}", b'{"source": {"upload": 1}, "round": 0}'])
def test_a_note_that_says_nothing_is_answered_and_a_retry_writes_it_anew(
    lake: Lake, data: bytes
) -> None:
    source = noted(lake)
    lake.write(f"{pending_prefix('pets')}{source.upload}.json", data)
    with pytest.raises(UploadError, match="cannot be read") as caught:
        ledger.read_pending(lake, "pets", source.upload)
    assert f"mm retry {source.upload}" in caught.value.todo
    assert ledger.state_of(lake, "pets", source.upload)[0] == "pending"
    ledger.retry(lake, "pets", source.upload)
    assert rounds(lake, source.upload) == 1


def test_an_upload_says_where_it_stands(lake: Lake) -> None:
    upload = noted(lake).upload

    def says(document: str, **content: object) -> tuple[str, str]:
        lake.write_json(of_upload("pets", upload, document), content)
        return ledger.state_of(lake, "pets", upload)

    assert ledger.state_of(lake, "pets", upload)[0] == "pending"
    ledger.settle(lake, "pets", upload)
    assert ledger.state_of(lake, "pets", upload)[0] == "unknown"
    assert says("raw_uploads", refused={"code": "archive_bomb", "what": "too big"}) == (
        "refused", "[archive_bomb] too big",
    )  # fmt: skip
    assert says("raw_uploads", refused=None)[0] == "received"
    assert says("predictions", counts={"waiting": 2}, reasons=["no champion yet"]) == (
        "waiting", "no champion yet",
    )  # fmt: skip
    assert says("predictions", counts={"waiting": 0}, reasons=[]) == ("done", "")
    ledger.retry(lake, "pets", upload)
    aside(lake, read_source(lake, "pets", upload))
    assert ledger.state_of(lake, "pets", upload) == ("set aside", "5 tries: it broke")


def test_the_newest_uploads_come_first(lake: Lake) -> None:
    uploads = sorted(noted(lake, f"{n}.zip").upload for n in range(4))
    newest = ledger.newest_uploads(lake, "pets", 3)
    assert [one.upload for one in newest] == uploads[:0:-1]
    assert all(one.state == "pending" and one.name and one.arrived for one in newest)
    assert ledger.newest_uploads(lake, "cars", 3) == []


def test_a_name_means_the_newest_upload_of_that_name(lake: Lake) -> None:
    first = noted(lake, "a.zip")
    drop_zip(lake, "a.zip", {"t.csv": b"again"})
    second = found(lake, "a.zip")
    ledger.note(lake, second)
    noted(lake, "b.zip")
    newest = max(first.upload, second.upload)
    assert ledger.resolve(lake, "pets", "a.zip") == ledger.resolve(lake, "pets", "a") == newest
    assert ledger.resolve(lake, "pets", first.upload) == first.upload


def test_a_key_is_found_without_a_listing(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = noted(lake).upload
    monkeypatch.delattr(Lake, "names")
    assert ledger.resolve(lake, "pets", upload) == upload


def test_a_name_that_is_not_known_is_answered_with_the_reason(lake: Lake) -> None:
    lake.write(f"{inbox('pets')}half/t.csv", b"id\n")
    upload = noted(lake).upload
    for name, reason in (("half", "not finished: no upload.json yet"), ("..", "is not known")):
        with pytest.raises(UploadError) as caught:
            ledger.resolve(lake, "pets", name)
        if name == "half":
            assert reason in caught.value.what
        assert upload in caught.value.todo
