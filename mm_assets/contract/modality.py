"""Whether a record has an image: which of the two models it meets."""

from __future__ import annotations

from enum import StrEnum


class Modality(StrEnum):
    """Whether a record has an image that really decodes."""

    WITH_IMAGE = "with_image"
    WITHOUT_IMAGE = "without_image"
