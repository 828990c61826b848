"""The cameras of the photos that a page can fly through, without the photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from zipsplat.camera import Camera
from zipsplat.framing import photo_depth, photo_extent
from zipsplat.gaussians import Gaussians
from zipsplat.pose import Pose

MAX_CAMERAS = 200  # in one page; about 30 KB
MAX_NAME = 80  # characters of a photo's name to show


@dataclass(frozen=True)
class PhotoCamera:
    """One photo's camera.

    Args:
        name: of the photo, as shown.
        pose: one camera-to-world pose.
        extent: tangents of the half fields of view in x and y that contain the whole photo.
        distance: median depth in the photo, the distance of the pivot, world units.
    """

    name: str
    pose: Pose
    extent: tuple[float, float]
    distance: float


def photo_cameras(
    gaussians: Gaussians, cameras: Camera, poses: Pose, names: Sequence[str] | None = None
) -> list[PhotoCamera]:
    """Cameras for a page.

    At most `MAX_CAMERAS` are used, evenly spaced from the first to the last.

    Args:
        gaussians: one scene (N,).
        cameras: (V,) intrinsics.
        poses: (V,) camera-to-world, in the world of the scene.
        names: V names of the photos; default "photo 1" and so on.

    Raises:
        ValueError: if the counts differ, or a value is not finite.
    """
    V = len(poses.t) if poses.t.ndim == 2 else 0
    names = [f"photo {view + 1}" for view in range(V)] if names is None else names
    if not V or cameras.shape != (V,) or len(names) != V:
        raise ValueError(
            "a page needs equal numbers of cameras, poses and names, at least one; got"
            f" {tuple(cameras.shape)}, {tuple(poses.shape)} and {len(names)}"
        )
    cameras, poses = cameras.detach().cpu(), poses.detach().cpu()
    if not all(bool(part.isfinite().all()) for part in (cameras.packed(), poses.R, poses.t)):
        raise ValueError("the cameras of a page must be finite numbers")
    scene = gaussians.detach().cpu().to(torch.float32)
    views = evenly(V, MAX_CAMERAS)
    return [_photo_camera(scene, cameras[view], poses[view], names[view]) for view in views]


def evenly(count: int, most: int) -> list[int]:
    """At most `most` indices of `count` items, evenly spaced from the first to the last."""
    chosen: list[int] = np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()
    return chosen


def _photo_camera(scene: Gaussians, camera: Camera, pose: Pose, name: str) -> PhotoCamera:
    x, y = photo_extent(camera).tolist()
    distance = photo_depth(scene, camera, pose) or 1.0
    short = name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"
    return PhotoCamera(short, pose, (x, y), distance)
