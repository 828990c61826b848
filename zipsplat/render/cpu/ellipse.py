"""Which tiles an ellipse touches, row of tiles by row of tiles, exactly.

In a row of pixels at height y from the centre, the ellipse spans
    slope·y ± half_width·√(1 − (y / half_y)²).
Its rightmost point is at height steepest_y, its leftmost at −steepest_y. Over a band of heights
the right end is concave, so it is largest at the height of the band nearest to steepest_y.
"""

from __future__ import annotations

from typing import NamedTuple

from zipsplat.render.cpu.compiler import inline
from zipsplat.render.cpu.layout import TILE
from zipsplat.render.cpu.simd import (
    Floats,
    Ints,
    ceil,
    clamp,
    floor,
    maximum,
    minimum,
    select,
    sqrt,
    to_ints,
)


class Outline(NamedTuple):
    """The numbers above, of sixteen ellipses."""

    half_y: Floats
    slope: Floats
    steepest_y: Floats
    half_width: Floats


@inline
def tile_span(low: Floats, high: Floats, num_tiles: int) -> tuple[Ints, Ints]:
    """First and last tile with a pixel whose centre lies in [low, high]; last < first if none."""
    first_pixel = ceil(low - 0.5)
    last_pixel = floor(high - 0.5)
    first = floor(first_pixel * (1.0 / TILE))
    last = select(last_pixel >= first_pixel, floor(last_pixel * (1.0 / TILE)), -1.0)
    # In this order of arguments NaN becomes a bound, never a non-integer.
    first = minimum(maximum(first, 0.0), num_tiles)
    last = minimum(maximum(last, -1.0), num_tiles - 1)
    return to_ints(first), to_ints(last)


@inline
def row_span(
    row: Floats, mean_x: Floats, mean_y: Floats, outline: Outline, num_tiles: int
) -> tuple[Ints, Ints]:
    """First and last tile that the ellipse touches in a row of tiles."""
    half_y, slope, steepest_y, half_width = outline
    top = row * TILE + 0.5 - mean_y
    low = maximum(top, -half_y)
    high = minimum(top + (TILE - 1.0), half_y)
    y_right = clamp(steepest_y, low, high)
    y_left = clamp(-steepest_y, low, high)
    right = slope * y_right + half_width * _circle(y_right / half_y)
    left = slope * y_left - half_width * _circle(y_left / half_y)
    return tile_span(mean_x + left, mean_x + right, num_tiles)


@inline
def _circle(x: Floats) -> Floats:
    return sqrt(maximum(1.0 - x * x, 0.0))
