"""Connections to S3: boto3's client and obstore's store, with the same credentials and patience."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from mm_assets.contract.settings import Settings
from mm_assets.lake.errors import no_credentials

if TYPE_CHECKING:
    from obstore.store import ObjectStore


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a request is tried before the lake counts as unreachable; all in seconds.

    The bound for one request is `retrying + silence`: no try starts after `retrying`, and none
    lasts longer than `silence` without a byte. Pauses grow from `pause` on, with jitter.
    `silence` is long because a slow line may need that for the 5 MB of a part.
    """

    attempts: int = 6
    retrying: float = 60.0
    connecting: float = 5.0
    silence: float = 120.0
    pause: float = 0.1
    longest_pause: float = 10.0


PATIENCE = Patience()


def tries(patience: Patience) -> Iterator[bool]:
    """Once for each try, with pauses between them; False for the last one."""
    end = time.monotonic() + patience.retrying
    for number in range(patience.attempts):
        pause = min(patience.pause * 2**number, patience.longest_pause) * random.random()  # noqa: S311
        more = number + 1 < patience.attempts and time.monotonic() + pause < end
        yield more
        if not more:
            return
        time.sleep(pause)


def connect_boto3(settings: Settings, patience: Patience | None = None) -> Any:
    """A boto3 client. Raises ValueError for an endpoint that is no URL."""
    import boto3
    from botocore.config import Config
    from botocore.session import get_session

    patience = patience or PATIENCE
    # A session of its own, as it is not for several threads; what S3 can do is read once.
    session = get_session()
    session.register_component("data_loader", _data_of(session.get_config_variable("data_path")))
    return boto3.session.Session(botocore_session=session).client(
        "s3",
        endpoint_url=settings.aws_endpoint_url,
        region_name=settings.region,
        config=Config(
            connect_timeout=patience.connecting,
            read_timeout=patience.silence,
            retries={"mode": "standard", "total_max_attempts": patience.attempts},
            max_pool_connections=32,
        ),
    )


@cache
def _data_of(places: str | None) -> Any:
    """What botocore knows of AWS' services, and AWS_DATA_PATH: reading it takes 50 ms."""
    from botocore.loaders import create_loader

    return create_loader(places)


def connect_obstore(settings: Settings, client: Any) -> ObjectStore:
    """An obstore store over the same bucket, prefix and credentials as the boto3 client."""
    from obstore.store import S3Store

    bucket, prefix = settings.bucket_and_prefix
    endpoint = settings.aws_endpoint_url
    return S3Store(
        bucket,
        prefix=prefix or None,
        region=settings.region,
        endpoint=endpoint,
        credential_provider=_credentials_of(client),
        client_options={
            "allow_http": bool(endpoint and endpoint.startswith("http:")),
            "connect_timeout": timedelta(seconds=PATIENCE.connecting),
            "read_timeout": timedelta(seconds=PATIENCE.silence),
            # The whole of a large object may take any time, as long as bytes keep coming; the
            # default of 30 seconds would cut it off.
            "timeout": timedelta(days=1),
        },
        retry_config={
            "max_retries": PATIENCE.attempts - 1,
            "retry_timeout": timedelta(seconds=PATIENCE.retrying),
            "backoff": {
                "init_backoff": timedelta(seconds=PATIENCE.pause),
                "max_backoff": timedelta(seconds=PATIENCE.longest_pause),
                "base": 2,
            },
        },
    )


def _credentials_of(s3_client: Any) -> Any:
    """obstore's view of the boto3 client's credentials; refreshed ones stay refreshed."""
    # boto3 has no public way from a client to its credentials.
    resolved = s3_client._request_signer._credentials  # noqa: SLF001
    if resolved is None:
        raise no_credentials()

    def provide() -> dict[str, Any]:
        frozen = resolved.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": getattr(resolved, "_expiry_time", None),
        }

    return provide
