"""Layout of the arrays that the stages hand to each other.

Pixels: the image is cut into tiles of 16 × 16 pixels, a tile into 16 blocks of 4 × 4, and a
block is one vector: lane 4·y + x is pixel (x, y) of it.

Gaussians: sixteen neighbours in the input make a group, and are projected as one vector; 256
groups make a chunk, which is projected by one thread. Each Gaussian that can be seen gets a slot
in its chunk's part of the tables, in order of input; the slot's record holds what the pixels need.

Intersections: one for each tile that a Gaussian's ellipse touches, numbered slot by slot.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zipsplat.render.cpu.compiler import inline

TILE = 16  # pixels, as in 3DGS; its 16 block centres are one vector
BLOCK = 4  # pixels: a block's 16 are one vector
GROUP = 16  # Gaussians in a vector
CHUNK = 4096  # Gaussians: about 0.15 ms of projecting, so handing a chunk to a thread costs little
MAX_FEATURES = 4  # r, g, b, depth

# A record: 16 float32, one cache line. With d = pixel − mean, alpha at a pixel is
# 2^(LOG2_OPACITY + a·dx² + b·dx·dy + c·dy²): CONIC_A_LOG2, CONIC_B_LOG2 and CONIC_C_LOG2 hold a, b
# and c, the conic (inverse 2D covariance) times −½ log2 e (b: −log2 e).
RECORD = 16
MEAN_X, MEAN_Y, CONIC_A_LOG2, CONIC_B_LOG2, CONIC_C_LOG2, LOG2_OPACITY = 0, 1, 2, 3, 4, 5
FEATURE = 6  # the first of MAX_FEATURES numbers that are blended: r, g, b, depth
DEPTH = FEATURE + MAX_FEATURES
HALF_Y, SLOPE, STEEPEST_Y, HALF_WIDTH = range(DEPTH + 1, DEPTH + 5)  # the ellipse, see `ellipse`

# What an intersection contributes to gradients: sums over pixels of s = ∂loss/∂alpha · alpha times
# 1, dx, dy, dx², dx·dy, dy², then, from V_FEATURE on, the gradients of the features: ten of 16
# numbers, so that an intersection is one cache line.
INTERSECTION = 16
V_FEATURE = 6

# A camera: 20 float32.
ROTATION = 0  # camera from world, row by row
CENTRE = 9  # in the world
FOCAL_X, FOCAL_Y, PRINCIPAL_X, PRINCIPAL_Y = 12, 13, 14, 15
LOW_X, HIGH_X, LOW_Y, HIGH_Y = 16, 17, 18, 19  # bounds of the slopes x/z and y/z; see `geometry`

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]
DoubleArray = npt.NDArray[np.float64]
LongArray = npt.NDArray[np.int64]
ByteArray = npt.NDArray[np.uint8]


class Workspace(NamedTuple):
    """Memory for one running kernel, which begins at a cache line."""

    floats: FloatArray
    ints: IntArray


class Inputs(NamedTuple):
    """The scene, each array flat: N·3, N·4, N·3, N and N·S·3 numbers."""

    means: FloatArray
    quats: FloatArray
    scales: FloatArray
    opacities: FloatArray
    sh_coeffs: FloatArray


class Scene(NamedTuple):
    """The Gaussians of one call."""

    inputs: Inputs  # as given
    tail: Inputs  # the last rows, padded with NaN to whole groups: kernels read 16 rows at a time
    tail_row: int  # the first row of `tail`, a multiple of 16
    num: int  # N


@inline
def group_of(scene: Scene, row: int) -> tuple[Inputs, int]:
    """The arrays from which to read the group at a row, `inputs` or `tail`, and its row there."""
    if row >= scene.tail_row:
        return scene.tail, row - scene.tail_row
    return scene.inputs, row


class ImageSize(NamedTuple):
    """Pixels."""

    width: int
    height: int


class TileGrid(NamedTuple):
    """How many tiles cover the image."""

    columns: int
    rows: int


def grid_of(size: ImageSize) -> TileGrid:
    """The tiles of an image; those at its right and lower edge may reach beyond it."""
    return TileGrid(-(-size.width // TILE), -(-size.height // TILE))


class Culling(NamedTuple):
    """Which Gaussians are culled."""

    near: float  # world units, along z
    far: float
    radius_clip: float  # pixels


class Shading(NamedTuple):
    """The harmonics of the scene, and how many of them are used."""

    degree: int  # that is used; -1: no colour
    num_coeffs: int  # stored per channel


class RasterSettings(NamedTuple):
    """How a camera turns the scene into an image."""

    size: ImageSize
    culling: Culling
    shading: Shading
    eps2d: float  # pixels², added to the variance of each ellipse
    antialiased: bool = False  # opacities compensate for eps2d


class Slots(NamedTuple):
    """Per visible Gaussian: record, number in the input, sort key and intersections."""

    records: FloatArray
    ids: IntArray
    keys: IntArray  # bit patterns of the depths, which sort as the depths do
    num_intersections: IntArray
    first_intersection: IntArray
    group_bits: IntArray  # per group: bit i is set if Gaussian i has a slot
    group_slot: IntArray  # per group: its first slot
    chunk_count: IntArray  # per chunk: its number of slots


class TileLists(NamedTuple):
    """The Gaussians of every tile, nearest first, and the image they are blended into."""

    records: FloatArray  # Gaussians, by slot
    # All lists: entry i has a slot at 2·i and an intersection at 2·i + 1; see `bin`.
    entries: IntArray
    tile_offsets: LongArray  # where each tile's list begins, and at last where the lists end
    size: ImageSize
    alpha_clamp: float  # largest opacity at a pixel


class Buffers(NamedTuple):
    """The rendered image, and what the backward pass needs of it."""

    features: FloatArray  # a plane of height · width for each feature
    transmittances: FloatArray  # one plane
    stops: IntArray  # for the 256 pixels of each tile, block by block: entries that were tried
    contributed: ByteArray  # 1 for each slot that got any weight; empty if not asked for
    centred: ByteArray  # 1 for each slot that got weight at its own centre; likewise


class ImageGradients(NamedTuple):
    """Gradients of the loss with respect to the image."""

    features: FloatArray
    transmittances: FloatArray


class Intersections(NamedTuple):
    """What each pair of a Gaussian and a tile adds to the gradients."""

    sums: FloatArray  # INTERSECTION numbers each
    used: ByteArray  # 1 if the numbers were written; otherwise they are undefined and count as zero
    num_features: int  # 1 (depth), 3 (colour) or 4 (both)


class SceneGradients(NamedTuple):
    """Gradients of the loss with respect to the scene and to one camera."""

    inputs: Inputs  # arrays like those of the scene
    fresh: bool  # whether to overwrite `inputs` or to add to it
    camera_sums: DoubleArray  # 12 numbers per chunk, zero on entry: of rotation and centre
