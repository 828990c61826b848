"""Browser cameras as `Camera` and `Pose`, and good viewpoints on a scene."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zipsplat.camera import Camera
from zipsplat.framing import first_image, photo_depth, photo_extent, whole_scene
from zipsplat.gaussians import Gaussians
from zipsplat.pose import Pose
from zipsplat.rotations import look_at, matrix_from_quat

Triple = tuple[float, float, float]

UP_AXES: dict[str, Triple] = {
    "-y": (0.0, -1.0, 0.0), "+y": (0.0, 1.0, 0.0), "-z": (0.0, 0.0, -1.0),
    "+z": (0.0, 0.0, 1.0), "-x": (-1.0, 0.0, 0.0), "+x": (1.0, 0.0, 0.0),
}  # fmt: skip
VIEW_FOV_DEG = 60.0


@dataclass(frozen=True)
class BrowserCamera:
    """A camera as the browser reports it.

    Args:
        wxyz: rotation from camera to world, OpenCV axes.
        position: camera centre in world units.
        vfov: vertical field of view in radians.
        width: of the view in pixels.
    height: of the view in pixels.
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
        """The camera of the whole view, scaled down to at most `max_pixels`."""
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
class Viewpoint:
    """Where a browser's camera starts or flies to.

    Args:
        position: the camera centre, world units.
        target: the point it looks at, the pivot of orbiting.
        up: the world direction that points up in the image.
        extent: tangents of the half fields of view in x and y that must be visible; None means a
            vertical field of view of `VIEW_FOV_DEG`.
    """

    position: Triple
    target: Triple
    up: Triple = (0.0, -1.0, 0.0)
    extent: tuple[float, float] | None = None

    def vfov(self, aspect: float) -> float:
        """Vertical field of view in radians for an aspect ratio (width / height)."""
        if self.extent is None:
            return math.radians(VIEW_FOV_DEG)
        return 2 * math.atan(max(self.extent[1], self.extent[0] / aspect))


def photo_view(scene: Gaussians, camera: Camera, pose: Pose) -> Viewpoint:
    """The viewpoint of a photo, with the whole photo visible.

    Args:
        scene: one scene (N,).
        camera: () intrinsics of the photo.
        pose: () its camera-to-world pose in the world of the scene.
    """
    distance = photo_depth(scene, camera, pose) or 1.0
    x, y = photo_extent(camera).tolist()
    target = pose.t + distance * pose.R[:, 2]
    return Viewpoint(triple(pose.t), triple(target), triple(-pose.R[:, 1]), (x, y))


def first_view(scene: Gaussians) -> Viewpoint:
    """The camera of the first photo: at the world's origin, looking forward."""
    depth = float(scene.means[:, 2].median()) if scene.num_gaussians else 1.0
    return Viewpoint((0.0, 0.0, 0.0), (0.0, 0.0, depth if depth > 0 else 1.0))


def overview(scene: Gaussians, up_axis: str, fov_deg: float = VIEW_FOV_DEG) -> Viewpoint:
    """A good viewpoint on a scene without known cameras.

    This is the world's origin if the scene seems to surround it, else a viewpoint slightly above
    that shows the whole scene; see `zipsplat.framing`.

    Args:
        scene: one scene (N,).
        up_axis: one of `UP_AXES`; in a world with -y up the first camera looks along +z.
        fov_deg: field of view along the shorter side.
    """
    up = UP_AXES[up_axis]
    if not scene.num_gaussians:
        return Viewpoint((0.0, 0.0, -1.0), (0.0, 0.0, 0.0), up)
    inside = first_image(scene, fov_deg) if up_axis == "-y" else None
    if inside is not None:
        return Viewpoint((0.0, 0.0, 0.0), triple(inside.center), up)
    whole = whole_scene(scene, fov_deg)
    pose = turned(Pose.orbit(torch.zeros(3), whole.distance, [0], 15)[0], up_axis)
    return Viewpoint(triple(whole.center.cpu() + pose.t), triple(whole.center), up)


def turned(pose: Pose, up_axis: str) -> Pose:
    """Rotate poses from a world with -y up to one with another axis up."""
    return upright_rotation(up_axis).compose(pose)


def upright_rotation(up_axis: str) -> Pose:
    """The rotation that takes -y to an axis."""
    up = torch.tensor(UP_AXES[up_axis])
    forward = torch.tensor([0.0, 0.0, 1.0])
    if bool((up.cross(forward, dim=0) == 0).all()):
        forward = torch.tensor([0.0, 1.0, 0.0])
    return Pose(look_at(torch.zeros(3), forward, up), torch.zeros(3))


def triple(values: Tensor) -> Triple:
    """A tensor (3,) as a tuple."""
    x, y, z = (float(value) for value in values)
    return x, y, z
