"""The first view of a page, and its turntable."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from zipsplat.framing import first_image, whole_scene
from zipsplat.gaussians import Gaussians
from zipsplat.pose import Pose


@dataclass(frozen=True)
class StartView:
    """The first view of a page.

    Args:
        pose: one camera-to-world pose.
        distance: from the camera to the pivot in front of it, world units.
        sweep_deg: angle of the turntable in degrees; None sways in front of the scene.
        fov_deg: field of view along the shorter side, which suits portrait windows too.
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
    """A good first view for a scene without known cameras.

    If the scene surrounds the first camera, the page starts there and sways. Any other scene is
    shown whole from outside, on a turntable; see `zipsplat.framing`.

    Args:
        scene: one scene (N,).
        fov_deg: field of view along the shorter side.
    """
    if not scene.num_gaussians:
        return StartView(Pose.identity(), 1.0, fov_deg=fov_deg)
    scene = scene.detach().cpu().to(torch.float32)
    inside = first_image(scene, fov_deg)
    if inside is not None:
        return StartView(Pose.identity(), inside.distance, None, fov_deg)
    whole = whole_scene(scene, fov_deg)
    pose = Pose.orbit(whole.center, whole.distance, torch.tensor(30.0), torch.tensor(15.0))
    return StartView(pose, whole.distance, fov_deg=fov_deg)
