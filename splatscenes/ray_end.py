"""Surface at a ray's end: normal, texture coordinates and texture colour (compiled)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from splatscenes._compile import inlined, per_ray
from splatscenes.shapes import Vector, face_of, into_cube
from splatscenes.textures import NUM_LEVELS
from splatscenes.textures._painting import TEXTURE_SIZE
from splatscenes.world import (
    BOX,
    ELLIPSOID,
    FRUSTUM,
    HALF,
    ROOM,
    SHIFT,
    TAPER,
    TILE_U,
    TILE_V,
    TRIANGLE,
    FloatArray,
    World,
)

# Normal, (u, v), (size of one texture repeat along u and v), material row, face number.
Surface = tuple[Vector, tuple[float, float], tuple[float, float], int, int]


@inlined
def _unit(x: float, y: float, z: float) -> Vector:
    length = math.sqrt(x * x + y * y + z * z)
    return x / length, y / length, z / length


@inlined
def _to_world_normal(data: FloatArray, i: int, x: float, y: float, z: float) -> Vector:
    # Normals transform by the transpose of the world-to-cube matrix.
    return _unit(
        data[i, 0] * x + data[i, 3] * y + data[i, 6] * z,
        data[i, 1] * x + data[i, 4] * y + data[i, 7] * z,
        data[i, 2] * x + data[i, 5] * y + data[i, 8] * z,
    )


@inlined
def _tiled(tile: float, coordinate: float, half: float, shift: float) -> tuple[float, float]:
    """Texture coordinate and repeat size for a cube coordinate in [-1, 1] on a face."""
    if tile < 0:
        return (coordinate * 0.5 + 0.5) * -tile, -2 * half / tile
    return (coordinate + 1) * half / tile + shift, tile


@inlined
def _face_axes(face: int, p: Vector) -> tuple[float, float, int, int]:
    """Coordinates to the right and down on a cube's face, seen from outside."""
    if face == 0:
        return -p[1], -p[2], 1, 2
    if face == 1:
        return p[1], -p[2], 1, 2
    if face == 2:
        return p[0], -p[2], 0, 2
    if face == 3:
        return -p[0], -p[2], 0, 2
    return p[0], -p[1], 0, 1


@inlined
def _on_cube(world: World, i: int, p: Vector) -> Surface:
    data = world.data
    face = face_of(p[0], p[1], p[2])
    axis, sign = face // 2, 1.0 if face % 2 == 1 else -1.0
    right, down, a, b = _face_axes(face, p)
    if world.kind[i] == ROOM:
        sign = -sign
        right = -right if face < 4 else right
        material = int(world.faces[world.material[i, 0], face])
    else:
        material = int(world.material[i, 1 if axis == 2 else 0])
    normal = _to_world_normal(
        data, i, sign if axis == 0 else 0.0, sign if axis == 1 else 0.0, sign if axis == 2 else 0.0
    )
    u, size_u = _tiled(world.materials[material, TILE_U], right, data[i, HALF + a], data[i, SHIFT])
    v, size_v = _tiled(
        world.materials[material, TILE_V], down, data[i, HALF + b], data[i, SHIFT + 1]
    )
    return normal, (u, v), (size_u, size_v), material, face


@inlined
def _on_ellipsoid(world: World, i: int, p: Vector) -> Surface:
    data = world.data
    material = int(world.material[i, 0])
    normal = _to_world_normal(data, i, p[0], p[1], p[2])
    around = math.atan2(p[1], p[0]) / math.pi
    up = math.asin(min(max(p[2], -1.0), 1.0)) / (0.5 * math.pi)
    girth, height = math.pi * data[i, HALF], 0.5 * math.pi * data[i, HALF + 2]
    tile = world.materials[material, TILE_U]
    # An integer number of repeats around, to avoid a seam.
    repeats = -tile if tile < 0 else max(1.0, round(2 * girth / tile))
    u, size_u = _tiled(-repeats, around, girth, data[i, SHIFT])
    v, size_v = _tiled(world.materials[material, TILE_V], -up, height, data[i, SHIFT + 1])
    return normal, (u + data[i, SHIFT], v), (size_u, size_v), material, 0


@inlined
def _on_frustum(world: World, i: int, p: Vector) -> Surface:
    data = world.data
    taper = data[i, TAPER]
    radius = 1 - 0.5 * taper * (p[2] + 1)
    # Tolerances of 1e-6: intersections are computed in float64 but not exact.
    on_cap = abs(p[2]) > 1 - 1e-6 and p[0] * p[0] + p[1] * p[1] < radius * radius * (1 - 1e-6)
    if on_cap:
        material = int(world.material[i, 1])
        u, size_u = _tiled(world.materials[material, TILE_U], p[0], data[i, HALF], data[i, SHIFT])
        v, size_v = _tiled(
            world.materials[material, TILE_V], -p[1], data[i, HALF + 1], data[i, SHIFT + 1]
        )
        normal = _to_world_normal(data, i, 0.0, 0.0, 1.0 if p[2] > 0 else -1.0)
        return normal, (u, v), (size_u, size_v), material, 1
    material = int(world.material[i, 0])
    # Half the mean circumference; at least a fifth, for cones.
    girth = math.pi * data[i, HALF] * max(1 - 0.5 * taper, 0.2)
    tile = world.materials[material, TILE_U]
    repeats = -tile if tile < 0 else max(1.0, round(2 * girth / tile))
    u, size_u = _tiled(-repeats, math.atan2(p[1], p[0]) / math.pi, girth, data[i, SHIFT])
    tile_v = world.materials[material, TILE_V]
    v, size_v = _tiled(tile_v, -p[2], data[i, HALF + 2], data[i, SHIFT + 1])
    normal = _to_world_normal(data, i, p[0], p[1], 0.5 * taper * radius)
    return normal, (u + data[i, SHIFT], v), (size_u, size_v), material, 0


@inlined
def _on_triangle(world: World, i: int, x: float, y: float, z: float) -> Surface:
    data = world.data
    px, py, pz = x - data[i, 0], y - data[i, 1], z - data[i, 2]
    aa = data[i, 3] ** 2 + data[i, 4] ** 2 + data[i, 5] ** 2
    bb = data[i, 6] ** 2 + data[i, 7] ** 2 + data[i, 8] ** 2
    ab = data[i, 3] * data[i, 6] + data[i, 4] * data[i, 7] + data[i, 5] * data[i, 8]
    pa = px * data[i, 3] + py * data[i, 4] + pz * data[i, 5]
    pb = px * data[i, 6] + py * data[i, 7] + pz * data[i, 8]
    det = aa * bb - ab * ab
    b = (bb * pa - ab * pb) / det
    c = (aa * pb - ab * pa) / det
    a = 1 - b - c
    normal = _unit(
        a * data[i, 9] + b * data[i, 12] + c * data[i, 15],
        a * data[i, 10] + b * data[i, 13] + c * data[i, 16],
        a * data[i, 11] + b * data[i, 14] + c * data[i, 17],
    )
    material = int(world.material[i, 0])
    tile_u = abs(world.materials[material, TILE_U])
    tile_v = abs(world.materials[material, TILE_V])
    u = (a * data[i, 18] + b * data[i, 20] + c * data[i, 22]) / tile_u
    v = (a * data[i, 19] + b * data[i, 21] + c * data[i, 23]) / tile_v
    return normal, (u, v), (tile_u, tile_v), material, 0


@inlined
def surface_at(world: World, i: int, x: float, y: float, z: float) -> Surface:
    """Normal, texture coordinates, texture size, material row and face of a point on `i`."""
    kind = world.kind[i]
    if kind == TRIANGLE:
        return _on_triangle(world, i, x, y, z)
    data = world.data
    p = into_cube(data, i, x - data[i, 9], y - data[i, 10], z - data[i, 11])
    if kind in (BOX, ROOM):
        return _on_cube(world, i, p)
    if kind == ELLIPSOID:
        return _on_ellipsoid(world, i, p)
    assert kind == FRUSTUM
    return _on_frustum(world, i, p)


@per_ray
def _level_color(textures: npt.NDArray[np.uint8], k: int, level: int, u: float, v: float) -> Vector:
    size = TEXTURE_SIZE >> level
    # Finer levels fill (S² − s²) · 4/3 texels, the sum of a geometric series.
    start = (TEXTURE_SIZE * TEXTURE_SIZE - size * size) * 4 // 3
    mask = size - 1
    x, y = u * size - 0.5, v * size - 0.5
    i, j = math.floor(x), math.floor(y)
    fx, fy = x - i, y - j
    i0, i1, j0, j1 = i & mask, (i + 1) & mask, j & mask, (j + 1) & mask
    a, b = start + j0 * size + i0, start + j0 * size + i1
    c, d = start + j1 * size + i0, start + j1 * size + i1
    wa, wb, wc, wd = (1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy
    red = (
        wa * textures[k, a, 0]
        + wb * textures[k, b, 0]
        + wc * textures[k, c, 0]
        + wd * textures[k, d, 0]
    )
    green = (
        wa * textures[k, a, 1]
        + wb * textures[k, b, 1]
        + wc * textures[k, c, 1]
        + wd * textures[k, d, 1]
    )
    blue = (
        wa * textures[k, a, 2]
        + wb * textures[k, b, 2]
        + wc * textures[k, c, 2]
        + wd * textures[k, d, 2]
    )
    return red, green, blue


@per_ray
def texture_color(
    textures: npt.NDArray[np.uint8], texture: int, u: float, v: float, width: float
) -> Vector:
    """Trilinear texture lookup: linear between texels and between mip levels.

    Args:
        textures: textures of the world.
        texture: index of the texture.
        u: in repeats, wraps.
        v: in repeats, wraps.
        width: width of the pixel's footprint, in repeats.

    Returns:
        Linear colour in [0, 1].
    """
    level = math.log2(max(width * TEXTURE_SIZE, 1.0))
    level = min(level, NUM_LEVELS - 1.001)  # below the last level, so that low + 1 exists
    low = int(level)
    amount = level - low
    a = _level_color(textures, texture, low, u, v)
    # Close up, skip the coarser level: its weight would be invisible.
    b = a if amount < 0.02 else _level_color(textures, texture, low + 1, u, v)
    red = (a[0] + amount * (b[0] - a[0])) / 255
    green = (a[1] + amount * (b[1] - a[1])) / 255
    blue = (a[2] + amount * (b[2] - a[2])) / 255
    return red * red, green * green, blue * blue
