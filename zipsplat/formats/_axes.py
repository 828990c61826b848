"""Conversion between our axes (x right, y down, z forward) and those of other formats.

SPZ has x right, y up, z back; glTF has x left, y up, z forward. Each differs from ours by half a
turn about x or z, which is its own inverse. Other conventions may also mirror a scene.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from zipsplat.formats import Array, SplatArrays

# The coordinates in which each harmonic is odd, degree 0 to 3.
_ODD = ("", "y", "z", "x", "xy", "yz", "", "xz", "", "y", "xyz", "y", "z", "x", "z", "x")


class Signs(NamedTuple):
    """Factors ±1 of means (3,), of quaternions wxyz (4,), of harmonics (3 S,) as RGB after RGB."""

    means: Array
    quats: Array
    harmonics: Array


def half_turn_about_z(splats: SplatArrays) -> SplatArrays:
    """From our axes to those of glTF, or back."""
    return with_flipped(splats, "xy")


def with_flipped(splats: SplatArrays, axes: str) -> SplatArrays:
    """Flip some of the axes "xyz"; an odd number mirrors the scene."""
    shape = splats.sh_coeffs.shape
    signs = flip_signs(axes, shape[1])
    # One long row per Gaussian, because NumPy is slow on rows of three.
    sh_coeffs = splats.sh_coeffs.reshape(shape[0], 3 * shape[1]) * signs.harmonics
    return replace(
        splats,
        means=splats.means * signs.means,
        quats=splats.quats * signs.quats,
        sh_coeffs=sh_coeffs.reshape(shape),
    )


def flip_signs(axes: str, num_coeffs: int) -> Signs:
    """Factors that flip some of the axes "xyz" of a scene with S harmonics.

    The mirrored ellipsoid M Σ M has the rotation M R M, whose axis is M times the old one and whose
    angle has the sign of det M.
    """
    means = _signs(("x", "y", "z"), axes)
    quats = np.concatenate((np.ones(1, np.float32), means * means.prod()))
    return Signs(means, quats, np.repeat(_signs(_ODD[:num_coeffs], axes), 3))


def _signs(odd: tuple[str, ...], flipped: str) -> Array:
    """-1 for harmonics that are odd in an odd number of the flipped coordinates, else 1."""
    counts = [sum(variable in flipped for variable in variables) for variables in odd]
    return np.array([1 - 2 * (count % 2) for count in counts], np.float32)
