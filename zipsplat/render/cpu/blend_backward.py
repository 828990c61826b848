"""Gradients of the blending, back to front.

Let v be the gradient of the loss with respect to the pixel's features, v_T that with respect to its
final transmittance T_end, D = v · features of a Gaussian, and w = α·T its weight. With `rest` for
everything behind it, Σ w·D of all Gaussians further back plus T_end · v_T,
    ∂loss/∂α = T·D − rest / (1 − α).
The walk begins at the last Gaussian that was blended, where `rest` is T_end · v_T and T is T_end;
each Gaussian divides T by its 1 − α and adds its own w·D. One number per pixel is carried along
however many features there are. (Front to back, subtracting w·D from a total, would not need to
know where pixels stopped, but behind nearly opaque Gaussians the difference cancels: gradients were
ten times less accurate.)

With s = α · ∂loss/∂α, the ellipse needs only the sums over pixels of s, s·dx, s·dy,
s·dx², s·dx·dy and s·dy². Each intersection writes its own sums: no two threads ever add to the same
number, and the order of additions does not depend on the number of threads.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from zipsplat.render.cpu.batch import (
    BATCH,
    BATCH_INTS,
    BATCH_SIZE,
    Batch,
    batch_in,
    members,
    opacity_at,
    prepare,
    x_in_tile,
    y_in_tile,
)
from zipsplat.render.cpu.compiler import inline, kernel
from zipsplat.render.cpu.layout import (
    FEATURE,
    GROUP,
    INTERSECTION,
    MAX_FEATURES,
    MEAN_X,
    MEAN_Y,
    RECORD,
    Buffers,
    FloatArray,
    ImageGradients,
    IntArray,
    Intersections,
    TileLists,
    Workspace,
)
from zipsplat.render.cpu.simd import (
    Floats,
    Ints,
    fma,
    highest_bit,
    item,
    lane_sums,
    load,
    load_ints,
    lowest_bit,
    minimum,
    prefetch,
    select,
    store,
    zeros,
)
from zipsplat.render.cpu.tile import (
    BLOCKS,
    PLANE,
    Features,
    Tile,
    load_features,
    read_block,
    tile_at,
    x_in_block,
    y_in_block,
)

_PAIR = 2 * GROUP  # per Gaussian and block of a batch: s and w of 16 pixels
_STATE = (2 + MAX_FEATURES) * PLANE  # transmittance, rest, gradients of the features
_CENTRES = _STATE + BATCH_SIZE + BATCH * BLOCKS * _PAIR
BLEND_BACKWARD_FLOATS = _CENTRES + 2 * GROUP  # of working memory


class BackwardState(NamedTuple):
    """What the pixels of a tile carry along, and the gradients v of their features."""

    T: FloatArray
    rest: FloatArray
    v: FloatArray
    pairs: FloatArray  # s and w of 16 pixels, per Gaussian and block of a batch
    centres: FloatArray  # x, then y, of the centres of the blocks, from the tile's corner


@inline
def _begin_tile(
    num_features: int, tile: Tile, buffers: Buffers, v_image: ImageGradients, state: BackwardState
) -> None:
    size = tile.image.width * tile.image.height
    for block in range(BLOCKS):
        end = read_block(buffers.transmittances, tile, block)
        v_end = read_block(v_image.transmittances, tile, block)
        store(state.T, block * GROUP, end)
        store(state.rest, block * GROUP, end * v_end)
        for feature in range(num_features):
            plane = v_image.features[feature * size : (feature + 1) * size]
            store(state.v, feature * PLANE + block * GROUP, read_block(plane, tile, block))


@inline
def _last_stops(stops: IntArray, tile: int, longest: IntArray) -> int:
    """Write the furthest stop of each block's pixels; returns that of the whole tile."""
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


class _ShapeSums(NamedTuple):
    """Sums over the blocks of a tile, lane by lane; see the formulas above."""

    s: Floats
    sx: Floats
    sy: Floats
    sxx: Floats
    sxy: Floats
    syy: Floats


@inline
def _sum_shape(batch: Batch, j: int, tile: Tile, state: BackwardState) -> _ShapeSums:
    """The sums that the ellipse of one Gaussian needs, over its blocks."""
    place = np.int64(batch.slots[j]) * RECORD
    x = x_in_block() + (np.float32(tile.x) - item(batch.records, place + MEAN_X))
    y = y_in_block() + (np.float32(tile.y) - item(batch.records, place + MEAN_Y))
    zero = zeros()
    s0, sx, sy, sxx, sxy, syy = zero, zero, zero, zero, zero, zero
    blocks = np.int64(batch.block_bits[j])
    while blocks != 0:
        block = lowest_bit(blocks)
        blocks &= blocks - 1
        dx, dy = x + item(state.centres, block), y + item(state.centres, GROUP + block)
        s = load(state.pairs, (j * BLOCKS + block) * _PAIR)
        t, u = s * dx, s * dy
        s0 = s0 + s
        sx = sx + t
        sy = sy + u
        sxx = fma(t, dx, sxx)
        sxy = fma(t, dy, sxy)
        syy = fma(u, dy, syy)
    return _ShapeSums(s0, sx, sy, sxx, sxy, syy)


@inline
def _sum_features(num_features: int, batch: Batch, j: int, state: BackwardState) -> Features:
    """Gradients of the features of one Gaussian, lane by lane.

    Separate from the loop of `_sum_shape`: ten sums do not fit into AVX2's registers, and one loop
    made the backward pass of blending take 1.2 times as long.
    """
    zero = zeros()
    features = Features(zero, zero, zero, zero)
    blocks = np.int64(batch.block_bits[j])
    while blocks != 0:
        block = lowest_bit(blocks)
        blocks &= blocks - 1
        w = load(state.pairs, (j * BLOCKS + block) * _PAIR + GROUP)
        of_block = load_features(num_features, state.v, block)
        features = Features(
            fma(w, of_block.f0, features.f0),
            fma(w, of_block.f1, features.f1),
            fma(w, of_block.f2, features.f2),
            fma(w, of_block.f3, features.f3),
        )
    return features


@inline
def _sum_up(num_features: int, batch: Batch, j: int, tile: Tile, state: BackwardState) -> Floats:
    """The sums of one Gaussian over the pixels of its blocks; see `layout.INTERSECTION`."""
    s, sx, sy, sxx, sxy, syy = _sum_shape(batch, j, tile, state)
    f = _sum_features(num_features, batch, j, state)
    if num_features == 1:
        return lane_sums((s, sx, sy, sxx, sxy, syy, f.f0))
    if num_features == 3:
        return lane_sums((s, sx, sy, sxx, sxy, syy, f.f0, f.f1, f.f2))
    return lane_sums((s, sx, sy, sxx, sxy, syy, f.f0, f.f1, f.f2, f.f3))


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
def _blend_block_backward(
    num_features: int, batch: Batch, block: int, stop: Ints, state: BackwardState
) -> None:
    """Write s and w of each Gaussian of a batch that touches the block; `stop` counts from it."""
    at = block * GROUP
    x, y = x_in_block(), y_in_block()
    T, rest = load(state.T, at), load(state.rest, at)
    v_pixel = load_features(num_features, state.v, block)
    left = members(batch, block)
    while left != 0:
        j = highest_bit(left)
        left ^= 1 << j
        active = stop > j
        opacity = opacity_at(batch, j, block, x, y)
        alpha = select(active, minimum(opacity, batch.alpha_clamp), 0.0)
        inverse = 1.0 / (1.0 - alpha)
        T = T * inverse
        weight = alpha * T
        D = _dot(num_features, v_pixel, batch.records, item(batch.slots, j))
        v_alpha = fma(T, D, -(rest * inverse))
        rest = fma(weight, D, rest)
        s = select(active & (opacity <= batch.alpha_clamp), opacity * v_alpha, 0.0)
        pair = (j * BLOCKS + block) * _PAIR
        store(state.pairs, pair, s)
        store(state.pairs, pair + GROUP, weight)
    store(state.T, at, T)
    store(state.rest, at, rest)


@inline
def _prefetch_intersections(
    lists: TileLists, first: int, last: int, intersections: Intersections
) -> None:
    """Prefetch the memory that `_write_intersections` will write."""
    for entry in range(first, last):
        prefetch(intersections.sums, np.int64(lists.entries[2 * entry + 1]) * INTERSECTION)


@inline
def _write_intersections(
    num_features: int,
    lists: TileLists,
    tile: Tile,
    first: int,
    last: int,
    batch: Batch,
    state: BackwardState,
    intersections: Intersections,
) -> None:
    """Write the sums of the Gaussians of entries [first, last), which are those of the batch."""
    for j in range(last - first):
        if batch.block_bits[j] != 0:
            intersection = np.int64(lists.entries[2 * (first + j) + 1])
            sums = _sum_up(num_features, batch, j, tile, state)
            store(intersections.sums, intersection * INTERSECTION, sums)
            intersections.used[intersection] = 1


@functools.cache
def blend_backward_kernel(num_features: int) -> Callable[..., Any]:
    """The kernel for this many features: 1, 3 or 4."""

    @kernel
    def blend_backward(
        lists: TileLists,
        first_tile: int,
        last_tile: int,
        buffers: Buffers,
        v_image: ImageGradients,
        intersections: Intersections,
        work: Workspace,
    ) -> None:
        """Gradients of some tiles.

        Args:
            lists: as for `blend.blend_kernel`.
            first_tile: first tile.
            last_tile: end of the range, exclusive.
            buffers: as the forward pass left them.
            v_image: gradients of the loss with respect to image and transmittances.
            intersections: receives the gradients; `used` is all zero before.
            work: scratch memory.
        """
        floats = work.floats
        state = BackwardState(
            floats[:PLANE],
            floats[PLANE : 2 * PLANE],
            floats[2 * PLANE : _STATE],
            floats[_STATE + BATCH_SIZE : _CENTRES],
            floats[_CENTRES:],
        )
        store(state.centres, 0, x_in_tile())
        store(state.centres, GROUP, y_in_tile())
        batch = batch_in(lists, floats[_STATE:], work.ints)
        longest = work.ints[BATCH_INTS : BATCH_INTS + BLOCKS]
        for number in range(first_tile, last_tile):
            overall = _last_stops(buffers.stops, number, longest)
            if overall == 0:
                continue
            tile = tile_at(lists, number)
            _begin_tile(num_features, tile, buffers, v_image, state)
            start = lists.tile_offsets[number]
            for tried in range((overall - 1) // BATCH * BATCH, -1, -BATCH):
                first, last = start + tried, start + min(tried + BATCH, overall)
                alive = _open_blocks(longest, tried)
                upcoming = max(first - BATCH, 0)
                touched = prepare(lists, tile, first, last, alive, batch, upcoming)
                _prefetch_intersections(lists, first, last, intersections)
                while touched != 0:
                    block = lowest_bit(touched)
                    touched &= touched - 1
                    stop = load_ints(buffers.stops, number * PLANE + block * GROUP) - tried
                    _blend_block_backward(num_features, batch, block, stop, state)
                _write_intersections(
                    num_features, lists, tile, first, last, batch, state, intersections
                )

    return blend_backward
