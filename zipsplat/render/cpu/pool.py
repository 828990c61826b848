"""Threads for the kernels: they run beside torch's own, and survive forks and concurrent callers.

The kernels release the interpreter lock and know nothing of threads. The split of the work either
does not depend on the number of threads or does not affect the result, so one thread and many give
equal bits.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

_MAX_THREADS = 256  # a limit only: the executor starts threads as they are needed


class _Threads:
    """The executor of this process; a forked child makes its own."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Leave the executor behind; its threads do not exist in a forked child."""
        self.lock = threading.Lock()
        self.executor: ThreadPoolExecutor | None = None

    def get(self) -> ThreadPoolExecutor:
        """The executor; it starts threads only as they are needed."""
        with self.lock:
            if self.executor is None:
                self.executor = ThreadPoolExecutor(_MAX_THREADS, "zipsplat-render")
            return self.executor


_threads = _Threads()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.forget)


def run(task: Callable[..., Any], ranges: Iterable[tuple[int, int]], num_threads: int) -> None:
    """Call `task(first, last)` for every range, on several threads.

    The caller's own thread works too. The first error is raised when all have ended.
    """
    parts = list(ranges)
    waiting = iter(parts)
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                part = next(waiting, None)
            if part is None:
                return
            task(*part)

    num_threads = min(num_threads, len(parts))
    if num_threads <= 1:
        work()
        return
    executor = _threads.get()
    helpers = [executor.submit(work) for _ in range(num_threads - 1)]
    try:
        work()
    finally:
        for helper in helpers:
            helper.cancel()  # one that has not begun would find nothing left to do
    for helper in helpers:
        if not helper.cancelled():
            helper.result()
