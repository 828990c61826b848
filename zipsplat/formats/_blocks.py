"""Process the rows of large arrays in cache-sized blocks on several threads.

NumPy and zlib release the interpreter lock while they work on a block.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from zipsplat.processors import num_processors

BLOCK_ROWS = 1 << 14
_MAX_THREADS = 8  # more are limited by memory bandwidth

Item = TypeVar("Item")
Result = TypeVar("Result")
Scalar = TypeVar("Scalar", bound=np.generic)


def blocks(num_rows: int) -> list[slice]:
    """Slices of rows; at least one, which may be empty."""
    return [slice(i, i + BLOCK_ROWS) for i in range(0, max(num_rows, 1), BLOCK_ROWS)]


def on_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Map over items in threads, in order; one per processor, or `OMP_NUM_THREADS`."""
    todo = list(items)
    num_threads = min(_num_threads(), len(todo))
    if num_threads <= 1:
        return [work(item) for item in todo]
    with ThreadPoolExecutor(num_threads) as pool:
        return list(pool.map(work, todo))


def taken(values: NDArray[Scalar], order: NDArray[np.int64]) -> NDArray[Scalar]:
    """Rows in another order."""
    result = np.empty((len(order), *values.shape[1:]), values.dtype)

    def work(rows: slice) -> None:
        # "clip" is the only mode that writes to `out` without a buffer.
        np.take(values, order[rows], axis=0, out=result[rows], mode="clip")

    on_threads(work, blocks(len(order)))
    return result


def fill_rows(rows: NDArray[Scalar], values: NDArray[Scalar]) -> None:
    """Fill some columns of a table, (n, width) of its dtype, with as many columns of values.

    Copies whole rows: NumPy is slow on short rows of numbers.
    """
    if not rows.size:
        return
    row = np.dtype((np.void, rows.shape[1] * rows.itemsize))
    rows.view(row)[:] = np.ascontiguousarray(values, rows.dtype).view(row)


def _num_threads() -> int:
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted) > 0:
        return min(int(wanted), _MAX_THREADS)
    return min(num_processors(), _MAX_THREADS)
