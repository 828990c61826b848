"""Cameras from Depth Anything 3, for photos on which structure from motion fails."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from zipsplat.camera import Camera
from zipsplat.depth.predictor import DepthAnything
from zipsplat.pose import Pose


def cameras_from_depth_anything(
    model: DepthAnything, images: Sequence[Tensor]
) -> tuple[Camera, Pose]:
    """Predict the cameras of images.

    Args:
        model: its weights must predict cameras, as da3-small does.
        images: V images (3, H, W) of any sizes, RGB in [0, 1].

    Returns:
        Cameras (V,) in pixels of the images with centred principal points, and camera-to-world
        poses (V,) in the frame of the first, in arbitrary scale (metres for
        da3nested-giant-large).

    Raises:
        ValueError: if the weights predict depth only.
    """
    found = model(images)
    if found.input_cameras is None or found.poses is None:
        raise ValueError(
            "these weights predict depth only; use weights that predict cameras, such as da3-small"
        )
    return found.input_cameras, found.poses
