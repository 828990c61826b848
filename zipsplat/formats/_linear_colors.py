"""Conversion of harmonics of linear colours to sRGB, which is what all renderers expect.

Source of the curve: IEC 61966-2-1.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from zipsplat.formats import SplatArrays
from zipsplat.harmonics import basis, spread_directions
from zipsplat.sh_constants import degree_of

REMARK = "converted linear colours to sRGB, approximately, with harmonics of the same degree"
_KNEE = 0.0031308
_NUM_DIRECTIONS = 64
_ROWS = 1 << 14  # at a time, to bound the memory


def to_srgb(splats: SplatArrays) -> SplatArrays:
    """Fit harmonics to the sRGB values of the colours over all directions, by least squares."""
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
    """sRGB values; negative colours become black."""
    curved = 1.055 * np.maximum(linear, _KNEE) ** (1 / 2.4) - 0.055
    return np.where(linear <= _KNEE, 12.92 * np.maximum(linear, 0), curved)
