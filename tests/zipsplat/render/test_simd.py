"""The vector language against numpy, lane by lane."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
from numba.core.errors import TypingError

from zipsplat.render.cpu import simd
from zipsplat.render.cpu.simd import (
    absolute,
    aligned_empty,
    any_lane,
    bits_of,
    ceil,
    clamp,
    count_bits,
    exp2,
    floor,
    fma,
    from_bits,
    highest_bit,
    is_finite,
    item,
    lane,
    lane_numbers,
    lane_sums,
    least_lane,
    load,
    load_columns_3,
    load_columns_4,
    load_ints,
    load_square,
    load_table,
    log2,
    lowest_bit,
    maximum,
    minimum,
    pack,
    select,
    select_ints,
    sqrt,
    store,
    store_columns_3,
    store_columns_4,
    store_ints,
    store_rows,
    store_square,
    to_floats,
    to_ints,
    transpose,
    unpack,
    with_lane,
    zeros,
)

compiled = numba.njit(error_model="numpy", _nrt=False)


def numbers(count: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=count) * 3
    values[::5] = np.round(values[::5] + 10)  # whole numbers too
    return values.astype(np.float32)


def test_float_operators() -> None:
    @compiled
    def kernel(a, b, out):
        x, y = load(a, 0), load(b, 0)
        store(out, 0, x + y)
        store(out, 16, x - y)
        store(out, 32, x * y)
        store(out, 48, x / y)
        store(out, 64, -x)
        store(out, 80, 2 * x + 0.5)
        store(out, 96, 1.0 / x - 3)

    a, b = numbers(16), numbers(16, seed=1)
    out = np.empty(112, np.float32)
    kernel(a, b, out)
    half, one, three = np.float32(0.5), np.float32(1), np.float32(3)
    wanted = [a + b, a - b, a * b, a / b, -a, 2 * a + half, one / a - three]
    for got, value in zip(out.reshape(-1, 16), wanted, strict=True):
        np.testing.assert_array_equal(got, value)


def test_float_functions() -> None:
    @compiled
    def kernel(a, b, out):
        x, y = load(a, 0), load(b, 0)
        store(out, 0, minimum(x, y))
        store(out, 16, maximum(x, 0.0))
        store(out, 32, absolute(x))
        store(out, 48, sqrt(absolute(x)))
        store(out, 64, floor(x))
        store(out, 80, ceil(x))
        store(out, 96, select(x < y, x, 7.0))
        store(out, 112, clamp(x, -1.0, y))
        store(out, 128, to_floats(to_ints(x)))
        store(out, 144, fma(x, y, 1.0))

    a, b = numbers(16), numbers(16, seed=1)
    out = np.empty(160, np.float32)
    kernel(a, b, out)
    held = np.where(np.maximum(a, -1) > b, b, np.maximum(a, -1))
    wanted = [
        np.minimum(a, b),
        np.maximum(a, 0),
        np.abs(a),
        np.sqrt(np.abs(a)),
        np.floor(a),
        np.ceil(a),
        np.where(a < b, a, 7),
        held,
        np.trunc(a),
    ]
    for got, value in zip(out.reshape(-1, 16), wanted, strict=False):
        np.testing.assert_array_equal(got, value)
    np.testing.assert_allclose(out[144:], a.astype(float) * b + 1, rtol=1e-6, atol=1e-6)


def test_not_a_number_gives_the_second_operand() -> None:
    """The kernels rely on it to turn NaN into a bound."""

    @compiled
    def kernel(a, out):
        x = load(a, 0)
        store(out, 0, minimum(maximum(x, 2.0), 5.0))
        return pack(is_finite(x)), pack(x < 0.0), pack(x >= 0.0)

    a = np.zeros(16, np.float32)
    a[:4] = [np.nan, np.inf, -np.inf, 3.0]
    out = np.empty(16, np.float32)
    finite, below, above = kernel(a, out)
    assert out[:4].tolist() == [2.0, 5.0, 2.0, 3.0]
    assert finite == 0xFFF8
    assert below == 0b0100
    assert above == 0xFFFA


@pytest.mark.parametrize("compare", [operator.lt, operator.le, operator.gt, operator.ge])
def test_comparisons(compare: Callable[[Any, Any], Any]) -> None:
    @compiled
    def floats(a, b):
        return pack(compare(load(a, 0), load(b, 0)))

    @compiled
    def ints(a, b):
        return pack(compare(load_ints(a, 0), load_ints(b, 0)))

    a, b = np.round(numbers(16)), np.round(numbers(16, seed=1))
    b[:4] = a[:4]
    wanted = sum(1 << i for i in range(16) if compare(a[i], b[i]))
    assert floats(a, b) == wanted
    assert ints(a.astype(np.int32), b.astype(np.int32)) == wanted


def test_ints_and_masks() -> None:
    @compiled
    def kernel(a, out):
        x = load_ints(a, 0)
        store_ints(out, 0, (x + 3) * 2 - lane_numbers())
        store_ints(out, 16, (x & 6) << 2)
        store_ints(out, 32, x >> 1)
        store_ints(out, 48, select_ints(x > 0, x, -1))
        odd = (x & 1) > 0
        positive = x > 0
        return (
            pack(odd & positive),
            pack(odd | positive),
            pack(~odd),
            pack(unpack(0x8421)),
            any_lane(odd),
            any_lane(x > 1000),
        )

    a = np.arange(-8, 8, dtype=np.int32) * 5
    out = np.empty(64, np.int32)
    both, either, even, bits, some, none = kernel(a, out)
    lanes = np.arange(16)
    wanted = [(a + 3) * 2 - lanes, (a & 6) << 2, a >> 1, np.where(a > 0, a, -1)]
    for got, value in zip(out.reshape(-1, 16), wanted, strict=True):
        np.testing.assert_array_equal(got, value)

    def packed(mask: np.ndarray) -> int:
        return int((mask.astype(int) << lanes).sum())

    odd = a % 2 == 1
    assert both == packed(odd & (a > 0))
    assert either == packed(odd | (a > 0))
    assert even == packed(~odd)
    assert bits == 0x8421
    assert some
    assert not none


def test_bits_of_plain_numbers() -> None:
    @compiled
    def kernel(x):
        return lowest_bit(x), highest_bit(x), count_bits(x)

    for value in (1, 2, 0b1011000, 1 << 31, 0xFFFFFFFF):
        text = f"{value:b}"
        wanted = (len(text) - 1 - text.rindex("1"), len(text) - 1, text.count("1"))
        assert kernel(value) == wanted


def test_bit_patterns_return() -> None:
    @compiled
    def kernel(a, out):
        store_ints(out, 0, bits_of(load(a, 0)))
        store(a, 0, from_bits(load_ints(out, 0) + (1 << 23)))

    a = np.abs(numbers(16)) + 1
    out = np.empty(16, np.int32)
    doubled = 2 * a
    wanted = a.view(np.int32).copy()
    kernel(a, out)
    np.testing.assert_array_equal(out, wanted)
    np.testing.assert_array_equal(a, doubled)


def apply(function: Callable[..., Any], values: np.ndarray) -> np.ndarray:
    @compiled
    def kernel(a, out):
        for i in range(0, len(a), 16):
            store(out, i, function(load(a, i)))

    out = np.empty_like(values)
    kernel(values, out)
    return out


def test_exp2() -> None:
    values = np.linspace(-125.5, 126.5, 1 << 16, dtype=np.float32)
    values[:4] = [0, 1, -8, -7.99435]
    got = apply(exp2, values)
    wanted = np.exp2(values.astype(np.float64))
    assert np.abs(got / wanted - 1).max() < 3e-7
    assert got[:3].tolist() == [1.0, 2.0, 2.0**-8]


def test_log2() -> None:
    values = np.geomspace(1e-37, 1e37, 1 << 16).astype(np.float32)
    values[16384:32768] = np.linspace(1 / 255, 1.5, 16384, dtype=np.float32)
    got = apply(log2, values)
    wanted = np.log2(values.astype(np.float64))
    assert (np.abs(got - wanted) <= 2e-7 + 1e-7 * np.abs(wanted)).all()


def test_tables() -> None:
    @compiled
    def kernel(a, out):
        columns = load_table(a, 2, 20)
        store_rows(out, 0, 16, columns)
        rows = transpose((columns[0], columns[1], columns[2]))
        store(out, 256, rows[5])
        x, y, z = load_columns_3(a, 1)
        store(out, 272, x)
        store(out, 288, z)
        store_columns_3(out, 304, (z, y, x))
        p, q, r, s = load_columns_4(a, 3)
        store(out, 352, q)
        store_columns_4(out, 368, (s, r, q, p))
        sums = lane_sums((x, y, z))
        store(out, 448, sums)

    a = numbers(400)
    out = np.full(464, -9, np.float32)
    kernel(a, out)
    table = np.stack([a[2 + 20 * i :][:16] for i in range(16)])
    np.testing.assert_array_equal(out[:256].reshape(16, 16), table.T)
    np.testing.assert_array_equal(out[256:259], table[5, :3])
    three = a[1:49].reshape(16, 3)
    np.testing.assert_array_equal(out[272:288], three[:, 0])
    np.testing.assert_array_equal(out[288:304], three[:, 2])
    np.testing.assert_array_equal(out[304:352].reshape(16, 3), three[:, ::-1])
    four = a[3:67].reshape(16, 4)
    np.testing.assert_array_equal(out[352:368], four[:, 1])
    np.testing.assert_array_equal(out[368:432].reshape(16, 4), four[:, ::-1])
    np.testing.assert_allclose(out[448:451], three.sum(axis=0, dtype=np.float64), rtol=1e-5)
    assert (out[451:] == 0).all()


def test_squares() -> None:
    @compiled
    def kernel(image, out):
        square = load_square(image, 2 * 10 + 3, 10)
        store(out, 0, square)
        store_square(out, 16, 8, square * 2.0)

    image = np.arange(100, dtype=np.float32)
    out = np.zeros(48, np.float32)
    kernel(image, out)
    square = image.reshape(10, 10)[2:6, 3:7]
    np.testing.assert_array_equal(out[:16].reshape(4, 4), square)
    np.testing.assert_array_equal(out[16:].reshape(4, 8)[:, :4], 2 * square)
    assert (out[16:].reshape(4, 8)[:, 4:] == 0).all()


def test_single_lanes_and_items() -> None:
    @compiled
    def kernel(a, counts, out):
        x = with_lane(load(a, 0), 5, item(a, 20))
        store(out, 0, x + zeros())
        return lane(x, 3), item(counts, 2), least_lane(load(a, 16))

    a, out = numbers(32), np.empty(16, np.float32)
    assert kernel(a, np.array([7, 8, -9], np.int32), out) == (a[3], -9, a[16:].min())
    wanted = a[:16].copy()
    wanted[5] = a[20]
    np.testing.assert_array_equal(out, wanted)


def test_alignment() -> None:
    for size in range(1, 50):
        array = aligned_empty(size, np.int32)
        assert array.ctypes.data % 64 == 0
        assert array.shape == (size,)


def test_wrong_types_are_refused() -> None:
    @compiled
    def doubles(a):
        return pack(load(a, 0) < 0.0)

    @compiled
    def mixed(a):
        return pack(load(a, 0) < lane_numbers())

    with pytest.raises(TypingError):
        doubles(np.zeros(16))
    with pytest.raises(TypingError):
        doubles(np.zeros((4, 4), np.float32))
    with pytest.raises(TypingError):
        mixed(np.zeros(16, np.float32))


def test_lanes() -> None:
    assert simd.LANES == 16
