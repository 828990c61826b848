"""Kernel of the plane sweep: the matching cost of every pixel at every depth.

Each plane of constant depth in front of the reference view maps its pixels to those of a source
view by a homography (Hartley and Zisserman, "Multiple View Geometry", 2004, section 13.1). The
source, seen through it, is compared with the reference by zero-mean normalised cross-correlation
over square windows; pixels beyond the border repeat those on it.

Images are stored in rows of `Sweep.stride` values, a multiple of 16: `MARGIN` values, the pixels,
and at least `MARGIN` more.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from zipsplat.render.cpu.compiler import inline, kernel
from zipsplat.render.cpu.layout import FloatArray, IntArray
from zipsplat.render.cpu.memory import empty
from zipsplat.render.cpu.simd import (
    LANES,
    floor,
    fma,
    item,
    lane_numbers,
    load,
    maximum,
    minimum,
    select,
    sqrt,
    store,
    store_ints,
    to_floats,
    to_ints,
    zeros,
)

MARGIN = 16  # values in front of the first pixel of a row
RADIUS = 3  # of the window, which has 7 × 7 pixels
UNSEEN = 0.65  # cost where the source does not see the point
NOISE = 4e-6  # added to variances: (half an 8-bit level)², so that flat windows do not match
_TAPS = (2 * RADIUS + 1) ** 2
_RING = 8  # rows of a source to keep; a power of two larger than the window
_NEAREST = 1e-6  # smallest depth in the source at which points are visible


class Sweep(NamedTuple):
    """A reference view, its sources, and the planes.

    Args:
        width: of the reference in pixels.
        height: of the reference in pixels.
        stride: values per row of the reference, a multiple of 16.
        reference: (height · stride) grey values minus ½.
        mean: (height · stride) mean of the window around each pixel.
        inverse_deviation: (height · stride) 1 / sqrt(variance of the window + `NOISE`).
        sources: grey values minus ½ of all sources, one after the other, without margins.
        layout: (S · 3) offset in `sources`, width and height of each source.
        homographies: (S · 12): the 3 × 3 matrix for infinite depth, row by row, then the vector
            to be added for inverse depth 1.
        inverse_depths: (D,).
    """

    width: int
    height: int
    stride: int
    reference: FloatArray
    mean: FloatArray
    inverse_deviation: FloatArray
    sources: FloatArray
    layout: IntArray
    homographies: FloatArray
    inverse_depths: FloatArray


class Rows(NamedTuple):
    """Scratch memory of one thread.

    Args:
        indices: (stride) int32, top left of the four pixels around a warped pixel.
        right: (stride) horizontal interpolation weight.
        down: (stride) vertical interpolation weight.
        texels: (4 · stride) their grey values.
        warped: (stride) the row of the warped source.
        sums: (3 · 8 · stride) ring buffer of horizontal window sums.
        seen: (8 · stride) ring buffer, 1 where the source sees the plane, else 0.
        second: (height · stride) second smallest cost of each pixel.
    """

    indices: IntArray
    right: FloatArray
    down: FloatArray
    texels: FloatArray
    warped: FloatArray
    sums: FloatArray
    seen: FloatArray
    second: FloatArray


def working_rows(sweep: Sweep) -> Rows:
    """Allocate scratch memory for one thread."""
    stride = sweep.stride
    return Rows(
        empty(stride, np.int32),
        *(empty(size * stride) for size in (1, 1, 4, 1, 3 * _RING, _RING, sweep.height)),
    )


@kernel
def sweep_planes(first: int, last: int, sweep: Sweep, rows: Rows, volume: FloatArray) -> None:
    """Compute costs of planes `first` to `last`: the mean of the two best sources.

    Args:
        first: first plane.
        last: plane after the last.
        sweep: the views.
        rows: scratch memory.
        volume: (D · height · stride) output, costs in [0, 1]: 1 minus the positive correlation.
    """
    size = sweep.height * sweep.stride
    num_sources = len(sweep.layout) // 3
    for plane in range(first, last):
        begin = plane * size
        for source in range(num_sources):
            for y in range(sweep.height + RADIUS):
                if y < sweep.height:
                    _locate(sweep, source, plane, y, rows)
                    _warp(sweep, source, rows)
                    _sum_row(sweep, y, rows)
                if y >= RADIUS:
                    _compare(sweep, source, y - RADIUS, begin, rows, volume)
        if num_sources > 1:
            for at in range(0, size, LANES):
                store(volume, begin + at, (load(volume, begin + at) + load(rows.second, at)) * 0.5)


@inline
def _locate(sweep: Sweep, source: int, plane: int, y: int, rows: Rows) -> None:
    """Positions of the pixels of row y in the source, and whether it sees them."""
    begin, width, height = (
        sweep.layout[3 * source],
        sweep.layout[3 * source + 1],
        sweep.layout[3 * source + 2],
    )
    right_edge, bottom_edge = np.float32(width - 1), np.float32(height - 1)
    h, at = sweep.homographies, 12 * source
    q, v = sweep.inverse_depths[plane], np.float32(y) + np.float32(0.5)
    start_x = h[at + 1] * v + h[at + 2] + h[at + 9] * q
    start_y = h[at + 4] * v + h[at + 5] + h[at + 10] * q
    start_z = h[at + 7] * v + h[at + 8] + h[at + 11] * q
    seen_row = (y & (_RING - 1)) * sweep.stride
    for x in range(0, sweep.stride, LANES):
        u = to_floats(lane_numbers() + (x - MARGIN)) + 0.5
        z = fma(u, h[at + 6], start_z)
        inverse = 1.0 / maximum(z, _NEAREST)
        # Texel coordinates: texel centres are integers.
        s = fma(u, h[at], start_x) * inverse - 0.5
        t = fma(u, h[at + 3], start_y) * inverse - 0.5
        inside = (s >= -0.5) & (s <= right_edge + 0.5) & (t >= -0.5) & (t <= bottom_edge + 0.5)
        store(rows.seen, seen_row + x, select(inside & (z > _NEAREST), 1.0, 0.0))
        s = minimum(maximum(s, 0.0), right_edge)
        t = minimum(maximum(t, 0.0), bottom_edge)
        left, top = minimum(floor(s), right_edge - 1.0), minimum(floor(t), bottom_edge - 1.0)
        store(rows.right, x, s - left)
        store(rows.down, x, t - top)
        store_ints(rows.indices, x, to_ints(top) * width + to_ints(left) + begin)


@inline
def _warp(sweep: Sweep, source: int, rows: Rows) -> None:
    """Warp a row of the source through the plane, with both ends repeated."""
    stride = sweep.stride
    width = sweep.layout[3 * source + 1]
    texels = sweep.sources
    for x in range(MARGIN, MARGIN + sweep.width):
        at = item(rows.indices, x)
        rows.texels[x] = item(texels, at)
        rows.texels[stride + x] = item(texels, at + 1)
        rows.texels[2 * stride + x] = item(texels, at + width)
        rows.texels[3 * stride + x] = item(texels, at + width + 1)
    for x in range(0, stride, LANES):
        right, down = load(rows.right, x), load(rows.down, x)
        a, b = load(rows.texels, x), load(rows.texels, stride + x)
        c, d = load(rows.texels, 2 * stride + x), load(rows.texels, 3 * stride + x)
        above, below = fma(right, b - a, a), fma(right, d - c, c)
        store(rows.warped, x, fma(down, below - above, above))
    first, last = MARGIN, MARGIN + sweep.width - 1
    for x in range(RADIUS):
        rows.warped[first - 1 - x] = rows.warped[first]
        rows.warped[last + 1 + x] = rows.warped[last]


@inline
def _sum_row(sweep: Sweep, y: int, rows: Rows) -> None:
    """Sums over 7 pixels of the row: of the source, its square, and its product."""
    stride = sweep.stride
    row = (y & (_RING - 1)) * stride
    for x in range(MARGIN, stride - MARGIN, LANES):
        plain, square, product = zeros(), zeros(), zeros()
        for k in range(-RADIUS, RADIUS + 1):
            value = load(rows.warped, x + k)
            plain = plain + value
            square = fma(value, value, square)
            product = fma(value, load(sweep.reference, y * stride + x + k), product)
        store(rows.sums, row + x, plain)
        store(rows.sums, row + x + _RING * stride, square)
        store(rows.sums, row + x + 2 * _RING * stride, product)


@inline
def _compare(sweep: Sweep, source: int, y: int, begin: int, rows: Rows, volume: FloatArray) -> None:
    """Costs of row y; `volume` and `rows.second` keep the two smallest of all sources."""
    stride = sweep.stride
    ring = _RING * stride
    for x in range(MARGIN, stride - MARGIN, LANES):
        plain, square, product = zeros(), zeros(), zeros()
        for k in range(-RADIUS, RADIUS + 1):
            row = (min(max(y + k, 0), sweep.height - 1) & (_RING - 1)) * stride + x
            plain = plain + load(rows.sums, row)
            square = square + load(rows.sums, row + ring)
            product = product + load(rows.sums, row + 2 * ring)
        mean = plain * (1.0 / _TAPS)
        variance = maximum(square * (1.0 / _TAPS) - mean * mean, 0.0) + NOISE
        here = y * stride + x
        covariance = product * (1.0 / _TAPS) - mean * load(sweep.mean, here)
        correlation = covariance * load(sweep.inverse_deviation, here) / sqrt(variance)
        is_seen = load(rows.seen, (y & (_RING - 1)) * stride + x) > 0.5
        cost = select(is_seen, 1.0 - minimum(maximum(correlation, 0.0), 1.0), UNSEEN)
        if source == 0:
            store(volume, begin + here, cost)
            store(rows.second, here, 1.0)
        else:
            smallest, second = load(volume, begin + here), load(rows.second, here)
            store(volume, begin + here, minimum(smallest, cost))
            store(rows.second, here, minimum(maximum(smallest, cost), second))
