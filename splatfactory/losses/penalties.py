"""Keep Gaussians from growing, fading or flying away."""

from __future__ import annotations

import torch
from torch import Tensor


def scale_penalty(scales: Tensor, smallest: float, largest: float) -> Tensor:
    """Mean relu(s − largest)² + mean relu(smallest − s)²: (B, N, 3) → (B,)."""
    over = torch.relu(scales - largest).square().flatten(1).mean(dim=1)
    under = torch.relu(smallest - scales).square().flatten(1).mean(dim=1)
    return over + under


def opacity_penalty(opacities: Tensor, threshold: float) -> Tensor:
    """Mean relu(threshold − o)²: (B, N) → (B,)."""
    return torch.relu(threshold - opacities).square().mean(dim=1)


def location_penalty(means: Tensor, reach: float) -> Tensor:
    """Mean relu(|μ| − reach)² over coordinates: (B, N, 3) → (B,)."""
    return torch.relu(means.abs() - reach).square().flatten(1).mean(dim=1)
