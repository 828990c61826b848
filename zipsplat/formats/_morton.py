"""An order in which neighbours in space are neighbours in the file."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zipsplat.formats import Array, SplatArrays

# Morton, "A computer oriented geodetic data base", 1966: interleaves the bits of x, y and z. Each
# step spreads the 10 bits of a coordinate further apart.
_SPREADS = ((16, 0x030000FF), (8, 0x0300F00F), (4, 0x030C30C3), (2, 0x09249249))


def in_morton_order(splats: SplatArrays) -> SplatArrays:
    """The Gaussians sorted along a Z curve over the bounding box of their means."""
    return splats.select(morton_order(splats.means))


def morton_order(means: Array) -> NDArray[np.int64]:
    """Indices (N,) that sort means (N, 3) along a Z curve over their bounding box."""
    low = means.min(axis=0, initial=np.inf).astype(np.float64)
    extent = means.max(axis=0, initial=-np.inf) - low
    grid = (means - low) / np.where(extent > 0, extent, 1) * 1023
    cells = grid.astype(np.uint32)
    for shift, mask in _SPREADS:
        cells = (cells | cells << np.uint32(shift)) & np.uint32(mask)
    codes = cells[:, 0] | cells[:, 1] << np.uint32(1) | cells[:, 2] << np.uint32(2)
    return np.argsort(codes, kind="stable")
