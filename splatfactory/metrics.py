"""Image scores as pure functions: PSNR and SSIM.

They take (..., 3, H, W) and return one number per image. LPIPS is
`splatfactory.perceptual_network`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zipsplat.ssim import check_pair, ssim

__all__ = ["psnr", "ssim"]


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
