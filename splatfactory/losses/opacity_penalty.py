"""Keeps Gaussians from fading out, where they would get no gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from splatfactory.protocols import LossKind, Supervision
from splatfactory.schema import HeadConfig


class OpacityPenalty:
    """Mean relu(opacity_penalty_threshold − o)² over the Gaussians.

    Args:
        config: holds `opacity_penalty_threshold`.
    """

    def __init__(self, config: HeadConfig) -> None:
        self.threshold = config.opacity_penalty_threshold

    def __call__(self, supervision: Supervision) -> Tensor:
        """One number per scene, (B,)."""
        opacities = supervision.gaussians.opacities
        return torch.relu(self.threshold - opacities).square().mean(dim=1)


PLUGIN = LossKind(HeadConfig, OpacityPenalty)
