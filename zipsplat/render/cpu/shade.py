"""Colours of sixteen Gaussians from their spherical harmonics, and the gradients.

Coefficients lie in a scratch table by columns:
column 3·s + channel holds that coefficient of the sixteen Gaussians.
"""

from __future__ import annotations

from zipsplat.render.cpu.compiler import inline
from zipsplat.render.cpu.geometry import Vec3
from zipsplat.render.cpu.layout import GROUP, FloatArray
from zipsplat.render.cpu.simd import Floats, fma, load, load_table, store, store_rows
from zipsplat.sh_constants import COLOR_OFFSET, SH_C0, SH_C1, SH_C2, SH_C3

COLUMNS = 48  # numbers per Gaussian at degree 3


@inline
def num_harmonics(degree: int) -> int:
    """Coefficients per channel."""
    return (degree + 1) * (degree + 1)


@inline
def read_columns(sh_coeffs: FloatArray, row: int, num: int, used: int, table: FloatArray) -> None:
    """Transpose the coefficients of sixteen rows into columns.

    Args:
        sh_coeffs: rows of 3·num numbers, with 16 more numbers behind the last row.
        row: the first row.
        num: harmonics stored.
        used: harmonics wanted.
        table: 48 columns of 16.
    """
    for first in range(0, 3 * used, GROUP):
        columns = load_table(sh_coeffs, row * 3 * num + first, 3 * num)
        store_rows(table, first * GROUP, GROUP, columns)


@inline
def write_basis(degree: int, d: Vec3, basis: FloatArray) -> None:
    """Values of the harmonics in sixteen directions, as 16 columns."""
    store(basis, 0, SH_C0)
    if degree >= 1:
        store(basis, 1 * GROUP, -SH_C1 * d.y)
        store(basis, 2 * GROUP, SH_C1 * d.z)
        store(basis, 3 * GROUP, -SH_C1 * d.x)
    if degree >= 2:
        xx, yy, zz = d.x * d.x, d.y * d.y, d.z * d.z
        store(basis, 4 * GROUP, SH_C2[0] * d.x * d.y)
        store(basis, 5 * GROUP, -SH_C2[0] * d.y * d.z)
        store(basis, 6 * GROUP, SH_C2[1] * zz - SH_C2[2])
        store(basis, 7 * GROUP, -SH_C2[0] * d.x * d.z)
        store(basis, 8 * GROUP, SH_C2[3] * (xx - yy))
        if degree >= 3:
            ring = SH_C3[2] - SH_C3[3] * zz
            store(basis, 9 * GROUP, -SH_C3[0] * d.y * (3.0 * xx - yy))
            store(basis, 10 * GROUP, SH_C3[1] * d.x * d.y * d.z)
            store(basis, 11 * GROUP, d.y * ring)
            store(basis, 12 * GROUP, d.z * (SH_C3[4] * zz - SH_C3[5]))
            store(basis, 13 * GROUP, d.x * ring)
            store(basis, 14 * GROUP, SH_C3[6] * d.z * (xx - yy))
            store(basis, 15 * GROUP, -SH_C3[0] * d.x * (xx - 3.0 * yy))


@inline
def color(used: int, table: FloatArray, basis: FloatArray) -> Vec3:
    """Colours before they are clamped at zero."""
    y = load(basis, 0)
    r = fma(load(table, 0), y, COLOR_OFFSET)
    g = fma(load(table, GROUP), y, COLOR_OFFSET)
    b = fma(load(table, 2 * GROUP), y, COLOR_OFFSET)
    for s in range(1, used):
        y = load(basis, s * GROUP)
        at = 3 * s * GROUP
        r = fma(load(table, at), y, r)
        g = fma(load(table, at + GROUP), y, g)
        b = fma(load(table, at + 2 * GROUP), y, b)
    return Vec3(r, g, b)


@inline
def _weight(s: int, table: FloatArray, v: Vec3) -> Floats:
    """Gradient of harmonic s, from that of the colour."""
    at = 3 * s * GROUP
    r = load(table, at) * v.x
    return fma(load(table, at + 2 * GROUP), v.z, fma(load(table, at + GROUP), v.y, r))


@inline
def direction_gradient(degree: int, table: FloatArray, d: Vec3, v: Vec3) -> Vec3:
    """Gradient of the unit direction, from that of the colour."""
    gx = d.x * 0.0
    gy = gx
    gz = gx
    if degree >= 1:
        gy = -SH_C1 * _weight(1, table, v)
        gz = SH_C1 * _weight(2, table, v)
        gx = -SH_C1 * _weight(3, table, v)
    if degree >= 2:
        w4, w5, w6 = _weight(4, table, v), _weight(5, table, v), _weight(6, table, v)
        w7, w8 = _weight(7, table, v), _weight(8, table, v)
        gx = gx + SH_C2[0] * (d.y * w4 - d.z * w7) + 2.0 * SH_C2[3] * d.x * w8
        gy = gy + SH_C2[0] * (d.x * w4 - d.z * w5) - 2.0 * SH_C2[3] * d.y * w8
        gz = gz - SH_C2[0] * (d.y * w5 + d.x * w7) + 2.0 * SH_C2[1] * d.z * w6
    if degree >= 3:
        cubic = _cubic_gradient(table, d, v)
        gx = gx + cubic.x
        gy = gy + cubic.y
        gz = gz + cubic.z
    return Vec3(gx, gy, gz)


@inline
def _cubic_gradient(table: FloatArray, d: Vec3, v: Vec3) -> Vec3:
    xx, yy, zz = d.x * d.x, d.y * d.y, d.z * d.z
    xy, yz, xz = d.x * d.y, d.y * d.z, d.x * d.z
    ring = SH_C3[2] - SH_C3[3] * zz
    w9, w10, w11 = _weight(9, table, v), _weight(10, table, v), _weight(11, table, v)
    w12, w13, w14 = _weight(12, table, v), _weight(13, table, v), _weight(14, table, v)
    w15 = _weight(15, table, v)
    gx = -6.0 * SH_C3[0] * xy * w9 + SH_C3[1] * yz * w10 + ring * w13 + 2.0 * SH_C3[6] * xz * w14
    gx = gx - 3.0 * SH_C3[0] * (xx - yy) * w15
    gy = (
        -3.0 * SH_C3[0] * (xx - yy) * w9
        + SH_C3[1] * xz * w10
        + ring * w11
        - 2.0 * SH_C3[6] * yz * w14
    )
    gy = gy + 6.0 * SH_C3[0] * xy * w15
    gz = SH_C3[1] * xy * w10 - 2.0 * SH_C3[3] * (yz * w11 + xz * w13) + SH_C3[6] * (xx - yy) * w14
    gz = gz + (3.0 * SH_C3[4] * zz - SH_C3[5]) * w12
    return Vec3(gx, gy, gz)
