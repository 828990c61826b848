"""How many threads render an image."""

from __future__ import annotations

import os

import torch
from torch.utils.data import get_worker_info

THREADS_VARIABLE = "ZIPSPLAT_NUM_THREADS"


class _Choice:
    """What this process has chosen."""

    num_threads: int | None = None


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
    if _Choice.num_threads is not None:
        return _Choice.num_threads
    text = os.environ.get(THREADS_VARIABLE, "")
    if text:
        if not text.isdecimal() or int(text) < 1:
            raise ValueError(f"{THREADS_VARIABLE} must be a positive number, got {text!r}")
        return int(text)
    return 1 if get_worker_info() is not None else torch.get_num_threads()
