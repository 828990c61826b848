"""Images and exact depth of a world by ray casting on the CPU.

One ray through the centre of each pixel gives depth and, with filtered textures, colour. Pixels
that differ from a neighbour in surface, face or shadow are rendered again with four rays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from splatscenes._compile import inlined, per_ray
from splatscenes.shading import shade, sky_color
from splatscenes.shapes import Vector
from splatscenes.trace import closest, new_stack
from splatscenes.world import EXPOSURE, FloatArray, IntArray, World

_SKY_KEY = -1  # surface number of the sky
# Rotated-grid supersampling: four sub-pixel offsets, no two in one row or column.
_OFFSETS = ((-0.125, -0.375), (0.375, -0.125), (0.125, 0.375), (-0.375, 0.125))


@dataclass(frozen=True)
class Pinhole:
    """A pinhole camera.

    Attributes:
        world_from_camera: (4, 4) rigid, OpenCV camera axes.
        K: (3, 3) pixels, origin at the image's corner.
        width: width in pixels.
        height: height in pixels.
    """

    world_from_camera: FloatArray
    K: FloatArray
    width: int
    height: int


@inlined
def _tone(light: float, exposure: float) -> float:
    """Map light to a display value in [0, 1]: gamma 2, with highlights rolled off from 0.6."""
    value = max(light * exposure, 0.0)
    if value > 0.6:
        value = 1.0 - 0.4 * math.exp(-(value - 0.6) / 0.4)
    return math.sqrt(value)


@inlined
def _ray(pose: FloatArray, K: FloatArray, x: float, y: float) -> tuple[Vector, Vector, float]:
    """Start, unit direction and cosine to the optical axis of the ray through (x, y)."""
    a, b = (x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1]
    length = math.sqrt(a * a + b * b + 1)
    d = (
        (pose[0, 0] * a + pose[0, 1] * b + pose[0, 2]) / length,
        (pose[1, 0] * a + pose[1, 1] * b + pose[1, 2]) / length,
        (pose[2, 0] * a + pose[2, 1] * b + pose[2, 2]) / length,
    )
    return (pose[0, 3], pose[1, 3], pose[2, 3]), d, 1 / length


@per_ray
def _look(
    world: World, o: Vector, d: Vector, width: float, guesses: IntArray, stack: IntArray
) -> tuple[Vector, float, int]:
    t, primitive = closest(world, o, d, guesses[0], stack)
    guesses[0] = primitive
    if primitive < 0:
        return sky_color(world, d, width), -1.0, _SKY_KEY
    light, key = shade(world, primitive, t, o, d, width, guesses, stack)
    return light, t, key


@per_ray
def _is_edge(keys: npt.NDArray[np.int64], depth: npt.NDArray[np.float32], r: int, c: int) -> bool:
    height, width = keys.shape
    for dr, dc in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        i, j = r + dr, c + dc
        if 0 <= i < height and 0 <= j < width:
            if keys[i, j] != keys[r, c]:
                return True
            nearer, farther = min(depth[i, j], depth[r, c]), max(depth[i, j], depth[r, c])
            if farther > 1.15 * nearer and nearer > 0:  # a smooth surface that occludes itself
                return True
    return False


@per_ray
def _render(
    world: World,
    pose: FloatArray,
    K: FloatArray,
    color: npt.NDArray[np.uint8],
    depth: npt.NDArray[np.float32],
    keys: npt.NDArray[np.int64],
    guesses: IntArray,
    stack: IntArray,
) -> None:
    height, width = depth.shape
    angle = 1 / K[0, 0]
    exposure = world.sky[EXPOSURE]
    for r in range(height):
        for c in range(width):
            o, d, cosine = _ray(pose, K, c + 0.5, r + 0.5)
            light, t, key = _look(world, o, d, angle, guesses, stack)
            depth[r, c] = t * cosine if t > 0 else -1.0
            keys[r, c] = key
            for k in range(3):
                color[r, c, k] = np.uint8(255 * _tone(light[k], exposure) + 0.5)
    for r in range(height):
        for c in range(width):
            if _is_edge(keys, depth, r, c):
                red, green, blue = 0.0, 0.0, 0.0
                for dx, dy in _OFFSETS:
                    o, d, _ = _ray(pose, K, c + 0.5 + dx, r + 0.5 + dy)
                    light, _, _ = _look(world, o, d, angle, guesses, stack)
                    red += _tone(light[0], exposure)
                    green += _tone(light[1], exposure)
                    blue += _tone(light[2], exposure)
                color[r, c, 0] = np.uint8(63.75 * red + 0.5)  # 255 / 4 rays
                color[r, c, 1] = np.uint8(63.75 * green + 0.5)
                color[r, c, 2] = np.uint8(63.75 * blue + 0.5)


def _memory(world: World) -> tuple[IntArray, IntArray]:
    """Guesses for the first ray (none), and the traversal stack."""
    return np.full(1 + len(world.lights), -1, dtype=np.int32), new_stack()


def render(
    world: World, camera: Pinhole
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Render one image; releases the GIL.

    Returns:
        Colour (H, W, 3) uint8, z depth (H, W) of the pixel centres in metres with −1 where the sky
        is, and surface numbers (H, W), equal for neighbours on one face with equal shadows.
    """
    shape = (camera.height, camera.width)
    color = np.empty((*shape, 3), dtype=np.uint8)
    depth = np.empty(shape, dtype=np.float32)
    keys = np.empty(shape, dtype=np.int64)
    pose = np.ascontiguousarray(camera.world_from_camera, dtype=np.float64)
    _render(
        world,
        pose,
        np.ascontiguousarray(camera.K, dtype=np.float64),
        color,
        depth,
        keys,
        *_memory(world),
    )
    return color, depth, keys


@per_ray
def _measure(
    world: World,
    pose: FloatArray,
    K: FloatArray,
    out: FloatArray,
    guesses: IntArray,
    stack: IntArray,
) -> None:
    rows, columns = out.shape[:2]
    for r in range(rows):
        for c in range(columns):
            # The principal point is the centre, so 2 c is the size of the image.
            x, y = (c + 0.5) / columns * 2 * K[0, 2], (r + 0.5) / rows * 2 * K[1, 2]
            o, d, cosine = _ray(pose, K, x, y)
            light, t, key = _look(world, o, d, 2 * K[0, 2] / columns / K[0, 0], guesses, stack)
            out[r, c, 0] = t * cosine if t > 0 else -1.0
            # Rounded Rec. 601 luma weights.
            out[r, c, 1] = 0.3 * light[0] + 0.6 * light[1] + 0.1 * light[2]
            out[r, c, 2] = key // 16  # without the shadow bits; see `shade`


def measure(
    world: World, camera: Pinhole, rows: int = 12
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Measure a coarse view: depth (−1: sky), unexposed brightness, face numbers, (R, C) each."""
    columns = max(1, round(rows * camera.width / camera.height))
    out = np.empty((rows, columns, 3))
    pose = np.ascontiguousarray(camera.world_from_camera, dtype=np.float64)
    _measure(world, pose, np.ascontiguousarray(camera.K, dtype=np.float64), out, *_memory(world))
    return out[..., 0], out[..., 1], out[..., 2]
