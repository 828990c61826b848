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
    """Normalise (N, 4) quaternions wxyz; zero, which is no rotation at all, becomes identity."""
    # By the largest part first, so that neither tiny nor huge quaternions leave the float range.
    largest = np.abs(quats).max(axis=1, initial=0, keepdims=True).astype(np.float64)
    scaled = np.where(largest > 0, quats, [1.0, 0, 0, 0]) / np.where(largest > 0, largest, 1)
    return np.asarray(scaled / np.linalg.norm(scaled, axis=1, keepdims=True), np.float64)


def smallest_three(unit_quats: Floats) -> tuple[Indices, Floats]:
    """Index of the largest part (N,), then made positive, and the others in order (N, 3)."""
    largest = np.abs(unit_quats).argmax(axis=1)[:, None]
    rest = np.take_along_axis(unit_quats, _others(largest), axis=1)
    negative = np.take_along_axis(unit_quats, largest, axis=1) < 0
    return largest[:, 0], np.where(negative, -rest, rest)


def from_smallest_three(largest: Indices, rest: Floats) -> Floats:
    """Inverse of `smallest_three`: (N, 4)."""
    quats = np.empty((len(rest), 4))
    np.put_along_axis(quats, _others(largest[:, None]), rest, axis=1)
    top = np.sqrt(np.maximum(1 - (rest * rest).sum(axis=1, keepdims=True), 0))
    np.put_along_axis(quats, largest[:, None], top, axis=1)
    return quats


def _others(largest: Indices) -> Indices:
    """The indices 0..3 without the given one: (N, 1) to (N, 3)."""
    index = np.arange(3)
    return index + (index >= largest)
