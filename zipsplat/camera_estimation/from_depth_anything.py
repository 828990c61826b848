"""Cameras predicted by Depth Anything 3, for photos on which structure from motion fails."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from zipsplat.camera import Camera
from zipsplat.depth.predictor import DepthAnything
from zipsplat.pose import Pose


def cameras_from_depth_anything(
    model: DepthAnything, images: Sequence[Tensor]
) -> tuple[Camera, Pose]:
    """Predict the cameras of pictures.

    Args:
        model: with weights that predict cameras, such as da3-small.
        images: V pictures (3, H, W) of any sizes, RGB in [0, 1].

    Returns:
        (V,) cameras in pixels of the pictures, principal points in the middle; and (V,)
        camera-to-world poses in the frame of the first, whose scale is arbitrary (with
        da3nested-giant-large, metres).

    Raises:
        ValueError: if the weights predict depth only.
    """
    found = model(images)
    if found.picture_cameras is None or found.poses is None:
        raise ValueError(
            "these weights predict depth only; take some that predict cameras, such as da3-small"
        )
    return found.picture_cameras, found.poses
