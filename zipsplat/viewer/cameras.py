"""A browser's camera and ours, and where to look at a scene from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zipsplat.camera import Camera
from zipsplat.gaussians import Gaussians
from zipsplat.pose import Pose
from zipsplat.rotations import look_at, matrix_from_quat
from zipsplat.viz import orbit_distance, scene_center_radius

UP_AXES = {
    "-y": (0.0, -1.0, 0.0), "+y": (0.0, 1.0, 0.0), "-z": (0.0, 0.0, -1.0),
    "+z": (0.0, 0.0, 1.0), "-x": (-1.0, 0.0, 0.0), "+x": (1.0, 0.0, 0.0),
}  # fmt: skip
VIEW_FOV_DEG = 60.0


@dataclass(frozen=True)
class BrowserCamera:
    """What a browser reports.

    Args:
        wxyz: rotation from camera to world, OpenCV axes.
        position: camera centre in world units.
        vfov: vertical field of view in radians.
        width: of the canvas in pixels.
        height: of the canvas in pixels.
    """

    wxyz: Sequence[float]
    position: Sequence[float]
    vfov: float
    width: int
    height: int

    def pose(self) -> Pose:
        """The pose, camera-to-world."""
        quat = torch.tensor([float(value) for value in self.wxyz])
        return Pose(matrix_from_quat(quat), self.center())

    def center(self) -> Tensor:
        """The camera centre (3,)."""
        return torch.tensor([float(value) for value in self.position])

    def camera(self, max_pixels: int) -> Camera:
        """The camera of the whole canvas, with fewer pixels if it has more than `max_pixels`."""
        shrink = min(1.0, math.sqrt(max_pixels / (self.width * self.height)))
        width, height = (max(1, round(side * shrink)) for side in (self.width, self.height))
        focal = height / 2 / math.tan(self.vfov / 2)
        return Camera.from_focal(focal, w=width, h=height)

    @property
    def hfov_deg(self) -> float:
        """Horizontal field of view in degrees."""
        half = math.tan(self.vfov / 2) * self.width / self.height
        return math.degrees(2 * math.atan(half))


@dataclass(frozen=True)
class StartView:
    """Where a client's camera starts: its centre, and the point it looks at."""

    position: tuple[float, float, float]
    target: tuple[float, float, float]


def first_view(scene: Gaussians) -> StartView:
    """From the camera of the first photo, which is the world's origin, forward."""
    depth = float(scene.means[:, 2].median()) if scene.num_gaussians else 1.0
    return StartView((0.0, 0.0, 0.0), (0.0, 0.0, depth if depth > 0 else 1.0))


def overview(scene: Gaussians, up_axis: str) -> StartView:
    """From where the whole scene is seen, a little from above."""
    if not scene.num_gaussians:
        return StartView((0.0, 0.0, -1.0), (0.0, 0.0, 0.0))
    center, _ = scene_center_radius(scene)
    pose = turned(
        Pose.orbit(torch.zeros(3), orbit_distance(scene, VIEW_FOV_DEG), [0], 15)[0], up_axis
    )
    position = center.cpu() + pose.t
    return StartView(_triple(position), _triple(center))


def turned(pose: Pose, up_axis: str) -> Pose:
    """Poses made for a world with -y up, in a world with another axis up."""
    return upright_rotation(up_axis).compose(pose)


def upright_rotation(up_axis: str) -> Pose:
    """The rotation that takes -y to an axis; an axis that is left in place stays."""
    up = torch.tensor(UP_AXES[up_axis])
    forward = torch.tensor([0.0, 0.0, 1.0])
    if bool((up.cross(forward, dim=0) == 0).all()):
        forward = torch.tensor([0.0, 1.0, 0.0])
    return Pose(look_at(torch.zeros(3), forward, up), torch.zeros(3))


def _triple(values: Tensor) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
