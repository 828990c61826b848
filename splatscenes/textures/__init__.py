"""Procedural textures: painted from a seed, with mip maps.

Every painter takes a random generator and a palette and returns a seamless (S, S, 3) texture,
sRGB in [0, 1] (prints cover a face once and need not tile).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from splatscenes._compile import kernel
from splatscenes.palette import Palette
from splatscenes.textures import outdoors, prints, surfaces, tilings
from splatscenes.textures._painting import TEXTURE_SIZE, FloatArray, Painter

NUM_LEVELS = 9  # from 256 texels down to a single one
LEVEL_SIZES = tuple(TEXTURE_SIZE >> level for level in range(NUM_LEVELS))
TEXELS = sum(size * size for size in LEVEL_SIZES)

_MODULES = (surfaces, tilings, prints, outdoors)
PAINTERS: dict[str, Painter] = {
    painter.__name__: painter for module in _MODULES for painter in module.PAINTERS
}


def paint_texture(name: str, rng: np.random.Generator, palette: Palette) -> FloatArray:
    """Paint one texture (S, S, 3), sRGB in [0, 1]; ValueError for an unknown painter."""
    if name not in PAINTERS:
        raise ValueError(f"no texture {name!r}; known: {', '.join(sorted(PAINTERS))}")
    return np.clip(PAINTERS[name](rng, palette), 0, 1)


@kernel
def _fill_mips(light: FloatArray, out: npt.NDArray[np.uint8]) -> None:
    size = light.shape[0]
    start = 0
    while size > 0:
        for row in range(size):
            for column in range(size):
                for channel in range(3):
                    value = math.sqrt(light[row, column, channel])
                    out[start + row * size + column, channel] = np.uint8(value * 255 + 0.5)
        start += size * size
        size //= 2
        for row in range(size):
            for column in range(size):
                for channel in range(3):
                    upper = light[2 * row, 2 * column, channel]
                    upper += light[2 * row, 2 * column + 1, channel]
                    lower = light[2 * row + 1, 2 * column, channel]
                    lower += light[2 * row + 1, 2 * column + 1, channel]
                    light[row, column, channel] = 0.25 * (upper + lower)


def mip_chain(texture: FloatArray) -> npt.NDArray[np.uint8]:
    """All mip levels of a texture (S, S, 3) in one array (TEXELS, 3), finest first.

    Levels average squared values, i.e. linear light (gamma 2).
    """
    out = np.empty((TEXELS, 3), dtype=np.uint8)
    _fill_mips(np.square(texture, dtype=np.float32), out)
    return out
