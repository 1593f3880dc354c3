"""The merge rule: of everything that was ever predicted of a record, which one the table keeps.

The table keeps the greatest prediction ever offered, by the order of `ORDER`: an image beats no
image, then the newer row, then the newer image, then the newer champion, then the newer wording of
the YAML, and, so that the order is total, a hash of the content. "Newer" compares upload keys,
which begin with the time of arrival. The greatest of a set does not depend on the order in which
its members come, so any order, repetition, crash or backfill ends in the same table.
"""

from __future__ import annotations

# Columns of an offered prediction that decide which one stays, most significant first.
ORDER = (
    "modality_rank", "upload", "image_upload", "model_generation", "spec_generation",
    "content_hash",
)  # fmt: skip
