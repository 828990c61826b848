"""A browser's camera and ours, and where to look at a scene from."""

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
    """Where a client's camera starts or flies to.

    Args:
        position: the camera centre, world units.
        target: the point it looks at, which it will turn around.
        up: the direction that points up in the picture.
        extent: tangents of the half fields of view in x and y that are in the picture whole; None
            is `VIEW_FOV_DEG` from top to bottom.
    """

    position: Triple
    target: Triple
    up: Triple = (0.0, -1.0, 0.0)
    extent: tuple[float, float] | None = None

    def vfov(self, aspect: float) -> float:
        """Vertical field of view in radians, for a canvas of this width / height."""
        if self.extent is None:
            return math.radians(VIEW_FOV_DEG)
        return 2 * math.atan(max(self.extent[1], self.extent[0] / aspect))


def photo_view(scene: Gaussians, camera: Camera, pose: Pose) -> StartView:
    """From where a photo was taken, with the whole photo in the picture.

    Args:
        scene: one scene (N,).
        camera: () intrinsics of the photo.
        pose: () its camera-to-world pose in the world of the scene.
    """
    distance = photo_depth(scene, camera, pose) or 1.0
    x, y = photo_extent(camera).tolist()
    target = pose.t + distance * pose.R[:, 2]
    return StartView(triple(pose.t), triple(target), triple(-pose.R[:, 1]), (x, y))


def first_view(scene: Gaussians) -> StartView:
    """From the camera of the first photo, which is the world's origin, forward."""
    depth = float(scene.means[:, 2].median()) if scene.num_gaussians else 1.0
    return StartView((0.0, 0.0, 0.0), (0.0, 0.0, depth if depth > 0 else 1.0))


def overview(scene: Gaussians, up_axis: str, fov_deg: float = VIEW_FOV_DEG) -> StartView:
    """From where a scene of which only the Gaussians are known is seen best.

    This is the first camera if the scene seems to surround it, else a place a little above, from
    where the whole scene is in the picture; see `zipsplat.framing`.

    Args:
        scene: one scene (N,).
        up_axis: one of `UP_AXES`; in a world with -y up the first camera looks along +z.
        fov_deg: field of view in the narrower direction.
    """
    up = UP_AXES[up_axis]
    if not scene.num_gaussians:
        return StartView((0.0, 0.0, -1.0), (0.0, 0.0, 0.0), up)
    inside = first_image(scene, fov_deg) if up_axis == "-y" else None
    if inside is not None:
        return StartView((0.0, 0.0, 0.0), triple(inside.center), up)
    whole = whole_scene(scene, fov_deg)
    pose = turned(Pose.orbit(torch.zeros(3), whole.distance, [0], 15)[0], up_axis)
    return StartView(triple(whole.center.cpu() + pose.t), triple(whole.center), up)


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


def triple(values: Tensor) -> Triple:
    """Three numbers of a tensor (3,)."""
    x, y, z = (float(value) for value in values)
    return x, y, z
