"""Image and pose scores as pure functions: PSNR, SSIM, rotation and position errors.

All image scores take (..., 3, H, W) and return one number per image. LPIPS is
`splatfactory.perceptual_network`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zipsplat.ssim import check_pair, ssim

__all__ = ["position_error", "psnr", "rotation_error_deg", "ssim"]


def psnr(truth: Tensor, image: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in decibels; both are clipped to [0, 1] first.

    Args:
        truth: (..., C, H, W).
        image: (..., C, H, W).

    Returns:
        (...), infinite for equal images.
    """
    check_pair(truth, image)
    error = (truth.clamp(0, 1) - image.clamp(0, 1)).square().mean(dim=(-3, -2, -1))
    return -10 * torch.log10(error)


def rotation_error_deg(true: Tensor, estimated: Tensor) -> Tensor:
    """Angle of the rotation between two rotation matrices, in degrees.

    Uses the chord |R₁ − R₂| = 2√2·sin(θ/2), which stays exact for tiny angles.

    Args:
        true: (..., 3, 3).
        estimated: (..., 3, 3).
    """
    chord: Tensor = torch.linalg.matrix_norm(true - estimated) / 8**0.5
    return torch.rad2deg(2 * torch.asin(chord.clamp(max=1)))


def position_error(true: Tensor, estimated: Tensor) -> Tensor:
    """Distance of two camera centres (..., 3), in world units."""
    distance: Tensor = torch.linalg.vector_norm(true - estimated, dim=-1)
    return distance
