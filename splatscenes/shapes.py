"""Ray intersections and distances of single shapes (compiled).

Formulas: slab test for boxes (Kay & Kajiya 1986), Möller–Trumbore 1997 for triangles, quadratic
equations for ellipsoids and frusta in the cube of the shape. Scalars instead of vectors, columns
instead of row views: both keep the compiler from allocating in the innermost loops.
"""

from __future__ import annotations

import math

from splatscenes._compile import inlined, per_ray
from splatscenes.world import (
    BOX,
    ELLIPSOID,
    FRUSTUM,
    HALF,
    ROOM,
    TAPER,
    TRIANGLE,
    FloatArray,
    World,
)

Vector = tuple[float, float, float]
NO_INTERSECTION = 1e30  # finite, so that arithmetic on it makes no NaN
_NEAR = 1e-7  # closer intersections are with the surface the ray starts from


@inlined
def into_cube(data: FloatArray, i: int, x: float, y: float, z: float) -> Vector:
    """Transform a world vector to the axes of the cube of primitive `i`."""
    return (
        data[i, 0] * x + data[i, 1] * y + data[i, 2] * z,
        data[i, 3] * x + data[i, 4] * y + data[i, 5] * z,
        data[i, 6] * x + data[i, 7] * y + data[i, 8] * z,
    )


@inlined
def _slabs(ox: float, oy: float, oz: float, dx: float, dy: float, dz: float) -> tuple[float, float]:
    # For rays parallel to a slab, use a reciprocal so large that only rays inside it pass.
    ix = 1.0 / dx if abs(dx) > 1e-14 else 1e14
    iy = 1.0 / dy if abs(dy) > 1e-14 else 1e14
    iz = 1.0 / dz if abs(dz) > 1e-14 else 1e14
    mx, my, mz, rx, ry, rz = -ox * ix, -oy * iy, -oz * iz, abs(ix), abs(iy), abs(iz)
    return max(mx - rx, my - ry, mz - rz), min(mx + rx, my + ry, mz + rz)


@inlined
def _ellipsoid(ox: float, oy: float, oz: float, dx: float, dy: float, dz: float) -> float:
    a = dx * dx + dy * dy + dz * dz
    b = ox * dx + oy * dy + oz * dz
    root = b * b - a * (ox * ox + oy * oy + oz * oz - 1)
    if root < 0:
        return NO_INTERSECTION
    root = math.sqrt(root)
    first = (-b - root) / a
    return first if first > _NEAR else (-b + root) / a


@inlined
def _frustum(
    ox: float, oy: float, oz: float, dx: float, dy: float, dz: float, taper: float
) -> float:
    best = NO_INTERSECTION
    inverse = 1.0 / dz if abs(dz) > 1e-14 else 1e14
    low, high = (-1 - oz) * inverse, (1 - oz) * inverse
    x, y = ox + low * dx, oy + low * dy
    if low > _NEAR and x * x + y * y <= 1:
        best = low
    x, y, radius = ox + high * dx, oy + high * dy, 1 - taper
    if _NEAR < high < best and x * x + y * y <= radius * radius:
        best = high
    slope = 0.5 * taper
    width = 1 - slope - slope * oz  # radius of the lateral surface at the ray's start
    a = dx * dx + dy * dy - slope * slope * dz * dz
    b = ox * dx + oy * dy + slope * width * dz
    root = b * b - a * (ox * ox + oy * oy - width * width)
    if root >= 0 and abs(a) > 1e-18:  # a = 0: the ray is parallel to the lateral surface
        root = math.sqrt(root)
        first, second = (-b - root) / a, (-b + root) / a
        if _NEAR < first < best and abs(oz + first * dz) <= 1:
            best = first
        if _NEAR < second < best and abs(oz + second * dz) <= 1:
            best = second
    return best


@inlined
def _triangle(
    data: FloatArray, i: int, ox: float, oy: float, oz: float, dx: float, dy: float, dz: float
) -> float:
    ax, ay, az = data[i, 3], data[i, 4], data[i, 5]
    bx, by, bz = data[i, 6], data[i, 7], data[i, 8]
    px, py, pz = dy * bz - dz * by, dz * bx - dx * bz, dx * by - dy * bx
    det = ax * px + ay * py + az * pz
    if abs(det) < 1e-16:  # parallel to the triangle
        return NO_INTERSECTION
    sx, sy, sz = ox - data[i, 0], oy - data[i, 1], oz - data[i, 2]
    u = (sx * px + sy * py + sz * pz) / det
    if u < 0 or u > 1:
        return NO_INTERSECTION
    qx, qy, qz = sy * az - sz * ay, sz * ax - sx * az, sx * ay - sy * ax
    v = (dx * qx + dy * qy + dz * qz) / det
    if v < 0 or u + v > 1:
        return NO_INTERSECTION
    t = (bx * qx + by * qy + bz * qz) / det
    return t if t > _NEAR else NO_INTERSECTION


@inlined
def face_of(x: float, y: float, z: float) -> int:
    """Face of the cube nearest to a point on it: −x +x −y +y −z +z are 0 … 5."""
    ax, ay, az = abs(x), abs(y), abs(z)
    if ax >= ay and ax >= az:
        return 1 if x > 0 else 0
    if ay >= az:
        return 3 if y > 0 else 2
    return 5 if z > 0 else 4


@per_ray
def _is_open(openings: FloatArray, i: int, x: float, y: float, z: float) -> bool:
    face = face_of(x, y, z)
    u = y if face < 2 else x
    v = y if face > 3 else z
    for k in range(openings.shape[0]):
        if (
            openings[k, 0] == i
            and openings[k, 1] == face
            and openings[k, 2] < u < openings[k, 3]
            and openings[k, 4] < v < openings[k, 5]
        ):
            return True
    return False


@inlined
def intersect(world: World, i: int, o: Vector, d: Vector) -> float:
    """Ray parameter (in lengths of `d`) of primitive `i`, or `NO_INTERSECTION`."""
    data = world.data
    kind = world.kind[i]
    if kind == TRIANGLE:
        return _triangle(data, i, o[0], o[1], o[2], d[0], d[1], d[2])
    px, py, pz = into_cube(data, i, o[0] - data[i, 9], o[1] - data[i, 10], o[2] - data[i, 11])
    qx, qy, qz = into_cube(data, i, d[0], d[1], d[2])
    if kind == BOX:
        near, far = _slabs(px, py, pz, qx, qy, qz)
        if near > far or far < _NEAR:
            return NO_INTERSECTION
        return near if near > _NEAR else far
    if kind == ELLIPSOID:
        t = _ellipsoid(px, py, pz, qx, qy, qz)
    elif kind == FRUSTUM:
        t = _frustum(px, py, pz, qx, qy, qz, data[i, TAPER])
    else:
        near, t = _slabs(px, py, pz, qx, qy, qz)
        if near > t or _is_open(world.openings, i, px + t * qx, py + t * qy, pz + t * qz):
            return NO_INTERSECTION
    return t if t > _NEAR else NO_INTERSECTION


@inlined
def _box_distance(data: FloatArray, i: int, x: float, y: float, z: float) -> float:
    a = (abs(x) - 1) * data[i, HALF]
    b = (abs(y) - 1) * data[i, HALF + 1]
    c = (abs(z) - 1) * data[i, HALF + 2]
    if a <= 0 and b <= 0 and c <= 0:
        return float(max(a, b, c))
    return math.sqrt(max(a, 0.0) ** 2 + max(b, 0.0) ** 2 + max(c, 0.0) ** 2)


@inlined
def _round_distance(data: FloatArray, i: int, x: float, y: float, z: float) -> float:
    # First-order distance to an ellipsoid: value over gradient length.
    length = math.sqrt(x * x + y * y + z * z)
    x, y, z = x / data[i, HALF], y / data[i, HALF + 1], z / data[i, HALF + 2]
    slope = math.sqrt(x * x + y * y + z * z)
    return length * (length - 1) / slope if slope > 0 else -data[i, HALF]


@inlined
def _frustum_distance(data: FloatArray, i: int, x: float, y: float, z: float) -> float:
    # Distance to the enclosing cylinder: a lower bound, which is safe for camera clearance.
    widest = max(1.0, 1 - data[i, TAPER])
    radial = (math.sqrt(x * x + y * y) - widest) * min(data[i, HALF], data[i, HALF + 1])
    axial = (abs(z) - 1) * data[i, HALF + 2]
    if radial > 0 and axial > 0:
        return math.sqrt(radial * radial + axial * axial)
    return float(max(radial, axial))


@per_ray
def _triangle_distance(data: FloatArray, i: int, x: float, y: float, z: float) -> float:
    # Distance to the point with clamped coordinates: exact above the face, slightly long beyond
    # edges, where the neighbouring triangle of a surface is nearer.
    px, py, pz = x - data[i, 0], y - data[i, 1], z - data[i, 2]
    ax, ay, az = data[i, 3], data[i, 4], data[i, 5]
    bx, by, bz = data[i, 6], data[i, 7], data[i, 8]
    aa, bb = ax * ax + ay * ay + az * az, bx * bx + by * by + bz * bz
    ab = ax * bx + ay * by + az * bz
    pa, pb = px * ax + py * ay + pz * az, px * bx + py * by + pz * bz
    det = aa * bb - ab * ab
    if det <= 0:
        return NO_INTERSECTION
    u = min(max((bb * pa - ab * pb) / det, 0.0), 1.0)
    v = min(max((aa * pb - ab * pa) / det, 0.0), 1.0 - u)
    dx, dy, dz = px - u * ax - v * bx, py - u * ay - v * by, pz - u * az - v * bz
    return math.sqrt(dx * dx + dy * dy + dz * dz)


@inlined
def distance(world: World, i: int, x: float, y: float, z: float) -> float:
    """Distance from a point to the surface of primitive `i`, negative inside a solid one."""
    data = world.data
    kind = world.kind[i]
    if kind == TRIANGLE:
        return _triangle_distance(data, i, x, y, z)
    px, py, pz = into_cube(data, i, x - data[i, 9], y - data[i, 10], z - data[i, 11])
    if kind == ELLIPSOID:
        return _round_distance(data, i, px, py, pz)
    if kind == FRUSTUM:
        return _frustum_distance(data, i, px, py, pz)
    box = _box_distance(data, i, px, py, pz)
    return -box if kind == ROOM else box
