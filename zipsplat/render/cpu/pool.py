"""Threads for the kernels: they run beside torch's own, and survive forks and concurrent callers.

The kernels release the interpreter lock and know nothing of threads. How the work is cut up
never depends on the number of threads, or does not matter to the result; so that every number
comes out the same for one thread and for many.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch.utils.data import get_worker_info

THREADS_VARIABLE = "ZIPSPLAT_NUM_THREADS"
_MAX_THREADS = 256


class _Threads:
    """The executor of this process; a forked child makes its own."""

    def __init__(self) -> None:
        self.chosen: int | None = None
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


def set_num_threads(num_threads: int | None) -> None:
    """Choose how many threads render an image; None for the default.

    Raises:
        ValueError: if the number is not positive.
    """
    if num_threads is not None and num_threads < 1:
        raise ValueError(f"num_threads must be at least 1, got {num_threads}")
    _threads.chosen = num_threads


def get_num_threads() -> int:
    """How many threads render an image.

    The number that was set; otherwise `$ZIPSPLAT_NUM_THREADS`; otherwise 1 in a data-loading
    worker and torch's number elsewhere.

    Raises:
        ValueError: if the variable is not a positive number.
    """
    if _threads.chosen is not None:
        return _threads.chosen
    text = os.environ.get(THREADS_VARIABLE, "")
    if text:
        if not text.isdecimal() or int(text) < 1:
            raise ValueError(f"{THREADS_VARIABLE} must be a positive number, got {text!r}")
        return int(text)
    return 1 if get_worker_info() is not None else torch.get_num_threads()


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
            helper.cancel()  # one that has not begun finds nothing left to do
    for helper in helpers:
        if not helper.cancelled():
            helper.result()
