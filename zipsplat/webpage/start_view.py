"""The view that a page opens with, and how its turntable moves."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from zipsplat.gaussians import Gaussians
from zipsplat.pose import Pose

_MARGIN = 1.2  # of the orbit, around nine tenths of the Gaussians


@dataclass(frozen=True)
class StartView:
    """Where a page's camera starts.

    Args:
        pose: one camera-to-world pose.
        distance: how far in front of it the point lies that it turns around, world units.
        sweep_deg: degrees per turn of the turntable; None sways in front of the scene.
        fov_deg: vertical field of view.
    """

    pose: Pose
    distance: float
    sweep_deg: float | None = 360.0
    fov_deg: float = 55.0

    def __post_init__(self) -> None:
        """Check the values."""
        if self.pose.shape:
            raise ValueError(f"a page starts from one pose, got a batch {tuple(self.pose.shape)}")
        if not 0 < self.distance < math.inf:
            raise ValueError(f"distance must be positive and finite, got {self.distance}")
        if not 0 < self.fov_deg < 180:
            raise ValueError(f"fov_deg must be between 0 and 180 degrees, got {self.fov_deg}")


def first_view(scene: Gaussians, fov_deg: float = 55.0) -> StartView:
    """A view that suits a scene of which only the Gaussians are known.

    Reconstructions are seen best from where their first picture was taken: the origin, looking
    along +z. If most Gaussians lie in front of it, the page starts there and sways. Any other scene
    is seen from outside, from as far as it takes to have it in the picture, and turns around.
    """
    means = scene.means.detach().cpu().double()
    if not len(means):
        return StartView(Pose.identity(), 1.0, fov_deg=fov_deg)
    half = math.tan(math.radians(fov_deg) / 2)
    seen = (means[:, :2].abs().amax(dim=-1) < 1.5 * half * means[:, 2]).double().mean()
    if seen > 0.6:
        return StartView(Pose.identity(), float(means[:, 2].median()), None, fov_deg)
    center = means.median(dim=0).values
    radius = float((means - center).norm(dim=-1).quantile(0.9)) * _MARGIN
    radius = max(radius, 3 * float(scene.scales.amax(dim=-1).median()), 1e-6)
    distance = radius / math.sin(math.radians(fov_deg) / 2)
    pose = Pose.orbit(center.float(), distance, torch.tensor(30.0), torch.tensor(15.0))
    return StartView(pose, distance, fov_deg=fov_deg)
