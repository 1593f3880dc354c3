"""Rows that name their images by address: what is fetched, what is refused, and what stays."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mm_assets.contract.errors import REFUSALS, LakeError
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.tables.open import open_store
from mm_assets.uploads import fetched
from mm_assets.uploads.check import check
from mm_assets.uploads.fetched import TRIES
from mm_assets.uploads.find import register
from mm_assets.uploads.ledger import retry
from mm_assets.uploads.received import read_images, read_receipt
from tests.make import dataset, draw_image, found, rows_of, table
from tests.manifest.test_images_by_column import images_of
from tests.manifest.test_join import Flow
from tests.reading.test_fetch import serving_at

HEADER = "id,age,colour,photo"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mm_assets.reading.fetch_many.PAUSES", (0.0, 0.0))


@pytest.fixture
def host() -> Iterator[Any]:
    """Has the same image at every path that is no trap of tests/reading/test_fetch.py."""
    with serving_at("127.0.0.1", content=draw_image(7)) as server:
        server.at = f"127.0.0.1:{server.port}"
        yield server


def flow_of(settings: Settings, *hosts: str, inside: bool = True, **changes: Any) -> Flow:
    """What a flow allows: these hosts by the YAML, and by the settings, as they are loopback."""
    told = settings.model_copy(update={"private_hosts": ", ".join(hosts) if inside else ""})
    spec = dataset(image_column="photo", image_separator="|", allow_urls=hosts, **changes)
    return Flow(Lake(told), open_store(told), spec)


def codes(flow: Flow, name: str) -> dict[str, str]:
    """Of each file and address that was refused its code."""
    receipt = read_receipt(flow.lake, "pets", flow.keys[name])
    files = rows_of(flow.lake, receipt, "files.parquet")
    assert all(one["code"] in REFUSALS and one["reason"] for one in files if one["code"])
    return {one["file"]: one["code"] for one in files if one["code"]}


def asked_for_again(flow: Flow, name: str) -> None:
    """What `mm retry` does before the upload is taken through once more."""
    register(flow.lake, found(flow.lake, name))
    retry(flow.lake, "pets", flow.keys[name])


def test_an_image_at_an_address_is_one_of_the_upload_like_any_other(
    folder_settings: Settings, host: Any
) -> None:
    flow = flow_of(folder_settings, host.at)
    one, two = f"http://{host.at}/1.png", f"http://{host.at}/2.png?size=3"
    flow.drop("a.zip", {
        "pets.csv": table(HEADER, f"a,1,red,{one}", f"b,2,red,{two}|own.png", "c,3,red,own.png",
                          f"d,4,red,{one}", "e,5,red,"),
        "own.png": draw_image(1), "1.png": draw_image(2),
    })  # fmt: skip
    flow.take("a.zip")
    assert images_of(flow, "a.zip") == {"a": one, "b": two, "c": "own.png", "d": one, "e": None}
    receipt = read_receipt(flow.lake, "pets", flow.keys["a.zip"])
    assert receipt["counts"]["images"] == 4
    assert codes(flow, "a.zip") == {}
    assert flow.fates("a.zip")["1.png"] == "orphaned"
    assert receipt["tables"][0]["read_as"]["images_at"] == {
        "addresses": 2, "refused": 0, "fetched": 2,
    }  # fmt: skip
    assert sorted(path for path, _, _ in host.asked) == ["/1.png", "/2.png?size=3"]
    (sha256,) = {row["image_sha256"] for row in flow.records("a.zip").values()
                 if row["image_file"] == one}  # fmt: skip
    (packed,) = read_images(flow.lake, "pets", flow.keys["a.zip"], {sha256})
    assert packed[sha256]


def test_what_does_not_come_is_said_and_its_record_goes_on(
    folder_settings: Settings, host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetched, "MOST_BYTES", 5_000)
    flow = flow_of(folder_settings, host.at)
    at = f"http://{host.at}"
    wanted = {
        f"{at}/good.png": None,
        f"{at}/status/404": "url_failed",
        f"{at}/status/503": "url_failed",
        f"{at}/size/9000": "url_too_large",
        f"{at}/size/50": "image_unreadable",
        f"{at}/size/0": "image_unreadable",
        f"{at}/to/302/http://169.254.169.254/latest/": "url_not_allowed",
        "http://other.example.org/a.png": "url_not_allowed",
        "http://user:word@127.0.0.1/a.png": "url_invalid",
        "s3://bucket/a.png": "bucket_not_allowed",
    }
    rows = [f"r{n},1,red,{address}" for n, address in enumerate(wanted)]
    flow.drop("a.zip", {"pets.csv": table(HEADER, *rows)})
    document = flow.take("a.zip")
    assert codes(flow, "a.zip") == {name: code for name, code in wanted.items() if code}
    assert (document["counts"]["in_manifest"], document["counts"]["with_image"]) == (len(wanted), 1)
    asked = [path for path, _, _ in host.asked]
    assert (asked.count("/status/503"), asked.count("/status/404")) == (3, 1)


def test_an_address_inside_is_reached_only_if_the_settings_name_its_host(
    folder_settings: Settings, host: Any
) -> None:
    flow = flow_of(folder_settings, host.at, inside=False)
    flow.drop("a.zip", {"pets.csv": table(HEADER, f"a,1,red,http://{host.at}/a.png")})
    flow.take("a.zip")
    assert list(codes(flow, "a.zip").values()) == ["url_address"]
    assert host.asked == []


def test_an_address_that_is_not_fetched_can_mean_a_file_of_the_upload(
    folder_settings: Settings,
) -> None:
    flow = flow_of(folder_settings)
    flow.drop("a.zip", {
        "pets.csv": table(HEADER, "a,1,red,https://example.org/images/1.png"),
        "images/1.png": draw_image(1),
    })  # fmt: skip
    flow.take("a.zip")
    assert images_of(flow, "a.zip") == {"a": "images/1.png"}


def test_what_was_fetched_first_stays_whatever_lies_there_later(
    folder_settings: Settings, host: Any
) -> None:
    flow = flow_of(folder_settings, host.at)
    good, gone = f"http://{host.at}/a.png", f"http://{host.at}/status/404"
    flow.drop("a.zip", {"pets.csv": table(HEADER, f"a,1,red,{good}", f"b,1,red,{gone}")})
    flow.take("a.zip")
    before, asked = flow.records("a.zip"), len(host.asked)
    host.content = draw_image(8)
    flow.take("a.zip")
    assert flow.records("a.zip") == before
    assert len(host.asked) == asked
    asked_for_again(flow, "a.zip")
    flow.take("a.zip")
    assert flow.records("a.zip") == before
    assert [path for path, _, _ in host.asked[asked:]] == ["/status/404"]
    assert codes(flow, "a.zip") == {gone: "url_failed"}


def test_where_nothing_answers_the_try_fails_and_the_last_one_goes_on(
    folder_settings: Settings,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    flow = flow_of(folder_settings, f"127.0.0.1:{port}")
    rows = [f"r{n},1,red,http://127.0.0.1:{port}/{n}.png" for n in range(40)]
    flow.drop("a.zip", {"pets.csv": table(HEADER, *rows)})
    for _ in range(TRIES - 1):
        with pytest.raises(LakeError, match="images_unreachable"):
            flow.take("a.zip")
    flow.take("a.zip")
    assert set(codes(flow, "a.zip").values()) == {"url_failed"}
    assert set(images_of(flow, "a.zip").values()) == {None}
    # The host is up again, and a person asks once more.
    asked_for_again(flow, "a.zip")
    with serving_at("127.0.0.1", port, content=draw_image(1)) as up:
        flow.take("a.zip")
    assert len(up.asked) == 40
    assert codes(flow, "a.zip") == {}
    assert None not in images_of(flow, "a.zip").values()


def test_a_host_that_is_dead_beside_one_that_is_not_costs_only_its_own(
    folder_settings: Settings, host: Any
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dead = f"127.0.0.1:{listener.getsockname()[1]}"
    flow = flow_of(folder_settings, host.at, dead)
    rows = [f"r{n},1,red,http://{(host.at, dead)[n % 2]}/{n}.png" for n in range(60)]
    flow.drop("a.zip", {"pets.csv": table(HEADER, *rows)})
    assert flow.take("a.zip")["counts"]["with_image"] == 30
    receipt = read_receipt(flow.lake, "pets", flow.keys["a.zip"])
    reasons = {one["reason"] for one in rows_of(flow.lake, receipt, "files.parquet")}
    assert any(reason and "so it was not asked" in reason for reason in reasons)


@pytest.mark.parametrize("order", itertools.permutations(["rows", "photos", "labels"]))
def test_the_order_of_uploads_does_not_matter(
    folder_settings: Settings, host: Any, order: tuple[str, ...]
) -> None:
    flow = flow_of(folder_settings, host.at)
    at = f"http://{host.at}"
    uploads = {
        "rows": table(HEADER, f"a,1,red,{at}/1.png", "b,2,red,"),
        "photos": table("id,photo", f"b,{at}/2.png"),
        "labels": table("id,label", "a,cat"),
    }
    for name, rows in uploads.items():  # they come in this order, and are taken in another
        flow.drop(f"{name}.zip", {"t.csv": rows})
    for name in order:
        flow.take(f"{name}.zip")
    assert images_of(flow, "rows.zip") == {"a": f"{at}/1.png", "b": f"{at}/2.png"}


def test_an_object_is_read_from_a_bucket_that_the_settings_allow(
    s3_settings: Settings, s3_client: Any, folder_settings: Settings
) -> None:
    bucket = s3_settings.bucket_and_prefix[0]
    s3_client.put_object(Bucket=bucket, Key="a b/1.png", Body=draw_image(1))
    flow = flow_of(s3_settings.model_copy(update={"allow_buckets": f"x, {bucket}"}))
    there, gone = f"s3://{bucket}/a b/1.png", f"s3://{bucket}/2.png"
    flow.drop("a.zip", {"pets.csv": table(HEADER, f"a,1,red,{there}", f"b,1,red,{gone}")})
    flow.take("a.zip")
    assert images_of(flow, "a.zip") == {"a": there, "b": None}
    assert codes(flow, "a.zip") == {gone: "object_missing"}


def test_before_sending_nothing_is_fetched_and_what_is_not_allowed_is_said(
    tmp_path: Path, host: Any
) -> None:
    spec = dataset(image_column="photo", allow_urls=[host.at])
    rows = [f"a,1,red,http://{host.at}/1.png", "b,1,red,https://example.org/2.png",
            "c,1,red,s3://bucket/3.png"]  # fmt: skip
    (tmp_path / "pets.csv").write_bytes(table(HEADER, *rows))
    report = check(tmp_path, spec)
    assert report.problems_by_code == {"url_not_allowed": 1}
    assert report.tables[0]["read_as"]["images_at"]["fetched"] is None
    assert host.asked == []


@pytest.mark.parametrize("wrong", ["https://example.org", "a b", "user@example.org", "*", ""])
def test_a_host_that_is_none_is_refused_with_the_yaml(wrong: str) -> None:
    with pytest.raises(ValueError, match="is no host"):
        dataset(image_column="photo", allow_urls=[wrong])
    with pytest.raises(ValueError, match="is for `image_column`"):
        dataset(allow_urls=["example.org"])
