"""What threads set for the whole process is set until the last of them is through."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from mm_assets.engines.shared.together import FEW, Together, few_in_one_thread


def noted(said: list[str]) -> Together:
    @contextlib.contextmanager
    def opened() -> Iterator[None]:
        said.append("open")
        try:
            yield
        finally:
            said.append("close")

    return Together(opened)


def test_threads_that_overlap_open_it_once_and_the_last_one_closes_it() -> None:
    said: list[str] = []
    together, all_in = noted(said), threading.Barrier(8)

    def stay(_: int) -> list[str]:
        with together:
            all_in.wait()
            return list(said)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(stay, range(8))) == [["open"]] * 8
    assert said == ["open", "close"]
    with together:
        pass
    assert said == ["open", "close"] * 2


def test_products_of_few_rows_are_made_in_one_thread_and_all_others_as_before() -> None:
    from threadpoolctl import threadpool_info, threadpool_limits

    def of_numpy() -> list[int]:
        found = [one for one in threadpool_info() if one["user_api"] == "blas"]
        return [one["num_threads"] for one in found if "numpy" in one["filepath"]]

    importlib.import_module("numpy")  # and with it its BLAS
    with threadpool_limits(2, "blas"):
        with few_in_one_thread(FEW):
            assert set(of_numpy()) == {1}
        assert set(of_numpy()) == {2}
        with few_in_one_thread(FEW + 1):
            assert set(of_numpy()) == {2}


def test_it_is_closed_after_an_error_too() -> None:
    said: list[str] = []
    together = noted(said)
    with pytest.raises(ZeroDivisionError), together:
        raise ZeroDivisionError
    assert said == ["open", "close"]
