"""Tiles of the image, and the planes of numbers that a tile has while it is processed.

A plane holds a number for each of the 256 pixels of a tile, block by block, so that a block is one
vector. Blending and its backward pass share them.
"""

from __future__ import annotations

from typing import NamedTuple

from zipsplat.render.cpu.compiler import inline
from zipsplat.render.cpu.layout import BLOCK, GROUP, TILE, FloatArray, ImageSize, TileLists
from zipsplat.render.cpu.simd import (
    Floats,
    Mask,
    lane,
    lane_numbers,
    load,
    load_square,
    store,
    store_square,
    to_floats,
    with_lane,
    zeros,
)

BLOCKS = 16  # of 4 × 4 pixels in a tile
PLANE = BLOCKS * GROUP


class Tile(NamedTuple):
    """Its number, its upper left pixel, and the size of the image."""

    number: int
    x: int
    y: int
    image: ImageSize


@inline
def tile_at(lists: TileLists, number: int) -> Tile:
    """The tile with this number."""
    tiles_x = (lists.size.width + TILE - 1) // TILE
    x, y = number % tiles_x * TILE, number // tiles_x * TILE
    return Tile(number, x, y, lists.size)


@inline
def x_in_block() -> Floats:
    """x of the pixel centres from the block's centre: −1.5 … 1.5, four times."""
    return to_floats(lane_numbers() & 3) - 1.5


@inline
def y_in_block() -> Floats:
    """y of the pixel centres from the block's centre."""
    return to_floats(lane_numbers() >> 2) - 1.5


@inline
def in_image(tile: Tile, block: int) -> Mask:
    """The pixels of a block that lie in the image."""
    left = tile.x + BLOCK * (block & 3)
    top = tile.y + BLOCK * (block >> 2)
    x, y = x_in_block() + (left + 2.0), y_in_block() + (top + 2.0)
    inside: Mask = (x < tile.image.width) & (y < tile.image.height)
    return inside


@inline
def write_block(image: FloatArray, tile: Tile, block: int, value: Floats) -> None:
    """Write a block to one channel of the image, as far as it lies in it."""
    left = tile.x + BLOCK * (block & 3)
    top = tile.y + BLOCK * (block >> 2)
    if left + BLOCK <= tile.image.width and top + BLOCK <= tile.image.height:
        store_square(image, top * tile.image.width + left, tile.image.width, value)
        return
    for y in range(min(BLOCK, tile.image.height - top)):
        for x in range(min(BLOCK, tile.image.width - left)):
            image[(top + y) * tile.image.width + left + x] = lane(value, y * BLOCK + x)


@inline
def read_block(image: FloatArray, tile: Tile, block: int) -> Floats:
    """A block of one channel of the image; zero outside of it."""
    left = tile.x + BLOCK * (block & 3)
    top = tile.y + BLOCK * (block >> 2)
    if left + BLOCK <= tile.image.width and top + BLOCK <= tile.image.height:
        return load_square(image, top * tile.image.width + left, tile.image.width)
    value = zeros()
    for y in range(min(BLOCK, tile.image.height - top)):
        for x in range(min(BLOCK, tile.image.width - left)):
            number = image[(top + y) * tile.image.width + left + x]
            value = with_lane(value, y * BLOCK + x, number)
    return value


class Features(NamedTuple):
    """Numbers of a block for each feature: r, g, b, depth, of which only the first may be used.

    Kernels for fewer than four features neither load nor store the others, and the compiler
    leaves out what is then computed in vain.
    """

    f0: Floats
    f1: Floats
    f2: Floats
    f3: Floats


@inline
def load_features(num_features: int, planes: FloatArray, block: int) -> Features:
    """A block of each plane."""
    at = block * GROUP
    f0 = load(planes, at)
    f1, f2, f3 = f0, f0, f0
    if num_features >= 3:
        f1, f2 = load(planes, PLANE + at), load(planes, 2 * PLANE + at)
    if num_features == 4:
        f3 = load(planes, 3 * PLANE + at)
    return Features(f0, f1, f2, f3)


@inline
def store_features(num_features: int, planes: FloatArray, block: int, features: Features) -> None:
    """The opposite of `load_features`."""
    at = block * GROUP
    store(planes, at, features.f0)
    if num_features >= 3:
        store(planes, PLANE + at, features.f1)
        store(planes, 2 * PLANE + at, features.f2)
    if num_features == 4:
        store(planes, 3 * PLANE + at, features.f3)
