"""Adapter of the optional package `pycolmap` (`zipsplat[cameras]`), imported at first use."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from zipsplat.camera_estimation.capture import Lens

Pixels = npt.NDArray[np.uint8]


def require() -> Any:
    """The module `pycolmap`, with its logging off.

    Raises:
        ImportError: if it is not installed, or is too old.
    """
    try:
        import pycolmap
    except ImportError as error:
        raise ImportError("this needs COLMAP: pip install 'pycolmap>=4.2.0'") from error
    options = getattr(pycolmap, "GlobalPipelineOptions", None)
    if not hasattr(options, "min_model_size"):
        raise ImportError(
            f"this needs pycolmap 4.2.0 or newer, got {pycolmap.__version__}:"
            " pip install --upgrade pycolmap"
        )
    pycolmap.logging.minloglevel = 3  # failures raise our own errors
    return pycolmap


def lens_of(camera: Any) -> Lens:
    """The intrinsics of a camera of `pycolmap`."""
    params = tuple(map(float, camera.params))
    return Lens(str(camera.model_name), camera.width, camera.height, params)


def camera_of(lens: Lens) -> Any:
    """A camera of `pycolmap`."""
    return require().Camera(
        model=lens.model, width=lens.width, height=lens.height, params=list(lens.params)
    )


def undistort(pixels: Pixels, lens: Lens) -> tuple[Pixels, Lens]:
    """Undistort an image.

    Args:
        pixels: (H, W, 3).
        lens: intrinsics and distortion, of the same size.

    Returns:
        The undistorted image without blank borders, of about the same size, and its pinhole lens.
    """
    pycolmap = require()
    options = pycolmap.UndistortCameraOptions(blank_pixels=0.0)
    bitmap = pycolmap.Bitmap.from_array(np.ascontiguousarray(pixels))
    straight, pinhole = pycolmap.undistort_image(options, bitmap, camera_of(lens))
    return np.asarray(straight.to_array(), dtype=np.uint8), lens_of(pinhole)


def undistort_points(
    points: npt.NDArray[np.float32], lens: Lens, pinhole: Lens
) -> npt.NDArray[np.float32]:
    """Map points (N, 2) of a distorted image to the undistorted one."""
    if not lens.is_distorted:
        scale = np.array([pinhole.width / lens.width, pinhole.height / lens.height], np.float32)
        return points * scale
    rays = np.asarray(camera_of(lens).cam_from_img(points.astype(np.float64)))
    fx, fy, cx, cy = pinhole.packed
    return (rays * (fx, fy) + (cx, cy)).astype(np.float32)
