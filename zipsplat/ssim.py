"""Structural similarity of images: the one definition, for scores, losses and kernels.

Source: Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity",
2004; conventions of `skimage.metrics.structural_similarity` for Gaussian weights.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

SIGMA = 1.5
RADIUS = 5
WINDOW = 2 * RADIUS + 1
C1 = 0.01**2
C2 = 0.03**2
UNBIAS = WINDOW**2 / (WINDOW**2 - 1)  # sample covariance


def window_weights() -> list[float]:
    """Weights of the 11 pixels of a window along one axis; they sum to 1."""
    weights = [math.exp(-0.5 * (i / SIGMA) ** 2) for i in range(-RADIUS, RADIUS + 1)]
    return [weight / sum(weights) for weight in weights]


def ssim(truth: Tensor, image: Tensor) -> Tensor:
    """Structural similarity, as scikit-image computes it with Gaussian weights.

    An 11 × 11 window with σ = 1.5, sample covariance (×121/120), data range 1, a border of five
    pixels left out, channels averaged. Nothing is clipped. It is differentiable, and computed in
    the precision of its inputs: pass float64 where the last digits matter.

    Args:
        truth: (..., C, H, W), sides of at least 11 pixels.
        image: (..., C, H, W).

    Returns:
        (...), 1 for equal images.

    Raises:
        ValueError: if the shapes differ or the images are too small.
    """
    check_pair(truth, image)
    check_sides(image)
    batch_shape = truth.shape[:-3]
    x = truth.reshape(-1, 1, *truth.shape[-2:])
    y = image.reshape(-1, 1, *image.shape[-2:])
    mean_x, mean_y, xx, yy, xy = _window_means(torch.cat([x, y, x * x, y * y, x * y], dim=1))
    var_x = UNBIAS * (xx - mean_x * mean_x)
    var_y = UNBIAS * (yy - mean_y * mean_y)
    cov = UNBIAS * (xy - mean_x * mean_y)
    numerator = (2 * mean_x * mean_y + C1) * (2 * cov + C2)
    denominator = (mean_x.square() + mean_y.square() + C1) * (var_x + var_y + C2)
    return (numerator / denominator).reshape(*batch_shape, -1).mean(dim=-1)


def check_pair(truth: Tensor, image: Tensor) -> None:
    """Reject images that cannot be compared.

    Raises:
        ValueError: if the shapes differ or are not (..., C, H, W).
    """
    if truth.shape != image.shape or truth.ndim < 3:
        raise ValueError(
            "images (..., C, H, W) of equal shape are compared, "
            f"got {tuple(truth.shape)} and {tuple(image.shape)}"
        )


def check_sides(image: Tensor) -> None:
    """Reject images (..., H, W) that are smaller than a window.

    Raises:
        ValueError: if a side has fewer than 11 pixels.
    """
    if min(image.shape[-2:]) < WINDOW:
        raise ValueError(
            f"SSIM needs sides of at least {WINDOW} pixels, got {tuple(image.shape[-2:])}"
        )


def _window_means(maps: Tensor) -> tuple[Tensor, ...]:
    """Gaussian-weighted means of each of the channels of (P, 5, H, W), borders left out."""
    offsets = torch.arange(-RADIUS, RADIUS + 1, device=maps.device, dtype=maps.dtype)
    kernel = torch.exp(-0.5 * (offsets / SIGMA).square())
    kernel = (kernel / kernel.sum()).expand(maps.shape[1], 1, 1, -1)
    rows = functional.conv2d(maps, kernel, groups=maps.shape[1])
    return functional.conv2d(rows, kernel.transpose(-1, -2), groups=maps.shape[1]).unbind(dim=1)
