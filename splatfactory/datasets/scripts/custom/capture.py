"""Photos with known lenses and poses, wherever they come from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zipsplat.images import is_image_file

FloatArray = npt.NDArray[np.float64]

# Camera models of COLMAP, with the places of fx, fy, cx, cy among their parameters; all others
# are distortion (https://colmap.github.io/cameras.html).
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
        """Check that the model is known and the numbers are usable."""
        if self.model not in _LAYOUTS:
            raise ValueError(
                f"camera model {self.model} is not supported; use one of {', '.join(_LAYOUTS)}"
            )
        if len(self.params) <= max(_LAYOUTS[self.model]):
            raise ValueError(f"{self.model} has too few parameters: {self.params}")
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
    def is_distorted(self) -> bool:
        """Whether straight lines are bent by more than nothing."""
        used = set(_LAYOUTS[self.model])
        others = [value for place, value in enumerate(self.params) if place not in used]
        return self.model in _FISHEYES or any(value != 0 for value in others)

    def resized(self, width: int, height: int) -> Lens:
        """The lens of the same picture at another size."""
        sx, sy = width / self.width, height / self.height
        factors = dict(zip(_LAYOUTS[self.model], (sx, sy, sx, sy), strict=True))
        params = tuple(value * factors.get(k, 1.0) for k, value in enumerate(self.params))
        return Lens(self.model, width, height, params)


@dataclass(frozen=True)
class Photo:
    """One picture of a capture.

    Attributes:
        path: of the file.
        lens: intrinsics.
        world_from_camera: (4, 4) rigid, OpenCV axes.
    """

    path: Path
    lens: Lens
    world_from_camera: FloatArray


@dataclass(frozen=True)
class Capture:
    """Photos of one place in the order in which they were taken.

    Attributes:
        key: name of the scene in shards.
        photos: at least one.
        notes: what a person should know, for example photos left out.
    """

    key: str
    photos: tuple[Photo, ...]
    notes: tuple[str, ...] = ()


def scene_key(path: Path) -> str:
    """A scene name from a file or folder name: letters, digits, `-` and `_`."""
    whole = path.resolve()
    if whole.name == "transforms.json":
        whole = whole.parent
    stem = whole.name if whole.is_dir() else whole.stem
    return re.sub(r"[^\w-]+", "-", stem).strip("-") or "scene"


def natural_order(path: Path) -> list[tuple[int, int, str]]:
    """Sort key that puts `frame_10` behind `frame_9`."""
    parts = re.split(r"(\d+)", str(path))
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]


def photos_in(folder: Path) -> list[Path]:
    """Pictures of a folder, in natural order; those in `images` if it has such a folder."""
    inner = folder / "images"
    found = _pictures(inner) if inner.is_dir() else []
    return found or _pictures(folder)


def _pictures(folder: Path) -> list[Path]:
    files = [path for path in folder.iterdir() if path.is_file() and is_image_file(path)]
    return sorted(files, key=natural_order)


def rigid(matrix: Sequence[Sequence[float]] | FloatArray, what: str) -> FloatArray:
    """A 4 × 4 rigid transform, with its rotation made exactly orthonormal.

    Raises:
        ValueError: if it is not 3 × 4 or 4 × 4, not finite, or no rotation and translation.
    """
    values = np.asarray(matrix, dtype=np.float64)
    if values.shape not in ((3, 4), (4, 4)) or not np.isfinite(values).all():
        raise ValueError(f"{what} must be a finite 4 x 4 matrix, got shape {values.shape}")
    u, _, v = np.linalg.svd(values[:3, :3])
    rotation = u @ v
    if np.abs(rotation - values[:3, :3]).max() > 0.02 or np.linalg.det(rotation) < 0:
        raise ValueError(
            f"{what} is no rotation and translation:\n{values}\n"
            "scales and mirrors must be taken out of the poses first"
        )
    pose = np.eye(4)
    pose[:3, :3] = rotation
    pose[:3, 3] = values[:3, 3]
    return pose
