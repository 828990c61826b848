"""Structural dissimilarity as a loss."""

from __future__ import annotations

from torch import Tensor

from splatfactory.protocols import LossKind, Supervision
from splatfactory.schema import HeadConfig
from zipsplat.photometric import fused_ssim


def structural_loss(supervision: Supervision) -> Tensor:
    """1 − SSIM, averaged over the views, (B,)."""
    return 1 - fused_ssim(supervision.views.rgb, supervision.rendered.color).mean(dim=1)


PLUGIN = LossKind(HeadConfig, lambda _: structural_loss)
