"""An order in which neighbours in space are neighbours in the file."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zipsplat.formats import Array, SplatArrays
from zipsplat.formats._blocks import blocks, on_threads

# Morton, "A computer oriented geodetic data base", 1966: interleaves the bits of x, y and z. Each
# step spreads the 10 bits of a coordinate further apart.
_SPREADS = ((16, 0x030000FF), (8, 0x0300F00F), (4, 0x030C30C3), (2, 0x09249249))
_CELLS = 1024  # per axis

Codes = NDArray[np.uint64]


def in_morton_order(splats: SplatArrays) -> SplatArrays:
    """The Gaussians sorted along a Z curve over the bounding box of their means."""
    return splats.select(morton_order(splats.means))


def morton_order(means: Array) -> NDArray[np.int64]:
    """Indices (N,) that sort means (N, 3) along a Z curve over their bounding box."""
    columns = np.ascontiguousarray(means.T)  # NumPy is slow over rows of three
    low = columns.min(axis=1, initial=np.inf).astype(np.float64)
    extent = columns.max(axis=1, initial=-np.inf) - low
    steps = np.where(extent > 0, extent, 1)
    # A place in the low bits of each code keeps the order of equals, in the fastest of the sorts.
    keys = np.arange(columns.shape[1], dtype=np.uint64)

    def work(rows: slice) -> None:
        keys[rows] |= _codes(columns[:, rows], low, steps) << np.uint64(32)

    on_threads(work, blocks(len(keys)))
    keys.sort()
    keys &= np.uint64(0xFFFFFFFF)
    return keys.view(np.int64)


def _codes(columns: Array, low: NDArray[np.float64], extent: NDArray[np.float64]) -> Codes:
    """Morton codes (N,), 30 bits, of columns (3, N) within a box."""
    codes: Codes = np.zeros(columns.shape[1], np.uint64)
    for axis, column in enumerate(columns):
        cells = (column.astype(np.float64) - low[axis]) / extent[axis] * (_CELLS - 1)
        codes |= _SPREAD[cells.astype(np.intp)] << np.uint64(axis)
    return codes


def _spread(cells: Codes) -> Codes:
    """The bits of numbers with two zeros behind each."""
    for shift, mask in _SPREADS:
        cells = (cells | cells << np.uint64(shift)) & np.uint64(mask)
    return cells


_SPREAD = _spread(np.arange(_CELLS, dtype=np.uint64))
