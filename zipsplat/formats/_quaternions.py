"""Unit quaternions as their three smallest parts, the encoding that SPZ and compressed PLY share.

The largest of the four parts follows from the other three, which then lie within ±sqrt(1/2).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.uint8]

REST_MAX = math.sqrt(0.5)


def unit(quats: NDArray[np.floating]) -> Floats:
    """Normalise (N, 4) quaternions wxyz; zero, not a rotation, becomes the identity."""
    return np.asarray(unit_columns(quats).T)


def unit_columns(quats: NDArray[np.floating]) -> Floats:
    """As `unit`, but (4, N) in memory, because NumPy is slow on rows of four."""
    columns = np.array(quats.T, np.float64, order="C")
    # By the largest part first, so that neither tiny nor huge quaternions leave the float range.
    largest = np.abs(columns).max(axis=0)
    if not largest.all():
        columns[0, largest == 0] = 1
        largest[largest == 0] = 1
    columns /= largest
    w, x, y, z = columns * columns
    columns /= np.sqrt(w + x + y + z)
    return columns


def smallest_three(columns: Floats) -> tuple[Indices, Floats]:
    """Index of the largest part of unit quaternions (4, N), and the others in order (3, N).

    The signs are those of the quaternion whose largest part, the first of equals, is positive.
    """
    a, b, c, d = np.abs(columns)
    is_b, is_d = b > a, d > c
    is_later = np.maximum(c, d) > np.maximum(a, b)
    largest: Indices = np.where(is_later, is_d + np.uint8(2), is_b.view(np.uint8))
    w, x, y, z = columns < 0
    is_negative = np.where(is_later, np.where(is_d, z, y), np.where(is_b, x, w))
    others = np.stack([np.where(largest > k, columns[k], columns[k + 1]) for k in range(3)])
    others *= np.where(is_negative, -1.0, 1.0)
    return largest, others


def from_smallest_three(largest: NDArray[np.integer], rest: Floats) -> Floats:
    """Inverse of `smallest_three`: (4, N)."""
    a, b, c = rest
    top = np.sqrt(np.maximum(1 - (a * a + b * b + c * c), 0))
    return np.stack(
        [
            np.where(largest > 0, a, top),
            np.where(largest > 1, b, np.where(largest == 1, top, a)),
            np.where(largest > 2, c, np.where(largest == 2, top, b)),
            np.where(largest == 3, top, c),
        ]
    )
