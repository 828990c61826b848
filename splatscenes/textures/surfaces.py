"""Continuous materials: plaster, timber, marble, metal, cloth, hide."""

from __future__ import annotations

import numpy as np

from splatscenes.noise import cells, fractal
from splatscenes.palette import Palette, hsv, stone, wood
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


def plaster(rng: np.random.Generator, palette: Palette) -> FloatArray:
    """Painted or bare plaster, sometimes with a dado or peeling paint."""
    texture = filled(palette.pale(rng))
    if rng.uniform() < 0.35:
        patches = ramp(fractal(TEXTURE_SIZE, (4, 4), 5, rng), 0.55, 0.6)
        texture = mix(texture, filled(palette.neutral(rng)), patches * rng.uniform(0.3, 1.0))
    return weathered(texture, rng, rng.uniform(0.12, 0.4))


def concrete(rng: np.random.Generator, palette: Palette) -> FloatArray:
    """Cast concrete with formwork lines, pores and stains."""
    u, v = grid()
    texture = weathered(filled(palette.neutral(rng)), rng, rng.uniform(0.35, 0.7))
    panels = int(rng.integers(1, 4))
    seam = np.minimum(np.abs((u * panels) % 1 - 0.5), np.abs((v * panels) % 1 - 0.5))
    texture = mix(texture, texture * 0.55, 1 - ramp(seam, 0.006, 0.02))
    nearest, _, label = cells(TEXTURE_SIZE, 14, rng)
    pores = (1 - ramp(nearest, 0.004, 0.012)) * (per_cell(label, rng, 196) > 0.6)
    return mix(texture, texture * 0.5, pores)


def timber(rng: np.random.Generator, palette: Palette) -> FloatArray:  # noqa: ARG001 (one signature for all painters)
    """A board with grain along v and a few knots."""
    u, _ = grid()
    base = wood(rng)
    bend = fractal(TEXTURE_SIZE, (3, 1), 3, rng)
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * (u * rng.integers(4, 12) + 2.5 * bend))
    fibre = fractal(TEXTURE_SIZE, (48, 3), 3, rng)
    texture = mix(filled(base), filled(base * rng.uniform(0.45, 0.75)), 0.55 * rings + 0.6 * fibre)
    nearest, _, label = cells(TEXTURE_SIZE, 3, rng)
    knots = (1 - ramp(nearest, 0.0, 0.035)) * (per_cell(label, rng, 9) > 0.65)
    return mix(texture, filled(base * 0.3), knots)


def marble(rng: np.random.Generator, palette: Palette) -> FloatArray:
    """Veined stone."""
    turbulence = fractal(TEXTURE_SIZE, (3, 3), 6, rng, 0.6)
    veins = np.abs(np.sin(2 * np.pi * (rng.integers(2, 5) * turbulence + grid()[0])))
    body = palette.pale(rng) if rng.uniform() < 0.8 else palette.dark(rng)
    vein = palette.dark(rng) if body.mean() > 0.5 else palette.pale(rng)
    texture = mix(filled(vein), filled(body), ramp(veins, 0.0, rng.uniform(0.2, 0.6)))
    return weathered(texture, rng, 0.2)


def metal(rng: np.random.Generator, palette: Palette) -> FloatArray:
    """Brushed, painted or rusty sheet metal with rivets."""
    u, v = grid()
    body = palette.any(rng) if rng.uniform() < 0.5 else hsv(0.6, 0.05, rng.uniform(0.35, 0.8))
    texture = toned(body, 0.85 + 0.3 * fractal(TEXTURE_SIZE, (2, 64), 3, rng))
    if rng.uniform() < 0.5:
        rust = ramp(fractal(TEXTURE_SIZE, (4, 4), 5, rng), 0.52, 0.66) * rng.uniform(0.4, 1)
        texture = mix(texture, weathered(filled(hsv(0.05, 0.7, 0.42)), rng, 0.9), rust)
    n = int(rng.integers(2, 5))
    rivet = np.hypot((u * n) % 1 - 0.1, (v * n) % 1 - 0.1)
    seam = np.minimum((u * n) % 1, (v * n) % 1)
    texture = mix(texture, texture * 0.5, 1 - ramp(seam, 0.015, 0.04))
    return mix(texture, texture * 1.35, 1 - ramp(rivet, 0.03, 0.06)).clip(0, 1)


def corrugated(rng: np.random.Generator, palette: Palette) -> FloatArray:
    """Ribbed sheet, as on containers and sheds."""
    u, _ = grid()
    ribs = 0.5 + 0.5 * np.sin(2 * np.pi * u * rng.integers(6, 14))
    texture = toned(palette.accent(rng), 0.55 + 0.45 * ribs)
    return weathered(texture, rng, rng.uniform(0.2, 0.7))


def woven(rng: np.random.Generator, palette: Palette) -> FloatArray:
    """Cloth: a visible weave over one or two colours."""
    u, v = grid()
    n = int(rng.integers(12, 28))
    over = ((np.floor(u * n * 2) + np.floor(v * n * 2)) % 2).astype(np.float32)
    thread = np.abs(np.sin(np.pi * n * 2 * np.where(over > 0, u, v)))
    texture = mix(filled(palette.any(rng)), filled(palette.any(rng)), over * rng.uniform(0.2, 0.8))
    return weathered(np.asarray(texture * (0.7 + 0.3 * thread)[..., None]), rng, 0.25)


def plaid(rng: np.random.Generator, palette: Palette) -> FloatArray:
    """Tartan of crossing bands."""
    u, v = grid()
    texture = filled(palette.any(rng))
    for _ in range(int(rng.integers(3, 7))):
        start, width = rng.uniform(0, 1), rng.uniform(0.02, 0.2)
        color, strength = filled(palette.any(rng)), rng.uniform(0.3, 0.7)
        for axis in (u, v):
            texture = mix(texture, color, strength * (((axis - start) % 1) < width))
    return weathered(texture, rng, 0.15)


def hide(rng: np.random.Generator, palette: Palette) -> FloatArray:
    """Soft-edged patches: camouflage, cow, zebra."""
    field = fractal(TEXTURE_SIZE, (int(rng.integers(2, 6)), int(rng.integers(2, 9))), 3, rng)
    if rng.uniform() < 0.4:
        field = 0.5 + 0.5 * np.sin(2 * np.pi * field * rng.integers(4, 8))
    texture = mix(filled(palette.pale(rng)), filled(palette.dark(rng)), ramp(field, 0.46, 0.52))
    third = ramp(fractal(TEXTURE_SIZE, (4, 4), 4, rng), 0.55, 0.6) * rng.integers(0, 2)
    return weathered(mix(texture, filled(palette.any(rng)), third), rng, 0.2)


def terrazzo(rng: np.random.Generator, palette: Palette) -> FloatArray:
    """Stone chips in cement."""
    nearest, border, label = cells(TEXTURE_SIZE, int(rng.integers(6, 16)), rng)
    shade = per_cell(label, rng, 256)
    texture = filled(palette.pale(rng))
    for low in (0.0, 0.3, 0.6):
        chip = (shade > low) & (shade < low + 0.25) & (border > 0.02) & (nearest < 0.05)
        texture[chip] = palette.any(rng)
    return weathered(texture, rng, 0.2)


def asphalt(rng: np.random.Generator, palette: Palette) -> FloatArray:  # noqa: ARG001 (one signature for all painters)
    """Road surface with cracks and patches."""
    texture = filled(hsv(rng.uniform(0, 1), 0.05, rng.uniform(0.22, 0.5)))
    texture = weathered(texture, rng, 0.6)
    crack = np.abs(fractal(TEXTURE_SIZE, (3, 3), 5, rng) - 0.5)
    texture = mix(texture, texture * 0.4, 0.8 * (1 - ramp(crack, 0.002, 0.01)))
    nearest, _, label = cells(TEXTURE_SIZE, 28, rng)
    stones = (nearest < 0.012) & (per_cell(label, rng, 784) > 0.5)
    return mix(texture, filled(stone(rng)), 0.5 * stones)


PAINTERS = (
    plaster,
    concrete,
    timber,
    marble,
    metal,
    corrugated,
    woven,
    plaid,
    hide,
    terrazzo,
    asphalt,
)
