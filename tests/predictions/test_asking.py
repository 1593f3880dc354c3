"""A champion is asked in one thread of BLAS, and what computes is not looked for each time."""

from __future__ import annotations

import sys

import numpy as np
from threadpoolctl import threadpool_info

from mm_assets.predictions.asking import blas_here


def threads_of_blas() -> set[int]:
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


def test_blas_is_looked_for_again_only_when_modules_have_come() -> None:
    assert np.eye(2) @ np.eye(2) is not None  # it is loaded
    before, modules = threads_of_blas(), len(sys.modules)
    found = blas_here(modules)
    with found.limit(limits=1):
        assert threads_of_blas() == {1}
    assert threads_of_blas() == before
    assert blas_here(modules) is found
    assert blas_here(modules + 1) is not found
