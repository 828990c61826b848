"""What the forward and backward pixel stages share: Gaussians of one tile, prepared 32 at a time.

For each Gaussian, one vector operation serves the tile's 16 blocks: lane b holds the exponent q,
the log2 of alpha, and its gradient at the centre of block b. Inside a block the exponent is
    q(x, y) = quadratic(x, y) + q + gradient_x·x + gradient_y·y
with x, y from the block's centre, where the quadratic part is the same for all blocks. As it is
never positive and pixels lie within ±1.5 of the centre, q + 1.5·(|gradient_x| + |gradient_y|)
bounds the exponent; blocks whose bound is below log2(1/255) are skipped.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from zipsplat.render._rules import LOG2_ALPHA_MIN
from zipsplat.render.cpu.compiler import inline
from zipsplat.render.cpu.layout import (
    BLOCK,
    CONIC_A_LOG2,
    CONIC_B_LOG2,
    CONIC_C_LOG2,
    GROUP,
    LOG2_OPACITY,
    MEAN_X,
    MEAN_Y,
    RECORD,
    FloatArray,
    IntArray,
    TileLists,
)
from zipsplat.render.cpu.simd import (
    Floats,
    absolute,
    exp2,
    fma,
    item,
    lane_numbers,
    load,
    load_ints,
    pack,
    prefetch,
    select,
    store,
    store_ints,
    to_floats,
)
from zipsplat.render.cpu.tile import Tile, x_in_block, y_in_block

BATCH = 32  # Gaussians: one bit each in the masks of `members`
# Four tables of BATCH vectors.
QUADRATIC, VALUE, GRADIENT_X, GRADIENT_Y = (i * BATCH * GROUP for i in range(4))
BATCH_SIZE = 4 * BATCH * GROUP
BATCH_INTS = 3 * BATCH
_THRESHOLD = np.float32(LOG2_ALPHA_MIN)


class Batch(NamedTuple):
    """Up to 32 Gaussians of a tile."""

    records: FloatArray  # of all Gaussians
    tables: FloatArray  # the four tables above
    block_bits: IntArray  # per Gaussian: the blocks that it touches
    slots: IntArray  # per Gaussian: its slot
    centres: IntArray  # per Gaussian: the pixel of its centre, if masks are wanted
    alpha_clamp: float  # largest opacity at a pixel


@inline
def batch_in(lists: TileLists, floats: FloatArray, ints: IntArray) -> Batch:
    """A batch in the first BATCH_SIZE and BATCH_INTS numbers of scratch memory."""
    return Batch(
        lists.records,
        floats[:BATCH_SIZE],
        ints[:BATCH],
        ints[BATCH : 2 * BATCH],
        ints[2 * BATCH : BATCH_INTS],
        np.float32(lists.alpha_clamp),
    )


@inline
def x_in_tile() -> Floats:
    """x of the 16 block centres from the tile's left edge: 2, 6, 10, 14, four times."""
    return to_floats((lane_numbers() & 3) * BLOCK) + 2.0


@inline
def y_in_tile() -> Floats:
    """y of the 16 block centres from the tile's upper edge."""
    return to_floats((lane_numbers() >> 2) * BLOCK) + 2.0


@inline
def prepare(
    lists: TileLists, tile: Tile, first: int, last: int, alive: int, batch: Batch, upcoming: int
) -> int:
    """Prepare the Gaussians of entries [first, last) for a tile.

    Args:
        lists: the Gaussians of every tile.
        tile: the tile.
        first: first entry.
        last: end of the entries, exclusive; at most first + 32.
        alive: bit b is set if block b has pixels that are not done.
        batch: receives tables, blocks and slots.
        upcoming: first entry of the batch to be prepared next, which is prefetched.

    Returns:
        The blocks that any of them touches, one bit each.
    """
    records, entries, tables = lists.records, lists.entries, batch.tables
    x, y = x_in_block(), y_in_block()
    corner_x, corner_y = x_in_tile() + np.float32(tile.x), y_in_tile() + np.float32(tile.y)
    touched = 0
    store_ints(batch.block_bits, 0, 0)
    store_ints(batch.block_bits, GROUP, 0)
    for j in range(last - first):
        prefetch(records, np.int64(item(entries, 2 * (upcoming + j))) * RECORD)
        slot = item(entries, 2 * (first + j))
        place = np.int64(slot) * RECORD
        a = item(records, place + CONIC_A_LOG2)
        b = item(records, place + CONIC_B_LOG2)
        c = item(records, place + CONIC_C_LOG2)
        dx = corner_x - item(records, place + MEAN_X)
        dy = corner_y - item(records, place + MEAN_Y)
        slope = fma(a, dx, dy * b)
        value = fma(slope, dx, fma(dy * c, dy, item(records, place + LOG2_OPACITY)))
        gradient_x = fma(a, dx, slope)
        gradient_y = fma(dy, c + c, dx * b)
        bound = fma(absolute(gradient_x) + absolute(gradient_y), 1.5, value)
        blocks = pack(bound >= _THRESHOLD) & alive
        touched |= blocks
        batch.block_bits[j] = blocks
        batch.slots[j] = slot
        store(tables, QUADRATIC + j * GROUP, fma(fma(x, a, y * b), x, y * y * c))
        store(tables, VALUE + j * GROUP, value)
        store(tables, GRADIENT_X + j * GROUP, gradient_x)
        store(tables, GRADIENT_Y + j * GROUP, gradient_y)
    return touched


@inline
def members(batch: Batch, block: int) -> int:
    """The Gaussians of the batch that touch a block, one bit each."""
    bit = 1 << block
    low = pack((load_ints(batch.block_bits, 0) & bit) > 0)
    high = pack((load_ints(batch.block_bits, GROUP) & bit) > 0)
    return low | high << GROUP


@inline
def opacity_at(batch: Batch, j: int, block: int, x: Floats, y: Floats) -> Floats:
    """Opacity of Gaussian j at the pixels of a block, before the clamp; zero below 1/255."""
    tables, at = batch.tables, j * GROUP
    # Two short chains rather than one long one: the processor waits less for their results.
    across = fma(x, item(tables, GRADIENT_X + at + block), load(tables, QUADRATIC + at))
    down = fma(y, item(tables, GRADIENT_Y + at + block), item(tables, VALUE + at + block))
    q = across + down
    return select(q >= _THRESHOLD, exp2(q), 0.0)
