"""Transform Gaussians by a 4×4 matrix, as glTF nodes do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from zipsplat import harmonics
from zipsplat.formats import SplatArrays
from zipsplat.formats._axes import with_flipped
from zipsplat.formats._quaternions import unit
from zipsplat.rotations import matrix_from_quat, multiply_quats, quat_from_matrix

Floats = NDArray[np.float64]

_TOLERANCE = 1e-5  # relative; the error of a rotation in single precision
STRETCHED = "applied a node that stretches; the harmonics follow only its rotation"


def moved(splats: SplatArrays, matrix: Floats) -> SplatArrays:
    """Transform Gaussians by `matrix` (4, 4).

    Rotations, reflections and uniform scales are exact. A non-uniform scale is applied to the
    ellipsoids by the eigenvectors of M Σ Mᵀ, and its nearest rotation to the harmonics.

    Raises:
        ValueError: if the matrix is not finite, or flattens the scene.
    """
    if not np.isfinite(matrix).all() or not abs(np.linalg.det(matrix[:3, :3])) > 1e-30:
        raise ValueError("a node of this .glb has a transform that flattens its splats")
    linear, offset = matrix[:3, :3], matrix[:3, 3]
    if np.linalg.det(linear) < 0:
        splats = with_flipped(splats, "x")
        linear = linear @ np.diag([-1.0, 1, 1])
    left, factors, right = np.linalg.svd(linear)
    rotation = left @ right
    means = splats.means.astype(np.float64) @ linear.T + offset
    if factors.max() - factors.min() <= _TOLERANCE * factors.max():
        turned = _turned(splats, rotation)
        scales = splats.scales * np.float32(factors.mean())
    else:
        quats, scales = _stretched(splats, linear)
        turned = replace(_turned(splats, rotation), quats=quats).remarked(STRETCHED)
    return replace(turned, means=means.astype(np.float32), scales=scales)


def _turned(splats: SplatArrays, rotation: Floats) -> SplatArrays:
    """Rotate quaternions and harmonics."""
    matrix = torch.from_numpy(rotation)
    quats = multiply_quats(quat_from_matrix(matrix).expand(len(splats.quats), 4), _quats(splats))
    sh_coeffs = harmonics.rotate(torch.from_numpy(splats.sh_coeffs), matrix)
    return replace(splats, quats=quats.numpy().astype(np.float32), sh_coeffs=sh_coeffs.numpy())


def _quats(splats: SplatArrays) -> torch.Tensor:
    return torch.from_numpy(unit(splats.quats))


def _stretched(
    splats: SplatArrays, linear: Floats
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Quaternions and scales of the transformed ellipsoids."""
    axes = linear @ (matrix_from_quat(_quats(splats)).numpy() * splats.scales[:, None, :])
    is_finite = np.asarray(np.isfinite(axes).all(axis=(1, 2)), bool)
    left, scales, _ = np.linalg.svd(np.where(is_finite[:, None, None], axes, 0))
    scales[~is_finite] = np.nan  # such Gaussians are left out later
    left[np.linalg.det(left) < 0, :, 2] *= -1
    quats = quat_from_matrix(torch.from_numpy(left)).numpy()
    return quats.astype(np.float32), scales.astype(np.float32)
