"""Structural dissimilarity as a loss."""

from __future__ import annotations

from torch import Tensor

from zipsplat.photometric import fused_ssim


def structural_error(drawn: Tensor, true: Tensor) -> Tensor:
    """1 − SSIM, averaged over the views: (B, V, 3, H, W) → (B,)."""
    return 1 - fused_ssim(true, drawn).mean(dim=1)
