"""Keeps Gaussians from drifting far away."""

from __future__ import annotations

import torch
from torch import Tensor

from splatfactory.protocols import LossKind, Supervision
from splatfactory.schema import HeadConfig


class LocationPenalty:
    """Mean relu(|μ| − location_penalty_range)² over Gaussians and coordinates.

    Args:
        config: holds `location_penalty_range`.
    """

    def __init__(self, config: HeadConfig) -> None:
        self.reach = config.location_penalty_range

    def __call__(self, supervision: Supervision) -> Tensor:
        """One number per scene, (B,)."""
        means = supervision.gaussians.means
        return torch.relu(means.abs() - self.reach).square().flatten(1).mean(dim=1)


PLUGIN = LossKind(HeadConfig, LocationPenalty)
