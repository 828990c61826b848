"""The types of the vector language, their operators and elementary functions.

There are three types: `Floats` (16 × float32), `Ints` (16 × int32) and `Mask` (16 × one bit). A
plain number stands for sixteen equal ones wherever a vector is expected. The vectors are LLVM's
own (`<16 x float>`): a processor with 512-bit registers holds one in a register, others split it
into two or four, so the same kernel serves AVX-512, AVX2, SSE and NEON.

Nothing here reorders or approximates: additions happen as written, except that `fma` rounds once
where the processor can. The functions can only be called from compiled code.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from typing import Any, TypeVar

from llvmlite import ir
from numba.core import cgutils as cgutils_module
from numba.core import types as types_module
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

cgutils: Any = cgutils_module  # numba's annotations differ between versions
types: Any = types_module
_PrimitiveModel: Any = models.PrimitiveModel

LANES = 16  # float32 in a register of AVX-512, the widest; narrower ones take several
_R = TypeVar("_R")


class Floats:
    """Sixteen float32 numbers."""

    def __add__(self, other: Floats | float) -> Floats: ...  # type: ignore[empty-body]
    def __sub__(self, other: Floats | float) -> Floats: ...  # type: ignore[empty-body]
    def __mul__(self, other: Floats | float) -> Floats: ...  # type: ignore[empty-body]
    def __truediv__(self, other: Floats | float) -> Floats: ...  # type: ignore[empty-body]
    def __neg__(self) -> Floats: ...  # type: ignore[empty-body]
    def __lt__(self, other: Floats | float) -> Mask: ...  # type: ignore[empty-body]
    def __le__(self, other: Floats | float) -> Mask: ...  # type: ignore[empty-body]
    def __gt__(self, other: Floats | float) -> Mask: ...  # type: ignore[empty-body]
    def __ge__(self, other: Floats | float) -> Mask: ...  # type: ignore[empty-body]

    __radd__ = __add__
    __rsub__ = __sub__
    __rmul__ = __mul__
    __rtruediv__ = __truediv__


class Ints:
    """Sixteen int32 numbers."""

    def __add__(self, other: Ints | int) -> Ints: ...  # type: ignore[empty-body]
    def __sub__(self, other: Ints | int) -> Ints: ...  # type: ignore[empty-body]
    def __mul__(self, other: Ints | int) -> Ints: ...  # type: ignore[empty-body]
    def __and__(self, other: Ints | int) -> Ints: ...  # type: ignore[empty-body]
    def __lshift__(self, other: Ints | int) -> Ints: ...  # type: ignore[empty-body]
    def __rshift__(self, other: Ints | int) -> Ints: ...  # type: ignore[empty-body]
    def __lt__(self, other: Ints | int) -> Mask: ...  # type: ignore[empty-body]
    def __le__(self, other: Ints | int) -> Mask: ...  # type: ignore[empty-body]
    def __gt__(self, other: Ints | int) -> Mask: ...  # type: ignore[empty-body]
    def __ge__(self, other: Ints | int) -> Mask: ...  # type: ignore[empty-body]

    __radd__ = __add__
    __rmul__ = __mul__


class Mask:
    """Sixteen truth values."""

    def __and__(self, other: Mask) -> Mask: ...  # type: ignore[empty-body]
    def __or__(self, other: Mask) -> Mask: ...  # type: ignore[empty-body]
    def __invert__(self) -> Mask: ...  # type: ignore[empty-body]


# How numba and LLVM see the three types.


class Vector(types.Type):  # type: ignore[misc]
    """One of the three types, as numba knows it."""

    def __init__(self, name: str, element: ir.Type, scalar: Any) -> None:
        super().__init__(name=name)
        self.element = element
        self.scalar = scalar
        self.llvm = ir.VectorType(element, LANES)


_I1, I32, _F32 = ir.IntType(1), ir.IntType(32), ir.FloatType()
FLOATS = Vector("Floats", _F32, types.float32)
INTS = Vector("Ints", I32, types.int32)
_MASK = Vector("Mask", _I1, types.boolean)
_NUMBA_TYPE: dict[Any, Any] = {
    Floats: FLOATS,
    Ints: INTS,
    Mask: _MASK,
    float: types.float32,
    int: types.int32,
    bool: types.boolean,
    None: types.none,
}


@register_model(Vector)
class _VectorModel(_PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, vector.llvm)


def _splat(builder: Any, value: Any, lanes: int = LANES) -> Any:
    """Sixteen copies of one LLVM value."""
    vector = ir.VectorType(value.type, lanes)
    single = builder.insert_element(ir.Constant(vector, ir.Undefined), value, I32(0))
    zeros = ir.Constant(ir.VectorType(I32, lanes), [0] * lanes)
    return builder.shuffle_vector(single, ir.Constant(vector, ir.Undefined), zeros)


def fits(wanted: Any, given: Any) -> bool:
    """Whether an argument is a vector of the wanted type, or a number that can become one."""
    if given == wanted or not isinstance(wanted, Vector):
        return given == wanted or isinstance(given, (types.Number, types.Boolean))
    return isinstance(given, (types.Boolean if wanted == _MASK else types.Number))


def operand(context: Any, builder: Any, wanted: Any, given: Any, value: Any) -> Any:
    """The LLVM value of an argument; numbers become vectors where those are wanted."""
    if given == wanted:
        return value
    if isinstance(wanted, Vector):
        return _splat(builder, context.cast(builder, value, given, wanted.scalar))
    return context.cast(builder, value, given, wanted)


# Operators.


def _operator(symbol: Any, result: Vector, kind: Vector, build: Callable[..., Any]) -> None:
    """Teach numba one operator on vectors of a kind, or on a vector and a number."""

    def typed(_template: Any, args: tuple[Any, ...], _kws: Any) -> Any:
        if kind in args and all(fits(kind, arg) for arg in args):
            return signature(result, *args)
        return None

    def lowered(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pairs = zip(sig.args, args, strict=True)
        return build(builder, *(operand(context, builder, kind, *pair) for pair in pairs))

    name = f"{symbol.__name__}_{kind.name}"
    infer_global(symbol)(type(name, (AbstractTemplate,), {"generic": typed}))
    unary = symbol in (operator.neg, operator.invert)
    patterns = [(kind,)] if unary else [(kind, kind), (kind, types.Number), (types.Number, kind)]
    for pattern in patterns:
        lower_builtin(symbol, *pattern)(lowered)


def _method(name: str, *leading: Any) -> Callable[..., Any]:
    """The builder's method of this name, with leading arguments filled in."""
    return lambda builder, *operands: getattr(builder, name)(*leading, *operands)


for _symbol, _floats, _ints in (
    (operator.add, "fadd", "add"),
    (operator.sub, "fsub", "sub"),
    (operator.mul, "fmul", "mul"),
):
    _operator(_symbol, FLOATS, FLOATS, _method(_floats))
    _operator(_symbol, INTS, INTS, _method(_ints))
for _symbol, _sign in (
    (operator.lt, "<"),
    (operator.le, "<="),
    (operator.gt, ">"),
    (operator.ge, ">="),
):
    _operator(_symbol, _MASK, FLOATS, _method("fcmp_ordered", _sign))
    _operator(_symbol, _MASK, INTS, _method("icmp_signed", _sign))
_operator(operator.truediv, FLOATS, FLOATS, _method("fdiv"))
_operator(operator.neg, FLOATS, FLOATS, _method("fneg"))
_operator(operator.and_, INTS, INTS, _method("and_"))
_operator(operator.lshift, INTS, INTS, _method("shl"))
_operator(operator.rshift, INTS, INTS, _method("ashr"))
_operator(operator.and_, _MASK, _MASK, _method("and_"))
_operator(operator.or_, _MASK, _MASK, _method("or_"))
_operator(operator.invert, _MASK, _MASK, _method("not_"))


# Functions of vectors and numbers.


def _function(
    result: type[_R] | None, *operands: type
) -> Callable[[Callable[..., Any]], Callable[..., _R]]:
    """Make a function of compiled code from one that builds its LLVM instructions.

    The builder receives the LLVM values of the operands, numbers already spread over the lanes.
    """
    wanted = [_NUMBA_TYPE[operand] for operand in operands]

    def decorate(build: Callable[..., Any]) -> Callable[..., _R]:
        def typed(_context: Any, *args: Any) -> Any:
            if len(args) != len(wanted) or not all(map(fits, wanted, args)):
                return None

            def lowered(context: Any, builder: Any, sig: Any, values: Any) -> Any:
                given = zip(wanted, sig.args, values, strict=True)
                built = build(builder, *(operand(context, builder, *each) for each in given))
                return context.get_dummy_value() if result is None else built

            return signature(_NUMBA_TYPE[result], *args), lowered

        # numba asks how many arguments there are; those of `build`, whose first is not an argument
        typed.__signature__ = inspect.signature(build)  # type: ignore[attr-defined]
        return compiled(typed)(build)

    return decorate


def compiled(typed: Callable[..., Any]) -> Callable[[Callable[..., _R]], Callable[..., _R]]:
    """Give numba's description of a function the name, types and docstring of a declaration."""

    def decorate(declaration: Callable[..., _R]) -> Callable[..., _R]:
        typed.__name__ = declaration.__name__
        typed.__doc__ = declaration.__doc__
        function: Callable[..., _R] = intrinsic(typed)
        return function

    return decorate


def _call(builder: Any, name: str, result: ir.Type, *operands: Any) -> Any:
    """Call one of LLVM's own functions."""
    kind = ir.FunctionType(result, [operand.type for operand in operands])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), operands)


@_function(Floats, Floats, Floats, Floats)
def fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a·b + c, rounded once where the processor has such an instruction."""
    return _call(builder, "llvm.fmuladd.v16f32", FLOATS.llvm, a, b, c)


@_function(Floats, Floats, Floats)
def minimum(builder: Any, a: Any, b: Any) -> Any:
    """The smaller of each pair; b where a is NaN."""
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)


@_function(Floats, Floats, Floats)
def maximum(builder: Any, a: Any, b: Any) -> Any:
    """The larger of each pair; b where a is NaN."""
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


@_function(Floats, Floats)
def absolute(builder: Any, a: Any) -> Any:
    """The absolute value."""
    return _call(builder, "llvm.fabs.v16f32", FLOATS.llvm, a)


@_function(Floats, Floats)
def sqrt(builder: Any, a: Any) -> Any:
    """The square root."""
    return _call(builder, "llvm.sqrt.v16f32", FLOATS.llvm, a)


@_function(Floats, Floats)
def floor(builder: Any, a: Any) -> Any:
    """The largest integer at or below each number."""
    return _call(builder, "llvm.floor.v16f32", FLOATS.llvm, a)


@_function(Floats, Floats)
def ceil(builder: Any, a: Any) -> Any:
    """The smallest integer at or above each number."""
    return _call(builder, "llvm.ceil.v16f32", FLOATS.llvm, a)


@_function(Floats, Mask, Floats, Floats)
def select(builder: Any, mask: Any, a: Any, b: Any) -> Any:
    """`a` where the mask is set, `b` elsewhere."""
    return builder.select(mask, a, b)


@_function(Ints, Mask, Ints, Ints)
def select_ints(builder: Any, mask: Any, a: Any, b: Any) -> Any:
    """`a` where the mask is set, `b` elsewhere."""
    return builder.select(mask, a, b)


@_function(Floats, Ints)
def to_floats(builder: Any, a: Any) -> Any:
    """Integers as floats."""
    return builder.sitofp(a, FLOATS.llvm)


@_function(Ints, Floats)
def to_ints(builder: Any, a: Any) -> Any:
    """Floats truncated to integers, which must fit into 32 bits; infinities and NaN do not."""
    return builder.fptosi(a, INTS.llvm)


@_function(Ints, Floats)
def bits_of(builder: Any, a: Any) -> Any:
    """The bit patterns of floats."""
    return builder.bitcast(a, INTS.llvm)


@_function(Floats, Ints)
def from_bits(builder: Any, a: Any) -> Any:
    """The floats that have these bit patterns."""
    return builder.bitcast(a, FLOATS.llvm)


@_function(int, Mask)
def pack(builder: Any, mask: Any) -> Any:
    """The mask as an integer whose bit i is lane i."""
    return builder.zext(builder.bitcast(mask, ir.IntType(LANES)), I32)


@_function(bool, Mask)
def any_lane(builder: Any, mask: Any) -> Any:
    """Whether any lane is set."""
    packed = builder.bitcast(mask, ir.IntType(LANES))
    return builder.icmp_unsigned("!=", packed, packed.type(0))


@_function(Mask, int)
def unpack(builder: Any, bits: Any) -> Any:
    """The mask whose lane i is bit i of an integer."""
    return builder.bitcast(builder.trunc(bits, ir.IntType(LANES)), _MASK.llvm)


@_function(Ints)
def lane_numbers(_builder: Any) -> Any:
    """0, 1, …, 15."""
    return ir.Constant(INTS.llvm, list(range(LANES)))


@_function(Floats)
def zeros(_builder: Any) -> Any:
    """Sixteen zeros."""
    return ir.Constant(FLOATS.llvm, [0.0] * LANES)


@_function(float, Floats, int)
def lane(builder: Any, a: Any, index: Any) -> Any:
    """One lane of a vector."""
    return builder.extract_element(a, index)


@_function(float, Floats)
def least_lane(builder: Any, a: Any) -> Any:
    """The smallest of all lanes, none of which may be NaN."""
    return _call(builder, "llvm.vector.reduce.fmin.v16f32", _F32, a)


@_function(Floats, Floats, int, float)
def with_lane(builder: Any, a: Any, index: Any, value: Any) -> Any:
    """A vector with one lane replaced."""
    return builder.insert_element(a, value, index)


# Integer instructions that Python lacks.


@_function(int, int)
def lowest_bit(builder: Any, bits: Any) -> Any:
    """Index of the lowest set bit of a number that is not zero."""
    return _call(builder, "llvm.cttz.i32", I32, bits, _I1(1))


@_function(int, int)
def highest_bit(builder: Any, bits: Any) -> Any:
    """Index of the highest set bit of a 32-bit number that is not zero."""
    zeros = _call(builder, "llvm.ctlz.i32", I32, bits, _I1(1))
    return builder.sub(I32(31), zeros)


@_function(int, int)
def count_bits(builder: Any, bits: Any) -> Any:
    """How many bits of a 32-bit number are set."""
    return _call(builder, "llvm.ctpop.i32", I32, bits)
