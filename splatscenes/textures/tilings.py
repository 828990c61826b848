"""Tiled materials: bricks, tiles, planks, paving, patterned paper and carpets."""

from __future__ import annotations

import numpy as np

from splatscenes.noise import cells, fractal
from splatscenes.palette import Color, Palette, hsv, stone, wood
from splatscenes.textures._painting import (
    TEXTURE_SIZE,
    FloatArray,
    filled,
    grid,
    mix,
    per_cell,
    ramp,
    weathered,
)


def _courses(
    rng: np.random.Generator, columns: int, rows: int, shift: float
) -> tuple[FloatArray, FloatArray]:
    """Staggered rectangles: distance to the joint (in piece heights), and shade per piece."""
    u, v = grid()
    row = np.floor(v * rows)
    along = u * columns + shift * (row % 2)
    column = np.floor(along) % columns
    aspect = rows / columns
    du = (0.5 - np.abs(along % 1 - 0.5)) * aspect
    dv = 0.5 - np.abs((v * rows) % 1 - 0.5)
    shade = per_cell(row * columns + column, rng, rows * columns)
    return np.minimum(du, dv).astype(np.float32), shade


def _laid(
    rng: np.random.Generator, base: Color, joint: Color, layout: tuple[int, int, float], gap: float
) -> FloatArray:
    distance, shade = _courses(rng, *layout)
    spread = rng.uniform(0.15, 0.6)
    pieces = filled(base) * (1 + spread * (shade - 0.5))[..., None]
    pieces = weathered(pieces, rng, rng.uniform(0.2, 0.6))
    return mix(filled(joint), pieces, ramp(distance, gap * 0.6, gap))


def brick(rng: np.random.Generator, palette: Palette) -> FloatArray:
    """A brick wall, red, sandy, painted or blackened."""
    base = (
        hsv(rng.uniform(0.0, 0.07), rng.uniform(0.35, 0.7), rng.uniform(0.35, 0.75))
        if rng.uniform() < 0.65
        else palette.any(rng)
    )
    joint = palette.neutral(rng)
    return _laid(rng, base, joint, (int(rng.integers(3, 6)), 2 * int(rng.integers(4, 7)), 0.5), 0.1)


def masonry(rng: np.random.Generator, palette: Palette) -> FloatArray:
    """Large cut blocks."""
    layout = (int(rng.integers(1, 4)), 2 * int(rng.integers(1, 4)), 0.5)
    return _laid(rng, stone(rng), palette.dark(rng), layout, 0.045)


def planks(rng: np.random.Generator, palette: Palette) -> FloatArray:  # noqa: ARG001 (one signature for all painters)
    """Floor boards along u."""
    rows = 2 * int(rng.integers(2, 6))
    distance, shade = _courses(rng, int(rng.integers(1, 3)), rows, rng.uniform(0.3, 0.7))
    fibre = fractal(TEXTURE_SIZE, (3, 48), 4, rng, 0.6)
    base = wood(rng)
    tone = 0.75 + 0.5 * (shade - 0.5) * rng.uniform(0.3, 1.2) + 0.7 * (fibre - 0.5)
    texture = np.clip(filled(base) * tone[..., None] * 1.2, 0, 1)
    return mix(filled(base * 0.25), texture, ramp(distance, 0.01, 0.05))


def checker(rng: np.random.Generator, palette: Palette) -> FloatArray:
    """Two-coloured tiles, straight or diagonal."""
    u, v = grid()
    n = 2 * int(rng.integers(1, 5))
    a, b = (u, v) if rng.uniform() < 0.6 else (u + v, u - v)
    odd = (np.floor(a * n) + np.floor(b * n)) % 2
    joint = np.minimum(0.5 - np.abs((a * n) % 1 - 0.5), 0.5 - np.abs((b * n) % 1 - 0.5))
    texture = mix(filled(palette.pale(rng)), filled(palette.dark(rng)), odd.astype(np.float32))
    texture = weathered(texture, rng, 0.3)
    return mix(texture * 0.6, texture, ramp(joint, 0.01, 0.03))


def tiles(rng: np.random.Generator, palette: Palette) -> FloatArray:
    """Square tiles in shades of one colour, a few of another."""
    n = int(rng.integers(2, 9))
    distance, shade = _courses(rng, n, n, 0.0)
    texture = filled(palette.any(rng)) * (0.8 + 0.4 * shade)[..., None]
    texture[shade > rng.uniform(0.7, 1.0)] = palette.accent(rng)
    texture = weathered(np.clip(texture, 0, 1), rng, 0.2)
    return mix(filled(palette.pale(rng)), texture, ramp(distance, 0.02, 0.05))


def cobbles(rng: np.random.Generator, palette: Palette) -> FloatArray:
    """Rounded stones in earth, or cracked slabs."""
    _, border, label = cells(TEXTURE_SIZE, int(rng.integers(4, 11)), rng)
    shade = per_cell(label, rng, 144)
    stones = weathered(filled(stone(rng)) * (0.7 + 0.5 * shade)[..., None], rng, 0.5)
    width = rng.uniform(0.01, 0.03)
    return mix(filled(palette.dark(rng)), np.clip(stones, 0, 1), ramp(border, width * 0.3, width))


def stripes(rng: np.random.Generator, palette: Palette) -> FloatArray:
    """Upright or slanted bands."""
    u, v = grid()
    slant = int(rng.choice([0, 0, 0, 1, -1, 2]))
    n = int(rng.integers(2, 7))
    position = (u * n + slant * v * n) % 1
    texture = filled(palette.pale(rng))
    edge = 0.0
    while edge < 0.95:
        width = rng.uniform(0.06, 0.4)
        texture[(position >= edge) & (position < edge + width)] = (
            palette.any(rng) if rng.uniform() < 0.6 else palette.pale(rng)
        )
        edge += width
    return weathered(texture, rng, 0.2)


def dots(rng: np.random.Generator, palette: Palette) -> FloatArray:
    """Staggered dots, rings or diamonds on a background."""
    u, v = grid()
    n = 2 * int(rng.integers(1, 5))
    row = np.floor(v * n)
    x, y = (u * n + 0.5 * (row % 2)) % 1 - 0.5, (v * n) % 1 - 0.5
    distance = np.hypot(x, y) if rng.uniform() < 0.6 else np.abs(x) + np.abs(y)
    texture = filled(palette.pale(rng) if rng.uniform() < 0.6 else palette.dark(rng))
    radius = rng.uniform(0.2, 0.42)
    texture = mix(filled(palette.accent(rng)), texture, ramp(distance, radius - 0.03, radius))
    if rng.uniform() < 0.5:
        inner = radius * rng.uniform(0.3, 0.7)
        texture = mix(filled(palette.pale(rng)), texture, ramp(distance, inner - 0.03, inner))
    return weathered(texture, rng, 0.15)


def damask(rng: np.random.Generator, palette: Palette) -> FloatArray:
    """A mirrored ornament, as on wallpaper and carpets."""
    repeat = int(rng.integers(1, 4))
    u, v = grid()
    x, y = np.abs((u * repeat) % 1 - 0.5) * 2, np.abs((v * repeat) % 1 - 0.5) * 2
    waves = np.zeros_like(u)
    for _ in range(5):
        a, b = rng.integers(1, 7, 2)
        waves += np.cos(np.pi * (a * x + rng.uniform(0, 2))) * np.cos(np.pi * b * y)
    texture = filled(palette.any(rng))
    colors = (palette.pale(rng), palette.dark(rng), palette.accent(rng))
    for level, color in zip((0.5, 1.3, -1.1), colors, strict=True):
        inside = waves > level if level > 0 else waves < level
        texture[inside] = color
    return weathered(texture, rng, 0.25)


def rug(rng: np.random.Generator, palette: Palette) -> FloatArray:
    """A carpet with nested borders and a field of ornaments; covers a face once."""
    u, v = grid()
    edge = np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v))
    texture = damask(rng, palette) if rng.uniform() < 0.7 else dots(rng, palette)
    depth = 0.0
    for _ in range(int(rng.integers(2, 6))):
        width = rng.uniform(0.015, 0.07)
        texture[(edge >= depth) & (edge < depth + width)] = palette.any(rng)
        depth += width
    n = int(rng.integers(10, 24))
    beads = (np.floor(u * n) + np.floor(v * n)) % 2 == 0
    texture[beads & (edge > depth) & (edge < depth + 0.03)] = palette.accent(rng)
    pile = fractal(TEXTURE_SIZE, (64, 64), 2, rng)
    return np.asarray(np.clip(texture * (0.75 + 0.5 * pile)[..., None], 0, 1), dtype=np.float32)


PAINTERS = (
    brick,
    masonry,
    planks,
    checker,
    tiles,
    cobbles,
    stripes,
    dots,
    damask,
    rug,
)
