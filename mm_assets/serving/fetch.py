"""Images by address."""

from __future__ import annotations

from mm_assets.contract.settings import Settings
from mm_assets.serving.answering import Fetch
from mm_assets.serving.options import Options
from mm_assets.serving.reading import Fault


def fetching(options: Options, settings: Settings) -> Fetch:
    """What fetches images for this service."""
    del options, settings

    async def fetch(_dataset: str, _address: str) -> bytes | Fault:
        return Fault("url_not_allowed", "images are not fetched from there")

    return fetch
