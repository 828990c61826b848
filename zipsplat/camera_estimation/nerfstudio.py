"""Captures with a nerfstudio `transforms.json`.

The format is documented at https://docs.nerf.studio/quickstart/data_conventions.html: camera-to-
world matrices with OpenGL camera axes (y up, z backwards), intrinsics for all frames or per frame.
Files of instant-ngp and of the Blender scenes (`camera_angle_x`, names without suffix) work too.
All of nerfstudio's perspective `camera_model`s are OpenCV's: fl_x, fl_y, cx, cy, k1, k2, p1, p2 and
k3, by name, even if COLMAP's model of that name has fewer parameters.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zipsplat.camera_estimation.capture import (
    FARTHEST,
    FLIP_YZ,
    Capture,
    Find,
    FloatArray,
    Lens,
    Photo,
    far_origin,
    files_in,
    moved_to,
    origin_notes,
    rigid,
)
from zipsplat.camera_estimation.point_cloud import read_positions, untracked_points
from zipsplat.files import write_text
from zipsplat.images import image_info
from zipsplat.inputs import natural_key
from zipsplat.posed_images import SparsePoints
from zipsplat.untrusted_files import read_json

# Names of nerfstudio's `camera_model` and of instant-ngp's lenses.
_PERSPECTIVE = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")
_FISHEYE = "OPENCV_FISHEYE"
_OTHER_LENSES = ("ftheta_p0", "latlong", "equirectangular", "orthographic")
_COEFFICIENTS = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")
SUFFIXES = ("", ".png", ".jpg", ".jpeg", ".webp")


def read(path: Path, find: Find | None = None) -> Capture:
    """Read `transforms.json` and its sparse points.

    Args:
        path: of the file.
        find: maps a `file_path` to a photo; default is relative to the folder of the file.

    Returns:
        The photos that exist, in the order of their file names.

    Raises:
        ValueError: if it is damaged or incomplete, or none of its images exist.
    """
    content = _load(path)
    find = find or files_in([path.parent], SUFFIXES)
    back, scale = _applied(content, path)
    photos, missing = [], []
    for number, frame in enumerate(content["frames"]):
        what = f"{path.name}, frame {number}"
        if not isinstance(frame, dict) or "file_path" not in frame:
            raise ValueError(f"{what}: needs `file_path` and `transform_matrix`")
        file = find(str(frame["file_path"]))
        if file is None:
            missing.append(str(frame["file_path"]))
            continue
        if "transform_matrix" not in frame:
            raise ValueError(f"{what}: has no `transform_matrix`")
        pose = rigid(frame["transform_matrix"], f"{what}: transform_matrix")
        pose[:3, 3] /= scale
        lens = _lens({**content, **frame}, file, what)
        photos.append(Photo(file, lens, back @ pose @ FLIP_YZ))
    if not photos:
        raise ValueError(
            f"{path}: none of the {len(missing)} images exist, for example {missing[:1]};"
            " their paths are relative to the folder of the file"
        )
    photos.sort(key=lambda photo: natural_key(photo.path))
    origin = far_origin(photos)
    lost = (f"{len(missing)} images do not exist, e.g. {missing[0]}",) if missing else ()
    back[:3, 3] -= origin
    points = _points(content, path, back, scale)
    return Capture(moved_to(origin, photos), points, (*lost, *origin_notes(origin)), origin)


def write(
    path: Path,
    files: Sequence[str],
    lenses: Sequence[Lens],
    poses: Sequence[FloatArray],
    point_file: str | None,
) -> None:
    """Write `transforms.json`, with intrinsics per frame.

    Args:
        path: of the file.
        files: V images, relative to the folder of the file.
        lenses: V intrinsics at the size of the images, pinhole or SIMPLE_RADIAL.
        poses: V of (4, 4) world-from-camera, OpenCV axes.
        point_file: `.ply` of sparse points, relative to the folder of the file.
    """
    frames = [
        {"file_path": name, **_intrinsics(lens), "transform_matrix": (pose @ FLIP_YZ).tolist()}
        for name, lens, pose in zip(files, lenses, poses, strict=True)
    ]
    is_distorted = any(lens.is_distorted for lens in lenses)
    content: dict[str, Any] = {"camera_model": "OPENCV" if is_distorted else "PINHOLE"}
    if point_file is not None:
        content["ply_file_path"] = point_file
    text = json.dumps({**content, "frames": frames}, indent=1) + "\n"
    write_text(path, text)


def _intrinsics(lens: Lens) -> dict[str, float]:
    fx, fy, cx, cy = lens.packed
    values = {"w": lens.width, "h": lens.height, "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy}
    if lens.is_distorted:
        if lens.model != "SIMPLE_RADIAL":
            raise ValueError(f"transforms.json can be written for SIMPLE_RADIAL, got {lens.model}")
        values |= {"k1": lens.distortion[0], "k2": 0.0, "p1": 0.0, "p2": 0.0}
    return values


def _points(
    content: Mapping[str, Any], path: Path, back: FloatArray, scale: float
) -> SparsePoints | None:
    """The sparse points of `ply_file_path`, with scale and transform undone."""
    name = content.get("ply_file_path")
    file = path.parent / str(name)
    if name is None or not file.is_file():
        return None
    positions, colors = read_positions(file)
    return untracked_points(positions / scale @ back[:3, :3].T + back[:3, 3], colors)


def _load(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("frames"), list):
        raise ValueError(f"{path} is not a transforms.json: it has no list `frames`")
    if not content["frames"]:
        raise ValueError(f"{path} has no frames")
    return content


def _applied(content: Mapping[str, Any], path: Path) -> tuple[FloatArray, float]:
    """The inverse of nerfstudio's `applied_transform`, and `applied_scale`."""
    scale = content.get("applied_scale", 1.0)
    if not isinstance(scale, (int, float)) or not 1 / FARTHEST < scale < FARTHEST:
        raise ValueError(f"{path}: applied_scale must be positive, got {scale}")
    moved = np.eye(4)
    if "applied_transform" in content:
        moved = rigid(content["applied_transform"], f"{path.name}: applied_transform")
    return np.asarray(np.linalg.inv(moved), dtype=np.float64), scale


def _lens(values: Mapping[str, Any], file: Path, what: str) -> Lens:
    try:
        return _checked_lens(values, file)
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise ValueError(f"{what}: {error}") from error


def _checked_lens(values: Mapping[str, Any], file: Path) -> Lens:
    if "w" in values and "h" in values:
        width, height = int(values["w"]), int(values["h"])
    else:
        info = image_info(file)
        width, height = info.width, info.height
    fx, fy = _focal(values, "x", width), _focal(values, "y", height)
    if fx is None and fy is None:
        raise ValueError("no focal length: neither `fl_x` nor `camera_angle_x` is given")
    focal = (fy if fx is None else fx, fx if fy is None else fy)
    center = (values.get("cx", width / 2), values.get("cy", height / 2))
    model, distortion = _model(values)
    return Lens(model, width, height, tuple(map(float, (*focal, *center, *distortion))))


def _focal(values: Mapping[str, Any], axis: str, side: int) -> float | None:
    """Focal length in pixels, from `fl_*` or the angle of view."""
    if f"fl_{axis}" in values:
        return float(values[f"fl_{axis}"])
    angle = values.get(f"camera_angle_{axis}")
    return None if angle is None else 0.5 * side / math.tan(0.5 * float(angle))


def _model(values: Mapping[str, Any]) -> tuple[str, list[float]]:
    """The COLMAP camera model and its distortion coefficients.

    Raises:
        ValueError: if the lens is unsupported, or has a coefficient that its model lacks.
    """
    name = str(values.get("camera_model", "OPENCV")).upper()
    other = next((key for key in _OTHER_LENSES if values.get(key)), name)
    if other not in (*_PERSPECTIVE, _FISHEYE):
        known = ", ".join((*_PERSPECTIVE, _FISHEYE))
        raise ValueError(f"camera model {other} is not supported; use one of {known}")
    is_fisheye = name == _FISHEYE or bool(values.get("is_fisheye"))
    used = ("k1", "k2", "k3", "k4") if is_fisheye else ("k1", "k2", "p1", "p2", "k3")
    given = {key: float(values.get(key, 0.0)) for key in (*used, *_COEFFICIENTS)}
    extra = [key for key in _COEFFICIENTS if given[key] != 0 and key not in used]
    if extra:
        raise ValueError(f"a lens with {', '.join(used)} cannot have {extra[0]}={given[extra[0]]}")
    distortion = [given[key] for key in used]
    if is_fisheye:
        return _FISHEYE, distortion
    if given["k3"] != 0:
        return "FULL_OPENCV", [*distortion, 0.0, 0.0, 0.0]
    return ("OPENCV", distortion[:4]) if any(distortion) else ("PINHOLE", [])
