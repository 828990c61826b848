"""Camera tours of a page: through the photos' cameras, or along a camera path."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zipsplat.camera import Camera
from zipsplat.framing import photo_depth
from zipsplat.gaussians import Gaussians
from zipsplat.pose import Pose
from zipsplat.trajectories import CameraPath, interpolate_poses
from zipsplat.webpage.photo_cameras import MAX_CAMERAS, PhotoCamera, evenly

_DEFAULT_FOV_DEG = 60.0  # horizontal, of paths without one
_ASPECT = 16 / 9  # of the rectangle that must be visible in the window
_VIEWS_PER_KEY, _MAX_VIEWS = 6, 600
_SECONDS_PER_KEY, _SHORTEST, _LONGEST = 2.0, 8.0, 90.0
_CLOSED = 2.0  # a path is closed if its ends are at most this many median steps apart


@dataclass(frozen=True)
class Tour:
    """A camera loop.

    Args:
        views: densely sampled, at equal time steps.
        seconds: duration of the loop.
    """

    views: list[PhotoCamera]
    seconds: float


def waypoints(gaussians: Gaussians, path: CameraPath) -> list[PhotoCamera]:
    """The cameras of a path to step through; at most `MAX_CAMERAS`, evenly spaced.

    Args:
        gaussians: one scene (N,).
        path: in the world of the scene.
    """
    x = math.tan(math.radians(path.fov_deg or _DEFAULT_FOV_DEG) / 2)
    camera = Camera.from_focal(500.0 / x, w=1000, h=1000 / _ASPECT)
    scene, poses = gaussians.detach().cpu().to(torch.float32), path.poses.detach().cpu()
    return [
        PhotoCamera(
            f"view {index + 1}",
            poses[index],
            (x, x / _ASPECT),
            photo_depth(scene, camera, poses[index]) or 1.0,
        )
        for index in evenly(len(poses), MAX_CAMERAS)
    ]


def tour(keys: Sequence[PhotoCamera]) -> Tour:
    """A smooth loop through cameras: back and forth, or closed if the last is near the first."""
    centres = torch.stack([key.pose.t for key in keys])
    order = list(range(len(keys)))
    if not _is_closed(centres):
        order += order[-2:0:-1]
    count = min(_MAX_VIEWS, _VIEWS_PER_KEY * len(order)) if len(order) > 1 else 1
    poses = Pose(torch.stack([keys[i].pose.R for i in order]), centres[order])
    smooth = interpolate_poses(poses, count, closed=True)
    lenses = torch.tensor([[*keys[i].extent, keys[i].distance] for i in order])
    views = []
    for step, (x, y, distance) in enumerate(_between(lenses, count).tolist()):
        views.append(PhotoCamera("", smooth[step], (x, y), distance))
    seconds = min(max(_SECONDS_PER_KEY * len(order), _SHORTEST), _LONGEST)
    return Tour(views, seconds)


def _is_closed(centres: Tensor) -> bool:
    if len(centres) < 3:
        return False
    steps = centres.diff(dim=0).norm(dim=-1)
    return bool((centres[-1] - centres[0]).norm() <= _CLOSED * steps.median())


def _between(values: Tensor, count: int) -> Tensor:
    """Interpolate (K, C) linearly around the loop to (count, C)."""
    place = torch.arange(count) * (len(values) / count)
    index = place.long()
    share = (place - index)[:, None]
    return (1 - share) * values[index] + share * values[(index + 1) % len(values)]
