"""Shared by the texture painters: texel grid, mixing, weathering."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from splatscenes.noise import fractal
from splatscenes.palette import Color, Palette

TEXTURE_SIZE = 256  # texels; a power of two, for mip levels and for wrapping by a mask
FloatArray = npt.NDArray[np.float32]
Painter = Callable[[np.random.Generator, Palette], FloatArray]


@lru_cache(maxsize=1)
def grid() -> tuple[FloatArray, FloatArray]:
    """Texel centres: u to the right and v downwards, each (S, S) in (0, 1)."""
    line = ((np.arange(TEXTURE_SIZE) + 0.5) / TEXTURE_SIZE).astype(np.float32)
    u, v = np.meshgrid(line, line)
    u.setflags(write=False)
    v.setflags(write=False)
    return u, v


def filled(color: Color) -> FloatArray:
    """A uniform texture (S, S, 3)."""
    return np.broadcast_to(color, (TEXTURE_SIZE, TEXTURE_SIZE, 3)).astype(np.float32)


def toned(color: Color, factor: FloatArray) -> FloatArray:
    """Multiply a colour by a map (S, S), clamped to [0, 1]."""
    return np.asarray(np.clip(color * factor[..., None], 0, 1), dtype=np.float32)


def mix(first: FloatArray, second: FloatArray, amount: FloatArray) -> FloatArray:
    """Blend two colours or textures with a map (S, S) in [0, 1]."""
    weight = np.clip(amount, 0, 1)[..., None]
    return np.asarray(first * (1 - weight) + second * weight, dtype=np.float32)


def paint(texture: FloatArray, mask: npt.NDArray[np.bool_], color: Color) -> None:
    """Set the masked texels, in place."""
    texture[mask] = color


def ramp(values: FloatArray, low: float, high: float) -> FloatArray:
    """Smoothstep from 0 at `low` to 1 at `high`."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def per_cell(labels: FloatArray, rng: np.random.Generator, count: int) -> FloatArray:
    """One random number in [0, 1) per cell of a map of labels in [0, count)."""
    table = rng.uniform(0, 1, count).astype(np.float32)
    return np.asarray(table[labels.astype(np.int64) % count])


@lru_cache(maxsize=16)
def _dirt(number: int) -> FloatArray:
    """Zero-mean grain and stains; 16 variants are cached and shifted for each use."""
    rng = np.random.default_rng(number)
    grain = fractal(TEXTURE_SIZE, (32, 32), 3, rng) - 0.5
    stains = fractal(TEXTURE_SIZE, (3, 3), 4, rng) - 0.5
    return np.asarray(0.8 * grain + 0.9 * stains, dtype=np.float32)


def weathered(texture: FloatArray, rng: np.random.Generator, strength: float) -> FloatArray:
    """Add fine grain and large stains; `strength` 0 changes nothing."""
    dirt = _dirt(int(rng.integers(16)))
    shift = (int(rng.integers(TEXTURE_SIZE)), int(rng.integers(TEXTURE_SIZE)))
    factor = 1 + strength * np.roll(dirt if rng.uniform() < 0.5 else dirt.T, shift, (0, 1))
    return np.asarray(np.clip(texture * factor[..., None], 0, 1), dtype=np.float32)
