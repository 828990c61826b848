"""Third stage: blend the Gaussians of each tile, front to back.

Per pixel, T is the transmittance. A Gaussian of opacity α adds α·T times its features, and
T becomes T·(1 − α), unless that is at most 1e-4: then the Gaussian is left out and the pixel is
done. Between batches, a pixel that is done carries T with a minus sign, which makes all further
weights vanish without a branch; pixels outside of the image begin that way. For the backward pass,
each pixel records how far down its tile's list it got.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from zipsplat.render._rules import TRANSMITTANCE_MIN
from zipsplat.render.cpu.batch import (
    BATCH,
    BATCH_SIZE,
    Batch,
    batch_in,
    members,
    opacity_at,
    prepare,
)
from zipsplat.render.cpu.compiler import inline, kernel
from zipsplat.render.cpu.layout import (
    BLOCK,
    FEATURE,
    GROUP,
    MAX_FEATURES,
    MEAN_X,
    MEAN_Y,
    RECORD,
    TILE,
    Buffers,
    FloatArray,
    TileLists,
    Workspace,
)
from zipsplat.render.cpu.simd import (
    Floats,
    absolute,
    any_lane,
    fma,
    item,
    load,
    load_ints,
    lowest_bit,
    maximum,
    minimum,
    pack,
    select,
    select_ints,
    store,
    store_ints,
)
from zipsplat.render.cpu.tile import (
    BLOCKS,
    PLANE,
    Features,
    Tile,
    in_image,
    load_features,
    store_features,
    tile_at,
    write_block,
    x_in_block,
    y_in_block,
)

_STATE = (1 + MAX_FEATURES) * PLANE  # transmittance and features
BLEND_FLOATS = _STATE + BATCH_SIZE  # of working memory
_STOP = np.float32(TRANSMITTANCE_MIN)
_SMALL = np.float32(1e-30)  # far below the stop; denormal numbers would be slow


class State(NamedTuple):
    """What the pixels of a tile have received so far, and the image it is written to."""

    T: FloatArray  # transmittance; negative if the pixel is done
    planes: FloatArray  # the features
    image: Buffers


@inline
def _begin_tile(tile: Tile, state: State) -> int:
    """Set the state; returns the blocks that have pixels in the image, one bit each."""
    alive = 0
    for block in range(BLOCKS):
        inside = in_image(tile, block)
        store(state.T, block * GROUP, select(inside, 1.0, -1.0))
        alive |= int(any_lane(inside)) << block
    state.planes[:] = 0.0
    state.image.stops[tile.number * PLANE : (tile.number + 1) * PLANE] = 0
    return alive


@inline
def _write_tile(num_features: int, tile: Tile, state: State) -> None:
    image = state.image
    size = tile.image.width * tile.image.height
    for block in range(BLOCKS):
        write_block(image.transmittances, tile, block, absolute(load(state.T, block * GROUP)))
        for feature in range(num_features):
            value = load(state.planes, feature * PLANE + block * GROUP)
            write_block(image.features[feature * size : (feature + 1) * size], tile, block, value)


@inline
def _centre_pixel(records: FloatArray, slot: int, tile: Tile) -> int:
    """Number (block · 16 + lane) of the pixel just above and left of the centre, -1 if elsewhere.

    That is pixel (x, y) with 0 ≤ mean − (x + ½, y + ½) < 1.
    """
    place = np.int64(slot) * RECORD
    x = np.floor(records[place + MEAN_X] - np.float32(0.5)) - tile.x
    y = np.floor(records[place + MEAN_Y] - np.float32(0.5)) - tile.y
    if x < 0 or x >= TILE or y < 0 or y >= TILE:
        return -1
    column, row = int(x), int(y)
    block = (row // BLOCK) * BLOCK + column // BLOCK
    return block * GROUP + (row % BLOCK) * BLOCK + column % BLOCK


@inline
def _find_centres(batch: Batch, num: int, tile: Tile) -> None:
    for j in range(num):
        batch.centres[j] = _centre_pixel(batch.records, batch.slots[j], tile)


@inline
def _mark(batch: Batch, j: int, block: int, weight: Floats, buffers: Buffers) -> None:
    """Record that Gaussian j was blended in a block, and whether at its own centre."""
    weighted = pack(weight > 0.0)
    slot = batch.slots[j]
    if weighted != 0:
        buffers.contributed[slot] = 1
    centre = batch.centres[j]
    if centre >> 4 == block and weighted >> (centre & 15) & 1:
        buffers.centred[slot] = 1


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


@inline
def _blend_block(
    num_features: int,
    with_masks: bool,
    batch: Batch,
    tile: Tile,
    block: int,
    tried: int,
    state: State,
) -> bool:
    """Blend a batch into one block; returns whether any pixel still takes colour.

    `tried` entries of the tile's list came before the batch.
    """
    stop_at = tile.number * PLANE + block * GROUP
    x, y = x_in_block(), y_in_block()
    T = load(state.T, block * GROUP)
    final = T
    features = load_features(num_features, state.planes, block)
    stop = load_ints(state.image.stops, stop_at)
    left = members(batch, block)
    while left != 0:
        j = lowest_bit(left)
        left &= left - 1
        alpha = minimum(opacity_at(batch, j, block, x, y), batch.alpha_clamp)
        after = fma(-alpha, T, T)
        open_ = after > _STOP
        weight = select(open_, alpha * T, 0.0)
        final = select(open_, after, final)
        T = maximum(after, _SMALL)  # a pixel that is done stays below the stop
        stop = select_ints(open_, tried + 1 + j, stop)
        features = _add_weighted(features, weight, batch.records, item(batch.slots, j))
        if with_masks:
            _mark(batch, j, block, weight, state.image)
    store(state.T, block * GROUP, select(T > _STOP, T, -absolute(final)))
    store_features(num_features, state.planes, block, features)
    store_ints(state.image.stops, stop_at, stop)
    return any_lane(T > _STOP)


@functools.cache
def blend_kernel(num_features: int, with_masks: bool) -> Callable[..., Any]:
    """The kernel for this many features (1, 3 or 4), with or without per-Gaussian masks."""

    @kernel
    def blend(
        lists: TileLists, first_tile: int, last_tile: int, buffers: Buffers, work: Workspace
    ) -> None:
        """Render some tiles.

        Args:
            lists: the Gaussians of every tile.
            first_tile: first tile.
            last_tile: end of the range, exclusive.
            buffers: receives features, transmittances and masks.
            work: scratch memory.
        """
        state = State(work.floats[:PLANE], work.floats[PLANE:_STATE], buffers)
        batch = batch_in(lists, work.floats[_STATE:], work.ints)
        for number in range(first_tile, last_tile):
            tile = tile_at(lists, number)
            alive = _begin_tile(tile, state)
            start, end = lists.tile_offsets[number], lists.tile_offsets[number + 1]
            first = start
            while first < end and alive != 0:
                last = min(first + BATCH, end)
                touched = prepare(lists, tile, first, last, alive, batch, last)
                if with_masks:
                    _find_centres(batch, last - first, tile)
                while touched != 0:
                    block = lowest_bit(touched)
                    touched &= touched - 1
                    tried = first - start
                    if not _blend_block(num_features, with_masks, batch, tile, block, tried, state):
                        alive &= ~(1 << block)
                first = last
            _write_tile(num_features, tile, state)

    return blend
