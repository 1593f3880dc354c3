"""Threads in which torch uses one thread each.

What a network says then does not depend on the number of processors: with another number of
threads its last digits would be others. And for the work of one thread at the same moment several
are faster than threads that wait for each other at every layer.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor


def one_thread_each() -> ThreadPoolExecutor:
    """Threads that run a network in one thread each, as many as torch would take for one network.

    They stay: to start them takes as long as to prepare an image. Not beyond a fork, which has none
    of them.
    """
    import torch

    with _starting:
        key = os.getpid(), torch.get_num_threads()
        if key not in _pools:
            _pools[key] = _started(key[1])
        return _pools[key]


def _started(count: int) -> ThreadPoolExecutor:
    import torch

    pool, all_there = ThreadPoolExecutor(count, "one-thread-each"), threading.Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # asked first, a thread takes what is set for all, and only once
        torch.set_num_threads(1)
        all_there.wait()

    for _ in range(count):
        pool.submit(begin)
    all_there.wait()
    torch.set_num_threads(count)  # they have set it for threads that are yet to come as well
    return pool


_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}
_starting = threading.Lock()
