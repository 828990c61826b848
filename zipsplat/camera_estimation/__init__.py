"""Cameras of photos: found by structure from motion, read from files, written to files."""

from zipsplat.camera_estimation.estimate import CameraEstimate, LeftOut, estimate_cameras
from zipsplat.camera_estimation.load import load_cameras
from zipsplat.camera_estimation.structure_from_motion import CamerasNotFoundError

__all__ = ["CameraEstimate", "CamerasNotFoundError", "LeftOut", "estimate_cameras", "load_cameras"]
