"""Constants of real spherical harmonics, and coefficient counts, without PyTorch."""

from __future__ import annotations

import math

MAX_DEGREE = 3
SH_C0 = 0.28209479177387814
# The factors of the basis functions of degrees 1, 2 and 3, shared with the CPU kernels and the
# shaders of the web page.
SH_C1 = 0.48860251190292
SH_C2 = (1.0925484305920792, 0.9461746957575601, 0.3153915652525201, 0.5462742152960395)
SH_C3 = (
    0.5900435899266435,
    2.890611442640554,
    0.4570457994644658,
    2.285228997322329,
    1.865881662950577,
    1.119528997770346,
    1.445305721320277,
)
COLOR_OFFSET = 0.5  # colour = max(Σ coefficient · basis + COLOR_OFFSET, 0)


def num_coeffs(degree: int) -> int:
    """Number of coefficients per channel of a degree: (degree + 1)²."""
    return (degree + 1) ** 2


def degree_of(num: int) -> int:
    """Degree that has this number of coefficients.

    Raises:
        ValueError: if the number is not 1, 4, 9 or 16.
    """
    degree = math.isqrt(num) - 1 if num > 0 else -1
    if num_coeffs(degree) != num or not 0 <= degree <= MAX_DEGREE:
        raise ValueError(f"the number of harmonics must be 1, 4, 9 or 16, got {num}")
    return degree
