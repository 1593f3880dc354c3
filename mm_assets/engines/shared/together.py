"""What is set for a whole process while a model is asked, where many threads may ask at once."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import cache
from types import TracebackType
from typing import Any

FEW = 64  # records


class Together:
    """A context that many threads are in: the first one opens it, and the last one closes it.

    If each of them opened its own, the first to leave would undo what the others rely on, and the
    last would leave behind what it had found.
    """

    def __init__(self, opened: Callable[[], AbstractContextManager[Any]]) -> None:
        self._opened = opened
        self._lock = threading.Lock()
        self._inside = 0
        self._stack = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._stack.enter_context(self._opened())
            self._inside += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._stack.close()


def few_in_one_thread(records: int) -> AbstractContextManager[None]:
    """For products of matrices: where rows are few, threads wait longer than they compute."""
    return _in_one_thread() if records <= FEW else nullcontext()


@cache
def _in_one_thread() -> Together:
    pools = importlib.import_module("threadpoolctl").ThreadpoolController()
    blas = pools.select(user_api="blas")
    return Together(lambda: blas.limit(limits=1))
