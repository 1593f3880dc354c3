"""Whatever goes wrong between us and the lake: right bytes or an error in words, in bounded time.

S3 is a real server behind a proxy that lets chosen requests go wrong (`faults.py`).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from mm_assets.contract.dataset import Modality
from mm_assets.contract.errors import LakeError
from mm_assets.contract.settings import Settings
from mm_assets.lake import s3 as lake_s3
from mm_assets.lake.documents import packed
from mm_assets.lake.lake import Lake
from mm_assets.lake.local import sha256_of
from mm_assets.predictions.predict import spec_generation
from mm_assets.registry.store import ModelStore
from mm_assets.uploads.find import read_source, register
from mm_assets.uploads.received import read_parquet
from tests.faults import (
    Fault,
    FaultyProxy,
    Response,
    answer,
    cut_body,
    delay,
    flip_byte,
    is_,
    lose_answer,
    replace_answer,
    reset,
    shorten_body,
)
from tests.make import dataset, drop_zip, found, table

BIG = bytes(range(256)) * 24_000  # 6 MB: two parts, several buffers
HASTY = lake_s3.Patience(
    attempts=3, retrying=3.0, connecting=1.0, silence=1.0, pause=0.01, longest_pause=0.05
)
BOUND = HASTY.retrying + HASTY.silence + 3.0  # seconds; boto3's own pauses come on top


def said(code: str, message: str = "in other words") -> bytes:
    return f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


BUSY = answer(503, said("SlowDown", "Please reduce your request rate."))


@pytest.fixture(scope="module")
def connection(s3_endpoint: str) -> Iterator[tuple[FaultyProxy, Any]]:
    """One proxy and one boto3 client, made as the lake makes it, for all tests here."""
    with pytest.MonkeyPatch.context() as patch, FaultyProxy(s3_endpoint) as proxy:
        patch.setattr(lake_s3, "PATIENCE", HASTY)
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        settings = Settings(lake="s3://bucket", AWS_ENDPOINT_URL=proxy.url)
        yield proxy, lake_s3.connect_boto3(settings)


@pytest.fixture
def proxy(connection: tuple[FaultyProxy, Any]) -> FaultyProxy:
    connection[0].clear()
    return connection[0]


@pytest.fixture
def behind(s3_settings: Settings, s3_client: Any) -> Lake:
    """The lake without the proxy: what is really stored."""
    return Lake(s3_settings.model_copy(), s3_client)


@pytest.fixture
def faulty(
    behind: Lake, s3_settings: Settings, proxy: FaultyProxy, connection: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Lake:  # fmt: skip
    """The same lake through the proxy."""
    monkeypatch.setattr(lake_s3, "PATIENCE", HASTY)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    s3_settings.aws_endpoint_url = proxy.url
    return Lake(s3_settings, connection[1])


def read_through(lake: Lake, key: str) -> bytes:
    with lake.open(key) as file:
        return file.read()


def fetched(lake: Lake, key: str, folder: Path) -> bytes:
    sha256 = lake.fetch(key, folder / "fetched")
    assert sha256 == sha256_of(folder / "fetched")
    return (folder / "fetched").read_bytes()


READING: dict[str, Callable[[Lake, Path], bytes]] = {
    "read": lambda lake, _: lake.read("d/big"),
    "fetch": lambda lake, folder: fetched(lake, "d/big", folder),
    "read_range": lambda lake, _: lake.read_range("d/big", 0, len(BIG)),
    "open": lambda lake, _: read_through(lake, "d/big"),
}
LOOKING: dict[str, Callable[[Lake], Any]] = {
    "list": lambda lake: [item.key for item in lake.list("d/")],
    "top": lambda lake: lake.top("d/")[0][0].key,
    "names": lambda lake: lake.names(""),
    "stat": lambda lake: lake.stat("d/big"),
}
WRITING: dict[str, tuple[str, Callable[[Lake, Path], Any]]] = {
    "write": ("PUT", lambda lake, _: lake.write("d/new", b"new")),
    "write in parts": ("PUT", lambda lake, path: lake.write("d/new", path)),
    "begin and end parts": ("POST", lambda lake, path: lake.write("d/new", path)),
    "create_json": ("PUT", lambda lake, _: lake.create_json("d/new", {"a": 1}) or 1 / 0),
    "delete": ("", lambda lake, _: lake.delete("d/big")),
}
PASSING = {
    "503": (BUSY, 1), "500 twice": (answer(500), 2), "reset": (reset(), 1),
    "answer lost": (lose_answer(), 1), "done, then 503": (replace_answer(503, said("SlowDown")), 1),
}  # fmt: skip


# -- a fault that passes --------------------------------------------------------------------------


@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_passes_is_not_noticed_by_who_reads(
    faulty: Lake, behind: Lake, proxy: FaultyProxy, tmp_path: Path, fault: str
) -> None:
    behind.write("d/big", BIG)
    for read in READING.values():
        proxy.clear()
        proxy.add(PASSING[fault][0], is_("GET"), times=PASSING[fault][1])
        assert read(faulty, tmp_path) == BIG
        assert proxy.faults == PASSING[fault][1]


@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_passes_is_not_noticed_by_who_looks(
    faulty: Lake, behind: Lake, proxy: FaultyProxy, fault: str
) -> None:
    behind.write("d/big", BIG)
    for look in LOOKING.values():
        proxy.clear()
        proxy.add(PASSING[fault][0])
        assert look(faulty) == look(behind)
        assert proxy.faults == 1


@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_passes_is_not_noticed_by_who_writes(
    faulty: Lake, behind: Lake, proxy: FaultyProxy, tmp_path: Path, fault: str
) -> None:
    (tmp_path / "big").write_bytes(BIG)
    written = {"create_json": packed({"a": 1}), "write": b"new"}
    for name, (method, write) in WRITING.items():
        behind.write("d/big", BIG)
        behind.delete("d/new")
        proxy.clear()
        proxy.add(PASSING[fault][0], is_(method), times=PASSING[fault][1])
        write(faulty, tmp_path / "big")
        assert proxy.faults == PASSING[fault][1]
        if name == "delete":
            assert behind.stat("d/big") is None
        else:
            assert behind.read("d/new") == written.get(name, BIG)


@pytest.mark.parametrize("kind", ["read", "stat", "write"])
def test_a_server_that_falls_silent_is_asked_again(
    faulty: Lake, behind: Lake, proxy: FaultyProxy, tmp_path: Path, kind: str
) -> None:
    behind.write("d/big", BIG)
    proxy.add(delay(HASTY.silence + 0.5))
    if kind == "read":
        assert faulty.read("d/big") == BIG
    elif kind == "stat":
        assert faulty.stat("d/big") == behind.stat("d/big")
    else:
        faulty.write("d/x", b"1")
        assert behind.read("d/x") == b"1"
    assert proxy.count() == 2


def cut_failure(status: int, code: str) -> Fault:
    """A failure whose own account breaks off."""

    def fault(_request: Any, _forward: Any) -> Response:
        return Response(status, [], said(code), cut_after=20)

    return fault


def test_an_answer_that_tells_of_a_failure_may_break_off_as_well(
    faulty: Lake, behind: Lake, proxy: FaultyProxy, tmp_path: Path
) -> None:
    """obstore repeats no such request."""
    assert faulty.read_json("d/nothing") is None
    proxy.add(cut_failure(404, "NoSuchKey"), times=2)
    assert faulty.read_json("d/nothing") is None
    behind.write("d/big", BIG)
    for read in READING.values():
        proxy.clear()
        proxy.add(cut_failure(503, "SlowDown"), is_("GET"), times=2)
        assert read(faulty, tmp_path) == BIG
        assert proxy.faults == 2
    proxy.clear()
    proxy.add(cut_failure(503, "SlowDown"), is_("PUT"), times=2)
    faulty.write("d/new", b"new")
    assert behind.read("d/new") == b"new"


# -- a fault that stays ---------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["503", "reset"])
def test_a_fault_that_stays_is_an_error_in_words_and_in_bounded_time(
    faulty: Lake, behind: Lake, proxy: FaultyProxy, tmp_path: Path, fault: str
) -> None:
    behind.write("d/big", BIG)
    (tmp_path / "big").write_bytes(BIG)
    proxy.add(BUSY if fault == "503" else reset(), times=None)
    operations: list[Callable[[], Any]] = [
        *(lambda read=read: read(faulty, tmp_path) for read in READING.values()),
        *(lambda look=look: look(faulty) for look in LOOKING.values()),
        *(lambda write=write: write(faulty, tmp_path / "big") for _, write in WRITING.values()),
    ]
    for operation in operations:
        started = time.monotonic()
        with pytest.raises(LakeError) as caught:
            operation()
        assert time.monotonic() - started < BOUND
        assert caught.value.code == "lake_unreachable"
        assert "run the same command again" in caught.value.todo
        assert caught.value.what
        if fault == "503":
            assert "SlowDown" in caught.value.what or "503" in caught.value.what  # of a HEAD
    proxy.clear()
    assert behind.read("d/big") == BIG
    assert behind.stat("d/new") is None


def test_silence_that_stays_is_an_error_in_bounded_time(
    faulty: Lake, behind: Lake, proxy: FaultyProxy
) -> None:
    behind.write("d/big", BIG)
    proxy.add(delay(10), times=None)
    for operation in (lambda: faulty.read("d/big"), lambda: faulty.stat("d/big")):
        started = time.monotonic()
        with pytest.raises(LakeError) as caught:
            operation()
        assert time.monotonic() - started < BOUND + HASTY.silence
        assert caught.value.code == "lake_unreachable"


def test_the_bounds_are_set_for_both_libraries_and_not_left_to_their_defaults() -> None:
    patience = lake_s3.PATIENCE
    config = lake_s3.connect_boto3(Settings(lake="s3://bucket")).meta.config
    assert (config.connect_timeout, config.read_timeout) == (patience.connecting, patience.silence)
    assert config.retries["total_max_attempts"] == patience.attempts
    assert config.retries["mode"] == "standard"
    assert lake_s3.Patience().retrying + lake_s3.Patience().silence <= 180
    assert sum(1 for _ in lake_s3.tries(HASTY)) == HASTY.attempts


# -- bytes that do not arrive as they were --------------------------------------------------------


@pytest.mark.parametrize("how", READING)
def test_a_body_that_breaks_off_is_carried_on_or_is_an_error_and_never_short(
    faulty: Lake, behind: Lake, proxy: FaultyProxy, tmp_path: Path, how: str
) -> None:
    behind.write("d/big", BIG)
    for after, times in ((0, 1), (100_000, 2), (5_000_000, 1)):
        proxy.clear()
        proxy.add(cut_body(after), is_("GET"), times=times)
        assert READING[how](faulty, tmp_path) == BIG
        assert proxy.faults == times
    proxy.clear()
    proxy.add(cut_body(0), is_("GET"), times=None)
    with pytest.raises(LakeError) as caught:
        READING[how](faulty, tmp_path)
    assert caught.value.code == "lake_unreachable"
    assert not (tmp_path / "fetched").exists()


def test_the_message_has_the_cause_and_no_account_of_the_retries(
    faulty: Lake, proxy: FaultyProxy
) -> None:
    proxy.add(reset(), times=None)
    with pytest.raises(LakeError) as caught:
        faulty.read("d/x")
    assert "Connection reset by peer" in caught.value.what
    assert "retry" not in caught.value.what


def test_an_answer_that_is_too_short_but_well_formed_is_an_error_where_the_length_is_known(
    faulty: Lake, behind: Lake, proxy: FaultyProxy
) -> None:
    behind.write("d/big", BIG)
    proxy.add(shorten_body(7), is_("GET"), times=None)
    reads: list[Callable[[], bytes]] = [
        lambda: faulty.read_range("d/big", 5, 1000),
        lambda: read_through(faulty, "d/big"),
    ]
    for read in reads:
        with pytest.raises(LakeError) as caught:
            read()
        assert caught.value.code == "lake_damaged"


@pytest.fixture
def published(behind: Lake, tmp_path: Path) -> dict[str, Any]:
    pq.write_table(pa.table({"a": list(range(1000))}), tmp_path / "t", compression="none")
    return behind.publish("d/u/doc.json", {"t.parquet": tmp_path / "t"}, {"n": 1})


@pytest.mark.parametrize("fault", [flip_byte(50), shorten_body(9)], ids=["byte", "short"])
def test_what_publish_wrote_is_verified_when_it_is_read_back(
    faulty: Lake, proxy: FaultyProxy, tmp_path: Path, published: dict[str, Any], fault: Fault
) -> None:
    expected = (tmp_path / "t").read_bytes()
    key = published["files"]["t.parquet"]["key"]

    def fetch() -> bytes:
        faulty.fetch_published(published, "t.parquet", tmp_path / "again")
        return (tmp_path / "again").read_bytes()

    reads: list[Callable[[], bytes]] = [
        lambda: faulty.read_published(published, "t.parquet"),
        fetch,
    ]
    for read in reads:
        proxy.clear()
        proxy.add(fault, is_("GET", key))
        assert read() == expected
        proxy.add(fault, is_("GET", key), times=None)
        with pytest.raises(LakeError) as caught:
            read()
        assert caught.value.code == "lake_damaged"
        assert key in caught.value.where
    assert not (tmp_path / "again").exists()
    with pytest.raises(LakeError):
        read_parquet(faulty, published, "t.parquet")
    proxy.clear()
    assert read_parquet(faulty, published, "t.parquet")["a"].to_pylist() == list(range(1000))


def test_a_published_file_that_was_cut_short_or_changed_in_the_store_is_an_error(
    lake: Lake, tmp_path: Path
) -> None:
    (tmp_path / "t").write_bytes(b"0123456789")
    document = lake.publish("d/u/doc.json", {"t.bin": tmp_path / "t"}, {})
    lake.write(document["files"]["t.bin"]["key"], b"01234")

    def open_it() -> None:
        with lake.open_published(document, "t.bin") as file:
            file.read()

    for read in (
        open_it,
        lambda: lake.read_published(document, "t.bin"),
        lambda: lake.fetch_published(document, "t.bin", tmp_path / "x"),
    ):
        with pytest.raises(LakeError) as caught:
            read()
        assert caught.value.code == "lake_damaged"


def test_a_document_that_is_no_json_is_an_error_in_words(lake: Lake) -> None:
    lake.write("d/doc.json", b'{"half": ')
    with pytest.raises(LakeError) as caught:
        lake.read_json("d/doc.json")
    assert caught.value.code == "lake_damaged"


def test_each_write_tells_the_sha256_of_its_bytes_so_that_s3_refuses_changed_ones(
    faulty: Lake, proxy: FaultyProxy, tmp_path: Path
) -> None:
    (tmp_path / "big").write_bytes(BIG)
    faulty.write("d/x", b"1")
    faulty.write("d/big", tmp_path / "big")
    faulty.create_json("d/doc.json", {})
    puts = [request for request in proxy.seen if request.method == "PUT"]
    assert len(puts) == 4
    for put in puts:
        assert put.header("x-amz-content-sha256") == hashlib.sha256(put.body).hexdigest()


# -- an answer that is lost -----------------------------------------------------------------------


LOST = {"reset": lose_answer(), "503": replace_answer(503, said("SlowDown"))}


@pytest.mark.parametrize("how", LOST)
def test_who_created_a_document_hears_so_though_the_answer_was_lost(
    faulty: Lake, behind: Lake, proxy: FaultyProxy, how: str
) -> None:
    proxy.add(LOST[how], is_("PUT"))
    assert faulty.create_json("d/once.json", {"by": "us"})
    assert behind.read_json("d/once.json") == {"by": "us"}
    assert not faulty.create_json("d/once.json", {"by": "others"})
    proxy.add(reset(), is_("PUT"))
    assert not faulty.create_json("d/once.json", {"by": "others"})


@pytest.mark.parametrize("how", LOST)
def test_a_file_in_parts_is_there_though_the_answer_to_its_end_was_lost(
    faulty: Lake, behind: Lake, proxy: FaultyProxy, tmp_path: Path, how: str
) -> None:
    (tmp_path / "big").write_bytes(BIG)
    proxy.add(LOST[how], is_("POST", "uploadId"))
    faulty.write("d/new", tmp_path / "big")
    assert proxy.faults == 1
    assert behind.read("d/new") == BIG


@pytest.mark.parametrize("how", LOST)
def test_a_promotion_whose_answer_was_lost_is_made_once(
    faulty: Lake, behind: Lake, proxy: FaultyProxy, tmp_path: Path, how: str
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"1")
    store = ModelStore(faulty, "pets")
    proxy.add(LOST[how], is_("PUT", "model.json"))
    model = store.save(Modality.WITH_IMAGE, tmp_path / "model", manifest())
    proxy.add(LOST[how], is_("PUT", "champions"))
    champion = store.promote(Modality.WITH_IMAGE, model.version, "better")
    assert champion.generation == 1
    assert ModelStore(behind, "pets").champions(Modality.WITH_IMAGE) == [champion]
    assert proxy.faults == 2


def manifest() -> dict[str, Any]:
    from tests.registry.test_model_store import MANIFEST  # what a model must say of itself

    return dict(MANIFEST)


@pytest.mark.parametrize("how", LOST)
def test_an_upload_and_a_wording_whose_answers_were_lost_are_noted_once(
    faulty: Lake, behind: Lake, proxy: FaultyProxy, how: str
) -> None:
    drop_zip(behind, "a.zip", {"t.csv": table("id,age,colour", "1,2,red")})
    source = found(behind, "a.zip")
    proxy.add(LOST[how], is_("PUT", "source.json"))
    register(faulty, source)
    assert read_source(behind, "pets", source.upload) == source
    proxy.add(LOST[how], is_("PUT", "specs"))
    assert spec_generation(faulty, dataset()) == 1
    assert spec_generation(behind, dataset()) == 1
    assert proxy.faults == 2


# -- a publication that is interrupted ------------------------------------------------------------


@pytest.mark.parametrize("fault", [reset(), lose_answer()], ids=["not done", "done, not told"])
def test_a_publication_that_stops_at_any_request_is_the_old_one_or_the_new_one(
    faulty: Lake, behind: Lake, proxy: FaultyProxy, tmp_path: Path, fault: Fault,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(lake_s3, "PATIENCE", lake_s3.Patience(1, 0.1, 1, 1, 0.01, 0.01))
    files = {"a.bin": tmp_path / "a", "big.bin": tmp_path / "big"}

    def version(number: int) -> dict[str, Path]:
        files["a.bin"].write_bytes(b"%d" % number)
        files["big.bin"].write_bytes(BIG + b"%d" % number)
        return files

    def whole(document: dict[str, Any], number: int) -> bool:
        contents = {name: behind.read_published(document, name) for name in files}
        return contents == {"a.bin": b"%d" % number, "big.bin": BIG + b"%d" % number}

    behind.publish("d/u/doc.json", version(0), {"n": 0})
    newest = 0
    for number in range(1, 20):
        proxy.clear()
        proxy.add(fault, skip=number - 1)
        proxy.add(reset(), times=None, skip=number - 1)
        stopped = False
        try:
            faulty.publish("d/u/doc.json", version(number), {"n": number})
        except LakeError:
            stopped = True
        document = behind.read_json("d/u/doc.json")
        assert document is not None
        assert document["n"] in (newest, number)
        assert whole(document, document["n"])
        proxy.clear()
        assert whole(faulty.publish("d/u/doc.json", version(number), {"n": number}), number)
        newest = number
        if not stopped:
            break
    assert 5 < number < 20


# -- who may not ----------------------------------------------------------------------------------


REFUSED = {
    "ExpiredToken": (400, "lake_credentials", "Renew the credentials"),
    "InvalidAccessKeyId": (403, "lake_credentials", "Renew the credentials"),
    "SignatureDoesNotMatch": (403, "lake_credentials", "Renew the credentials"),
    "RequestTimeTooSkewed": (403, "lake_clock", "clock"),
    "AccessDenied": (403, "lake_denied", "GetObject"),
    "NoSuchBucket": (404, "lake_no_bucket", "MM_LAKE"),
    "PermanentRedirect": (301, "lake_region", "AWS_REGION"),
    "XMinioStorageFull": (507, "lake_full", "Free some space"),
}


@pytest.mark.parametrize("s3_code", REFUSED)
def test_each_refusal_has_its_own_code_and_a_remedy_that_fits(
    faulty: Lake, proxy: FaultyProxy, tmp_path: Path, s3_code: str
) -> None:
    status, code, remedy = REFUSED[s3_code]
    (tmp_path / "big").write_bytes(BIG)
    proxy.add(answer(status, said(s3_code, "the reason")), is_("HEAD"), times=None)
    proxy.add(answer(status, said(s3_code, "the reason")), times=None)
    operations: list[Callable[[], Any]] = [
        *(lambda read=read: read(faulty, tmp_path) for read in READING.values()),
        *(lambda look=look: look(faulty) for look in LOOKING.values()),
        *(lambda write=write: write(faulty, tmp_path / "big") for _, write in WRITING.values()),
        lambda: faulty.read_json("d/doc.json"),
    ]
    for operation in operations:
        with pytest.raises(LakeError) as caught:
            operation()
        assert caught.value.code == code
        assert remedy in caught.value.todo
        assert faulty.url in caught.value.where
        assert "\n" not in caught.value.what


def test_a_missing_object_is_no_refusal(faulty: Lake, behind: Lake) -> None:
    behind.write("d/x", b"1")
    assert faulty.stat("d/none") is None
    assert faulty.read_json("d/none") is None
    with pytest.raises(LakeError) as caught:
        faulty.open("d/none")
    assert caught.value.code == "lake_not_found"


@pytest.mark.parametrize(
    ("command", "s3_code"),
    [("sync", "ExpiredToken"), ("sync", "SlowDown"), ("doctor", "AccessDenied"),
     ("doctor", "NoSuchBucket")],
)  # fmt: skip
def test_the_command_line_says_it_without_a_traceback(
    faulty: Lake, proxy: FaultyProxy, command: str, s3_code: str
) -> None:
    from mm_assets.cli.main import app

    file = faulty.settings.defs_folder / "parts" / "defs.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(
        "type: mm_assets.pipeline.DatasetPipeline\nattributes: {dataset: parts, id_column: part, "
        "label_column: state, problem_type: binary, columns: {weight: number}}\n"
    )
    status, code, remedy = REFUSED.get(s3_code, (503, "lake_unreachable", "again"))
    proxy.add(answer(status, said(s3_code)), times=None)
    result = CliRunner().invoke(app, [command])
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    shown = "".join((result.stdout + result.stderr).split())
    assert "Traceback" not in shown
    assert code in shown
    assert "".join(remedy.split()) in shown


# -- the proxy itself -----------------------------------------------------------------------------


def test_the_proxy_carries_chunked_bodies_and_meets_the_right_requests(s3_endpoint: str) -> None:
    import http.client

    with FaultyProxy(s3_endpoint) as proxy:
        proxy.add(answer(418, b"tea"), is_("PUT", "/b"), skip=1, times=2)
        host = proxy.url.removeprefix("http://")
        seen = []
        for _ in range(4):
            connection = http.client.HTTPConnection(host)
            connection.request("PUT", "/bucket", iter([b"ab", b"cde"]), encode_chunked=True)
            seen.append(connection.getresponse().status)
            connection.close()
        assert seen[1:3] == [418, 418]
        assert 418 not in (seen[0], seen[3])
        assert [request.body for request in proxy.seen] == [b"abcde"] * 4
        assert proxy.faults == 2
