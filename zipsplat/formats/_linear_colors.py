"""Harmonics of linear colours as those of sRGB, which is what everything here draws.

Source of the curve: IEC 61966-2-1.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from zipsplat.formats import SplatArrays
from zipsplat.harmonics import basis, spread_directions
from zipsplat.sh_constants import degree_of

REMARK = "converted linear colours to sRGB, as well as harmonics of the same degree can show them"
_KNEE = 0.0031308
_NUM_DIRECTIONS = 64
_ROWS = 1 << 14  # at a time, to bound the memory


def to_srgb(splats: SplatArrays) -> SplatArrays:
    """The harmonics that come nearest, over all directions, to the sRGB levels of the colours."""
    num = splats.sh_coeffs.shape[1]
    values = basis(spread_directions(_NUM_DIRECTIONS), degree_of(num)).numpy()
    inverse = np.linalg.pinv(values)
    converted = np.empty_like(splats.sh_coeffs)
    for first in range(0, len(converted), _ROWS):
        rows = slice(first, first + _ROWS)
        linear = values @ splats.sh_coeffs[rows].astype(np.float64) + 0.5
        converted[rows] = inverse @ (_encoded(linear) - 0.5)
    return replace(splats, sh_coeffs=converted).remarked(REMARK)


def _encoded(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """SRGB levels; what is darker than black is drawn as black."""
    curved = 1.055 * np.maximum(linear, _KNEE) ** (1 / 2.4) - 0.055
    return np.where(linear <= _KNEE, 12.92 * np.maximum(linear, 0), curved)
