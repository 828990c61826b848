"""What the forward and backward pixel stages share: Gaussians of one tile, prepared 32 at a time.

For each Gaussian one vector operation serves the tile's 16 blocks: lane b holds, at the centre of
block b, the exponent q = log2 of the opacity and its gradient. Inside a block the exponent is
    q(x, y) = quadratic(x, y) + q + gradient_x·x + gradient_y·y
with x, y from the block's centre, where the quadratic part is the same for all blocks. As it is
never positive, q + 1.5·(|gradient_x| + |gradient_y|) bounds the exponent in the block, and blocks
that stay below log2(1/255) are left out.
"""

from __future__ import annotations

import numpy as np

from zipsplat.render.cpu.compiler import inline
from zipsplat.render.cpu.layout import (
    BLOCK,
    GROUP,
    LOG2_ALPHA_MIN,
    LOG2_OPACITY,
    MEAN_X,
    MEAN_Y,
    RECORD,
    A,
    B,
    C,
    FloatArray,
    IntArray,
)
from zipsplat.render.cpu.simd import (
    Floats,
    absolute,
    fma,
    lane_numbers,
    pack,
    select,
    to_floats,
)
from zipsplat.render.cpu.simd_math import exp2
from zipsplat.render.cpu.simd_memory import item, load, load_ints, prefetch, store, store_ints

BATCH = 32
# Four tables of BATCH vectors.
QUADRATIC, VALUE, GRADIENT_X, GRADIENT_Y = (i * BATCH * GROUP for i in range(4))
BATCH_SIZE = 4 * BATCH * GROUP
_THRESHOLD = np.float32(LOG2_ALPHA_MIN)


@inline
def x_in_block() -> Floats:
    """Pixel centres from the block's centre: −1.5 … 1.5, four times."""
    return to_floats(lane_numbers() & 3) - 1.5


@inline
def y_in_block() -> Floats:
    """Pixel centres from the block's centre, downwards."""
    return to_floats(lane_numbers() >> 2) - 1.5


@inline
def x_in_tile() -> Floats:
    """Block centres from the tile's corner: 2, 6, 10, 14, four times."""
    return to_floats((lane_numbers() & 3) * BLOCK) + 2.0


@inline
def y_in_tile() -> Floats:
    """Block centres from the tile's corner, downwards."""
    return to_floats((lane_numbers() >> 2) * BLOCK) + 2.0


@inline
def prepare(
    records: FloatArray,
    entries: IntArray,
    first: int,
    last: int,
    tile_x: float,
    tile_y: float,
    alive: int,
    batch: FloatArray,
    block_bits: IntArray,
    slots: IntArray,
    upcoming: int,
) -> int:
    """Prepare the Gaussians of entries [first, last) for a tile whose corner is (tile_x, tile_y).

    Args:
        records: Gaussians.
        entries: the tile lists, two numbers per entry.
        first: first entry.
        last: the one behind the last, at most first + 32.
        tile_x: corner in pixels.
        tile_y: corner in pixels.
        alive: bit b is set if block b still takes colour.
        batch: receives the four tables.
        block_bits: receives, per Gaussian, the blocks that it touches.
        slots: receives the slot of each Gaussian.
        upcoming: first entry of the batch to be prepared next, which is brought near.

    Returns:
        The blocks that any of them touches, one bit each.
    """
    x, y = x_in_block(), y_in_block()
    corner_x, corner_y = x_in_tile() + tile_x, y_in_tile() + tile_y
    touched = 0
    store_ints(block_bits, 0, 0)
    store_ints(block_bits, GROUP, 0)
    for j in range(last - first):
        prefetch(records, np.int64(item(entries, 2 * (upcoming + j))) * RECORD)
        place = np.int64(item(entries, 2 * (first + j))) * RECORD
        a, b, c = item(records, place + A), item(records, place + B), item(records, place + C)
        dx = corner_x - item(records, place + MEAN_X)
        dy = corner_y - item(records, place + MEAN_Y)
        slope = fma(a, dx, dy * b)
        value = fma(slope, dx, fma(dy * c, dy, item(records, place + LOG2_OPACITY)))
        gradient_x = fma(a, dx, slope)
        gradient_y = fma(dy, c + c, dx * b)
        bound = fma(absolute(gradient_x) + absolute(gradient_y), 1.5, value)
        hit = pack(bound >= _THRESHOLD) & alive
        touched |= hit
        block_bits[j] = hit
        slots[j] = item(entries, 2 * (first + j))
        store(batch, QUADRATIC + j * GROUP, fma(fma(x, a, y * b), x, y * y * c))
        store(batch, VALUE + j * GROUP, value)
        store(batch, GRADIENT_X + j * GROUP, gradient_x)
        store(batch, GRADIENT_Y + j * GROUP, gradient_y)
    return touched


@inline
def members(block_bits: IntArray, block: int) -> int:
    """The Gaussians of the batch that touch a block, one bit each."""
    bit = 1 << block
    low = pack((load_ints(block_bits, 0) & bit) > 0)
    high = pack((load_ints(block_bits, GROUP) & bit) > 0)
    return low | high << GROUP


@inline
def opacity_at(batch: FloatArray, j: int, block: int, x: Floats, y: Floats) -> Floats:
    """Opacity of Gaussian j at the pixels of a block, before the clamp; zero below 1/255."""
    at = j * GROUP
    q = load(batch, QUADRATIC + at) + item(batch, VALUE + at + block)
    q = fma(x, item(batch, GRADIENT_X + at + block), q)
    q = fma(y, item(batch, GRADIENT_Y + at + block), q)
    return select(q >= _THRESHOLD, exp2(q), 0.0)
