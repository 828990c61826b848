"""Smaller scenes: leaving out what is hardly seen."""

from __future__ import annotations

import torch
from torch import Tensor

from zipsplat.gaussians import Gaussians


def importance(g: Gaussians) -> Tensor:
    """How much each Gaussian of a scene can show: opacity times its largest silhouette.

    The silhouette of an ellipsoid is largest when seen along its shortest axis; its area grows
    with the product of the two longer axes.

    Args:
        g: one scene (N,).

    Returns:
        (N,) numbers, larger is more important.
    """
    longest = g.scales.topk(2, dim=-1).values
    return g.opacities * longest.prod(dim=-1)


def prune_opacity(g: Gaussians, least: float) -> Gaussians:
    """Leave out Gaussians of one scene whose opacity is below a limit in [0, 1]."""
    if not 0 <= least <= 1:
        raise ValueError(f"an opacity is in [0, 1], got {least}")
    return g.select(g.opacities >= least)


def keep_most_important(g: Gaussians, most: int) -> Gaussians:
    """Keep at most so many Gaussians of one scene, the most important ones, in their order."""
    if most < 1:
        raise ValueError(f"at least one Gaussian must stay, got {most}")
    if g.num_gaussians <= most:
        return g
    kept = importance(g).topk(most).indices
    return g.select(torch.sort(kept).values)
