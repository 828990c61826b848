"""From a few photos or a video to a scene of 3D Gaussians, refined or in one forward pass.

The names below are the public API; videos and contact sheets are in `zipsplat.viz`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from zipsplat._version import __version__

if TYPE_CHECKING:
    from zipsplat.camera import Camera
    from zipsplat.camera_estimation import estimate_cameras
    from zipsplat.depth.predictor import DepthAnything
    from zipsplat.gaussians import Gaussians
    from zipsplat.images import load_image
    from zipsplat.pose import Pose
    from zipsplat.predictor import ZipSplat
    from zipsplat.refinement import refine
    from zipsplat.video import load_video

__all__ = [
    "Camera",
    "DepthAnything",
    "Gaussians",
    "Pose",
    "ZipSplat",
    "__version__",
    "estimate_cameras",
    "load_image",
    "load_video",
    "refine",
]

_LAZY = {
    "Camera": "zipsplat.camera",
    "DepthAnything": "zipsplat.depth.predictor",
    "Gaussians": "zipsplat.gaussians",
    "Pose": "zipsplat.pose",
    "ZipSplat": "zipsplat.predictor",
    "estimate_cameras": "zipsplat.camera_estimation",
    "load_image": "zipsplat.images",
    "load_video": "zipsplat.video",
    "refine": "zipsplat.refinement",
}


def __getattr__(name: str) -> object:
    """Import lazily, so that `zipsplat --help` does not wait for PyTorch."""
    if name not in _LAZY:
        raise AttributeError(f"module 'zipsplat' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
