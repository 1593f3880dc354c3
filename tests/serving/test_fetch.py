"""Images by address, as a service gets them: URLs, buckets and names, each allowed or refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from mm_assets.contract.errors import UsageError
from mm_assets.contract.settings import Settings
from mm_assets.reading.images import NormalisedImage
from mm_assets.serving.fetch import Fetching
from mm_assets.serving.options import Options
from mm_assets.serving.reading import Fault
from mm_assets.serving.server import check
from tests.make import dataset
from tests.reading.test_fetch import IMAGE, serving_at
from tests.serving.conftest import World
from tests.serving.test_native import PREDICTIONS, client_of, png

LIMIT = 50_000


def fetched(settings: Settings, address: str, **options: Any) -> Any:
    async def run() -> Any:
        fetch = Fetching(Options(most_bytes=LIMIT, **options), settings)
        try:
            return await fetch(dataset(), address)
        finally:
            await fetch.aclose()

    return asyncio.run(run())


def code(found: Any) -> str:
    assert isinstance(found, Fault), found
    assert found.todo, found.code
    return found.code


# -- URLs --


def test_a_url_is_fetched_from_a_host_that_is_allowed(folder_settings: Settings) -> None:
    with serving_at("127.0.0.1") as host:
        at = f"127.0.0.1:{host.port}"
        assert fetched(folder_settings, f"http://{at}/a.png", private_hosts=(at,)) == IMAGE
        assert fetched(folder_settings, f"HTTP://{at}/a.png", private_hosts=(at,)) == IMAGE
        assert len(host.asked) == 2
        assert code(fetched(folder_settings, f"http://{at}/a.png")) == "url_not_allowed"
        assert code(fetched(folder_settings, f"http://{at}/a", allow_urls=(at,))) == "url_address"
        large = fetched(folder_settings, f"http://{at}/size/{LIMIT + 1}", private_hosts=(at,))
        assert code(large) == "url_too_large"
        assert len(host.asked) == 3


@pytest.mark.parametrize("how", [{"allow_urls": ("https://x/",)}, {"private_hosts": ("*",)}])
def test_a_host_that_is_none_is_said_before_the_service_starts(how: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="is no host"):
        check(Options(**how))


# -- buckets --


@pytest.fixture
def bucket(s3_settings: Settings, s3_client: Any) -> str:
    """The bucket of the lake, with images in it."""
    name = s3_settings.bucket_and_prefix[0]
    s3_client.put_object(Bucket=name, Key="a b/ä%20.png", Body=IMAGE, ContentEncoding="gzip")
    s3_client.put_object(Bucket=name, Key="most", Body=b"x" * LIMIT)
    s3_client.put_object(Bucket=name, Key="large", Body=b"x" * (LIMIT + 1))
    return name


def test_an_object_is_read_from_a_bucket_that_is_allowed(
    s3_settings: Settings, bucket: str
) -> None:
    def asked(key: str, allowed: str = bucket) -> Any:
        return fetched(s3_settings, f"s3://{bucket}/{key}", allow_buckets=(allowed,))

    assert asked("a b/ä%20.png") == IMAGE  # the key as it is, the bytes as they are
    assert len(asked("most")) == LIMIT
    assert code(asked("large")) == "object_too_large"
    assert code(asked("nothing")) == "object_missing"
    assert code(asked("")) == "object_missing"
    assert code(asked("k" * 1025)) == "object_missing"
    assert code(asked("half \ud800")) in ("object_failed", "object_missing")
    assert code(asked("most", allowed="another")) == "bucket_not_allowed"
    assert code(asked("most", allowed=bucket[:-1])) == "bucket_not_allowed"
    gone = fetched(
        s3_settings, "s3://no-such-bucket-here/a", allow_buckets=("no-such-bucket-here",)
    )
    assert code(gone) == "object_missing"


@pytest.mark.parametrize("address", ["s3://", "s3:///a", "S3://x", "s3://../a", "s3://%2e/a"])
def test_no_spelling_leads_to_another_bucket(folder_settings: Settings, address: str) -> None:
    found = fetched(folder_settings, address, allow_buckets=("images",))
    assert code(found) == "bucket_not_allowed"


# -- what the lake has --


def test_where_nothing_was_taken_in_no_name_is_known_and_nothing_is_made(
    folder_settings: Settings,
) -> None:
    assert code(fetched(folder_settings, "P1.jpg")) == "image_not_known"
    assert not folder_settings.table_path.exists()
    exported = fetched(folder_settings, "P1.jpg", models=(Path("export"),))
    assert code(exported) == "image_not_known"


@pytest.fixture(scope="module")
def client(trained_pets: World) -> Iterator[TestClient]:
    with client_of(trained_pets) as made:
        yield made


def test_an_image_of_the_lake_answers_as_its_bytes_do(client: TestClient, pets_like: World) -> None:
    """Its record was in an upload; the model sees what was normalised then."""
    pet = next(name for name in pets_like.known.index if pets_like.images[name] is not None)
    record = {**pets_like.record(), "pet": pet}
    by_bytes = client.post(
        PREDICTIONS,
        data={"records": json.dumps(record)},
        files={"image": (f"{pet}-1.png", png(pets_like.images[pet]))},
    ).json()["predictions"]
    by_name = client.post(PREDICTIONS, json={**record, "image": {"name": f"{pet}-1.png"}}).json()
    assert by_name["predictions"] == by_bytes
    assert by_bytes[0]["modality"] == "with_image"


@pytest.mark.parametrize(
    "name", ["P000-7.png", "nobody-1.png", "../P000-1.png", "", "\ud800", "\0"]
)
def test_other_names_are_told_beside_the_answer_without_image(
    client: TestClient, pets_like: World, name: str
) -> None:
    record = {**pets_like.record(), "image": {"name": name}}
    (row,) = client.post(PREDICTIONS, content=json.dumps(record)).json()["predictions"]
    assert (row["modality"], row["code"]) == ("without_image", "image_not_known")
    assert row["todo"]


def test_what_the_lake_has_is_read_whole(pets_like: World) -> None:
    pet = next(name for name in pets_like.known.index if pets_like.images[name] is not None)

    async def run() -> Any:
        return await Fetching(Options(), pets_like.ds.settings)(pets_like.ds.spec, f"{pet}-1.png")

    found = asyncio.run(run())
    assert isinstance(found, NormalisedImage)
    assert found.features["brightness"] > 0
