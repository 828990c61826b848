"""Second stage: list the Gaussians of every tile, nearest first.

To use several threads, the Gaussians are split by depth into buckets of about equal size. Counting
the intersections of each bucket with each tile fixes its place in every list, so buckets are sorted
and listed independently. The lists do not depend on where buckets end.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from zipsplat.render.cpu.compiler import inline, kernel
from zipsplat.render.cpu.ellipse import Outline, row_span, tile_span
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
    TileGrid,
    Workspace,
)
from zipsplat.render.cpu.simd import (
    Ints,
    any_lane,
    item,
    load_ints,
    load_table,
    lowest_bit,
    pack,
    prefetch,
    select_ints,
    store_ints,
    to_floats,
    unpack,
)

_DIGIT_BITS = 11  # three digits cover 32-bit keys, and 8 KiB of counters fit the L1 cache
_DIGIT = (1 << _DIGIT_BITS) - 1
SORT_INTS = 1 << _DIGIT_BITS  # of working memory
_AHEAD = 24  # prefetch distance in Gaussians


@kernel
def number_intersections(slots: Slots) -> tuple[int, int]:
    """Number the intersections slot by slot; returns the numbers of slots and of intersections.

    Beyond 2³¹ intersections their numbers have overflowed, and the caller has to raise an error.
    """
    num_slots = 0
    num_intersections = 0
    for chunk in range(len(slots.chunk_count)):
        for slot in range(chunk * CHUNK, chunk * CHUNK + slots.chunk_count[chunk]):
            slots.first_intersection[slot] = num_intersections
            num_intersections += slots.num_intersections[slot]
        num_slots += slots.chunk_count[chunk]
    return num_slots, num_intersections


class Sortable(NamedTuple):
    """Slots and their keys."""

    keys: IntArray
    slots: IntArray


class Listing(NamedTuple):
    """The intersections of some chunks, and their slots split by depth into buckets."""

    intersection_tiles: IntArray  # tile of each intersection; shared by all chunks
    parted: Sortable  # likewise; slots bucket by bucket, beginning at the first chunk's place
    slot_counts: IntArray  # per bucket
    tile_counts: IntArray  # intersections per bucket and tile; zero on entry


@inline
def _bucket_of(keys: Ints, edges: IntArray) -> Ints:
    """The bucket of each key: the number of edges at or below it."""
    bucket = keys * 0
    for edge in range(len(edges)):
        bucket = bucket + select_ints(keys >= item(edges, edge), 1, 0)
    return bucket


@inline
def _part_slots(
    slots: Slots,
    first_chunk: int,
    last_chunk: int,
    edges: IntArray,
    listing: Listing,
    small: IntArray,
) -> None:
    """Copy the slots of some chunks bucket by bucket, from the first chunk's place on."""
    parted, counts = listing.parted, listing.slot_counts
    counts[:] = 0
    for chunk in range(first_chunk, last_chunk):
        end = chunk * CHUNK + slots.chunk_count[chunk]
        for slot in range(chunk * CHUNK, end, GROUP):
            store_ints(small, 0, _bucket_of(load_ints(slots.keys, slot), edges))
            for i in range(min(GROUP, end - slot)):
                counts[small[i]] += 1
    cursors = small[GROUP:]
    place = first_chunk * CHUNK
    for bucket in range(len(counts)):
        cursors[bucket] = place
        place += counts[bucket]
    for chunk in range(first_chunk, last_chunk):
        end = chunk * CHUNK + slots.chunk_count[chunk]
        for slot in range(chunk * CHUNK, end, GROUP):
            store_ints(small, 0, _bucket_of(load_ints(slots.keys, slot), edges))
            for i in range(min(GROUP, end - slot)):
                place = cursors[small[i]]
                cursors[small[i]] = place + 1
                parted.keys[place] = slots.keys[slot + i]
                parted.slots[place] = slot + i


@kernel
def list_intersections(
    slots: Slots,
    grid: TileGrid,
    first_chunk: int,
    last_chunk: int,
    edges: IntArray,
    listing: Listing,
    work: Workspace,
) -> None:
    """Write the tile of each intersection of some chunks, and split their slots by depth.

    Args:
        slots: the projected Gaussians.
        grid: the tiles of the image.
        first_chunk: first chunk.
        last_chunk: end of the range, exclusive.
        edges: keys at which a bucket of depths begins, all but the first.
        listing: receives the result.
        work: scratch memory.
    """
    num_tiles = grid.columns * grid.rows
    tiles, cursors = work.ints[:GROUP], work.ints[GROUP : 2 * GROUP]
    rows = work.ints[2 * GROUP : 3 * GROUP]
    _part_slots(slots, first_chunk, last_chunk, edges, listing, work.ints)
    for chunk in range(first_chunk, last_chunk):
        end = chunk * CHUNK + slots.chunk_count[chunk]
        for slot in range(chunk * CHUNK, end, GROUP):
            columns = load_table(slots.records, slot * RECORD, RECORD)
            mean_x, mean_y, half_y = columns[MEAN_X], columns[MEAN_Y], columns[HALF_Y]
            outline = Outline(half_y, columns[SLOPE], columns[STEEPEST_Y], columns[HALF_WIDTH])
            valid = unpack((1 << min(GROUP, end - slot)) - 1)
            cursor = load_ints(slots.first_intersection, slot)
            store_ints(rows, 0, _bucket_of(load_ints(slots.keys, slot), edges) * num_tiles)
            row, last_row = tile_span(mean_y - half_y, mean_y + half_y, grid.rows)
            active = valid & (row <= last_row)
            while any_lane(active):
                # Recomputing this, 0.3 ms of 2, is cheaper than storing what the projection found.
                first, last = row_span(to_floats(row), mean_x, mean_y, outline, grid.columns)
                width = select_ints(active & (first <= last), last - first + 1, 0)
                store_ints(tiles, 0, row * grid.columns + first)
                store_ints(cursors, 0, cursor)
                _list_row(tiles, cursors, rows, width, listing)
                cursor = cursor + width
                row = row + 1
                active = valid & (row <= last_row)


@inline
def _list_row(
    tiles: IntArray,
    cursors: IntArray,
    rows: IntArray,
    width: Ints,
    listing: Listing,
) -> None:
    """List `width` tiles of each of 16 Gaussians, beginning at its tile and intersection.

    First tiles of all Gaussians, then second ones, …: a loop over the few tiles of one Gaussian at
    a time mispredicts its exit for every Gaussian.
    """
    step = np.int64(0)
    left = pack(width > 0)
    while left != 0:
        while left != 0:
            i = lowest_bit(left)
            left = left & (left - 1)
            tile = np.int64(item(tiles, i)) + step
            listing.intersection_tiles[np.int64(item(cursors, i)) + step] = tile
            listing.tile_counts[np.int64(item(rows, i)) + tile] += 1
        step += 1
        left = pack(width > np.int32(step))


@kernel
def sort_slots(
    parted: Sortable,
    starts: LongArray,
    counts: IntArray,
    first: Sortable,
    second: Sortable,
    work: Workspace,
) -> bool:
    """Sort the slots of one bucket by depth; equal depths keep the order of the input.

    Least-significant-digit radix sort of the depths' bit patterns, counted from the nearest
    depth's.

    Args:
        parted: slots of all buckets, in pieces.
        starts: where each piece of this bucket begins.
        counts: how long each piece is.
        first: memory for the whole bucket.
        second: as much memory again.
        work: scratch memory.

    Returns:
        Whether the result lies in `first`; otherwise in `second`.
    """
    source, target = first, second
    nearest, farthest = np.int32(0x7FFFFFFF), np.int32(0)
    num = 0
    for piece in range(len(starts)):
        for i in range(starts[piece], starts[piece] + counts[piece]):
            key = parted.keys[i]
            nearest = min(nearest, key)
            farthest = max(farthest, key)
            source.keys[num] = key
            source.slots[num] = parted.slots[i]
            num += 1
    places = work.ints[:SORT_INTS]
    in_first, shift = True, 0
    while num > 0 and (farthest - nearest) >> shift != 0:
        places[:] = 0
        for i in range(num):
            places[(source.keys[i] - nearest) >> shift & _DIGIT] += 1
        place = 0
        for digit in range(SORT_INTS):
            count = places[digit]
            places[digit] = place
            place += count
        for i in range(num):
            key = source.keys[i]
            digit = (key - nearest) >> shift & _DIGIT
            place = places[digit]
            places[digit] = place + 1
            target.keys[place] = key
            target.slots[place] = source.slots[i]
        source, target = target, source
        in_first = not in_first
        shift += _DIGIT_BITS
    return in_first


@kernel
def fill_tiles(
    slots: Slots,
    order: IntArray,
    intersection_tiles: IntArray,
    cursors: LongArray,
    entries: LongArray,
) -> None:
    """Write the slots of one bucket, nearest first, into the lists of their tiles.

    Args:
        slots: the projected Gaussians.
        order: slots of the bucket by depth.
        intersection_tiles: tile of each intersection.
        cursors: where the bucket's part of each tile's list begins; afterwards, where it ends.
        entries: the lists; an entry is slot + 2³² · intersection, written as one number because
            that is faster, and read as two.
    """
    last = len(order) - 1
    for i in range(len(order)):
        ahead = item(order, min(i + _AHEAD, last))
        prefetch(slots.first_intersection, ahead)
        prefetch(slots.num_intersections, ahead)
        prefetch(
            intersection_tiles,
            item(slots.first_intersection, item(order, min(i + _AHEAD // 2, last))),
        )
        slot = item(order, i)
        start = item(slots.first_intersection, slot)
        for intersection in range(start, start + item(slots.num_intersections, slot)):
            tile = item(intersection_tiles, intersection)
            place = item(cursors, tile)
            cursors[tile] = place + 1
            entries[place] = np.int64(slot) | np.int64(intersection) << 32
