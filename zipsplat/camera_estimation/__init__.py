"""Cameras of photos: estimated by structure from motion, read from files, written to files."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zipsplat.camera_estimation.estimate import CameraEstimate, LeftOut, estimate_cameras
    from zipsplat.camera_estimation.load import load_cameras
    from zipsplat.camera_estimation.structure_from_motion import CamerasNotFoundError

__all__ = ["CameraEstimate", "CamerasNotFoundError", "LeftOut", "estimate_cameras", "load_cameras"]

_LAZY = {
    "CameraEstimate": "estimate",
    "CamerasNotFoundError": "structure_from_motion",
    "LeftOut": "estimate",
    "estimate_cameras": "estimate",
    "load_cameras": "load",
}


def __getattr__(name: str) -> object:
    """Import lazily, so that cameras files beside scenes are found without PyTorch."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
