"""Ground, foliage, water, clouds and facades."""

from __future__ import annotations

import numpy as np

from splatscenes.noise import cells, fractal
from splatscenes.palette import Palette, earth, hsv, leaf, stone
from splatscenes.textures._painting import (
    TEXTURE_SIZE,
    FloatArray,
    filled,
    grid,
    mix,
    per_cell,
    ramp,
    toned,
    weathered,
)
from splatscenes.textures.prints import write_line


def grass(rng: np.random.Generator, palette: Palette) -> FloatArray:
    """Meadow with bare patches and flowers."""
    green = leaf(rng)
    blades = fractal(TEXTURE_SIZE, (40, 24), 3, rng, 0.8)
    texture = mix(filled(green * 0.5), filled(green * 1.25), ramp(blades, 0.25, 0.75))
    bare = ramp(fractal(TEXTURE_SIZE, (4, 4), 4, rng), 0.55, 0.75) * rng.uniform(0, 1)
    texture = mix(texture, weathered(filled(earth(rng)), rng, 0.6), bare)
    if rng.uniform() < 0.4:
        nearest, _, number = cells(TEXTURE_SIZE, 16, rng)
        texture[(nearest < 0.009) & (per_cell(number, rng, 256) > 0.5)] = palette.accent(rng)
    return texture.clip(0, 1)


def soil(rng: np.random.Generator, palette: Palette) -> FloatArray:  # noqa: ARG001 (one signature for all painters)
    """Earth, gravel or sand with ripples."""
    base = earth(rng)
    texture = weathered(filled(base), rng, rng.uniform(0.4, 0.9))
    if rng.uniform() < 0.5:
        wave = fractal(TEXTURE_SIZE, (2, 8), 3, rng)
        ripple = 0.5 + 0.5 * np.sin(2 * np.pi * (grid()[1] * 12 + 3 * wave))
        return mix(texture, texture * 0.75, ripple)
    nearest, border, number = cells(TEXTURE_SIZE, 24, rng)
    pebble = (nearest < 0.015) & (border > 0.004)
    shade = 0.6 + 0.8 * per_cell(number, rng, 576)
    return mix(texture, toned(stone(rng), shade), 0.8 * pebble)


def snow(rng: np.random.Generator, palette: Palette) -> FloatArray:  # noqa: ARG001 (one signature for all painters)
    """Snow, trodden or drifted."""
    texture = weathered(filled(hsv(0.6, 0.04, 0.96)), rng, 0.22)
    drift = ramp(fractal(TEXTURE_SIZE, (4, 7), 4, rng), 0.5, 0.7)
    return mix(texture, filled(hsv(0.6, 0.14, 0.8)), 0.6 * drift)


def rock(rng: np.random.Generator, palette: Palette) -> FloatArray:  # noqa: ARG001 (one signature for all painters)
    """Cracked, layered rock."""
    base = stone(rng)
    layers = fractal(TEXTURE_SIZE, (2, int(rng.integers(3, 12))), 6, rng, 0.65)
    texture = mix(filled(base * 0.5), filled(np.clip(base * 1.15, 0, 1)), ramp(layers, 0.25, 0.75))
    crack = np.abs(fractal(TEXTURE_SIZE, (4, 4), 5, rng) - 0.5)
    texture = mix(texture, texture * 0.35, 1 - ramp(crack, 0.0, 0.025))
    moss = ramp(fractal(TEXTURE_SIZE, (5, 5), 4, rng), 0.55, 0.65) * rng.integers(0, 2)
    return mix(texture, filled(leaf(rng) * 0.7), 0.7 * moss)


def foliage(rng: np.random.Generator, palette: Palette) -> FloatArray:
    """Leaves in light and shadow, sometimes with blossoms."""
    _, border, number = cells(TEXTURE_SIZE, int(rng.integers(12, 24)), rng)
    green = leaf(rng)
    shade = 0.35 + 0.95 * per_cell(number, rng, 576)
    texture = filled(green) * (shade * (0.6 + 12 * np.minimum(border, 0.035)))[..., None]
    if rng.uniform() < 0.2:
        texture[per_cell(number, rng, 576) > 0.85] = palette.accent(rng)
    return texture.clip(0, 1).astype(np.float32)


def bark(rng: np.random.Generator, palette: Palette) -> FloatArray:  # noqa: ARG001 (one signature for all painters)
    """Furrowed bark along v."""
    base = hsv(rng.uniform(0.04, 0.1), rng.uniform(0.1, 0.5), rng.uniform(0.25, 0.7))
    ridge = fractal(TEXTURE_SIZE, (16, 3), 4, rng, 0.7)
    return mix(filled(base * 0.4), filled(base), ramp(ridge, 0.3, 0.6))


def water(rng: np.random.Generator, palette: Palette) -> FloatArray:  # noqa: ARG001 (one signature for all painters)
    """Rippled water, static in time."""
    deep = hsv(rng.uniform(0.44, 0.62), rng.uniform(0.3, 0.7), rng.uniform(0.2, 0.5))
    wave = fractal(TEXTURE_SIZE, (6, 14), 4, rng)
    crest = 0.5 + 0.5 * np.sin(2 * np.pi * (2 * grid()[1] + 2.5 * wave))
    return mix(filled(deep), filled(np.clip(deep * 1.5 + 0.06, 0, 1)), np.asarray(crest**3))


def clouds(rng: np.random.Generator, palette: Palette) -> FloatArray:  # noqa: ARG001 (one signature for all painters)
    """Cloud cover, the same value in all channels."""
    cover = rng.uniform(0.3, 0.65)
    field = fractal(TEXTURE_SIZE, (4, 4), 6, rng, 0.55)
    amount = ramp(field, cover, cover + rng.uniform(0.1, 0.3))
    return np.repeat(amount[..., None], 3, axis=2)


def windows(rng: np.random.Generator, palette: Palette) -> FloatArray:
    """One storey of a facade: windows with frames, sills, shutters, curtains, some lit."""
    u, v = grid()
    columns, rows = int(rng.integers(2, 5)), int(rng.integers(2, 5))
    column, row = np.floor(u * columns), np.floor(v * rows)
    x, y = (u * columns) % 1, (v * rows) % 1
    shade = per_cell(row * columns + column, rng, rows * columns)
    wall = palette.any(rng) if rng.uniform() < 0.6 else stone(rng)
    texture = weathered(filled(wall), rng, rng.uniform(0.15, 0.5))
    half_w, top, low = rng.uniform(0.16, 0.42), rng.uniform(0.08, 0.25), rng.uniform(0.6, 0.9)
    dx = np.abs(x - 0.5)
    if rng.uniform() < 0.3:
        texture[(dx < half_w * 1.6) & (y > top) & (y < low)] = palette.accent(rng)
    texture[(dx < half_w + 0.05) & (y > top - 0.05) & (y < low + 0.05)] = palette.pale(rng)
    glass = (dx < half_w) & (y > top) & (y < low)
    tint = filled(hsv(rng.uniform(0.5, 0.65), 0.35, 0.3)) * (0.4 + 1.2 * (1 - y))[..., None]
    texture[glass] = tint[glass]
    texture[glass & (shade > 0.8)] = hsv(0.12, 0.5, 0.95)
    texture[glass & (shade < 0.3) & (dx > half_w * 0.5)] = palette.pale(rng)
    bars = (dx < 0.015) | (np.abs(y - (top + low) / 2) < 0.015)
    texture[glass & bars] = palette.pale(rng)
    return texture.clip(0, 1)


def curtain_wall(rng: np.random.Generator, palette: Palette) -> FloatArray:
    """Glass office facade: panes between thin mullions and floor bands."""
    u, v = grid()
    columns, rows = int(rng.integers(4, 10)), int(rng.integers(2, 7))
    shade = per_cell(np.floor(v * rows) * columns + np.floor(u * columns), rng, rows * columns)
    pane = hsv(rng.uniform(0.48, 0.66), rng.uniform(0.15, 0.5), rng.uniform(0.35, 0.75))
    texture = filled(pane) * (0.55 + 0.6 * shade)[..., None]
    texture[shade > rng.uniform(0.85, 1.0)] = hsv(0.12, 0.4, 0.95)
    frame = (np.abs((u * columns) % 1 - 0.5) > 0.45) | (np.abs((v * rows) % 1 - 0.5) > 0.4)
    texture[frame] = palette.neutral(rng)
    return texture.clip(0, 1).astype(np.float32)


def shopfront(rng: np.random.Generator, palette: Palette) -> FloatArray:
    """Ground floor of a house: display windows, a door, a sign."""
    u, v = grid()
    texture = weathered(filled(palette.any(rng)), rng, 0.3)
    texture[v < 0.24] = palette.accent(rng)
    write_line(texture, rng, (12, 24, 236), 5, palette.pale(rng))
    door = int(rng.integers(3))
    for bay in range(3):
        inside = (
            (np.abs(u * 3 - bay - 0.5) < 0.42) & (v > 0.3) & (v < (0.96 if bay == door else 0.8))
        )
        texture[inside] = palette.dark(rng)
        goods = inside & (v > 0.55) & (np.floor(u * 17) % 3 != 0) & (bay != door)
        texture[goods] = palette.accent(rng)
    return texture


def roof_tiles(rng: np.random.Generator, palette: Palette) -> FloatArray:
    """Rows of overlapping tiles, slates or shingles."""
    u, v = grid()
    n = 2 * int(rng.integers(4, 8))
    row = np.floor(v * n)
    along = u * n + 0.5 * (row % 2)
    shade = per_cell(row * n + np.floor(along) % n, rng, n * n)
    base = hsv(rng.uniform(0, 0.07), rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.7))
    if rng.uniform() < 0.4:
        base = palette.dark(rng)
    hollow = np.hypot(along % 1 - 0.5, (v * n) % 1 * 0.7)
    tone = (0.75 + 0.4 * shade) * (1.1 - 0.9 * ramp(hollow, 0.45, 0.75))
    return weathered((filled(base) * tone[..., None]).clip(0, 1), rng, 0.35)


PAINTERS = (
    grass,
    soil,
    snow,
    rock,
    foliage,
    bark,
    water,
    clouds,
    windows,
    curtain_wall,
    shopfront,
    roof_tiles,
)
