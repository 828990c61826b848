"""Checks of the cameras and poses of a stored scene."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from splatfactory.datasets.store import SceneError

FloatArray = npt.NDArray[np.float32]

ORTHONORMAL_TOLERANCE = 1e-2
"""Largest deviation of RᵀR from the identity; float32 poses of real data are within 1e-3."""

MIN_BASELINE = 1e-3
"""Minimum camera distance that may become the unit of a scene, as a fraction of the near plane
(`near`): below it, even the nearest point moves by less than a tenth of a percent."""

SIZE_TOLERANCE = 0.01
"""Largest relative difference of a camera's size from its image's: published data round the
size of downscaled images, but keep the unrounded focal lengths."""


def check_view(camera: FloatArray, pose: FloatArray, what: str) -> None:
    """Reject a camera or pose that cannot be rendered.

    Args:
        camera: (6,) row w, h, fx, fy, cx, cy in pixels.
        pose: (12,) camera-to-world row, rotation and centre.
        what: name of the view for the message.

    Raises:
        SceneError: `bad camera` or `bad pose`.
    """
    if not np.isfinite(camera).all() or (camera[:4] <= 0).any():
        raise SceneError("bad camera", f"{what}: size and focal length {camera[:4].tolist()}")
    R = pose[:9].reshape(3, 3).astype(np.float64)
    if not np.isfinite(pose).all():
        raise SceneError("bad pose", f"{what}: not finite")
    deviation = np.abs(R.T @ R - np.eye(3)).max()
    if deviation > ORTHONORMAL_TOLERANCE or np.linalg.det(R) < 0:
        raise SceneError("bad pose", f"{what}: not a rotation, {R.round(3).tolist()}")


def check_size(camera: FloatArray, size: tuple[int, int], what: str) -> None:
    """Reject a camera that belongs to an image of another size.

    Args:
        camera: (6,) row w, h, fx, fy, cx, cy in pixels.
        size: height and width of the image.
        what: name of the view for the message.

    Raises:
        SceneError: `camera of another size`.
    """
    for given, real in zip(camera[:2].tolist(), size[::-1], strict=True):
        if abs(given - real) > max(1.0, SIZE_TOLERANCE * real):
            sizes = f"{camera[:2].tolist()} for an image of {size[1]} x {size[0]}"
            raise SceneError("camera of another size", f"{what}: {sizes}")
