"""Captures with a nerfstudio `transforms.json`.

The format is documented at https://docs.nerf.studio/quickstart/data_conventions.html: camera-to-
world matrices with OpenGL camera axes (y up, z backwards), intrinsics for all frames or per frame.
Files of instant-ngp and of the Blender scenes (`camera_angle_x`, names without suffix) work too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from splatfactory.datasets.scripts.custom.capture import (
    Capture,
    FloatArray,
    Lens,
    Photo,
    rigid,
    scene_key,
)
from zipsplat.images import image_info

_OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
_SUFFIXES = ("", ".png", ".jpg", ".jpeg", ".webp")


def read(path: Path) -> Capture:
    """Read `transforms.json`.

    Raises:
        ValueError: if it is damaged, lacks something, or none of its pictures exist.
    """
    content = _load(path)
    undo = _undo_applied(content, path)
    photos, missing = [], []
    for number, frame in enumerate(content["frames"]):
        what = f"{path.name}, frame {number}"
        if not isinstance(frame, dict) or "file_path" not in frame:
            raise ValueError(f"{what}: needs `file_path` and `transform_matrix`")
        file = _find(path.parent, str(frame["file_path"]))
        if file is None:
            missing.append(str(frame["file_path"]))
            continue
        if "transform_matrix" not in frame:
            raise ValueError(f"{what}: has no `transform_matrix`")
        pose = undo(rigid(frame["transform_matrix"], f"{what}: transform_matrix"))
        lens = _lens({**content, **frame}, file, what)
        photos.append(Photo(file, lens, pose @ _OPENCV_FROM_OPENGL))
    if not photos:
        raise ValueError(
            f"{path}: none of the {len(missing)} pictures exist, for example {missing[:1]};"
            " their paths are relative to the folder of the file"
        )
    notes = (f"{len(missing)} pictures do not exist, e.g. {missing[0]}",) if missing else ()
    return Capture(scene_key(path), tuple(photos), notes)


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no valid JSON: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("frames"), list):
        raise ValueError(f"{path} is no transforms.json: it needs a list `frames`")
    if not content["frames"]:
        raise ValueError(f"{path} has no frames")
    return content


def _undo_applied(content: Mapping[str, Any], path: Path) -> Any:
    """A function that takes poses back to the frame of the capture.

    nerfstudio notes in `applied_transform` and `applied_scale` how it moved the world.
    """
    scale = float(content.get("applied_scale", 1.0))
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"{path}: applied_scale must be positive, got {scale}")
    moved = np.eye(4)
    if "applied_transform" in content:
        moved = rigid(content["applied_transform"], f"{path.name}: applied_transform")
    back = np.linalg.inv(moved)

    def undo(pose: FloatArray) -> FloatArray:
        unscaled = pose.copy()
        unscaled[:3, 3] /= scale
        return np.asarray(back @ unscaled)

    return undo


def _find(folder: Path, name: str) -> Path | None:
    for suffix in _SUFFIXES:
        candidate = folder / (name + suffix)
        if candidate.is_file():
            return candidate
    return None


def _lens(values: Mapping[str, Any], file: Path, what: str) -> Lens:
    try:
        return _checked_lens(values, file)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what}: {error}") from error


def _checked_lens(values: Mapping[str, Any], file: Path) -> Lens:
    if "w" in values and "h" in values:
        width, height = int(values["w"]), int(values["h"])
    else:
        info = image_info(file)
        width, height = info.width, info.height
    if "fl_x" in values:
        fx = float(values["fl_x"])
    elif "camera_angle_x" in values:
        fx = 0.5 * width / math.tan(0.5 * float(values["camera_angle_x"]))
    else:
        raise ValueError("no focal length: neither `fl_x` nor `camera_angle_x` is given")
    fy = float(values.get("fl_y", fx))
    center = (float(values.get("cx", width / 2)), float(values.get("cy", height / 2)))
    model = str(values.get("camera_model", "OPENCV")).upper()
    if model in ("PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE"):
        return Lens("PINHOLE", width, height, (fx, fy, *center))
    names = ("k1", "k2", "k3", "k4") if model == "OPENCV_FISHEYE" else ("k1", "k2", "p1", "p2")
    distortion = tuple(float(values.get(name, 0.0)) for name in names)
    if model == "OPENCV" and float(values.get("k3", 0.0)) != 0:
        return Lens(
            "FULL_OPENCV",
            width,
            height,
            (fx, fy, *center, *distortion, float(values["k3"]), 0.0, 0.0, 0.0),
        )
    return Lens(model, width, height, (fx, fy, *center, *distortion))
