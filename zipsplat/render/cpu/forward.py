"""Third stage: blend the Gaussians of each tile, front to back.

Per pixel, T is what still shines through. A Gaussian of opacity α adds α·T times its features, and
T becomes T·(1 − α), unless that is at most 1e-4: then the Gaussian is left out and the pixel is
done. A pixel that is done carries T with a minus sign, which makes all further weights vanish
without a branch; pixels outside of the picture begin that way. How far down its tile's list a pixel
got is kept for the gradients.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from zipsplat.render.cpu.batch import (
    BATCH,
    BATCH_SIZE,
    members,
    opacity_at,
    prepare,
    x_in_block,
    y_in_block,
)
from zipsplat.render.cpu.compiler import inline, kernel
from zipsplat.render.cpu.layout import (
    BLOCK,
    FEATURE,
    GROUP,
    MEAN_X,
    MEAN_Y,
    RECORD,
    TILE,
    TRANSMITTANCE_MIN,
    ByteArray,
    FloatArray,
    IntArray,
    LongArray,
    Workspace,
)
from zipsplat.render.cpu.simd import (
    Floats,
    absolute,
    any_lane,
    fma,
    lane,
    lowest_bit,
    minimum,
    pack,
    select,
    select_ints,
)
from zipsplat.render.cpu.simd_memory import (
    item,
    load,
    load_ints,
    store,
    store_ints,
    store_square,
)

BLOCKS = 16
PLANE = BLOCKS * GROUP  # numbers per channel of a tile
_STOP = np.float32(TRANSMITTANCE_MIN)


@inline
def block_in_picture(tile_x: int, tile_y: int, block: int, width: int, height: int) -> Floats:
    """1 for pixels of the block that lie in the picture, -1 for the others."""
    left = tile_x + BLOCK * (block & 3)
    top = tile_y + BLOCK * (block >> 2)
    inside = (x_in_block() + (left + 2.0) < width) & (y_in_block() + (top + 2.0) < height)
    return select(inside, 1.0, -1.0)


@inline
def begin_tile(tile_x: int, tile_y: int, width: int, height: int, state: FloatArray) -> int:
    """Set T of every block; returns the blocks that have pixels in the picture, one bit each."""
    alive = 0
    for block in range(BLOCKS):
        transmittance = block_in_picture(tile_x, tile_y, block, width, height)
        store(state, block * GROUP, transmittance)
        if any_lane(transmittance > 0.0):
            alive |= 1 << block
    return alive


@inline
def write_block(
    plane: FloatArray, tile_x: int, tile_y: int, block: int, width: int, height: int, value: Floats
) -> None:
    """Write a block to a plane of the picture, as far as it lies in it."""
    left = tile_x + BLOCK * (block & 3)
    top = tile_y + BLOCK * (block >> 2)
    if left + BLOCK <= width and top + BLOCK <= height:
        store_square(plane, top * width + left, width, value)
        return
    for y in range(min(BLOCK, height - top)):
        for x in range(min(BLOCK, width - left)):
            plane[(top + y) * width + left + x] = lane(value, y * BLOCK + x)


@inline
def centre_pixel(records: FloatArray, slot: int, tile_x: int, tile_y: int) -> int:
    """Number (block · 16 + lane) of the pixel just above and left of the centre, -1 if elsewhere.

    That is pixel (x, y) with 0 ≤ mean − (x + ½, y + ½) < 1.
    """
    place = np.int64(slot) * RECORD
    x = np.floor(records[place + MEAN_X] - np.float32(0.5)) - tile_x
    y = np.floor(records[place + MEAN_Y] - np.float32(0.5)) - tile_y
    if x < 0 or x >= TILE or y < 0 or y >= TILE:
        return -1
    column, row = int(x), int(y)
    block = (row // BLOCK) * BLOCK + column // BLOCK
    return block * GROUP + (row % BLOCK) * BLOCK + column % BLOCK


class Features(NamedTuple):
    """What the pixels of a block received: r, g, b, depth, of which only the first may be used.

    Kernels for fewer than four features neither load nor store the others, and the compiler
    leaves out what is then computed in vain.
    """

    f0: Floats
    f1: Floats
    f2: Floats
    f3: Floats


@inline
def load_features(num_features: int, planes: FloatArray, at: int) -> Features:
    """Features of the block that begins at `at` in each plane."""
    f0 = load(planes, at)
    f1, f2, f3 = f0, f0, f0
    if num_features >= 3:
        f1, f2 = load(planes, PLANE + at), load(planes, 2 * PLANE + at)
    if num_features == 4:
        f3 = load(planes, 3 * PLANE + at)
    return Features(f0, f1, f2, f3)


@inline
def store_features(num_features: int, planes: FloatArray, at: int, features: Features) -> None:
    """The opposite of `load_features`."""
    store(planes, at, features.f0)
    if num_features >= 3:
        store(planes, PLANE + at, features.f1)
        store(planes, 2 * PLANE + at, features.f2)
    if num_features == 4:
        store(planes, 3 * PLANE + at, features.f3)


@inline
def _add_weighted(features: Features, weight: Floats, records: FloatArray, slot: int) -> Features:
    """Add a Gaussian's features."""
    place = np.int64(slot) * RECORD
    return Features(
        fma(weight, item(records, place + FEATURE), features.f0),
        fma(weight, item(records, place + FEATURE + 1), features.f1),
        fma(weight, item(records, place + FEATURE + 2), features.f2),
        fma(weight, item(records, place + FEATURE + 3), features.f3),
    )


class Batch(NamedTuple):
    """Up to 32 Gaussians of a tile; see `batch.prepare`."""

    records: FloatArray
    tables: FloatArray
    block_bits: IntArray
    slots: IntArray
    centres: IntArray


@inline
def _mark(
    batch: Batch, j: int, block: int, weight: Floats, contributed: ByteArray, centred: ByteArray
) -> None:
    """Note that Gaussian j got weight in a block, and whether at its own centre."""
    weighted = pack(weight > 0.0)
    slot = batch.slots[j]
    if weighted != 0:
        contributed[slot] = 1
    centre = batch.centres[j]
    if centre >> 4 == block and weighted >> (centre & 15) & 1:
        centred[slot] = 1


@inline
def _blend_block(
    num_features: int,
    with_masks: bool,
    batch: Batch,
    block: int,
    tried: int,
    clamp: float,
    transmittance: FloatArray,
    planes: FloatArray,
    stops: IntArray,
    stop_at: int,
    contributed: ByteArray,
    centred: ByteArray,
) -> bool:
    """Blend a batch into one block; returns whether any pixel still takes colour.

    `tried` entries of the tile's list came before the batch; the block's part of `stops` begins
    at `stop_at`.
    """
    at = block * GROUP
    x, y = x_in_block(), y_in_block()
    T = load(transmittance, at)
    features = load_features(num_features, planes, at)
    stop = load_ints(stops, stop_at)
    left = members(batch.block_bits, block)
    while left != 0:
        j = lowest_bit(left)
        left &= left - 1
        alpha = minimum(opacity_at(batch.tables, j, block, x, y), clamp)
        weight = alpha * T
        after = T - weight
        open_ = after > _STOP
        weight = select(open_, weight, 0.0)
        T = select(open_, after, -absolute(T))
        stop = select_ints(open_, tried + 1 + j, stop)
        features = _add_weighted(features, weight, batch.records, item(batch.slots, j))
        if with_masks:
            _mark(batch, j, block, weight, contributed, centred)
    store(transmittance, at, T)
    store_features(num_features, planes, at, features)
    store_ints(stops, stop_at, stop)
    return any_lane(T > 0.0)


@inline
def _write_tile(
    num_features: int,
    tile_x: int,
    tile_y: int,
    width: int,
    height: int,
    transmittance: FloatArray,
    planes: FloatArray,
    picture: FloatArray,
    transmittances: FloatArray,
) -> None:
    size = width * height
    for block in range(BLOCKS):
        T = absolute(load(transmittance, block * GROUP))
        write_block(transmittances, tile_x, tile_y, block, width, height, T)
        for feature in range(num_features):
            value = load(planes, feature * PLANE + block * GROUP)
            plane = picture[feature * size : (feature + 1) * size]
            write_block(plane, tile_x, tile_y, block, width, height, value)


@functools.cache
def blender(num_features: int, with_masks: bool) -> Callable[..., Any]:
    """The kernel for this many features (1, 3 or 4), with or without per-Gaussian masks."""

    @kernel
    def blend(
        records: FloatArray,
        entries: IntArray,
        tile_starts: LongArray,
        first_tile: int,
        last_tile: int,
        width: int,
        height: int,
        alpha_clamp: float,
        picture: FloatArray,
        transmittances: FloatArray,
        stops: IntArray,
        contributed: ByteArray,
        centred: ByteArray,
        work: Workspace,
    ) -> None:
        """Draw some tiles.

        Args:
            records: Gaussians, by slot.
            entries: lists of all tiles, two numbers per entry, with 32 more entries behind.
            tile_starts: where each tile's list begins, with the end behind the last.
            first_tile: first tile to be drawn.
            last_tile: the one behind the last.
            width: pixels.
            height: pixels.
            alpha_clamp: largest opacity at a pixel.
            picture: receives num_features planes of height · width.
            transmittances: receives one plane.
            stops: receives, for the 256 pixels of each tile, block by block, how many entries of
                the list were tried before the pixel was done.
            contributed: receives 1 for each slot that got any weight.
            centred: receives 1 for each slot that got weight at its own centre.
            work: memory to work in.
        """
        transmittance = work.floats[:PLANE]
        planes = work.floats[PLANE : 5 * PLANE]
        tables = work.floats[5 * PLANE : 5 * PLANE + BATCH_SIZE]
        block_bits, slots = work.ints[:BATCH], work.ints[BATCH : 2 * BATCH]
        centres = work.ints[2 * BATCH : 3 * BATCH]
        batch = Batch(records, tables, block_bits, slots, centres)
        clamp = np.float32(alpha_clamp)
        tiles_x = (width + TILE - 1) // TILE
        for tile in range(first_tile, last_tile):
            tile_x, tile_y = tile % tiles_x * TILE, tile // tiles_x * TILE
            alive = begin_tile(tile_x, tile_y, width, height, transmittance)
            planes[:] = 0.0
            stops[tile * PLANE : (tile + 1) * PLANE] = 0
            first, end = tile_starts[tile], tile_starts[tile + 1]
            while first < end and alive != 0:
                last = min(first + BATCH, end)
                touched = prepare(
                    records,
                    entries,
                    first,
                    last,
                    np.float32(tile_x),
                    np.float32(tile_y),
                    alive,
                    tables,
                    block_bits,
                    slots,
                    last,
                )
                if with_masks:
                    for j in range(last - first):
                        centres[j] = centre_pixel(records, slots[j], tile_x, tile_y)
                while touched != 0:
                    block = lowest_bit(touched)
                    touched &= touched - 1
                    is_open = _blend_block(
                        num_features,
                        with_masks,
                        batch,
                        block,
                        first - tile_starts[tile],
                        clamp,
                        transmittance,
                        planes,
                        stops,
                        tile * PLANE + block * GROUP,
                        contributed,
                        centred,
                    )
                    if not is_open:
                        alive &= ~(1 << block)
                first = last
            _write_tile(
                num_features,
                tile_x,
                tile_y,
                width,
                height,
                transmittance,
                planes,
                picture,
                transmittances,
            )

    return blend
