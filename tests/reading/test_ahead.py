"""Items that are made while others are used."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from mm_assets.reading.ahead import one_ahead


def test_the_next_item_is_made_in_another_thread_while_one_is_used() -> None:
    made = [threading.Event() for _ in range(4)]
    threads = set()

    def items() -> Iterator[int]:
        for number, event in enumerate(made):
            threads.add(threading.current_thread())
            event.set()
            yield number

    used = []
    for number in one_ahead(items()):
        if number + 1 < len(made):  # it comes although nobody has asked for it
            assert made[number + 1].wait(10)
        if number + 2 < len(made):
            assert not made[number + 2].is_set()
        used.append(number)
    assert used == [0, 1, 2, 3]
    assert threading.main_thread() not in threads


def test_what_making_an_item_raises_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("three")

    ahead = one_ahead(items())
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(KeyError, match="three"):
        next(ahead)


def test_no_thread_stays_behind_when_no_more_is_wanted() -> None:
    before = threading.active_count()
    ahead = one_ahead(iter(range(5)))
    assert next(ahead) == 0
    ahead.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
