"""What makes the cameras or poses of a stored scene unusable."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from splatfactory.datasets.store import SceneError

FloatArray = npt.NDArray[np.float32]

ORTHONORMAL_TOLERANCE = 1e-2
"""Largest deviation of RᵀR from the identity; float32 poses of real data are within 1e-3."""

MIN_BASELINE = 1e-3
"""Least distance of cameras that may become the unit of a scene, in nearest distances worth
drawing (`near`): below it, even the nearest thing moves by less than a tenth of a percent."""


def check_view(camera: FloatArray, pose: FloatArray, what: str) -> None:
    """Refuse a camera or pose that nothing can be drawn with.

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
        raise SceneError("bad pose", f"{what}: no rotation, {R.round(3).tolist()}")
