"""From sixteen 3D Gaussians to sixteen ellipses, and back again for gradients.

Notation: p is the centre in the camera's frame, M = R·diag(scales) the axes of the ellipsoid there
(three rows of three vectors), J the derivative of the pixel with respect to p, n₁ and n₂ the rows
of J·M. The 2D covariance is [[a, b], [b, c]] = (J·M)(J·M)ᵀ + eps2d·1, and its inverse
[[A, B], [B, C]].

The determinant is summed as |n₁ × n₂|² + eps2d·(|n₁|² + |n₂|²) + eps2d², which is a·c − b²
without its cancellation: thin ellipses keep their shape in float32.

J is taken at a point whose slopes x/z and y/z are clamped to near the image, as gsplat 1.5 does;
the centre itself is projected as it is.
"""

from __future__ import annotations

from typing import NamedTuple

from zipsplat.render.cpu.compiler import inline
from zipsplat.render.cpu.layout import (
    CENTRE,
    FOCAL_X,
    FOCAL_Y,
    HIGH_X,
    HIGH_Y,
    LOW_X,
    LOW_Y,
    ROTATION,
    FloatArray,
)
from zipsplat.render.cpu.simd import (
    Floats,
    absolute,
    bits_of,
    clamp,
    fma,
    from_bits,
    maximum,
    select_ints,
    sqrt,
)

# Bit patterns of float32 (IEEE 754): the mask of the exponent; 2·127 in that field, which minus the
# field of x is that of about 1/x; and 2⁻¹²⁷, the inverse of the largest power of two.
_EXPONENT, _NEGATED_EXPONENT, _LEAST = 0x7F800000, 0x7F000000, 0x00400000


class Vec3(NamedTuple):
    """Sixteen vectors in space."""

    x: Floats
    y: Floats
    z: Floats


class Mat3(NamedTuple):
    """Sixteen matrices, by rows."""

    x: Vec3
    y: Vec3
    z: Vec3


@inline
def dot(a: Vec3, b: Vec3) -> Floats:
    """The dot product a · b."""
    return fma(a.x, b.x, fma(a.y, b.y, a.z * b.z))


@inline
def scaled(a: Vec3, factor: Floats) -> Vec3:
    """A · factor."""
    return Vec3(a.x * factor, a.y * factor, a.z * factor)


@inline
def added(a: Vec3, b: Vec3) -> Vec3:
    """A + b."""
    return Vec3(a.x + b.x, a.y + b.y, a.z + b.z)


@inline
def combined(s: Floats, a: Vec3, t: Floats, b: Vec3) -> Vec3:
    """s·a + t·b."""
    return Vec3(fma(s, a.x, t * b.x), fma(s, a.y, t * b.y), fma(s, a.z, t * b.z))


@inline
def times(a: Vec3, b: Vec3) -> Vec3:
    """Products of the components."""
    return Vec3(a.x * b.x, a.y * b.y, a.z * b.z)


@inline
def cross(a: Vec3, b: Vec3) -> Vec3:
    """The cross product a × b."""
    return Vec3(
        fma(a.y, b.z, -(a.z * b.y)), fma(a.z, b.x, -(a.x * b.z)), fma(a.x, b.y, -(a.y * b.x))
    )


@inline
def to_camera(camera: FloatArray, row: int, v: Vec3) -> Floats:
    """One component of a world vector, turned into the camera's frame."""
    r = ROTATION + 3 * row
    return fma(v.x, camera[r], fma(v.y, camera[r + 1], v.z * camera[r + 2]))


@inline
def to_world(camera: FloatArray, v: Vec3) -> Vec3:
    """A vector in the camera's frame, turned into the world."""
    r = ROTATION
    return Vec3(
        fma(v.x, camera[r], fma(v.y, camera[r + 3], v.z * camera[r + 6])),
        fma(v.x, camera[r + 1], fma(v.y, camera[r + 4], v.z * camera[r + 7])),
        fma(v.x, camera[r + 2], fma(v.y, camera[r + 5], v.z * camera[r + 8])),
    )


@inline
def from_centre(camera: FloatArray, mean: Vec3) -> Vec3:
    """Vectors from the camera's centre to points of the world, in the world's frame."""
    c = CENTRE
    return Vec3(mean.x - camera[c], mean.y - camera[c + 1], mean.z - camera[c + 2])


class Quat(NamedTuple):
    """Sixteen unit quaternions, and 1 / length of those they were made from."""

    w: Floats
    x: Floats
    y: Floats
    z: Floats
    inverse_length: Floats


@inline
def normalized(w: Floats, x: Floats, y: Floats, z: Floats) -> Quat:
    """Unit quaternions; NaN for zero.

    They are first scaled to about unit length by a power of two, which is exact, so that the
    squares of very long and very short ones neither overflow nor underflow.
    """
    largest = maximum(maximum(absolute(w), absolute(x)), maximum(absolute(y), absolute(z)))
    exponent = bits_of(largest) & _EXPONENT
    near_top = exponent >= _NEGATED_EXPONENT  # where the inverse would be below the least exponent
    scale = from_bits(
        select_ints(near_top, exponent * 0 + _LEAST, exponent * 0 + _NEGATED_EXPONENT - exponent)
    )
    w, x, y, z = w * scale, x * scale, y * scale, z * scale
    i = 1.0 / sqrt(fma(w, w, fma(x, x, fma(y, y, z * z))))
    return Quat(w * i, x * i, y * i, z * i, i * scale)


@inline
def rotation(q: Quat) -> Mat3:
    """World-from-ellipsoid rotation matrices."""
    return Mat3(
        Vec3(
            1.0 - 2.0 * fma(q.y, q.y, q.z * q.z),
            2.0 * fma(q.x, q.y, -(q.w * q.z)),
            2.0 * fma(q.x, q.z, q.w * q.y),
        ),
        Vec3(
            2.0 * fma(q.x, q.y, q.w * q.z),
            1.0 - 2.0 * fma(q.x, q.x, q.z * q.z),
            2.0 * fma(q.y, q.z, -(q.w * q.x)),
        ),
        Vec3(
            2.0 * fma(q.x, q.z, -(q.w * q.y)),
            2.0 * fma(q.y, q.z, q.w * q.x),
            1.0 - 2.0 * fma(q.x, q.x, q.y * q.y),
        ),
    )


@inline
def camera_rotation(camera: FloatArray, r: Mat3) -> Mat3:
    """Camera-from-ellipsoid rotation matrices."""
    c = ROTATION
    return Mat3(
        _row_times(camera[c], camera[c + 1], camera[c + 2], r),
        _row_times(camera[c + 3], camera[c + 4], camera[c + 5], r),
        _row_times(camera[c + 6], camera[c + 7], camera[c + 8], r),
    )


@inline
def _row_times(a: float, b: float, c: float, r: Mat3) -> Vec3:
    return Vec3(
        fma(r.x.x, a, fma(r.y.x, b, r.z.x * c)),
        fma(r.x.y, a, fma(r.y.y, b, r.z.y * c)),
        fma(r.x.z, a, fma(r.y.z, b, r.z.z * c)),
    )


class Jacobian(NamedTuple):
    """J = [[focal_x/z, 0, −focal_x/z · slope_x], [0, focal_y/z, −focal_y/z · slope_y]]."""

    xx: Floats
    xz: Floats
    yy: Floats
    yz: Floats
    slope_x: Floats  # clamped to near the image
    slope_y: Floats
    inverse_z: Floats


@inline
def jacobian(camera: FloatArray, p: Vec3) -> Jacobian:
    """Derivative of the pixel with respect to the point in the camera's frame."""
    inverse_z = 1.0 / p.z
    slope_x = clamp(p.x * inverse_z, camera[LOW_X], camera[HIGH_X])
    slope_y = clamp(p.y * inverse_z, camera[LOW_Y], camera[HIGH_Y])
    xx = inverse_z * camera[FOCAL_X]
    yy = inverse_z * camera[FOCAL_Y]
    return Jacobian(xx, -(xx * slope_x), yy, -(yy * slope_y), slope_x, slope_y, inverse_z)


class Ellipse(NamedTuple):
    """Sixteen 2D covariances (a, b, c) and their inverses (A, B, C)."""

    a: Floats
    b: Floats
    c: Floats
    A: Floats
    B: Floats
    C: Floats


@inline
def ellipse_of(n1: Vec3, n2: Vec3, eps2d: float) -> Ellipse:
    """Covariance and inverse from the rows of J·M."""
    n11 = dot(n1, n1)
    n22 = dot(n2, n2)
    b = dot(n1, n2)
    normal = cross(n1, n2)
    determinant = dot(normal, normal) + eps2d * (n11 + n22) + eps2d * eps2d
    a = n11 + eps2d
    c = n22 + eps2d
    inverse = 1.0 / determinant
    return Ellipse(a, b, c, c * inverse, -(b * inverse), a * inverse)


class Projection(NamedTuple):
    """Everything between a group of Gaussians and their ellipses."""

    offset: Vec3  # from the camera's centre, world frame
    p: Vec3
    quat: Quat
    R: Mat3  # world from ellipsoid
    U: Mat3  # camera from ellipsoid
    scale: Vec3
    J: Jacobian
    M: Mat3
    n1: Vec3
    n2: Vec3
    ellipse: Ellipse


@inline
def project_group(
    mean: Vec3, quat: Quat, scale: Vec3, camera: FloatArray, eps2d: float
) -> Projection:
    """Project sixteen Gaussians."""
    offset = from_centre(camera, mean)
    p = Vec3(
        to_camera(camera, 0, offset), to_camera(camera, 1, offset), to_camera(camera, 2, offset)
    )
    R = rotation(quat)
    U = camera_rotation(camera, R)
    M = Mat3(times(U.x, scale), times(U.y, scale), times(U.z, scale))
    J = jacobian(camera, p)
    n1 = combined(J.xx, M.x, J.xz, M.z)
    n2 = combined(J.yy, M.y, J.yz, M.z)
    ellipse = ellipse_of(n1, n2, eps2d)
    return Projection(offset, p, quat, R, U, scale, J, M, n1, n2, ellipse)


@inline
def compensation(projection: Projection) -> Floats:
    """√(det Σ / det (Σ + eps2d·I)), by which antialiased opacities are multiplied."""
    normal = cross(projection.n1, projection.n2)
    inverse_determinant = projection.ellipse.A / projection.ellipse.c
    return sqrt(dot(normal, normal) * inverse_determinant)
