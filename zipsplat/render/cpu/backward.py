"""Gradients of the blending, back to front.

Let v be the gradient of the loss by the pixel's features, v_T that by its final transmittance
T_end, D = v · features of a Gaussian, and w = α·T its weight. With `rest`, what lies behind it:
Σ w·D of all Gaussians further back, plus T_end · v_T,
    ∂loss/∂α = T·D − rest / (1 − α).
The walk begins at the last Gaussian that was blended, where `rest` is T_end · v_T and T is T_end;
each Gaussian divides T by its 1 − α and adds its own w·D. One number per pixel is carried along
however many features there are. (Front to back, taking w·D off a total, needs no list of where
pixels stopped, but behind nearly opaque Gaussians the difference has lost its digits: gradients
were ten times less exact.)

With s = α · ∂loss/∂α, everything that the ellipse needs are the sums over pixels of s, s·dx, s·dy,
s·dx², s·dx·dy and s·dy². Each hit writes its own sums: no two threads ever add to the same number,
and the order of additions does not depend on the number of threads.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

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
from zipsplat.render.cpu.forward import BLOCKS, PLANE, Batch, Features, load_features
from zipsplat.render.cpu.layout import (
    BLOCK,
    FEATURE,
    GROUP,
    HIT,
    MEAN_X,
    MEAN_Y,
    RECORD,
    TILE,
    ByteArray,
    FloatArray,
    IntArray,
    LongArray,
    Workspace,
)
from zipsplat.render.cpu.simd import (
    Floats,
    Ints,
    fma,
    highest_bit,
    lowest_bit,
    minimum,
    select,
    with_lane,
    zeros,
)
from zipsplat.render.cpu.simd_memory import (
    item,
    lane_sums,
    load,
    load_ints,
    load_square,
    prefetch,
    store,
)

_PAIR = 2 * GROUP  # per Gaussian and block of a batch: s and w of 16 pixels


@inline
def read_block(
    plane: FloatArray, tile_x: int, tile_y: int, block: int, width: int, height: int
) -> Floats:
    """A block of a plane of the picture; zero outside of it."""
    left = tile_x + BLOCK * (block & 3)
    top = tile_y + BLOCK * (block >> 2)
    if left + BLOCK <= width and top + BLOCK <= height:
        return load_square(plane, top * width + left, width)
    value = zeros()
    for y in range(min(BLOCK, height - top)):
        for x in range(min(BLOCK, width - left)):
            value = with_lane(value, y * BLOCK + x, plane[(top + y) * width + left + x])
    return value


@inline
def _read_gradients(
    num_features: int,
    transmittances: FloatArray,
    v_picture: FloatArray,
    v_transmittances: FloatArray,
    tile_x: int,
    tile_y: int,
    width: int,
    height: int,
    state: FloatArray,
    rest: FloatArray,
    v: FloatArray,
) -> None:
    """Set T, `rest` and v of every block of a tile."""
    size = width * height
    for block in range(BLOCKS):
        end = read_block(transmittances, tile_x, tile_y, block, width, height)
        v_end = read_block(v_transmittances, tile_x, tile_y, block, width, height)
        store(state, block * GROUP, end)
        store(rest, block * GROUP, end * v_end)
        for feature in range(num_features):
            plane = v_picture[feature * size : (feature + 1) * size]
            gradient = read_block(plane, tile_x, tile_y, block, width, height)
            store(v, feature * PLANE + block * GROUP, gradient)


@inline
def _last_stops(stops: IntArray, tile: int, longest: IntArray) -> int:
    """How far the pixels of a tile got at most, for each block and as the result for all."""
    overall = 0
    for block in range(BLOCKS):
        furthest = 0
        for lane in range(GROUP):
            furthest = max(furthest, stops[tile * PLANE + block * GROUP + lane])
        longest[block] = furthest
        overall = max(overall, furthest)
    return overall


@inline
def _open_blocks(longest: IntArray, tried: int) -> int:
    """The blocks in which a pixel got beyond this many entries, one bit each."""
    bits = 0
    for block in range(BLOCKS):
        bits |= int(longest[block] > tried) << block
    return bits


@inline
def _sum_up(
    num_features: int,
    records: FloatArray,
    slot: int,
    blocks: int,
    pairs: FloatArray,
    pair: int,
    v: FloatArray,
    tile_x: float,
    tile_y: float,
) -> Floats:
    """The sums of one hit over the pixels of its blocks; see `layout.HIT`."""
    place = np.int64(slot) * RECORD
    x = x_in_block() + (tile_x - item(records, place + MEAN_X))
    y = y_in_block() + (tile_y - item(records, place + MEAN_Y))
    zero = zeros()
    s0, sx, sy, sxx, sxy, syy = zero, zero, zero, zero, zero, zero
    features = Features(zero, zero, zero, zero)
    while blocks != 0:
        block = lowest_bit(blocks)
        blocks &= blocks - 1
        dx = x + np.float32(BLOCK * (block & 3) + 2)
        dy = y + np.float32(BLOCK * (block >> 2) + 2)
        s = load(pairs, pair + block * _PAIR)
        w = load(pairs, pair + block * _PAIR + GROUP)
        t, u = s * dx, s * dy
        s0 = s0 + s
        sx = sx + t
        sy = sy + u
        sxx = fma(t, dx, sxx)
        sxy = fma(t, dy, sxy)
        syy = fma(u, dy, syy)
        of_block = load_features(num_features, v, block * GROUP)
        features = Features(
            fma(w, of_block.f0, features.f0),
            fma(w, of_block.f1, features.f1),
            fma(w, of_block.f2, features.f2),
            fma(w, of_block.f3, features.f3),
        )
    if num_features == 1:
        return lane_sums((s0, sx, sy, sxx, sxy, syy, features.f0))
    if num_features == 3:
        return lane_sums((s0, sx, sy, sxx, sxy, syy, features.f0, features.f1, features.f2))
    return lane_sums(
        (s0, sx, sy, sxx, sxy, syy, features.f0, features.f1, features.f2, features.f3)
    )


@inline
def _dot(num_features: int, v: Features, records: FloatArray, slot: int) -> Floats:
    """Product of v and the features of a Gaussian."""
    place = np.int64(slot) * RECORD
    D: Floats = v.f0 * item(records, place + FEATURE)
    if num_features >= 3:
        D = fma(v.f1, item(records, place + FEATURE + 1), D)
        D = fma(v.f2, item(records, place + FEATURE + 2), D)
    if num_features == 4:
        D = fma(v.f3, item(records, place + FEATURE + 3), D)
    return D


@inline
def _unblend_block(
    num_features: int,
    batch: Batch,
    block: int,
    stop: Ints,
    clamp: float,
    state: FloatArray,
    rest_of: FloatArray,
    v: FloatArray,
    pairs: FloatArray,
) -> None:
    """Write s and w of each Gaussian of a batch that touches the block; `stop` counts from it."""
    at = block * GROUP
    x, y = x_in_block(), y_in_block()
    T, rest = load(state, at), load(rest_of, at)
    v_pixel = load_features(num_features, v, at)
    left = members(batch.block_bits, block)
    while left != 0:
        j = highest_bit(left)
        left ^= 1 << j
        active = stop > j
        opacity = opacity_at(batch.tables, j, block, x, y)
        alpha = select(active, minimum(opacity, clamp), 0.0)
        inverse = 1.0 / (1.0 - alpha)
        T = T * inverse
        weight = alpha * T
        D = _dot(num_features, v_pixel, batch.records, item(batch.slots, j))
        v_alpha = fma(T, D, -(rest * inverse))
        rest = fma(weight, D, rest)
        s = select(active & (opacity <= clamp), opacity * v_alpha, 0.0)
        pair = (j * BLOCKS + block) * _PAIR
        store(pairs, pair, s)
        store(pairs, pair + GROUP, weight)
    store(state, at, T)
    store(rest_of, at, rest)


@functools.cache
def unblender(num_features: int) -> Callable[..., Any]:
    """The kernel for this many features: 1, 3 or 4."""

    @kernel
    def unblend(
        records: FloatArray,
        entries: IntArray,
        tile_starts: LongArray,
        first_tile: int,
        last_tile: int,
        width: int,
        height: int,
        alpha_clamp: float,
        transmittances: FloatArray,
        stops: IntArray,
        v_picture: FloatArray,
        v_transmittances: FloatArray,
        hits: FloatArray,
        hit_used: ByteArray,
        work: Workspace,
    ) -> None:
        """Gradients of some tiles.

        Args:
            records: as for `forward.blender`, and so on.
            entries: lists.
            tile_starts: starts of the lists.
            first_tile: first tile to be done.
            last_tile: the one behind the last.
            width: pixels.
            height: pixels.
            alpha_clamp: largest opacity at a pixel.
            transmittances: what still shone through.
            stops: how far the pixels got.
            v_picture: gradient of the loss by the picture.
            v_transmittances: gradient of the loss by the transmittances.
            hits: receives 16 numbers per hit.
            hit_used: receives 1 for the hits that were written.
            work: memory to work in.
        """
        state, rest_of = work.floats[:PLANE], work.floats[PLANE : 2 * PLANE]
        v = work.floats[2 * PLANE : 6 * PLANE]
        tables = work.floats[6 * PLANE : 6 * PLANE + BATCH_SIZE]
        pairs = work.floats[6 * PLANE + BATCH_SIZE :]
        block_bits, slots = work.ints[:BATCH], work.ints[BATCH : 2 * BATCH]
        longest = work.ints[2 * BATCH : 2 * BATCH + BLOCKS]
        batch = Batch(records, tables, block_bits, slots, slots)
        clamp = np.float32(alpha_clamp)
        tiles_x = (width + TILE - 1) // TILE
        for tile in range(first_tile, last_tile):
            overall = _last_stops(stops, tile, longest)
            if overall == 0:
                continue
            tile_x, tile_y = tile % tiles_x * TILE, tile // tiles_x * TILE
            corner_x, corner_y = np.float32(tile_x), np.float32(tile_y)
            _read_gradients(
                num_features,
                transmittances,
                v_picture,
                v_transmittances,
                tile_x,
                tile_y,
                width,
                height,
                state,
                rest_of,
                v,
            )
            for tried in range((overall - 1) // BATCH * BATCH, -1, -BATCH):
                first = tile_starts[tile] + tried
                last = min(first + BATCH, tile_starts[tile] + overall)
                alive = _open_blocks(longest, tried)
                touched = prepare(
                    records,
                    entries,
                    first,
                    last,
                    corner_x,
                    corner_y,
                    alive,
                    tables,
                    block_bits,
                    slots,
                    max(first - BATCH, 0),
                )
                for j in range(last - first):
                    prefetch(hits, np.int64(entries[2 * (first + j) + 1]) * HIT)
                while touched != 0:
                    block = lowest_bit(touched)
                    touched &= touched - 1
                    stop = load_ints(stops, tile * PLANE + block * GROUP) - tried
                    _unblend_block(
                        num_features, batch, block, stop, clamp, state, rest_of, v, pairs
                    )
                for j in range(last - first):
                    if block_bits[j] != 0:
                        hit = np.int64(entries[2 * (first + j) + 1])
                        sums = _sum_up(
                            num_features,
                            records,
                            slots[j],
                            np.int64(block_bits[j]),
                            pairs,
                            j * BLOCKS * _PAIR,
                            v,
                            corner_x,
                            corner_y,
                        )
                        store(hits, hit * HIT, sums)
                        hit_used[hit] = 1

    return unblend
