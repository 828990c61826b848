"""Absolute error and structural dissimilarity of images, with gradients, in one pass.

The definition is `zipsplat.ssim`. With x the true image, y the other, e = y − x, and m and v for
windowed means and variances, it equals

    SSIM = (1 − a)(1 − b),   a = m_e² / (m_x² + m_y² + C1),   b = v_e / (v_x + v_y + C2)

which stays accurate where images are nearly equal or nearly flat. Each image needs the windowed
means of e, e² and x·e only; what depends on x alone is computed once. Averaging along rows and then
columns gives each window's statistics; averaging the windows' gradients in the same way gives the
pixels'.

Four rows are processed at a time; ring buffers, small enough for the processor's cache, hold the
rows still needed. A row's result does not depend on where a thread begins, so the way rows are
split among threads does not matter.
"""

from __future__ import annotations

from typing import NamedTuple

from zipsplat.render.cpu.compiler import inline, kernel
from zipsplat.render.cpu.layout import GROUP, DoubleArray, FloatArray
from zipsplat.render.cpu.simd import (
    Floats,
    Mask,
    absolute,
    fma,
    lane_numbers,
    load,
    select,
    store,
    to_floats,
)

WINDOW = 11
_LOST = WINDOW - 1  # rows and columns in which no window begins
_BLOCK = 4  # rows that are averaged together: each row of a ring is then read once, not four times
_RING = 16  # rows of a ring: the windows of a block reach over 14
_QUANTITIES = 3
_MIDDLE = 0.5  # subtracted from x before products are averaged: less cancellation


class Constants(NamedTuple):
    """The definition's numbers, of `zipsplat.ssim`."""

    w0: float  # weights of a window, from the edge to the middle
    w1: float
    w2: float
    w3: float
    w4: float
    w5: float
    C1: float
    C2: float
    unbias: float


class Truth(NamedTuple):
    """True images, and what depends on them alone; rows are padded to whole vectors."""

    planes: FloatArray  # P · H rows
    means: FloatArray  # P · (H − 10) rows: mean less ½ of each window
    spreads: FloatArray  # likewise: 2·variance + C2
    height: int
    width: int
    pitch: int  # from one row of `planes` to the next
    window_pitch: int  # from one row of the others to the next


class Weights(NamedTuple):
    """What the gradient is multiplied by."""

    absolute: float
    dissimilarity: float


class Outcome(NamedTuple):
    """The results."""

    gradient: FloatArray  # like the image
    absolute: DoubleArray  # per row of the image: sum of |e|
    dissimilarity: DoubleArray  # per row of windows: sum of 1 − SSIM


def row_pitch(width: int) -> int:
    """Numbers from one row to the next, a multiple of a vector's."""
    return (width + GROUP - 1) // GROUP * GROUP


def compare_floats(width: int) -> int:
    """Size of the scratch memory of `compare`, in numbers."""
    num_rows = _QUANTITIES * (2 * _RING + _BLOCK)
    return num_rows * (row_pitch(width) + 2 * GROUP) + (_QUANTITIES + 1) * _BLOCK * GROUP


@inline
def _window(v: tuple[Floats, ...], k: Constants) -> Floats:
    """Weighted mean of eleven vectors."""
    total = (v[0] + v[10]) * k.w0
    total = fma(v[1] + v[9], k.w1, total)
    total = fma(v[2] + v[8], k.w2, total)
    total = fma(v[3] + v[7], k.w3, total)
    total = fma(v[4] + v[6], k.w4, total)
    return fma(v[5], k.w5, total)


@inline
def _across(row: FloatArray, at: int, k: Constants) -> Floats:
    """Means of the windows along a row that begin at 16 neighbours."""
    return _window(
        (
            load(row, at),
            load(row, at + 1),
            load(row, at + 2),
            load(row, at + 3),
            load(row, at + 4),
            load(row, at + 5),
            load(row, at + 6),
            load(row, at + 7),
            load(row, at + 8),
            load(row, at + 9),
            load(row, at + 10),
        ),
        k,
    )


@inline
def _down(
    ring: FloatArray, row: int, stride: int, column: int, target: FloatArray, at: int, k: Constants
) -> None:
    """Write means of the windows along 16 columns that begin in the four rows of a block."""
    v = (
        _at(ring, row, stride, column),
        _at(ring, row + 1, stride, column),
        _at(ring, row + 2, stride, column),
        _at(ring, row + 3, stride, column),
        _at(ring, row + 4, stride, column),
        _at(ring, row + 5, stride, column),
        _at(ring, row + 6, stride, column),
        _at(ring, row + 7, stride, column),
        _at(ring, row + 8, stride, column),
        _at(ring, row + 9, stride, column),
        _at(ring, row + 10, stride, column),
        _at(ring, row + 11, stride, column),
        _at(ring, row + 12, stride, column),
        _at(ring, row + 13, stride, column),
    )
    store(target, at, _window(v[:11], k))
    store(target, at + GROUP, _window(v[1:12], k))
    store(target, at + 2 * GROUP, _window(v[2:13], k))
    store(target, at + 3 * GROUP, _window(v[3:14], k))


@inline
def _at(ring: FloatArray, row: int, stride: int, column: int) -> Floats:
    return load(ring, (row & (_RING - 1)) * stride + column)


@inline
def _read(array: FloatArray, at: int, num: int, small: FloatArray) -> Floats:
    """Load up to 16 numbers, the last of an array; `small` is scratch memory."""
    if num >= GROUP:
        return load(array, at)
    for i in range(num):
        small[i] = array[at + i]
    return load(small, 0)


@inline
def _write(array: FloatArray, at: int, num: int, value: Floats, small: FloatArray) -> None:
    """Store up to 16 numbers without touching what follows."""
    if num >= GROUP:
        store(array, at, value)
    else:
        store(small, 0, value)
        for i in range(num):
            array[at + i] = small[i]


class _Rows(NamedTuple):
    """Rows that are still needed. Each has two vectors of margin, read but never used."""

    stride: int
    errors: FloatArray  # rings: means along rows of e, e² and x·e
    squares: FloatArray
    products: FloatArray
    by_errors: FloatArray  # rings: gradients of the windows' means of these, averaged along rows
    by_squares: FloatArray
    by_products: FloatArray
    now: FloatArray  # four rows of each quantity, which begin after a vector of zeros
    means: FloatArray  # 16 columns of a block, for each quantity
    sums: FloatArray  # a vector for each row of a block


@inline
def _rows_in(pitch: int, floats: FloatArray) -> _Rows:
    stride = pitch + 2 * GROUP
    ring = _RING * stride
    means = 6 * ring + _QUANTITIES * _BLOCK * stride
    sums = means + _QUANTITIES * _BLOCK * GROUP
    return _Rows(
        stride,
        floats[:ring],
        floats[ring : 2 * ring],
        floats[2 * ring : 3 * ring],
        floats[3 * ring : 4 * ring],
        floats[4 * ring : 5 * ring],
        floats[5 * ring : 6 * ring],
        floats[6 * ring : means],
        floats[means:sums],
        floats[sums : sums + _BLOCK * GROUP],
    )


@inline
def _down_all(
    errors: FloatArray,
    squares: FloatArray,
    products: FloatArray,
    row: int,
    column: int,
    rows: _Rows,
    k: Constants,
) -> None:
    """Fill `means` from three rings."""
    _down(errors, row, rows.stride, column, rows.means, 0, k)
    _down(squares, row, rows.stride, column, rows.means, _BLOCK * GROUP, k)
    _down(products, row, rows.stride, column, rows.means, 2 * _BLOCK * GROUP, k)


@inline
def _take_row(
    truth: Truth, image: FloatArray, plane: int, row: int, rows: _Rows, k: Constants
) -> None:
    """Average e, e² and x·e of a row of the image along it."""
    number = plane * truth.height + row
    squares, products = rows.stride, 2 * rows.stride  # where they begin in `now`
    for column in range(0, truth.width, GROUP):
        x = load(truth.planes, number * truth.pitch + column)
        left = truth.width - column
        y = _read(image, number * truth.width + column, left, rows.means)
        e = y - x
        store(rows.now, column, e)
        store(rows.now, squares + column, e * e)
        store(rows.now, products + column, e * (x - _MIDDLE))
    at = (row & (_RING - 1)) * rows.stride
    for column in range(0, truth.width - _LOST, GROUP):
        store(rows.errors, at + column, _across(rows.now, column, k))
        store(rows.squares, at + column, _across(rows.now, squares + column, k))
        store(rows.products, at + column, _across(rows.now, products + column, k))


@inline
def _compare_windows(
    truth: Truth, at: int, column: int, i: int, inside: Mask, rows: _Rows, k: Constants
) -> None:
    """Gradients of the means of 16 windows that begin in row i of a block, and their sum.

    `at` is where those of the truth lie.
    """
    error = load(rows.means, i * GROUP)
    square = load(rows.means, (_BLOCK + i) * GROUP)
    product = load(rows.means, (2 * _BLOCK + i) * GROUP)
    x = load(truth.means, at)
    y = x + error
    mean_x, mean_y = x + _MIDDLE, y + _MIDDLE
    inverse_1 = 1.0 / fma(mean_x, mean_x, fma(mean_y, mean_y, k.C1))
    variance = k.unbias * fma(-error, error, square)
    covariance = k.unbias * fma(-x, error, product)
    spread = load(truth.spreads, at)
    inverse_2 = 1.0 / (spread + fma(2.0, covariance, variance))
    a = error * error * inverse_1
    b = variance * inverse_2
    left_a, left_b = 1.0 - a, 1.0 - b
    by_variance = k.unbias * left_a * inverse_2
    v_error = left_b * fma(-a, mean_y, error) * inverse_1 + by_variance * fma(b, y, -error)
    place = i * rows.stride + GROUP + column
    step = _BLOCK * rows.stride
    store(rows.now, place, select(inside, 2.0 * v_error, 0.0))
    store(rows.now, place + step, select(inside, by_variance * left_b, 0.0))
    store(rows.now, place + 2 * step, select(inside, -2.0 * by_variance * b, 0.0))
    total = load(rows.sums, i * GROUP) + select(inside, fma(-a, b, a + b), 0.0)
    store(rows.sums, i * GROUP, total)


@inline
def _compare_block(
    truth: Truth, plane: int, row: int, count: int, rows: _Rows, k: Constants
) -> None:
    """Gradients of the means of the windows that begin in `count` rows; `sums` of 1 − SSIM."""
    num = truth.width - _LOST
    number = plane * (truth.height - _LOST) + row
    rows.now[:] = 0.0
    rows.sums[:] = 0.0
    for column in range(0, num, GROUP):
        _down_all(rows.errors, rows.squares, rows.products, row, column, rows, k)
        inside = to_floats(lane_numbers()) < float(num - column)
        for i in range(count):
            at = (number + i) * truth.window_pitch + column
            _compare_windows(truth, at, column, i, inside, rows, k)


@inline
def _spread_row(truth: Truth, row: int, i: int, rows: _Rows, k: Constants) -> None:
    """Average those gradients along row i of a block, over the windows that a pixel is part of."""
    step = _BLOCK * rows.stride
    start = i * rows.stride + GROUP - _LOST
    at = (row & (_RING - 1)) * rows.stride
    for column in range(0, truth.width, GROUP):
        store(rows.by_errors, at + column, _across(rows.now, start + column, k))
        store(rows.by_squares, at + column, _across(rows.now, start + step + column, k))
        store(rows.by_products, at + column, _across(rows.now, start + 2 * step + column, k))


@inline
def _write_block(
    truth: Truth,
    image: FloatArray,
    plane: int,
    row: int,
    first: int,
    last: int,
    weights: Weights,
    gradient: FloatArray,
    rows: _Rows,
    k: Constants,
) -> None:
    """Write the gradients of rows [first, last) of a block that begins at `row`; `sums` of |e|."""
    rows.sums[:] = 0.0
    small = rows.now  # no longer needed
    for column in range(0, truth.width, GROUP):
        _down_all(rows.by_errors, rows.by_squares, rows.by_products, row - _LOST, column, rows, k)
        left = truth.width - column
        inside = to_floats(lane_numbers()) < float(left)
        for i in range(first - row, last - row):
            number = plane * truth.height + row + i
            x = load(truth.planes, number * truth.pitch + column)
            e = _read(image, number * truth.width + column, left, small) - x
            v = load(rows.means, i * GROUP)
            v = fma(2.0 * e, load(rows.means, (_BLOCK + i) * GROUP), v)
            v = fma(x - _MIDDLE, load(rows.means, (2 * _BLOCK + i) * GROUP), v)
            sign = select(e > 0.0, 1.0, select(e < 0.0, -1.0, 0.0))
            v = fma(sign, weights.absolute, v * weights.dissimilarity)
            _write(gradient, number * truth.width + column, left, v, small)
            total = load(rows.sums, i * GROUP) + select(inside, absolute(e), 0.0)
            store(rows.sums, i * GROUP, total)


@inline
def _write_sums(rows: _Rows, row: int, first: int, last: int, sums: DoubleArray, at: int) -> None:
    """Write the sums of rows [first, last) of a block that begins at `row`."""
    for place in range(first, last):
        total = 0.0
        for lane in range(GROUP):
            total += rows.sums[(place - row) * GROUP + lane]
        sums[at + place] = total


@inline
def _compare_band(
    truth: Truth,
    image: FloatArray,
    plane: int,
    first: int,
    last: int,
    weights: Weights,
    outcome: Outcome,
    rows: _Rows,
    k: Constants,
) -> None:
    """Rows [first, last) of one plane."""
    num_windows = truth.height - _LOST
    begin = max(0, first - _LOST)
    for ring in (rows.by_errors, rows.by_squares, rows.by_products):
        ring[:] = 0.0  # above the first row no window begins
    taken = begin
    for row in range(begin, last, _BLOCK):
        end = min(row + _BLOCK, last)
        while taken < min(end + _LOST, truth.height):
            _take_row(truth, image, plane, taken, rows, k)
            taken += 1
        _compare_block(truth, plane, row, min(end, num_windows) - row, rows, k)
        start, stop = max(row, first), min(end, num_windows)
        _write_sums(rows, row, start, stop, outcome.dissimilarity, plane * num_windows)
        for i in range(end - row):
            _spread_row(truth, row + i, i, rows, k)
        if start < end:
            gradient = outcome.gradient
            _write_block(truth, image, plane, row, start, end, weights, gradient, rows, k)
            _write_sums(rows, row, start, end, outcome.absolute, plane * truth.height)


@kernel
def compare(
    truth: Truth,
    image: FloatArray,
    weights: Weights,
    constants: Constants,
    first_row: int,
    last_row: int,
    outcome: Outcome,
    work: FloatArray,
) -> None:
    """Compare some of the P · H rows of all planes.

    Args:
        truth: the true images.
        image: P · H · W numbers.
        weights: of the two gradients.
        constants: of the definition.
        first_row: first row.
        last_row: end of the range, exclusive.
        outcome: receives the results.
        work: `compare_floats(width)` numbers.
    """
    rows = _rows_in(truth.pitch, work)
    row = first_row
    while row < last_row:
        plane = row // truth.height
        end = min(last_row, (plane + 1) * truth.height)
        start = plane * truth.height
        _compare_band(
            truth, image, plane, row - start, end - start, weights, outcome, rows, constants
        )
        row = end


@kernel
def measure(
    truth: Truth,
    constants: Constants,
    first_plane: int,
    last_plane: int,
    work: DoubleArray,
) -> None:
    """Fill `means` and `spreads` of some planes, in double precision.

    Args:
        truth: the true images.
        constants: of the definition.
        first_plane: first plane.
        last_plane: end of the range, exclusive.
        work: 2 · width numbers.
    """
    k = constants
    taps = (k.w0, k.w1, k.w2, k.w3, k.w4, k.w5, k.w4, k.w3, k.w2, k.w1, k.w0)
    num = truth.width - _LOST
    mean, square = work[: truth.width], work[truth.width : 2 * truth.width]
    for plane in range(first_plane, last_plane):
        for row in range(truth.height - _LOST):
            mean[:] = 0.0
            square[:] = 0.0
            for tap in range(WINDOW):
                at = (plane * truth.height + row + tap) * truth.pitch
                for column in range(truth.width):
                    x = truth.planes[at + column] - _MIDDLE
                    mean[column] += taps[tap] * x
                    square[column] += taps[tap] * x * x
            at = (plane * (truth.height - _LOST) + row) * truth.window_pitch
            for column in range(num):
                m, s = 0.0, 0.0
                for tap in range(WINDOW):
                    m += taps[tap] * mean[column + tap]
                    s += taps[tap] * square[column + tap]
                truth.means[at + column] = m
                truth.spreads[at + column] = 2.0 * k.unbias * (s - m * m) + k.C2
