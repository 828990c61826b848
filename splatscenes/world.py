"""A world as flat arrays, as read by the compiled ray caster."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]

# Shapes. All but triangles are defined in their own cube [-1, 1]³.
BOX, ELLIPSOID, FRUSTUM, TRIANGLE, ROOM = range(5)

# Columns of `World.data` for everything but triangles.
LOCAL = 0  # 0–8: rows of the matrix from world offsets (from the centre) to the cube
CENTER = 9  # 9–11
HALF = 12  # 12–14: half extents in world units
TAPER = 15  # of a frustum: 1 − top radius / base radius
SHIFT = 16  # 16–17: texture offset
# Columns for triangles: first corner 0–2, two edges 3–8, corner normals 9–17, corner uv 18–23.
NUM_DATA = 24

# Columns of `World.materials`.
TEXTURE, TILE_U, TILE_V, TINT, GLOSS, EMISSION, BLOTCH, BLOTCH_SIZE = 0, 1, 2, 3, 6, 7, 8, 9
NUM_MATERIAL = 10  # TINT has three columns; a negative tile is a number of repeats per face

# Columns of `World.lights`: kind (0 sun, 1 lamp), direction to the sun or position, light, range,
# casts shadows.
NUM_LIGHT = 9

# Columns of `World.sky`: zenith rgb, horizon rgb, towards-sun rgb, ground-bounce rgb, ambient
# strength, cloud texture, cloud brightness, haze per world unit, exposure.
NUM_SKY = 17
AMBIENT, CLOUD_TEXTURE, CLOUD_LIGHT, HAZE, EXPOSURE = 12, 13, 14, 15, 16


class World(NamedTuple):
    """Shapes in BVH order, with their materials, lights and sky.

    World axes: x and y on the ground, z up, in metres.

    Attributes:
        kind: (P,) shape of each primitive.
        data: (P, 24) columns named in this module.
        material: (P, 2) rows of `materials` for sides and caps (top and bottom); a room
            has one per face, see `faces`.
        group: (P,) primitives of one smooth surface share a value.
        faces: (F, 6) materials per face of rooms, row `material[i, 0]` for room `i`.
        bounds: (N, 6) low and high corner of the BVH nodes.
        nodes: (N, 3) second child or first primitive, number of primitives (0: inner), axis.
        num_in_tree: primitives from here on are outside the BVH and tested for every ray
            (ground, room shells).
        openings: (O, 6) room primitive, face, and low u, high u, low v, high v in [-1, 1].
        materials: (M, 10).
        textures: (X, TEXELS, 3) mip chains, uint8, square root of light.
        lights: (L, 9).
        sky: (17,).
    """

    kind: IntArray
    data: FloatArray
    material: IntArray
    group: IntArray
    faces: IntArray
    bounds: FloatArray
    nodes: IntArray
    num_in_tree: int
    openings: FloatArray
    materials: FloatArray
    textures: npt.NDArray[np.uint8]
    lights: FloatArray
    sky: FloatArray
