"""Compiled pixel loops, where NumPy's temporaries cost more than the arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba as numba_module
import numpy as np
import numpy.typing as npt

from zipsplat.digests import sha256_of
from zipsplat.kernel_cache import keep_compiled

numba: Any = numba_module  # its annotations differ between versions
FloatArray = npt.NDArray[np.float32]
_Function = TypeVar("_Function", bound=Callable[..., Any])


def _kernel(function: _Function) -> _Function:
    """Compile to machine code that runs without the interpreter lock, once per machine.

    No function here calls into another file, so the digest of this one sees every change.
    """
    compiled = numba.njit(nogil=True, error_model="numpy")(function)
    keep_compiled(compiled, _digest(), "the data loader")
    out: _Function = compiled
    return out


@cache
def _digest() -> str:
    return sha256_of(Path(__file__))


@_kernel
def look_up(
    codes: npt.NDArray[np.uint8],
    table: FloatArray,
    rows: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int64],
    out: FloatArray,
) -> None:
    """Fill `out` (h, w) with the entries of a table (256,) for some pixels of an image.

    Args:
        codes: (H, W, C); only the first channel is used.
        table: value of each code.
        rows: (h,) in [0, H); not checked.
        columns: (w,) in [0, W); not checked.
        out: receives the result.
    """
    for i in range(rows.size):
        row = codes[rows[i]]
        for j in range(columns.size):
            out[i, j] = table[row[columns[j], 0]]


@_kernel
def squared_distances(
    depth: FloatArray,
    by_row: FloatArray,
    by_column: FloatArray,
    offset: np.float32,
    out: FloatArray,
) -> int:
    """Fill `out` (H, W) with ((p d) + q) d + offset; infinity where the depth d is not positive.

    Args:
        depth: (H, W).
        by_row: (2, H) contribution of each row to p and q.
        by_column: (2, W) contribution of each column to p and q.
        offset: constant offset.
        out: receives the result.

    Returns:
        Number of positive depths.
    """
    known = 0
    height, width = depth.shape
    for i in range(height):
        for j in range(width):
            d = depth[i, j]
            p, q = by_row[0, i] + by_column[0, j], by_row[1, i] + by_column[1, j]
            is_known = d > 0
            known += is_known
            out[i, j] = (p * d + q) * d + offset if is_known else np.float32(np.inf)
    return known


@_kernel
def rescale(depths: FloatArray, factor: np.float32, unknown: np.float32) -> None:
    """Multiply positive depths (n,), in place; others become `unknown`."""
    for i in range(depths.size):
        depths[i] = depths[i] * factor if depths[i] > 0 else unknown


@_kernel
def between(
    values: FloatArray, low: np.float32, high: np.float32, out: FloatArray
) -> tuple[int, int]:
    """Collect the values (n,) in [low, high] at the start of `out` (n + 1,).

    Returns:
        Number of values below the range, and number collected.
    """
    below = count = 0
    for i in range(values.size):
        out[count] = values[i]  # branch-free: overwritten unless it is in range
        below += values[i] < low
        count += low <= values[i] <= high
    return below, count
