"""Degrees of real spherical harmonics and their number of coefficients; needs no PyTorch."""

from __future__ import annotations

import math

MAX_DEGREE = 3
SH_C0 = 0.28209479177387814


def num_coeffs(degree: int) -> int:
    """Number of coefficients per channel of a degree: (degree + 1)²."""
    return (degree + 1) ** 2


def degree_of(num: int) -> int:
    """Degree that has this number of coefficients.

    Raises:
        ValueError: if the number is none of 1, 4, 9, 16.
    """
    degree = math.isqrt(num) - 1 if num > 0 else -1
    if num_coeffs(degree) != num or not 0 <= degree <= MAX_DEGREE:
        raise ValueError(f"the number of harmonics must be 1, 4, 9 or 16, got {num}")
    return degree
