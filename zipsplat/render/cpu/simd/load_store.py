"""Vectors and memory: loads, stores, rows to columns, sums over lanes.

Arrays are one-dimensional, contiguous, of float32 or int32, and addressed by element. Addresses are
unchecked, unless `ZIPSPLAT_KERNEL_DEBUG=1` is set: then one outside of its array raises an
IndexError that quotes the line.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core.typing.templates import signature

from zipsplat.render.cpu.simd.vectors import (
    FLOATS,
    I32,
    INTS,
    LANES,
    Floats,
    Ints,
    Vector,
    cgutils,
    compiled,
    fits,
    operand,
    types,
)
from zipsplat.render.cpu.sources import DEBUG

Array = npt.NDArray[Any]
_CACHE_LINE = 64  # bytes; also the size of a vector
_QUARTER = ir.VectorType(FLOATS.element, 4)  # a row of a 4 × 4 block of pixels


def _is_row(array: Any, scalar: Any) -> bool:
    is_row = isinstance(array, types.Array) and array.ndim == 1 and array.layout == "C"
    return bool(is_row and array.dtype == scalar)


def _address(context: Any, builder: Any, sig: Any, args: Any, pointed: ir.Type, loc: Any) -> Any:
    """Pointer to args[0][args[1]], cast to `pointed`; `loc` is the line that asks for it."""
    if DEBUG:
        count = pointed.count if isinstance(pointed, ir.VectorType) else 1
        _check(context, builder, sig, args, count, loc)
    index = context.cast(builder, args[1], sig.args[1], types.intp)
    data = context.make_array(sig.args[0])(context, builder, args[0]).data
    return builder.bitcast(builder.gep(data, [index]), pointed.as_pointer())


def _check(context: Any, builder: Any, sig: Any, args: Any, count: int, loc: Any) -> None:
    """Raise an error unless args[0][args[1]] and what follows it, `count` numbers, lie inside."""
    index = context.cast(builder, args[1], sig.args[1], types.intp)
    shape = context.make_array(sig.args[0])(context, builder, args[0]).shape
    size = cgutils.unpack_tuple(builder, shape, 1)[0]
    begins = builder.icmp_signed(">=", index, index.type(0))
    ends = builder.icmp_signed("<=", index, builder.sub(size, size.type(count)))
    with builder.if_then(builder.not_(builder.and_(begins, ends)), likely=False):
        message = f"outside of its array: {_quoted(loc)}"
        context.call_conv.return_user_exc(builder, IndexError, (message,))


def _quoted(loc: Any) -> str:
    """A line of a kernel, with file and number; `loc` is numba's."""
    line = linecache.getline(loc.filename, loc.line).strip()
    return f"{Path(loc.filename).name}:{loc.line}: {line}"


def _loader(vector: Vector) -> Callable[..., Any]:
    def typed(_context: Any, array: Any, index: Any) -> Any:
        def lowered(context: Any, builder: Any, sig: Any, args: Any, loc: Any = None) -> Any:
            return builder.load(_address(context, builder, sig, args, vector.llvm, loc), align=4)

        return (signature(vector, array, index), lowered) if _is_row(array, vector.scalar) else None

    return typed


def _item_loader(_context: Any, array: Any, index: Any) -> Any:
    def lowered(context: Any, builder: Any, sig: Any, args: Any, loc: Any = None) -> Any:
        element = context.get_value_type(array.dtype)
        return builder.load(_address(context, builder, sig, args, element, loc))

    return (signature(array.dtype, array, index), lowered) if _is_row(array, array.dtype) else None


def _storer(vector: Vector) -> Callable[..., Any]:
    def typed(_context: Any, array: Any, index: Any, value: Any) -> Any:
        def lowered(context: Any, builder: Any, sig: Any, args: Any, loc: Any = None) -> Any:
            lanes = operand(context, builder, vector, sig.args[2], args[2])
            builder.store(lanes, _address(context, builder, sig, args, vector.llvm, loc), align=4)
            return context.get_dummy_value()

        if not _is_row(array, vector.scalar) or not fits(vector, value):
            return None
        return signature(types.none, array, index, value), lowered

    return typed


@compiled(_loader(FLOATS))
def load(array: Array, index: int) -> Floats:  # type: ignore[empty-body]
    """array[index : index + 16]."""


@compiled(_loader(INTS))
def load_ints(array: Array, index: int) -> Ints:  # type: ignore[empty-body]
    """array[index : index + 16] of an int32 array."""


@compiled(_item_loader)
def item(array: Array, index: int) -> Any:
    """array[index], without numba's test for negative indices.

    There were seven such tests in the innermost loop.
    """


@compiled(_storer(FLOATS))
def store(array: Array, index: int, value: Floats | float) -> None:
    """array[index : index + 16] = value."""


@compiled(_storer(INTS))
def store_ints(array: Array, index: int, value: Ints | int) -> None:
    """array[index : index + 16] = value, for an int32 array."""


def _column_loader(width: int) -> Callable[..., Any]:
    rows = ir.VectorType(FLOATS.element, LANES * width)
    result = types.UniTuple(FLOATS, width)

    def typed(_context: Any, array: Any, index: Any) -> Any:
        def lowered(context: Any, builder: Any, sig: Any, args: Any, loc: Any = None) -> Any:
            table = builder.load(_address(context, builder, sig, args, rows, loc), align=4)
            picks = [[row * width + column for row in range(LANES)] for column in range(width)]
            columns = [_shuffle(builder, table, table, pick) for pick in picks]
            return context.make_tuple(builder, result, columns)

        return (signature(result, array, index), lowered) if _is_row(array, types.float32) else None

    return typed


def _column_storer(width: int) -> Callable[..., Any]:
    rows = ir.VectorType(FLOATS.element, LANES * width)

    def typed(_context: Any, array: Any, index: Any, columns: Any) -> Any:
        def lowered(context: Any, builder: Any, sig: Any, args: Any, loc: Any = None) -> Any:
            joined = _concatenate(builder, cgutils.unpack_tuple(builder, args[2], width))
            interleaved = [c * LANES + row for row in range(LANES) for c in range(width)]
            table = _shuffle(builder, joined, joined, interleaved)
            builder.store(table, _address(context, builder, sig, args, rows, loc), align=4)
            return context.get_dummy_value()

        if not _is_row(array, types.float32) or not _is_vectors(columns) or columns.count != width:
            return None
        return signature(types.none, array, index, columns), lowered

    return typed


def _shuffle(builder: Any, a: Any, b: Any, picks: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(picks)), picks))


def _concatenate(builder: Any, parts: list[Any]) -> Any:
    """One long vector from vectors of equal length."""
    missing = [ir.Constant(parts[0].type, ir.Undefined)] * (-len(parts) % 2)
    pairs = zip(parts[::2], [*parts[1::2], *missing], strict=True)
    joined = [_shuffle(builder, a, b, list(range(2 * a.type.count))) for a, b in pairs]
    return joined[0] if len(joined) == 1 else _concatenate(builder, joined)


@compiled(_column_loader(3))
def load_columns_3(array: Array, index: int) -> tuple[Floats, Floats, Floats]:  # type: ignore[empty-body]
    """The columns of a table of 16 rows of 3 that begins at array[index]."""


@compiled(_column_loader(4))
def load_columns_4(array: Array, index: int) -> tuple[Floats, Floats, Floats, Floats]:  # type: ignore[empty-body]
    """The columns of a table of 16 rows of 4 that begins at array[index]."""


@compiled(_column_storer(3))
def store_columns_3(array: Array, index: int, columns: tuple[Floats, Floats, Floats]) -> None:
    """Write a table of 16 rows of 3 from its columns."""


@compiled(_column_storer(4))
def store_columns_4(
    array: Array, index: int, columns: tuple[Floats, Floats, Floats, Floats]
) -> None:
    """Write a table of 16 rows of 4 from its columns."""


def _square_loader(_context: Any, array: Any, index: Any, stride: Any) -> Any:
    def lowered(context: Any, builder: Any, sig: Any, args: Any, loc: Any = None) -> Any:
        addresses = _row_addresses(context, builder, sig, args, _QUARTER, 4, loc)
        return _concatenate(builder, [builder.load(address, align=4) for address in addresses])

    if not _is_row(array, types.float32):
        return None
    return signature(FLOATS, array, index, stride), lowered


def _square_storer(_context: Any, array: Any, index: Any, stride: Any, value: Any) -> Any:
    def lowered(context: Any, builder: Any, sig: Any, args: Any, loc: Any = None) -> Any:
        addresses = _row_addresses(context, builder, sig, args, _QUARTER, 4, loc)
        for row, address in enumerate(addresses):
            quarter = _shuffle(builder, args[3], args[3], list(range(4 * row, 4 * row + 4)))
            builder.store(quarter, address, align=4)
        return context.get_dummy_value()

    if not _is_row(array, types.float32) or value != FLOATS:
        return None
    return signature(types.none, array, index, stride, value), lowered


def _row_addresses(
    context: Any, builder: Any, sig: Any, args: Any, pointed: ir.VectorType, num: int, loc: Any
) -> list[Any]:
    """Addresses of `num` rows, args[2] numbers apart, of which the first is at args[0][args[1]]."""
    index = context.cast(builder, args[1], sig.args[1], types.intp)
    stride = context.cast(builder, args[2], sig.args[2], types.intp)
    row_sig = signature(types.none, sig.args[0], types.intp)
    addresses = []
    for _ in range(num):
        addresses.append(_address(context, builder, row_sig, (args[0], index), pointed, loc))
        index = builder.add(index, stride)
    return addresses


@compiled(_square_loader)
def load_square(array: Array, index: int, stride: int) -> Floats:  # type: ignore[empty-body]
    """Four rows of four: lane 4·y + x is array[index + y·stride + x]."""


@compiled(_square_storer)
def store_square(array: Array, index: int, stride: int, value: Floats) -> None:
    """Write four rows of four: array[index + y·stride + x] = lane 4·y + x."""


def _is_vectors(given: Any) -> bool:
    is_tuple = isinstance(given, (types.UniTuple, types.NamedUniTuple))
    return bool(is_tuple and given.dtype == FLOATS and given.count <= LANES)


def _transposer(_context: Any, rows: Any) -> Any:
    result = types.UniTuple(FLOATS, LANES)

    def lowered(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        given = cgutils.unpack_tuple(builder, args[0], sig.args[0].count)
        table = given + [ir.Constant(FLOATS.llvm, ir.Undefined)] * (LANES - len(given))
        return context.make_tuple(builder, result, _transposed(builder, table))

    return (signature(result, rows), lowered) if _is_vectors(rows) else None


def _transposed(builder: Any, table: list[Any]) -> list[Any]:
    """Rows to columns."""
    for distance in (8, 4, 2, 1):
        table = _exchange(builder, table, distance)
    return table


def _exchange(builder: Any, table: list[Any], distance: int) -> list[Any]:
    """One step of a transposition: swap off-diagonal squares of this size.

    After the steps 8, 4, 2 and 1, every element has swapped each bit of its row number with the
    same bit of its column number (Eklundh, "A Fast Computer Method for Matrix Transposing", 1972).
    """
    low = [i if not i & distance else i - distance + LANES for i in range(LANES)]
    high = [i + distance if not i & distance else i + LANES for i in range(LANES)]
    swapped = list(table)
    for row in (i for i in range(LANES) if not i & distance):
        a, b = table[row], table[row + distance]
        swapped[row] = _shuffle(builder, a, b, low)
        swapped[row + distance] = _shuffle(builder, a, b, high)
    return swapped


@compiled(_transposer)
def transpose(rows: tuple[Floats, ...]) -> tuple[Floats, ...]:  # type: ignore[empty-body]
    """Up to 16 rows to 16 columns: lane i of result j is lane j of row i.

    Lanes without a row are undefined.
    """


def _lane_summer(_context: Any, vectors: Any) -> Any:
    def lowered(_context: Any, builder: Any, sig: Any, args: Any) -> Any:
        given = cgutils.unpack_tuple(builder, args[0], sig.args[0].count)
        table = given + [ir.Constant(FLOATS.llvm, [0.0] * LANES)] * (LANES - len(given))
        for distance in (8, 4, 2, 1):
            low = [i if not i & distance else i - distance + LANES for i in range(LANES)]
            high = [i + distance if not i & distance else i + LANES for i in range(LANES)]
            halves = zip(table[:distance], table[distance:], strict=True)
            table = [
                builder.fadd(_shuffle(builder, a, b, low), _shuffle(builder, a, b, high))
                for a, b in halves
            ]
        return table[0]

    return (signature(FLOATS, vectors), lowered) if _is_vectors(vectors) else None


@compiled(_lane_summer)
def lane_sums(vectors: tuple[Floats, ...]) -> Floats:  # type: ignore[empty-body]
    """Lane i of the result is the sum of all lanes of vector i; zero where there is none.

    The order of the additions is fixed: neighbours at distance 8, 4, 2, 1.
    """


def _prefetcher(_context: Any, array: Any, index: Any) -> Any:
    def lowered(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = ir.IntType(8).as_pointer()
        index = context.cast(builder, args[1], sig.args[1], types.intp)
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        address = builder.bitcast(builder.gep(data, [index]), pointer)
        kind = ir.FunctionType(ir.VoidType(), [pointer, I32, I32, I32])
        prefetch_call = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(prefetch_call, [address, I32(0), I32(3), I32(1)])
        return context.get_dummy_value()

    return signature(types.none, array, index), lowered


@compiled(_prefetcher)
def prefetch(array: Array, index: int) -> None:
    """Prefetch array[index] into the cache; the address may lie outside of the array."""


def _table_loader(_context: Any, array: Any, index: Any, stride: Any) -> Any:
    result = types.UniTuple(FLOATS, LANES)

    def lowered(context: Any, builder: Any, sig: Any, args: Any, loc: Any = None) -> Any:
        addresses = _row_addresses(context, builder, sig, args, FLOATS.llvm, LANES, loc)
        rows = [builder.load(address, align=4) for address in addresses]
        return context.make_tuple(builder, result, _transposed(builder, rows))

    if not _is_row(array, types.float32):
        return None
    return signature(result, array, index, stride), lowered


@compiled(_table_loader)
def load_table(array: Array, index: int, stride: int) -> tuple[Floats, ...]:  # type: ignore[empty-body]
    """The columns of the 16 × 16 numbers in 16 rows that begin `stride` apart."""


def _row_storer(_context: Any, array: Any, index: Any, stride: Any, rows: Any) -> Any:
    def lowered(context: Any, builder: Any, sig: Any, args: Any, loc: Any = None) -> Any:
        values = cgutils.unpack_tuple(builder, args[3], LANES)
        addresses = _row_addresses(context, builder, sig, args, FLOATS.llvm, LANES, loc)
        for value, address in zip(values, addresses, strict=True):
            builder.store(value, address, align=4)
        return context.get_dummy_value()

    if not _is_row(array, types.float32) or not _is_vectors(rows) or rows.count != LANES:
        return None
    return signature(types.none, array, index, stride, rows), lowered


@compiled(_row_storer)
def store_rows(array: Array, index: int, stride: int, rows: tuple[Floats, ...]) -> None:
    """Write 16 vectors, `stride` apart."""


def aligned_empty(size: int, dtype: npt.DTypeLike = np.float32) -> Array:
    """A fresh array that begins at a cache line; for callers of compiled code."""
    item = np.dtype(dtype).itemsize
    raw = np.empty(size * item + _CACHE_LINE, np.uint8)
    start = -raw.__array_interface__["data"][0] % _CACHE_LINE  # quicker than `raw.ctypes.data`
    return raw[start : start + size * item].view(dtype)
