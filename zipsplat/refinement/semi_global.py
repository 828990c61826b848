"""Kernels of semi-global aggregation of matching costs along four paths.

From Hirschmüller, "Stereo Processing by Semi-Global Matching and Mutual Information", 2008, eqs. 13
and 14: along each path the cost of a pixel at a plane is its own plus the smallest of its
predecessor's at the same plane, at a neighbouring one plus P1, and at any plane plus P2; the
smallest of all planes is subtracted, so that costs stay bounded. The paths run in both directions
along rows and columns.

In volumes the planes of a pixel are contiguous: index (y · pitch + x) · D + plane.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from zipsplat.render.cpu.compiler import inline, kernel
from zipsplat.render.cpu.layout import FloatArray
from zipsplat.render.cpu.simd import (
    LANES,
    item,
    least_lane,
    load,
    load_table,
    minimum,
    store,
    store_rows,
)

P1 = 0.06  # penalty of a step to the neighbouring plane
_FAR = 1e9  # cost of planes that do not exist
BORDER = LANES  # padding on both sides of the planes of a path


class Volume(NamedTuple):
    """Costs of one view.

    Args:
        width: in pixels.
        pitch: pixels per row of all arrays except `planes`, a multiple of 16.
        height: in pixels.
        num_planes: D, a multiple of 16.
        planes: (D · height · stride) costs from `sweep_costs`.
        stride: values per row of a plane.
        margin: values before the first pixel of such a row.
        costs: (height · pitch · D) the same with contiguous planes.
        sums: (height · pitch · D) costs summed over the paths.
        step_x: (height · pitch) P2 between a pixel and the one to its left.
        step_y: (height · pitch) P2 between a pixel and the one above.
    """

    width: int
    pitch: int
    height: int
    num_planes: int
    planes: FloatArray
    stride: int
    margin: int
    costs: FloatArray
    sums: FloatArray
    step_x: FloatArray
    step_y: FloatArray


@kernel
def aggregate_rows(first: int, last: int, volume: Volume, path: FloatArray) -> None:
    """Reorder rows `first` to `last` of the costs and aggregate them in both directions.

    Args:
        first: first row.
        last: row after the last.
        volume: writes `costs` and `sums`.
        path: (2 · (D + 2 · BORDER)) scratch memory.
    """
    width, D = volume.width, volume.num_planes
    for y in range(first, last):
        begin = y * volume.pitch
        _reorder(volume, y)
        _begin(volume, path)
        for x in range(width):
            step = volume.step_x[begin + x]
            _advance(volume, (begin + x) * D, step, x & 1, path, False)
        _begin(volume, path)
        for x in range(width - 1, -1, -1):
            step = volume.step_x[begin + min(x + 1, width - 1)]
            _advance(volume, (begin + x) * D, step, (width - 1 - x) & 1, path, True)


@kernel
def aggregate_columns(first: int, last: int, volume: Volume, path: FloatArray) -> None:
    """Add the costs of columns `first` to `last`, aggregated in both directions, to the sums."""
    pitch, height, D = volume.pitch, volume.height, volume.num_planes
    for x in range(first, last):
        _begin(volume, path)
        for y in range(height):
            step = volume.step_y[y * pitch + x]
            _advance(volume, (y * pitch + x) * D, step, y & 1, path, True)
        _begin(volume, path)
        for y in range(height - 1, -1, -1):
            step = volume.step_y[min(y + 1, height - 1) * pitch + x]
            _advance(volume, (y * pitch + x) * D, step, (height - 1 - y) & 1, path, True)


@kernel
def pick_planes(
    first: int, last: int, volume: Volume, places: FloatArray, correlations: FloatArray
) -> None:
    """Find the cheapest plane of each pixel in rows `first` to `last`, interpolated by a parabola.

    Args:
        first: first row.
        last: row after the last.
        volume: with finished sums.
        places: (height · pitch) output, fractional plane indices in [0, D − 1].
        correlations: (height · pitch) output, 1 minus the unaggregated cost there.
    """
    D = volume.num_planes
    for pixel in range(first * volume.pitch, last * volume.pitch):
        begin = pixel * D
        best, least = 0, item(volume.sums, begin)
        for plane in range(1, D):
            cost = item(volume.sums, begin + plane)
            if cost < least:
                best, least = plane, cost
        offset = np.float32(0)
        if 0 < best < D - 1:
            before = item(volume.sums, begin + best - 1)
            after = item(volume.sums, begin + best + 1)
            bend = before + after - 2 * least
            if bend > 0:
                offset = 0.5 * (before - after) / bend
        places[pixel] = best + offset
        correlations[pixel] = 1 - item(volume.costs, begin + best)


@inline
def _reorder(volume: Volume, y: int) -> None:
    """Make the planes of each pixel of a row contiguous."""
    D, size = volume.num_planes, volume.height * volume.stride
    for x in range(0, volume.width, LANES):
        for plane in range(0, D, LANES):
            at = plane * size + y * volume.stride + volume.margin + x
            columns = load_table(volume.planes, at, size)
            store_rows(volume.costs, (y * volume.pitch + x) * D + plane, D, columns)


@inline
def _begin(volume: Volume, path: FloatArray) -> None:
    """Start a path: zeros, padded by planes too expensive to be chosen."""
    for at in range(0, len(path), LANES):
        store(path, at, _FAR)
    for at in range(0, volume.num_planes, LANES):
        store(path, len(path) // 2 + BORDER + at, 0.0)


@inline
def _advance(
    volume: Volume, begin: int, step: float, parity: int, path: FloatArray, adds: bool
) -> None:
    """Advance a path to the pixel whose planes begin at `begin`; the halves of `path` alternate."""
    half = len(path) // 2
    to, of = parity * half + BORDER, (1 - parity) * half + BORDER
    smallest = load(path, of)
    for at in range(LANES, volume.num_planes, LANES):
        smallest = minimum(smallest, load(path, of + at))
    least = least_lane(smallest)
    jump = least + step
    for at in range(0, volume.num_planes, LANES):
        beside = minimum(load(path, of + at - 1), load(path, of + at + 1)) + P1
        reached = minimum(minimum(load(path, of + at), beside), jump)
        cost = load(volume.costs, begin + at) + (reached - least)
        store(path, to + at, cost)
        if adds:
            store(volume.sums, begin + at, load(volume.sums, begin + at) + cost)
        else:
            store(volume.sums, begin + at, cost)
