"""Unit quaternions as their three smallest parts, the encoding that SPZ and compressed PLY share.

The largest of the four parts follows from the other three, which then lie within ±sqrt(1/2).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

REST_MAX = math.sqrt(0.5)


def unit(quats: NDArray[np.floating]) -> Floats:
    """Normalise (N, 4) quaternions wxyz; zero, not a rotation, becomes the identity."""
    columns = np.array(quats.T, np.float64, order="C")  # NumPy is slow over rows of four
    # By the largest part first, so that neither tiny nor huge quaternions leave the float range.
    largest = np.abs(columns).max(axis=0)
    columns[0, largest == 0] = 1
    columns /= np.where(largest > 0, largest, 1)
    w, x, y, z = columns * columns
    columns /= np.sqrt(w + x + y + z)
    return np.asarray(columns.T)


def smallest_three(unit_quats: Floats) -> tuple[Indices, Floats]:
    """Index of the largest part (N,), then made positive, and the others in order (N, 3)."""
    columns = unit_quats.T
    largest = np.abs(columns).argmax(axis=0)
    others = [np.where(largest > k, columns[k], columns[k + 1]) for k in range(3)]
    sign = np.where(np.choose(largest, columns) < 0, -1.0, 1.0)
    return largest, np.stack(others, axis=1) * sign[:, None]


def from_smallest_three(largest: Indices, rest: Floats) -> Floats:
    """Inverse of `smallest_three`: (N, 4)."""
    a, b, c = rest.T
    top = np.sqrt(np.maximum(1 - (a * a + b * b + c * c), 0))
    parts = [
        np.where(largest > 0, a, top),
        np.where(largest > 1, b, np.where(largest == 1, top, a)),
        np.where(largest > 2, c, np.where(largest == 2, top, b)),
        np.where(largest == 3, top, c),
    ]
    return np.stack(parts, axis=1)
