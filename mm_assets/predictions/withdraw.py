"""Take a whole upload back: written in the lake for good, then gone from the table at once.

What it had pushed aside (older answers, answers without its images) comes back with the upload's
own next run, which is pending until that is done.
"""

from __future__ import annotations

from mm_assets.lake.lake import Lake
from mm_assets.tables.store import Store
from mm_assets.uploads.withdrawals import Withdrawal, withdraw_upload


def withdraw(
    lake: Lake, store: Store, dataset: str, upload: str, reason: str = ""
) -> tuple[Withdrawal, bool]:
    """Withdraw an upload; returns that, and whether it is new. Safe to repeat after any failure."""
    found, new = withdraw_upload(lake, dataset, upload, reason)
    store.withdraw(dataset, [upload])
    return found, new
