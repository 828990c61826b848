"""Real spherical harmonics up to degree 3, in the sign and order of 3D Gaussian splatting.

Source of the constants and signs: Kerbl et al., "3D Gaussian Splatting for Real-Time Radiance
Field Rendering", 2023, and the file format that came with it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from zipsplat.sh_constants import (
    COLOR_OFFSET,
    MAX_DEGREE,
    SH_C0,
    SH_C1,
    SH_C2,
    SH_C3,
    degree_of,
)


def basis(directions: Tensor, degree: int) -> Tensor:
    """Values of the basis functions.

    Args:
        directions: (..., 3) unit vectors.
        degree: 0 to 3.

    Returns:
        (..., S) with S = (degree + 1)².

    Raises:
        ValueError: if the degree is outside 0 to 3.
    """
    if not 0 <= degree <= MAX_DEGREE:
        raise ValueError(f"degree must be in 0..{MAX_DEGREE}, got {degree}")
    x, y, z = directions.unbind(-1)
    values = [torch.full_like(x, SH_C0)]
    if degree >= 1:
        values += [-SH_C1 * y, SH_C1 * z, -SH_C1 * x]
    if degree >= 2:
        c = SH_C2
        values += [
            c[0] * x * y,
            -c[0] * y * z,
            c[1] * z * z - c[2],
            -c[0] * x * z,
            c[3] * (x * x - y * y),
        ]
    if degree >= 3:
        c3 = SH_C3
        values += [
            -c3[0] * y * (3 * x * x - y * y),
            c3[1] * x * y * z,
            y * (c3[2] - c3[3] * z * z),
            z * (c3[4] * z * z - c3[5]),
            x * (c3[2] - c3[3] * z * z),
            c3[6] * z * (x * x - y * y),
            -c3[0] * x * (x * x - 3 * y * y),
        ]
    return torch.stack(values, dim=-1)


def evaluate(sh_coeffs: Tensor, directions: Tensor) -> Tensor:
    """Sum of the harmonics in a direction, without `COLOR_OFFSET`.

    Args:
        sh_coeffs: (..., S, C).
        directions: (..., 3) unit vectors.

    Returns:
        (..., C).
    """
    values = basis(directions, degree_of(sh_coeffs.shape[-2]))
    return (values.unsqueeze(-1) * sh_coeffs).sum(dim=-2)


def dc_from_rgb(rgb: Tensor) -> Tensor:
    """Coefficient of degree 0 of a colour in [0, 1]."""
    return (rgb - COLOR_OFFSET) / SH_C0


def rgb_from_dc(coeff: Tensor) -> Tensor:
    """Colour, not clamped, of a coefficient of degree 0."""
    return coeff * SH_C0 + COLOR_OFFSET


def rotate(sh_coeffs: Tensor, rotation: Tensor) -> Tensor:
    """Coefficients of the same colours after the object has been rotated.

    For each degree, the basis at enough fixed directions and at the same directions turned back
    determines the matrix by which the rotation acts on the coefficients; it is solved in float64.

    Args:
        sh_coeffs: (..., S, C).
        rotation: (3, 3), orthonormal and right-handed.

    Returns:
        (..., S, C), so that `evaluate(result, R d) == evaluate(sh_coeffs, d)`.
    """
    degree = degree_of(sh_coeffs.shape[-2])
    matrix = torch.zeros(sh_coeffs.shape[-2], sh_coeffs.shape[-2], dtype=torch.float64)
    directions = spread_directions(64)
    turned = directions @ rotation.detach().to("cpu", torch.float64)
    values, turned_values = basis(directions, degree), basis(turned, degree)
    for band in range(degree + 1):
        part = slice(band * band, (band + 1) ** 2)
        matrix[part, part] = torch.linalg.lstsq(values[:, part], turned_values[:, part]).solution
    return torch.einsum("ij,...jc->...ic", matrix.to(sh_coeffs), sh_coeffs)


def spread_directions(num: int) -> Tensor:
    """Evenly spread unit vectors (num, 3) on a Fibonacci spiral, float64."""
    index = torch.arange(num, dtype=torch.float64) + 0.5
    z = 1 - 2 * index / num
    angle = math.pi * (1 + math.sqrt(5)) * index
    radius = (1 - z * z).sqrt()
    return torch.stack((radius * angle.cos(), radius * angle.sin(), z), dim=-1)
