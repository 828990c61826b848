"""Smaller scenes: remove Gaussians that are hardly visible."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from zipsplat.camera import Camera
from zipsplat.gaussians import Gaussians
from zipsplat.pose import Pose
from zipsplat.sh_constants import SH_C0

_SURVEY_SIZE = 256  # pixels; larger images give the same ranking
_ORBIT_FOV_DEG, _INSIDE_FOV_DEG = 60.0, 90.0


def prune_opacity(g: Gaussians, least: float) -> Gaussians:
    """Remove Gaussians of one scene with opacity below a limit in [0, 1]."""
    if not 0 <= least <= 1:
        raise ValueError(f"an opacity must be in [0, 1], got {least}")
    return g.select(g.opacities >= least)


def keep_most_important(
    g: Gaussians, most: int, views: tuple[Camera, Pose] | None = None
) -> Gaussians:
    """Keep at most `most` Gaussians of one scene, the most important ones, in their order.

    Args:
        g: one scene (N,).
        most: number of Gaussians to keep, at least one.
        views: cameras and poses (V,) to rank by, e.g. those of the photos: Gaussians are ranked by
            their `contribution` to these views. By default the scene is surveyed from outside and
            inside; see `importance`.
    """
    if most < 1:
        raise ValueError(f"at least one Gaussian must be kept, got {most}")
    if g.num_gaussians <= most:
        return g
    scores = importance(g) if views is None else contribution(g, *views)
    return g.select(torch.sort(scores.topk(most).indices).values)


def importance(g: Gaussians) -> Tensor:
    """How visible each Gaussian of a scene is from any viewpoint.

    The mean of its share of the contribution to a survey of rendered views, group by group, and of
    its share of all silhouettes, which ranks Gaussians seen in no view. On two test scenes, a room
    and some objects, keeping a half or a quarter this way gives images 2 to 11 dB closer to the
    original than ranking by silhouettes alone, which in turn is up to 5 dB closer than ranking by
    opacity times volume.

    Args:
        g: one scene (N,).

    Returns:
        (N,) values, larger is more important.
    """
    scores = [silhouette(g), *(contribution(g, *views) for views in _survey(g))]
    return torch.stack([score / score.sum().clamp_min(1e-12) for score in scores]).mean(dim=0)


def silhouette(g: Gaussians) -> Tensor:
    """Opacity times the largest silhouette of each ellipsoid, up to a factor, (N,).

    The silhouette is largest along the shortest axis: the product of the two longer axes.
    """
    longest = g.scales.topk(2, dim=-1).values
    return g.opacities * longest.prod(dim=-1)


def contribution(g: Gaussians, cameras: Camera, poses: Pose) -> Tensor:
    """Sum (N,) of the blending weights of each Gaussian over all pixels.

    The blending weight is the derivative of a pixel with respect to the Gaussian's colour, so the
    gradient of the summed image with respect to the colours gives the sum, with any renderer.

    Args:
        g: one scene (N,).
        cameras: () or (V,).
        poses: (V,) camera-to-world.
    """
    total = torch.zeros_like(g.opacities)
    for i in range(len(poses)):
        grey = torch.zeros(g.num_gaussians, 1, 3).to(g.means).requires_grad_()
        plain = replace(g.detach(), sh_coeffs=grey)
        with torch.enable_grad():
            image, _ = plain.render(cameras[i] if cameras.ndim else cameras, poses[i])
            image[:, 0].sum().backward()
        if grey.grad is not None:
            total += grey.grad[:, 0, 0] / SH_C0
    return total


def _survey(g: Gaussians) -> list[tuple[Camera, Pose]]:
    """Views around the scene, from its centre outwards, and from the first camera.

    The first camera is at the origin of reconstructions; from there, views to all sides and an arc.
    """
    means = g.means.detach()
    center = means.median(dim=0).values
    radius = float((means - center).norm(dim=-1).float().cpu().quantile(0.9))
    distance = max(1.2 * radius, 1e-3) / math.sin(math.radians(_ORBIT_FOV_DEG) / 2)
    around = torch.arange(12) * 30.0
    rising = torch.tensor([-15.0, 25.0]).repeat(6)
    arc = torch.tensor([-30.0, -15.0, 0.0, 15.0, 30.0])
    narrow, wide = (
        Camera.from_fov(math.radians(fov), w=_SURVEY_SIZE, h=_SURVEY_SIZE)
        for fov in (_ORBIT_FOV_DEG, _INSIDE_FOV_DEG)
    )
    to_origin = max(float(center.norm()), 1e-3)
    return [
        (narrow, Pose.orbit(center, distance, around, rising)),
        (wide, _outwards(center)),
        (wide, _outwards(torch.zeros_like(center))),
        (narrow, Pose.orbit(center, to_origin, arc, torch.tensor([0.0, 8.0, 0.0, 8.0, 0.0]))),
    ]


def _outwards(position: Tensor) -> Pose:
    """Six cameras at a point, looking horizontally to all sides."""
    turned = Pose.orbit(position, 1.0, torch.arange(6) * 60.0, torch.zeros(6))
    return Pose(turned.R, position.expand(6, 3))
