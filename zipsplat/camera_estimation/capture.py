"""Photos with known lenses and poses, independent of the file format they came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zipsplat.posed_images import SparsePoints

FloatArray = npt.NDArray[np.float64]
Find = Callable[[str], Path | None]
"""Maps the name of a photo to its path, or None if it does not exist."""

# OpenGL's camera axes (y up, z backwards) to OpenCV's (y down, z forward), and back.
FLIP_YZ = np.diag([1.0, -1.0, -1.0, 1.0])

FARTHEST = 1e30
"""Larger coordinates count as damaged; float32 ends at 3e38."""

# COLMAP's camera models, with the indices of fx, fy, cx, cy among their parameters; all other
# parameters are distortion (https://colmap.github.io/cameras.html).
_LAYOUTS = {
    "SIMPLE_PINHOLE": (0, 0, 1, 2),
    "PINHOLE": (0, 1, 2, 3),
    "SIMPLE_RADIAL": (0, 0, 1, 2),
    "RADIAL": (0, 0, 1, 2),
    "OPENCV": (0, 1, 2, 3),
    "OPENCV_FISHEYE": (0, 1, 2, 3),
    "FULL_OPENCV": (0, 1, 2, 3),
    "SIMPLE_RADIAL_FISHEYE": (0, 0, 1, 2),
    "RADIAL_FISHEYE": (0, 0, 1, 2),
    "THIN_PRISM_FISHEYE": (0, 1, 2, 3),
}
# An origin counts as far away beyond this many extents and steps of the cameras, where float32
# loses more than 6e-5 of a step. Closer than _NEAR units it is always kept.
_FAR_IN_EXTENTS, _FAR_IN_STEPS, _NEAR = 10, 1000, 1000
_FISHEYES = ("OPENCV_FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "THIN_PRISM_FISHEYE")


@dataclass(frozen=True)
class Lens:
    """Intrinsics in one of COLMAP's camera models.

    Attributes:
        model: name of the model.
        width: pixels.
        height: pixels.
        params: parameters of the model, pixels and distortion coefficients.
    """

    model: str
    width: int
    height: int
    params: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check that the model is known and its parameters are usable."""
        if self.model not in _LAYOUTS:
            raise ValueError(
                f"camera model {self.model} is not supported; use one of {', '.join(_LAYOUTS)}"
            )
        if len(self.params) <= max(_LAYOUTS[self.model]):
            raise ValueError(f"{self.model} has too few parameters: {self.params}")
        if not np.isfinite(self.params).all():
            raise ValueError(f"camera parameters must be finite, got {self.params}")
        if self.width < 1 or self.height < 1 or min(self.packed[:2]) <= 0:
            raise ValueError(
                f"a camera needs positive size and focal length, got {self.width} x {self.height},"
                f" {self.params}"
            )

    @property
    def packed(self) -> tuple[float, float, float, float]:
        """Focal lengths fx, fy and principal point cx, cy in pixels."""
        fx, fy, cx, cy = (self.params[place] for place in _LAYOUTS[self.model])
        return fx, fy, cx, cy

    @property
    def distortion(self) -> tuple[float, ...]:
        """The distortion parameters, in the order of the model."""
        used = set(_LAYOUTS[self.model])
        return tuple(value for place, value in enumerate(self.params) if place not in used)

    @property
    def is_distorted(self) -> bool:
        """Whether any distortion parameter is not zero."""
        return self.model in _FISHEYES or any(value != 0 for value in self.distortion)

    @property
    def focal_factor(self) -> float:
        """Focal length as a multiple of the longer side."""
        return self.packed[0] / max(self.width, self.height)

    def resized(self, width: int, height: int) -> Lens:
        """The lens of the same image at another size."""
        sx, sy = width / self.width, height / self.height
        factors = dict(zip(_LAYOUTS[self.model], (sx, sy, sx, sy), strict=True))
        params = tuple(value * factors.get(k, 1.0) for k, value in enumerate(self.params))
        return Lens(self.model, width, height, params)


@dataclass(frozen=True)
class Photo:
    """One image of a capture.

    Attributes:
        path: of the file.
        lens: intrinsics.
        world_from_camera: (4, 4) rigid, OpenCV axes.
    """

    path: Path
    lens: Lens
    world_from_camera: FloatArray

    def __post_init__(self) -> None:
        """Check the position; NaN fails, too."""
        if not np.abs(self.world_from_camera).max() < FARTHEST:
            raise ValueError(f"{self.path}: its camera has no usable pose")


@dataclass(frozen=True)
class Capture:
    """Photos of one scene in the order they were taken.

    Attributes:
        photos: at least one.
        points: sparse points, if any; their pixels refer to the distorted photos at the size of the
            lens.
        notes: remarks for the user, for example photos left out.
        origin: (3,) origin of photos and points in the world of the file; zero unless that is too
            far away for float32 (`far_origin`).
    """

    photos: tuple[Photo, ...]
    points: SparsePoints | None = None
    notes: tuple[str, ...] = ()
    origin: FloatArray = field(default_factory=lambda: np.zeros(3))


def far_origin(photos: Sequence[Photo]) -> FloatArray:
    """The origin (3,) at which float32 can represent the camera positions.

    Geo-referenced cameras are millions of units away from zero, where float32 has steps of half a
    unit. For them it is the first camera; otherwise zero, which keeps the world of the file.
    """
    centers = np.array([photo.world_from_camera[:3, 3] for photo in photos])
    distance = float(np.abs(centers).max())
    extent = float(np.abs(centers - centers[0]).max())
    step = float(np.median(np.linalg.norm(np.diff(centers, axis=0), axis=1))) if extent else 0.0
    if distance > max(_FAR_IN_EXTENTS * extent, _FAR_IN_STEPS * step, _NEAR):
        return np.array(centers[0], np.float64)
    return np.zeros(3)


def moved_to(origin: FloatArray, photos: Sequence[Photo]) -> tuple[Photo, ...]:
    """The photos in a world with this origin."""
    shift = np.eye(4)
    shift[:3, 3] = -origin
    return tuple(replace(p, world_from_camera=shift @ p.world_from_camera) for p in photos)


def origin_notes(origin: FloatArray) -> tuple[str, ...]:
    """A note to the user if the origin was moved."""
    if not origin.any():
        return ()
    place = ", ".join(f"{value:.3f}" for value in origin)
    return (f"the first camera, at ({place}), became the origin: it is too far away for float32",)


def files_in(folders: Sequence[Path], suffixes: Sequence[str] = ("",)) -> Find:
    """Find names, optionally with a suffix added, in the first folder that has them."""

    def find(name: str) -> Path | None:
        candidates = (folder / (name + suffix) for folder in folders for suffix in suffixes)
        return next((file for file in candidates if file.is_file()), None)

    return find


def rigid(matrix: Sequence[Sequence[float]] | FloatArray, what: str) -> FloatArray:
    """A 4 × 4 rigid transform, with its rotation made exactly orthonormal.

    Raises:
        ValueError: if it is not 3 × 4 or 4 × 4, not a rotation and translation, or has numbers that
            are not finite or beyond `FARTHEST`.
    """
    try:
        values = np.asarray(matrix, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{what} must be a 4 x 4 matrix of numbers: {error}") from error
    if values.shape not in ((3, 4), (4, 4)) or not np.abs(values).max() < FARTHEST:
        raise ValueError(f"{what} must be a finite 4 x 4 matrix, got shape {values.shape}")
    u, _, v = np.linalg.svd(values[:3, :3])
    rotation = u @ v
    if np.abs(rotation - values[:3, :3]).max() > 0.02 or np.linalg.det(rotation) < 0:
        raise ValueError(
            f"{what} is not a rotation and translation:\n{values}\n"
            "remove scale and mirroring from the poses first"
        )
    pose = np.eye(4)
    pose[:3, :3] = rotation
    pose[:3, 3] = values[:3, 3]
    return pose
