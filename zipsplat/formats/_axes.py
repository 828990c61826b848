"""Between our axes (x right, y down, z forward) and the y-up axes of other formats.

SPZ has x right, y up, z back; glTF has x left, y up, z forward. Each is half a turn of ours, about
x or about z, and its own inverse.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from zipsplat.formats import Array, SplatArrays

# The variables in which each harmonic is odd, degree 0 to 3.
_ODD = ("", "y", "z", "x", "xy", "yz", "", "xz", "", "y", "xyz", "y", "z", "x", "z", "x")


def half_turn_about_x(splats: SplatArrays) -> SplatArrays:
    """From our axes to those of SPZ, or back."""
    return _half_turn(splats, flipped="yz")


def half_turn_about_z(splats: SplatArrays) -> SplatArrays:
    """From our axes to those of glTF, or back."""
    return _half_turn(splats, flipped="xy")


def _half_turn(splats: SplatArrays, flipped: str) -> SplatArrays:
    axes = _signs(("x", "y", "z"), flipped)
    harmonics = _signs(_ODD[: splats.sh_coeffs.shape[1]], flipped)
    return replace(
        splats,
        means=splats.means * axes,
        quats=splats.quats * np.concatenate((np.ones(1, np.float32), axes)),
        sh_coeffs=splats.sh_coeffs * harmonics[:, None],
    )


def _signs(odd: tuple[str, ...], flipped: str) -> Array:
    """-1 for what is odd in an odd number of the flipped variables, else 1."""
    counts = [sum(variable in flipped for variable in variables) for variables in odd]
    return np.array([1 - 2 * (count % 2) for count in counts], np.float32)
