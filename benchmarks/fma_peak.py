"""Peak of one core on fused multiply-adds of 16 lanes; a yardstick of other benchmarks."""

from __future__ import annotations

from collections.abc import Callable

from records import least_ms

from zipsplat.render.cpu.compiler import kernel
from zipsplat.render.cpu.layout import FloatArray
from zipsplat.render.cpu.simd import aligned_empty, fma, load, store


@kernel
def _multiply_add(values: FloatArray, rounds: int) -> None:
    """Twelve independent chains of fused multiply-adds."""
    factor, term = load(values, 0), load(values, 16)
    a = b = c = d = e = f = factor
    g = h = i = j = k = m = term
    for _ in range(rounds):
        a, b, c = fma(a, factor, term), fma(b, factor, term), fma(c, factor, term)
        d, e, f = fma(d, factor, term), fma(e, factor, term), fma(f, factor, term)
        g, h, i = fma(g, factor, term), fma(h, factor, term), fma(i, factor, term)
        j, k, m = fma(j, factor, term), fma(k, factor, term), fma(m, factor, term)
    store(values, 0, a + b + c + d + e + f + g + h + i + j + k + m)


@kernel
def _multiply_add_by_five(values: FloatArray, rounds: int) -> None:
    """Five chains: 16 lanes are two registers on AVX2, which has 16; twelve chains would spill."""
    factor, term = load(values, 0), load(values, 16)
    a = b = c = factor
    d = e = term
    for _ in range(rounds):
        a, b, c = fma(a, factor, term), fma(b, factor, term), fma(c, factor, term)
        d, e = fma(d, factor, term), fma(e, factor, term)
    store(values, 0, a + b + c + d + e)


def peak_gflops() -> float:
    """Peak of one core, on nothing but fused multiply-adds."""
    rounds = 200_000
    values = aligned_empty(32)

    def gflops(chains: int, work: Callable[[FloatArray, int], None]) -> float:
        def run() -> None:
            values[:] = 0.5
            work(values, rounds)

        run()
        return chains * 16 * 2 * rounds / least_ms(run, 15) / 1e6

    return max(gflops(12, _multiply_add), gflops(5, _multiply_add_by_five))
