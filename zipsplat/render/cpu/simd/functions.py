"""Powers and logarithms of vectors, in the vector language itself."""

from __future__ import annotations

from zipsplat.render.cpu.compiler import inline
from zipsplat.render.cpu.simd.vectors import (
    Floats,
    Mask,
    bits_of,
    fma,
    from_bits,
    select,
    to_floats,
)

_ROUNDER = 12582912.0  # 1.5 · 2²³: adding it rounds a float32 to an integer


@inline
def exp2(x: Floats) -> Floats:
    """2 to the power x, to 3e-7 relative, for x in [-126, 127]; elsewhere the result is garbage.

    x is split into an integer, which becomes the exponent, and a remainder in [-½, ½], for which a
    polynomial of minimax relative error was found with Remez' algorithm.
    """
    shifted = x + _ROUNDER
    rest = x - (shifted - _ROUNDER)
    power = fma(rest, 0.0013276472454890609, 0.009675540961325169)
    power = fma(rest, power, 0.05550713092088699)
    power = fma(rest, power, 0.24022120237350464)
    power = fma(rest, power, 0.6931469440460205)
    power = fma(rest, power, 1.0)
    return from_bits(bits_of(power) + (bits_of(shifted) << 23))


@inline
def log2(x: Floats) -> Floats:
    """Logarithm to base 2, to 2e-7 absolute plus 1e-7 relative, for normal positive numbers.

    x = m · 2ⁿ with m in [√½, √2]; log m = 2 artanh((m − 1) / (m + 1)) by its power series.
    """
    bits = bits_of(x)
    exponent = (bits - 0x3F3504F3) >> 23  # the bits of √½: so that m is centred on 1
    m = from_bits(bits - (exponent << 23))
    s = (m - 1.0) / (m + 1.0)
    s2 = s * s
    series = fma(s2, 0.3205988980, 0.4121985831)  # 2 / (9 ln 2), 2 / (7 ln 2), …
    series = fma(s2, series, 0.5770780164)
    series = fma(s2, series, 0.9617966939)
    series = fma(s2, series, 2.8853900818)
    return fma(s, series, to_floats(exponent))


@inline
def is_finite(x: Floats) -> Mask:
    """True where x is finite."""
    return x - x >= 0.0


@inline
def clamp(x: Floats, low: Floats | float, high: Floats | float) -> Floats:
    """Clamp x between two bounds, propagating NaN."""
    raised = select(x < low, low, x)
    return select(raised > high, high, raised)
