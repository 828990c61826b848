"""One-directional chamfer distance from Gaussians to known surfaces."""

from __future__ import annotations

import torch
from torch import Tensor

from splatfactory.losses.depth import points_from_depth
from splatfactory.protocols import LossKind, Supervision
from splatfactory.schema import HeadConfig

RANGE = 10.0
"""Coordinates are clamped to ±RANGE, in units of the scene scale, before distances are computed."""
CUDA_CHUNK = 4096
"""Points per block of the distance matrix on a GPU."""


class ChamferLoss:
    """Pulls Gaussians to the surfaces of the scene's depth maps; 0 without depth.

    Args:
        config: without `use_chamfer`, pulls to (0, 0, 1); `detach_activated_gaussians` exempts
            Gaussians that the images already constrain.
    """

    def __init__(self, config: HeadConfig) -> None:
        self.config = config

    def __call__(self, supervision: Supervision) -> Tensor:
        """One number per scene, (B,)."""
        means, views = supervision.gaussians.means, supervision.views
        is_valid = views.depths >= 0
        if not bool(is_valid.any()):
            return means.new_zeros(len(means))
        if self.config.detach_activated_gaussians:
            means = torch.where(supervision.activated[..., None], means.detach(), means)
        surface = None
        if self.config.use_chamfer:
            surface = points_from_depth(views.depths, views.cameras.K, views.poses.Rt)
        values = []
        for scene, points in enumerate(means):
            if not bool(is_valid[scene].any()):
                values.append(points.new_zeros(()))
            elif surface is None:
                values.append(anchor_error(points))
            else:
                values.append(chamfer_error(points, surface[scene][is_valid[scene]]))
        return torch.stack(values)


def chamfer_error(points: Tensor, surface: Tensor) -> Tensor:
    """Mean squared distance of points to their nearest surface point, plus a range penalty.

    Both sets are clamped to ±10 per coordinate, so a point outside only sees the penalty
    0.1·mean sqrt(relu(|p| − 10 + 1e-6) + 1e-8).

    Args:
        points: (N, 3), carries gradients.
        surface: (Q, 3), at least one point.

    Returns:
        A scalar.
    """
    with torch.autocast(points.device.type, enabled=False):
        points, surface = points.float(), surface.float()
        inside = points.clamp(-RANGE, RANGE)
        surface = surface.clamp(-RANGE, RANGE)
        nearest = surface[nearest_indices(inside.detach(), surface)]
        distance = (inside - nearest).square().sum(dim=-1).mean()
        beyond = torch.relu(points.abs() - RANGE + 1e-6)
        return distance + 0.1 * torch.sqrt(beyond + 1e-8).mean()


def nearest_indices(points: Tensor, surface: Tensor) -> Tensor:
    """Index of the nearest surface point, (N, 3) and (Q, 3) → (N,); a k-d tree on a CPU."""
    if not bool(torch.isfinite(points).all()):
        # The tree rejects NaN; distances to it are NaN anyway, and the step is skipped.
        return torch.zeros(len(points), dtype=torch.long, device=points.device)
    if points.device.type == "cpu":
        from scipy.spatial import cKDTree

        _, index = cKDTree(surface.detach().numpy()).query(points.numpy())
        return torch.from_numpy(index)
    chunks = points.split(CUDA_CHUNK)
    return torch.cat([torch.cdist(chunk, surface).argmin(dim=1) for chunk in chunks])


def anchor_error(points: Tensor) -> Tensor:
    """Mean |p − (0, 0, 1)| over points and axes: the substitute when chamfer is off."""
    return (points - points.new_tensor([0.0, 0.0, 1.0])).abs().mean()


PLUGIN = LossKind(HeadConfig, ChamferLoss)
