"""Backward of `geometry`: from gradients of ellipses to gradients of Gaussians."""

from __future__ import annotations

from typing import NamedTuple

from zipsplat.render.cpu.compiler import inline
from zipsplat.render.cpu.geometry import (
    Ellipse,
    Mat3,
    Projection,
    Quat,
    Vec3,
    added,
    combined,
    cross,
    dot,
    scaled,
    times,
    to_world,
)
from zipsplat.render.cpu.layout import HIGH_X, HIGH_Y, LOW_X, LOW_Y, FloatArray
from zipsplat.render.cpu.simd import Floats, Mask, fma, select


@inline
def masked(mask: Mask, v: Vec3) -> Vec3:
    """The vectors where the mask is set, zero elsewhere."""
    return Vec3(select(mask, v.x, 0.0), select(mask, v.y, 0.0), select(mask, v.z, 0.0))


@inline
def _ellipse_gradient(
    e: Ellipse, sxx: Floats, sxy: Floats, syy: Floats
) -> tuple[Floats, Floats, Floats]:
    """Gradients of a, b, c from the matrix S of second moments.

    The gradient of Q = Σ⁻¹ is −½ S, and dQ = −Q dΣ Q; so that of Σ is ½ Q S Q.
    """
    p00 = fma(sxx, e.A, sxy * e.B)
    p01 = fma(sxx, e.B, sxy * e.C)
    p10 = fma(sxy, e.A, syy * e.B)
    p11 = fma(sxy, e.B, syy * e.C)
    v_a = 0.5 * fma(e.A, p00, e.B * p10)
    v_b = fma(e.A, p01, e.B * p11)
    v_c = 0.5 * fma(e.B, p01, e.C * p11)
    return v_a, v_b, v_c


@inline
def _point_gradient(
    proj: Projection,
    camera: FloatArray,
    v_J: tuple[Floats, Floats, Floats, Floats],
    v_mean_x: Floats,
    v_mean_y: Floats,
    v_depth: Floats,
) -> Vec3:
    """Gradient of the point in the camera's frame."""
    J, p = proj.J, proj.p
    v_xx, v_xz, v_yy, v_yz = v_J
    slope_x, slope_y = p.x * J.inverse_z, p.y * J.inverse_z
    free_x = (slope_x >= camera[LOW_X]) & (slope_x <= camera[HIGH_X])
    free_y = (slope_y >= camera[LOW_Y]) & (slope_y <= camera[HIGH_Y])
    v_x = fma(v_mean_x, J.xx, select(free_x, -(J.xx * v_xz), 0.0) * J.inverse_z)
    v_y = fma(v_mean_y, J.yy, select(free_y, -(J.yy * v_yz), 0.0) * J.inverse_z)
    focal = fma(J.xx, v_xx - J.slope_x * v_xz, J.yy * (v_yy - J.slope_y * v_yz))
    v_z = fma(v_x, slope_x, fma(v_y, slope_y, focal * J.inverse_z))
    return Vec3(v_x, v_y, v_depth - v_z)


class ShapeGradient(NamedTuple):
    """Gradients of the inputs of the projection."""

    p: Vec3  # the centre in the camera's frame
    U: Mat3  # camera from ellipsoid
    scale: Vec3


@inline
def shape_gradient(
    proj: Projection,
    camera: FloatArray,
    sums: tuple[Floats, ...],
    v_depth: Floats,
    visible: Mask,
    antialiased: bool,
) -> ShapeGradient:
    """Backward from ellipse to ellipsoid; `sums[0]` is the gradient of log opacity."""
    sx, sy, sxx, sxy, syy = sums[1], sums[2], sums[3], sums[4], sums[5]
    e, J, M, U, scale = proj.ellipse, proj.J, proj.M, proj.U, proj.scale
    v_a, v_b, v_c = _ellipse_gradient(e, sxx, sxy, syy)
    if antialiased:  # −½ log det (Σ + eps2d·1), the lower half of the logarithm
        v_a, v_b, v_c = v_a - 0.5 * sums[0] * e.A, v_b - sums[0] * e.B, v_c - 0.5 * sums[0] * e.C
    v_n1 = combined(2.0 * v_a, proj.n1, v_b, proj.n2)
    v_n2 = combined(2.0 * v_c, proj.n2, v_b, proj.n1)
    if antialiased:  # ½ log |n₁ × n₂|², the upper half
        normal = cross(proj.n1, proj.n2)
        factor = sums[0] / dot(normal, normal)
        v_n1 = added(v_n1, scaled(cross(proj.n2, normal), factor))
        v_n2 = added(v_n2, scaled(cross(normal, proj.n1), factor))
    v_J = (dot(v_n1, M.x), dot(v_n1, M.z), dot(v_n2, M.y), dot(v_n2, M.z))
    v_p = _point_gradient(
        proj, camera, v_J, fma(e.A, sx, e.B * sy), fma(e.B, sx, e.C * sy), v_depth
    )
    v_M = Mat3(
        masked(visible, scaled(v_n1, J.xx)),
        masked(visible, scaled(v_n2, J.yy)),
        masked(visible, combined(J.xz, v_n1, J.yz, v_n2)),
    )
    v_scale = times(v_M.x, U.x)
    v_scale = Vec3(
        fma(v_M.y.x, U.y.x, fma(v_M.z.x, U.z.x, v_scale.x)),
        fma(v_M.y.y, U.y.y, fma(v_M.z.y, U.z.y, v_scale.y)),
        fma(v_M.y.z, U.y.z, fma(v_M.z.z, U.z.z, v_scale.z)),
    )
    v_U = Mat3(times(v_M.x, scale), times(v_M.y, scale), times(v_M.z, scale))
    return ShapeGradient(masked(visible, v_p), v_U, masked(visible, v_scale))


@inline
def rotation_gradient(camera: FloatArray, v_U: Mat3) -> Mat3:
    """Gradient of the world-from-ellipsoid rotation, from that of the camera-from-ellipsoid one."""
    x = to_world(camera, Vec3(v_U.x.x, v_U.y.x, v_U.z.x))
    y = to_world(camera, Vec3(v_U.x.y, v_U.y.y, v_U.z.y))
    z = to_world(camera, Vec3(v_U.x.z, v_U.y.z, v_U.z.z))
    return Mat3(Vec3(x.x, y.x, z.x), Vec3(x.y, y.y, z.y), Vec3(x.z, y.z, z.z))


@inline
def quat_gradient(q: Quat, v: Mat3) -> tuple[Floats, Floats, Floats, Floats]:
    """Gradient of a quaternion of any length, from that of the rotation matrix."""
    w = 2.0 * (q.x * (v.z.y - v.y.z) + q.y * (v.x.z - v.z.x) + q.z * (v.y.x - v.x.y))
    x = 2.0 * (q.y * (v.x.y + v.y.x) + q.z * (v.x.z + v.z.x) + q.w * (v.z.y - v.y.z))
    x = x - 4.0 * q.x * (v.y.y + v.z.z)
    y = 2.0 * (q.x * (v.x.y + v.y.x) + q.z * (v.y.z + v.z.y) + q.w * (v.x.z - v.z.x))
    y = y - 4.0 * q.y * (v.x.x + v.z.z)
    z = 2.0 * (q.x * (v.x.z + v.z.x) + q.y * (v.y.z + v.z.y) + q.w * (v.y.x - v.x.y))
    z = z - 4.0 * q.z * (v.x.x + v.y.y)
    along = w * q.w + x * q.x + y * q.y + z * q.z
    i = q.inverse_length
    return (
        (w - along * q.w) * i,
        (x - along * q.x) * i,
        (y - along * q.y) * i,
        (z - along * q.z) * i,
    )


@inline
def camera_row(v_p: Floats, offset: Vec3, v_U: Vec3, R: Mat3) -> Vec3:
    """Gradient of one row of the camera's rotation."""
    return Vec3(
        fma(v_p, offset.x, dot(v_U, R.x)),
        fma(v_p, offset.y, dot(v_U, R.y)),
        fma(v_p, offset.z, dot(v_U, R.z)),
    )
