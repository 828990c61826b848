"""Additional losses for few photos."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from zipsplat.render import Rendered

_EDGE_SHARPNESS = 10.0


def inverse_depth(rendered: Rendered) -> Tensor:
    """Inverse expected depth (H, W), 0 where no Gaussian is visible; per world unit.

    Args:
        rendered: one view with accumulated depth.
    """
    assert rendered.depth is not None, "the renderer left out the depth"
    return rendered.alpha[0, 0] / rendered.depth[0, 0].clamp_min(1e-6)


def roughness(inverse: Tensor, image: Tensor, unit: float, mask: Tensor | None = None) -> Tensor:
    """Edge-aware smoothness: mean change of inverse depth between neighbouring pixels.

    Pixels at edges of the photo count less, with the weights of Godard et al., "Unsupervised
    Monocular Depth Estimation with Left-Right Consistency", 2017.

    Args:
        inverse: (H, W) inverse depth.
        image: (3, H, W) the photo.
        unit: a typical depth, which makes the loss independent of the scale of the scene.
        mask: (H, W) bool; pairs with a masked pixel have no weight.
    """
    total = inverse.new_zeros(())
    for dim in (0, 1):
        edge = image.diff(dim=dim + 1).abs().mean(dim=0)
        weight = (-_EDGE_SHARPNESS * edge).exp()
        if mask is not None:
            size = mask.shape[dim] - 1
            weight = weight * (mask.narrow(dim, 0, size) & mask.narrow(dim, 1, size))
        total = total + (inverse.diff(dim=dim).abs() * weight).mean()
    return unit * total


def depth_error(inverse: Tensor, target: Tensor, unit: float) -> Tensor:
    """Mean absolute error of the inverse depth where a target is known.

    Args:
        inverse: (H, W) inverse depth.
        target: (H, W) true inverse depth, 0 where it is unknown.
        unit: a typical depth.
    """
    is_known = target > 0
    error = torch.where(is_known, (inverse - target).abs(), torch.zeros_like(inverse))
    return unit * error.sum() / is_known.sum().clamp_min(1)


def dropped(opacities: Tensor, share: float, random: np.random.Generator) -> Tensor:
    """Set a random share of opacities (N,) to 0."""
    if share <= 0:
        return opacities
    numbers = torch.from_numpy(random.random(len(opacities), np.float32)).to(opacities.device)
    return opacities * (numbers >= share)
