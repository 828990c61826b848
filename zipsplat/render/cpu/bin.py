"""Second stage: list the Gaussians of every tile, nearest first."""

from __future__ import annotations

import numpy as np

from zipsplat.render.cpu.compiler import kernel
from zipsplat.render.cpu.ellipse import row_span, tile_span
from zipsplat.render.cpu.layout import (
    CHUNK,
    GROUP,
    HALF_WIDTH,
    HALF_Y,
    MEAN_X,
    MEAN_Y,
    RECORD,
    SLOPE,
    STEEPEST_Y,
    IntArray,
    LongArray,
    Slots,
)
from zipsplat.render.cpu.simd import (
    any_lane,
    lowest_bit,
    pack,
    to_floats,
    unpack,
)
from zipsplat.render.cpu.simd_memory import load_table, prefetch, store_ints

_DIGIT_BITS = 11
_AHEAD = 12  # how many Gaussians before its use a piece of memory is asked for


@kernel
def number_hits(slots: Slots) -> tuple[int, int]:
    """Give every slot the number of its first hit; returns how many slots and hits there are."""
    num_slots = 0
    num_hits = 0
    for chunk in range(len(slots.chunk_count)):
        for slot in range(chunk * CHUNK, chunk * CHUNK + slots.chunk_count[chunk]):
            slots.first_hit[slot] = num_hits
            num_hits += slots.num_hits[slot]
        num_slots += slots.chunk_count[chunk]
    return num_slots, num_hits


@kernel
def list_hits(
    slots: Slots,
    tiles_x: int,
    tiles_y: int,
    first_chunk: int,
    last_chunk: int,
    hit_tiles: IntArray,
    tile_counts: IntArray,
) -> None:
    """Write the tile of each hit of some chunks, and count the hits of each tile."""
    firsts = np.empty(GROUP, np.int32)
    lasts = np.empty(GROUP, np.int32)
    rows = np.empty(GROUP, np.int32)
    cursors = np.empty(GROUP, np.int64)
    for chunk in range(first_chunk, last_chunk):
        end = chunk * CHUNK + slots.chunk_count[chunk]
        for slot in range(chunk * CHUNK, end, GROUP):
            columns = load_table(slots.records, slot * RECORD, RECORD)
            mean_x, mean_y, half_y = columns[MEAN_X], columns[MEAN_Y], columns[HALF_Y]
            valid = unpack((1 << min(GROUP, end - slot)) - 1)
            for i in range(GROUP):
                cursors[i] = slots.first_hit[slot + i]
            row, last_row = tile_span(mean_y - half_y, mean_y + half_y, tiles_y)
            active = valid & (row <= last_row)
            while any_lane(active):
                first, last = row_span(
                    to_floats(row),
                    mean_x,
                    mean_y,
                    half_y,
                    columns[SLOPE],
                    columns[STEEPEST_Y],
                    columns[HALF_WIDTH],
                    tiles_x,
                )
                store_ints(firsts, 0, first)
                store_ints(lasts, 0, last)
                store_ints(rows, 0, row)
                left = pack(active & (first <= last))
                while left != 0:
                    i = lowest_bit(left)
                    left = left & (left - 1)
                    cursor = cursors[i]
                    for tile_x in range(firsts[i], lasts[i] + 1):
                        tile = rows[i] * tiles_x + tile_x
                        hit_tiles[cursor] = tile
                        tile_counts[tile] += 1
                        cursor += 1
                    cursors[i] = cursor
                row = row + 1
                active = valid & (row <= last_row)


@kernel
def sort_slots(slots: Slots, num_slots: int) -> IntArray:
    """Slots by depth, equal depths in the order of the input.

    Least-significant-digit radix sort of the distances, as bit patterns, from the nearest.
    """
    keys = np.empty(num_slots, np.uint32)
    order = np.empty(num_slots, np.int32)
    n = 0
    for chunk in range(len(slots.chunk_count)):
        for slot in range(chunk * CHUNK, chunk * CHUNK + slots.chunk_count[chunk]):
            keys[n] = np.uint32(slots.keys[slot])
            order[n] = slot
            n += 1
    if num_slots == 0:
        return order
    nearest = keys.min()
    span = keys.max() - nearest
    other_keys = np.empty(num_slots, np.uint32)
    other_order = np.empty(num_slots, np.int32)
    starts = np.empty((1 << _DIGIT_BITS) + 1, np.int64)
    shift = 0
    while (span >> np.uint32(shift)) != 0:
        starts[:] = 0
        for i in range(num_slots):
            digit = ((keys[i] - nearest) >> np.uint32(shift)) & np.uint32((1 << _DIGIT_BITS) - 1)
            starts[np.int64(digit) + 1] += 1
        for digit in range(1 << _DIGIT_BITS):
            starts[digit + 1] += starts[digit]
        for i in range(num_slots):
            digit = ((keys[i] - nearest) >> np.uint32(shift)) & np.uint32((1 << _DIGIT_BITS) - 1)
            place = starts[np.int64(digit)]
            starts[np.int64(digit)] = place + 1
            other_keys[place] = keys[i]
            other_order[place] = order[i]
        keys, other_keys = other_keys, keys
        order, other_order = other_order, order
        shift += _DIGIT_BITS
        if shift >= 32:
            break
    return order


@kernel
def fill_tiles(
    slots: Slots, order: IntArray, hit_tiles: IntArray, tile_starts: LongArray, entries: IntArray
) -> None:
    """Append every slot, nearest first, to the lists of its tiles.

    Args:
        slots: the projected Gaussians.
        order: slots by depth.
        hit_tiles: tile of each hit.
        tile_starts: where each tile's list begins, with the end behind the last.
        entries: the lists; entry i is slot and hit at 2·i and 2·i + 1.
    """
    cursors = tile_starts.copy()
    for i in range(len(order)):
        if i + _AHEAD < len(order):
            prefetch(slots.first_hit, order[i + _AHEAD])
            prefetch(slots.num_hits, order[i + _AHEAD])
        if i + _AHEAD // 2 < len(order):
            prefetch(hit_tiles, slots.first_hit[order[i + _AHEAD // 2]])
        slot = order[i]
        start = slots.first_hit[slot]
        for hit in range(start, start + slots.num_hits[slot]):
            place = cursors[hit_tiles[hit]]
            cursors[hit_tiles[hit]] = place + 1
            entries[2 * place] = slot
            entries[2 * place + 1] = hit
