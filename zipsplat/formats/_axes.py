"""Between our axes (x right, y down, z forward) and y-up axes (x right, y up, z back).

SPZ ("RUB") and glTF hold scenes with y up. The two frames differ by half a turn about x, so
positions lose the sign of y and z, quaternions that of their y and z parts, and each harmonic is
even or odd in (y, z). The turn is its own inverse: one function serves both directions.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from zipsplat.formats import SplatArrays

_POSITION = np.array([1, -1, -1], np.float32)
_QUAT = np.array([1, 1, -1, -1], np.float32)  # wxyz
# Parity of the harmonics 0..15 under (x, y, z) -> (x, -y, -z).
_HARMONICS = np.array([1, -1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1], np.float32)


def flip_y_and_z(splats: SplatArrays) -> SplatArrays:
    """The scene in the other of the two frames."""
    signs = _HARMONICS[: splats.sh_coeffs.shape[1], None]
    return replace(
        splats,
        means=splats.means * _POSITION,
        quats=splats.quats * _QUAT,
        sh_coeffs=splats.sh_coeffs * signs,
    )
