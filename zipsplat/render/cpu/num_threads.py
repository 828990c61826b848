"""How many threads render an image."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils.data import get_worker_info

THREADS_VARIABLE = "ZIPSPLAT_NUM_THREADS"


class _Choice:
    """What this process has chosen."""

    num_threads: int | None = None


class _Within(threading.local):
    """What `torch_on_one_thread` has fixed in this thread."""

    num_threads: int | None = None


_within = _Within()


@contextmanager
def torch_on_one_thread() -> Iterator[None]:
    """A context for small tensors between renders: PyTorch has one thread, the kernels as before.

    After an operation, PyTorch's threads wait actively for about a millisecond, on the cores that
    the kernels need next (benchmarks/refinement_step.md).
    """
    of_torch, of_kernels = torch.get_num_threads(), _within.num_threads
    _within.num_threads = get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(of_torch)
        _within.num_threads = of_kernels


def set_num_threads(num_threads: int | None) -> None:
    """Choose how many threads render an image; None for the default.

    Raises:
        ValueError: if the number is not positive.
    """
    if num_threads is not None and num_threads < 1:
        raise ValueError(f"num_threads must be at least 1, got {num_threads}")
    _Choice.num_threads = num_threads


def get_num_threads() -> int:
    """How many threads render an image.

    The number that was set; otherwise `$ZIPSPLAT_NUM_THREADS`; otherwise 1 in a data-loading
    worker and torch's number elsewhere.

    Raises:
        ValueError: if the variable is not a positive number.
    """
    chosen = _within.num_threads or _Choice.num_threads
    if chosen is not None:
        return chosen
    text = os.environ.get(THREADS_VARIABLE, "")
    if text:
        if not text.isdecimal() or int(text) < 1:
            raise ValueError(f"{THREADS_VARIABLE} must be a positive number, got {text!r}")
        return int(text)
    return 1 if get_worker_info() is not None else torch.get_num_threads()
