"""Picture and pose scores as pure functions: PSNR, SSIM, rotation and position errors.

All picture scores take (..., 3, H, W) and return one number per picture. LPIPS is
`splatfactory.perceptual_network`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SSIM_SIGMA = 1.5
SSIM_RADIUS = 5
SSIM_C1 = 0.01**2
SSIM_C2 = 0.03**2


def psnr(truth: Tensor, image: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in decibels; both are clipped to [0, 1] first.

    Args:
        truth: (..., C, H, W).
        image: (..., C, H, W).

    Returns:
        (...), infinite for equal pictures.
    """
    _check_pair(truth, image)
    error = (truth.clamp(0, 1) - image.clamp(0, 1)).square().mean(dim=(-3, -2, -1))
    return -10 * torch.log10(error)


def ssim(truth: Tensor, image: Tensor) -> Tensor:
    """Structural similarity, the number scikit-image gives for Gaussian weights.

    An 11 × 11 window with σ = 1.5, sample covariance (×121/120), data range 1, a border of five
    pixels left out, channels averaged. Nothing is clipped. It is differentiable, and computed in
    the precision of its inputs: hand in float64 where the last digits matter.

    Source: Wang et al., "Image Quality Assessment: From Error Visibility to Structural
    Similarity", 2004; conventions of `skimage.metrics.structural_similarity`.

    Args:
        truth: (..., C, H, W), sides of at least 11 pixels.
        image: (..., C, H, W).

    Returns:
        (...), 1 for equal pictures.
    """
    _check_pair(truth, image)
    if min(truth.shape[-2:]) < 2 * SSIM_RADIUS + 1:
        raise ValueError(f"SSIM needs sides of at least 11 pixels, got {tuple(truth.shape[-2:])}")
    batch_shape = truth.shape[:-3]
    x = truth.reshape(-1, 1, *truth.shape[-2:])
    y = image.reshape(-1, 1, *image.shape[-2:])
    mean_x, mean_y, xx, yy, xy = _window_means(torch.cat([x, y, x * x, y * y, x * y], dim=1))
    sample = (2 * SSIM_RADIUS + 1) ** 2
    unbias = sample / (sample - 1)
    var_x = unbias * (xx - mean_x * mean_x)
    var_y = unbias * (yy - mean_y * mean_y)
    cov = unbias * (xy - mean_x * mean_y)
    numerator = (2 * mean_x * mean_y + SSIM_C1) * (2 * cov + SSIM_C2)
    denominator = (mean_x.square() + mean_y.square() + SSIM_C1) * (var_x + var_y + SSIM_C2)
    return (numerator / denominator).reshape(*batch_shape, -1).mean(dim=-1)


def _window_means(maps: Tensor) -> tuple[Tensor, ...]:
    """Gaussian-weighted means of each of the channels of (P, 5, H, W), borders left out."""
    offsets = torch.arange(-SSIM_RADIUS, SSIM_RADIUS + 1, device=maps.device, dtype=maps.dtype)
    kernel = torch.exp(-0.5 * (offsets / SSIM_SIGMA).square())
    kernel = (kernel / kernel.sum()).expand(maps.shape[1], 1, 1, -1)
    rows = functional.conv2d(maps, kernel, groups=maps.shape[1])
    return functional.conv2d(rows, kernel.transpose(-1, -2), groups=maps.shape[1]).unbind(dim=1)


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


def _check_pair(truth: Tensor, image: Tensor) -> None:
    if truth.shape != image.shape or truth.ndim < 3:
        raise ValueError(
            "pictures (..., C, H, W) of equal shape are compared, "
            f"got {tuple(truth.shape)} and {tuple(image.shape)}"
        )
