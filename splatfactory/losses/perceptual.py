"""LPIPS as a loss."""

from __future__ import annotations

from torch import Tensor

from splatfactory.perceptual_network import PerceptualNetwork


def perceptual_error(network: PerceptualNetwork, drawn: Tensor, true: Tensor) -> Tensor:
    """LPIPS of the clipped pictures, averaged over the views: (B, V, 3, H, W) → (B,)."""
    B, V = drawn.shape[:2]
    values: Tensor = network(true.flatten(0, 1).clamp(0, 1), drawn.flatten(0, 1).clamp(0, 1))
    return values.view(B, V).mean(dim=1)
