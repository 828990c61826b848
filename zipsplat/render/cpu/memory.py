"""Reuse of large arrays, because fresh memory is slow.

The operating system zeroes each page of fresh memory at its first use: for the tens of megabytes of
an image and its gradients, that takes as long as projecting them. So memory that is no longer in
use is kept for the next call.

No explicit release is needed. A piece of memory belongs to the arrays that view it, and is returned
when the last of them is freed: an intermediate array at the end of its stage, what the backward
pass needs with its graph, a gradient when the optimizer drops it. At most `KEPT_BYTES` are kept per
process; the oldest are freed first. A forked child starts with nothing.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from zipsplat.render.cpu.layout import ByteArray
from zipsplat.render.cpu.simd import Array, aligned_empty

KEPT_BYTES = 256 << 20  # several images with their gradients
_SMALLEST = 1 << 16  # bytes; below this, fresh memory is as fast
_SLACK = 1.25  # a piece serves requests down to its size divided by this: a fifth may be wasted


class Pieces:
    """Returned memory, oldest first.

    Args:
        limit: how many bytes are kept at most.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.forget()

    def forget(self) -> None:
        """Keep nothing; a forked child cannot know in what state it found the lock."""
        self._lock = threading.Lock()
        self.kept: list[ByteArray] = []

    def take(self, num_bytes: int) -> ByteArray:
        """A cache-aligned piece of at least `num_bytes`, not initialised."""
        with self._lock:
            best = -1
            for number, piece in enumerate(self.kept):
                if num_bytes <= len(piece) <= _SLACK * num_bytes and (
                    best < 0 or len(piece) <= len(self.kept[best])
                ):
                    best = number
            if best >= 0:
                return self.kept.pop(best)
        step = 1 << max(0, num_bytes.bit_length() - 4)  # sizes that differ little become equal
        return aligned_empty(-(-num_bytes // step) * step, np.uint8)

    def give_back(self, piece: ByteArray) -> None:
        """Keep a piece that no array views any more."""
        # An array can be freed at any moment, even while this thread holds the lock: waiting could
        # deadlock, so the piece is freed instead.
        if len(piece) > self.limit or not self._lock.acquire(blocking=False):
            return
        try:
            self.kept.append(piece)
            while sum(map(len, self.kept)) > self.limit:
                self.kept.pop(0)
        finally:
            self._lock.release()


class _Owner:
    """The base of the arrays that view a piece; its end returns the piece."""

    def __init__(self, pieces: Pieces, piece: ByteArray, num_bytes: int) -> None:
        self._pieces = pieces
        self._piece = piece
        self.__array_interface__: dict[str, Any] = {
            **piece.__array_interface__,
            "shape": (num_bytes,),
        }

    def __del__(self) -> None:
        self._pieces.give_back(self._piece)


PIECES = Pieces(KEPT_BYTES)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=PIECES.forget)


def empty(size: int, dtype: npt.DTypeLike = np.float32) -> Array:
    """A cache-aligned array, not initialised."""
    num_bytes = size * np.dtype(dtype).itemsize
    if num_bytes < _SMALLEST:
        return aligned_empty(size, dtype)
    return np.asarray(_Owner(PIECES, PIECES.take(num_bytes), num_bytes)).view(dtype)


def zeros(size: int, dtype: npt.DTypeLike = np.float32) -> Array:
    """A cache-aligned array of zeros."""
    array = empty(size, dtype)
    array.fill(0)
    return array
