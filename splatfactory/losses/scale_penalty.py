"""Keeps Gaussians from growing or shrinking without bounds."""

from __future__ import annotations

import torch
from torch import Tensor

from splatfactory.protocols import LossKind, Supervision
from splatfactory.schema import HeadConfig


class ScalePenalty:
    """Mean relu(s − max_scale)² + mean relu(min_scale − s)² over Gaussians and axes.

    Args:
        config: holds `max_scale` and `min_scale`.
    """

    def __init__(self, config: HeadConfig) -> None:
        self.smallest, self.largest = config.min_scale, config.max_scale

    def __call__(self, supervision: Supervision) -> Tensor:
        """One number per scene, (B,)."""
        scales = supervision.gaussians.scales
        over = torch.relu(scales - self.largest).square().flatten(1).mean(dim=1)
        under = torch.relu(self.smallest - scales).square().flatten(1).mean(dim=1)
        return over + under


PLUGIN = LossKind(HeadConfig, ScalePenalty)
