"""Pulls each Gaussian to the point map of its own patch, where depth is known.

Point maps in a common frame are how DUSt3R (Wang et al., 2024) learns geometry without poses; here
they teach a small network in hundreds of steps what images alone teach in many thousands. The
points come from `splatfactory.tiny.patch_points`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from splatfactory.protocols import LossKind, Supervision
from splatfactory.schema import HeadConfig


def surface_loss(supervision: Supervision) -> Tensor:
    """`surface_error` of the Gaussians, (B,)."""
    return surface_error(supervision.gaussians.means, supervision.surface)


def surface_error(means: Tensor, surface: Tensor | None) -> Tensor:
    """Mean |f(mean) − f(point)| over known points, f(x) = sign(x)·log(1 + |x|), summed over axes.

    Distances are measured in the network's raw, log-scaled coordinates.

    Args:
        means: (B, N, 3), carries gradients.
        surface: (B, N, 3), NaN where unknown, or None.

    Returns:
        (B,), 0 where nothing is known.
    """
    if surface is None:
        return means.new_zeros(len(means))
    is_known = ~surface.isnan().any(dim=-1)
    # Mask before multiplying: 0 · NaN would still poison the gradient.
    surface = torch.where(is_known[..., None], surface, means.detach())
    error = (_shrunk(means) - _shrunk(surface)).abs().sum(dim=-1)
    return error.sum(dim=1) / is_known.sum(dim=1).clamp(min=1)


def _shrunk(points: Tensor) -> Tensor:
    return points.sign() * points.abs().log1p()


PLUGIN = LossKind(HeadConfig, lambda _: surface_loss)
