"""Prints: pages, posters, paintings, screens, book spines, labels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from splatscenes.noise import fractal
from splatscenes.palette import Color, Palette, hsv
from splatscenes.textures._painting import (
    TEXTURE_SIZE,
    FloatArray,
    filled,
    grid,
    mix,
    ramp,
    weathered,
)

_STROKES = {  # strokes of an invented alphabet on 7 rows × 5 columns: (rows, columns)
    0: (slice(0, 7), slice(0, 1)),
    1: (slice(0, 7), slice(4, 5)),
    2: (slice(0, 1), slice(0, 5)),
    3: (slice(6, 7), slice(0, 5)),
    4: (slice(3, 4), slice(0, 5)),
    5: (slice(0, 7), slice(2, 3)),
    6: (slice(3, 7), slice(4, 5)),
    7: (slice(0, 4), slice(0, 1)),
}


def _glyph(rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    glyph = np.zeros((9, 7), dtype=np.bool_)
    for stroke in rng.choice(len(_STROKES), int(rng.integers(2, 5)), replace=False):
        glyph[1:8, 1:6][_STROKES[int(stroke)]] = True
    return glyph


def write_line(
    texture: FloatArray,
    rng: np.random.Generator,
    box: tuple[int, int, int],
    size: int,
    color: Color,
) -> None:
    """Write words of an invented alphabet into `texture`, in place.

    Args:
        texture: (S, S, 3).
        rng: random generator.
        box: first row, first column, end column in texels.
        size: texels per stroke (a letter is 7 × 9 strokes).
        color: ink colour.
    """
    row, column, end = box
    while column + 7 * size <= end:
        if rng.uniform() < 0.82:
            letter = np.kron(_glyph(rng), np.ones((size, size), dtype=np.bool_))
            patch = texture[row : row + 9 * size, column : column + 7 * size]
            patch[letter[: patch.shape[0], : patch.shape[1]]] = color
        column += 7 * size


def page(rng: np.random.Generator, palette: Palette) -> FloatArray:
    """A printed page: a heading, lines of text, perhaps a figure."""
    texture = filled(hsv(0.12, rng.uniform(0, 0.15), rng.uniform(0.88, 1.0)))
    ink = palette.dark(rng)
    write_line(texture, rng, (12, 14, 240), int(rng.integers(3, 5)), palette.any(rng))
    figure = rng.uniform() < 0.6
    top = int(rng.integers(60, 160))
    size = int(rng.integers(1, 3))
    for row in range(56, 240, 11 * size):
        if not (figure and top - 18 < row < top + 70):
            write_line(texture, rng, (row, 16, int(rng.integers(150, 244))), size, ink)
    if figure:
        texture[top : top + 64, 40:216] = painting(rng, palette)[::4, :][:64, 40:216]
    return texture


def poster(rng: np.random.Generator, palette: Palette) -> FloatArray:
    """Bold shapes and large letters."""
    u, v = grid()
    angle = rng.uniform(0, 2 * np.pi)
    slope = np.cos(angle) * (u - 0.5) + np.sin(angle) * (v - 0.5) + 0.5
    texture = mix(filled(palette.any(rng)), filled(palette.accent(rng)), slope)
    for _ in range(int(rng.integers(3, 10))):
        x, y, r = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.05, 0.35)
        kind = int(rng.integers(4))
        if kind == 0:
            mask = np.hypot(u - x, v - y) < r
        elif kind == 1:
            mask = (np.abs(u - x) < r) & (np.abs(v - y) < r * rng.uniform(0.1, 1))
        elif kind == 2:
            mask = np.abs(np.hypot(u - x, v - y) - r) < 0.2 * r
        else:
            mask = (v - y < r) & (np.abs(u - x) < 0.6 * (v - y))
        texture[mask] = palette.accent(rng) if rng.uniform() < 0.7 else palette.pale(rng)
    ink = palette.pale(rng) if rng.uniform() < 0.5 else palette.dark(rng)
    write_line(texture, rng, (int(rng.integers(8, 190)), 12, 250), int(rng.integers(4, 8)), ink)
    write_line(texture, rng, (232, 20, 236), 2, ink)
    return texture


def painting(rng: np.random.Generator, palette: Palette) -> FloatArray:
    """A landscape in layers under a sky, or broad brush work."""
    u, v = grid()
    texture = mix(filled(palette.pale(rng)), filled(palette.any(rng)), v * rng.uniform(0.6, 1.4))
    if rng.uniform() < 0.35:
        for _ in range(4):
            strokes = fractal(
                TEXTURE_SIZE, (int(rng.integers(2, 6)), int(rng.integers(2, 14))), 4, rng
            )
            texture = mix(texture, filled(palette.accent(rng)), ramp(strokes, 0.5, 0.6))
        return weathered(texture, rng, 0.3)
    sun = np.hypot(u - rng.uniform(0.1, 0.9), v - rng.uniform(0.1, 0.4))
    texture[sun < rng.uniform(0.04, 0.1)] = palette.pale(rng)
    base = palette.any(rng)
    for layer in range(int(rng.integers(3, 6))):
        ridge = fractal(TEXTURE_SIZE, (3 + layer, 1), 5, rng)[0]
        height = 0.3 + 0.16 * layer + 0.35 * (ridge - 0.5)
        texture[v > height[None, :]] = base * (1 - 0.17 * layer) + 0.02 * layer
    return weathered(texture.clip(0, 1), rng, 0.35)


def portrait(rng: np.random.Generator, palette: Palette) -> FloatArray:
    """A bust on a plain background."""
    u, v = grid()
    texture = weathered(filled(palette.dark(rng)), rng, 0.8)
    tone = hsv(rng.uniform(0.03, 0.09), rng.uniform(0.25, 0.6), rng.uniform(0.35, 0.95))
    x = rng.uniform(0.42, 0.58)
    hair, cloth = palette.dark(rng), palette.accent(rng)
    texture[np.hypot((u - x) / 1.5, v - 1.02) < 0.32] = cloth
    texture[np.hypot((u - x) / 0.95, (v - 0.36) / 1.1) < 0.2] = hair
    texture[np.hypot((u - x) / 0.8, (v - 0.42) / 1.15) < 0.17] = tone
    texture[(np.abs(u - x) < 0.055) & (v > 0.55) & (v < 0.72)] = tone * 0.85
    for side in (-1, 1):
        texture[np.hypot(u - x - side * 0.055, (v - 0.4) * 1.6) < 0.016] = 0.08
    texture[(np.abs(u - x) < 0.05) & (np.abs(v - 0.51) < 0.008)] = tone * 0.5
    return weathered(texture, rng, 0.2)


def screen(rng: np.random.Generator, palette: Palette) -> FloatArray:
    """A computer display: windows, code, a chart."""
    u, v = grid()
    texture = mix(filled(palette.dark(rng)), filled(palette.any(rng)), 0.6 * u + 0.4 * v)
    for _ in range(int(rng.integers(2, 5))):
        x, y = rng.integers(4, 120), rng.integers(4, 120)
        w, h = rng.integers(70, 130), rng.integers(60, 130)
        dark = rng.uniform() < 0.5
        texture[y : y + h, x : x + w] = hsv(0.6, 0.1, 0.12 if dark else 0.95)
        texture[y : y + 9, x : x + w] = palette.accent(rng)
        for row in range(y + 14, min(y + h - 10, 245), 11):
            end = min(int(x + w * rng.uniform(0.3, 0.95)), 255)
            ink = palette.accent(rng) if dark else palette.dark(rng)
            write_line(texture, rng, (row, x + 5, end), 1, ink)
    texture[244:] = palette.dark(rng)
    return texture


def book_spines(rng: np.random.Generator, palette: Palette) -> FloatArray:
    """A row of upright books, seen from the spine side."""
    texture = filled(np.full(3, 0.06, dtype=np.float32))
    column = 0
    while column < TEXTURE_SIZE:
        width = int(rng.integers(7, 24))
        top = int(rng.integers(4, 70))
        color = palette.any(rng) if rng.uniform() < 0.7 else hsv(rng.uniform(), 0.6, 0.6)
        body = texture[top:, column : column + width - 1]
        body[:] = color
        for _ in range(int(rng.integers(0, 4))):
            row = int(rng.integers(5, 170))
            body[row : row + int(rng.integers(3, 30)), 1:-1] = color * 0.5 + 0.4 * rng.uniform()
        column += width
    return texture


def label(rng: np.random.Generator, palette: Palette) -> FloatArray:
    """The wrapping of a box, tin or jar."""
    u, v = grid()
    texture = filled(palette.accent(rng))
    low, high = rng.uniform(0.1, 0.3), rng.uniform(0.6, 0.9)
    texture[(v > low) & (v < high)] = palette.pale(rng)
    texture[np.hypot(u % 0.5 - 0.25, v - (low + high) / 2) < 0.12] = palette.any(rng)
    write_line(texture, rng, (int(low * 256) + 10, 8, 250), 3, palette.dark(rng))
    write_line(texture, rng, (int(high * 256) - 30, 8, 250), 2, palette.dark(rng))
    return texture


def crate(rng: np.random.Generator, palette: Palette) -> FloatArray:
    """The side of a wooden or cardboard case with a stencilled mark."""
    u, v = grid()
    cardboard = rng.uniform() < 0.45
    base = hsv(rng.uniform(0.06, 0.1), rng.uniform(0.3, 0.55), rng.uniform(0.5, 0.8))
    texture = weathered(filled(base), rng, 0.3)
    edge = np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v))
    if cardboard:
        texture[np.abs(u - 0.5) < 0.06] = base * 1.12
    else:
        boards = np.abs((v * 5) % 1 - 0.5)
        texture = mix(texture, texture * 0.4, ramp(boards, 0.45, 0.49))
        frame = (edge < 0.1) | (np.abs(u - v) < 0.06)
        texture[frame] = np.clip(texture[frame] * 1.2, 0, 1)
        texture[(np.abs(edge - 0.1) < 0.008)] *= 0.5
    write_line(texture, rng, (int(rng.integers(120, 180)), 36, 220), 3, palette.dark(rng))
    return texture.clip(0, 1)


PAINTERS = (
    page,
    poster,
    painting,
    portrait,
    screen,
    book_spines,
    label,
    crate,
)
