"""`cameras.json` as the viewers of 3D Gaussian splatting read it.

A list of {id, img_name, width, height, position, rotation, fx, fy}, one entry per photo: `position`
is the camera centre, `rotation` holds the rows of the world-from-camera rotation in OpenCV axes
(the layout of Kerbl et al., 2023). The principal point is the image centre; otherwise `cx` and `cy`
are added, and for distorted photos `model` and `params`, COLMAP's camera model and its parameters.
Viewers ignore these.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zipsplat.camera_estimation.capture import FloatArray, Lens, rigid
from zipsplat.files import write_text
from zipsplat.untrusted_files import read_json

_HALF_PIXEL = 0.5


def write(
    path: Path, names: Sequence[str], lenses: Sequence[Lens], poses: Sequence[FloatArray]
) -> None:
    """Write the cameras of V photos.

    Args:
        path: of the file.
        names: V file names.
        lenses: V intrinsics of the images that the names refer to.
        poses: V of (4, 4) world-from-camera, OpenCV axes.
    """
    views = zip(names, lenses, poses, strict=True)
    entries = [_entry(number, *view) for number, view in enumerate(views)]
    write_text(path, json.dumps(entries, indent=1) + "\n")


def _entry(number: int, name: str, lens: Lens, pose: FloatArray) -> dict[str, Any]:
    fx, fy, cx, cy = lens.packed
    entry: dict[str, Any] = {
        "id": number,
        "img_name": name,
        "width": lens.width,
        "height": lens.height,
        "position": pose[:3, 3].tolist(),
        "rotation": pose[:3, :3].tolist(),
        "fx": fx,
        "fy": fy,
    }
    if max(abs(cx - lens.width / 2), abs(cy - lens.height / 2)) >= _HALF_PIXEL:
        entry |= {"cx": cx, "cy": cy}
    if lens.is_distorted:
        entry |= {"model": lens.model, "params": list(lens.params)}
    return entry


def read(path: Path) -> list[tuple[str, Lens, FloatArray]]:
    """Read names, intrinsics and world-from-camera poses (4, 4).

    Raises:
        ValueError: if the file is damaged or incomplete.
    """
    try:
        content = read_json(path)
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not is_cameras_json(content):
        raise ValueError(f"{path} is not a cameras.json: it must list cameras with `img_name`")
    return [_view(entry, f"{path.name}, entry {number}") for number, entry in enumerate(content)]


def is_cameras_json(content: object) -> bool:
    """Whether parsed JSON looks like a list of cameras."""
    return (
        isinstance(content, list)
        and len(content) > 0
        and all(isinstance(entry, dict) and "img_name" in entry for entry in content)
    )


def _view(entry: dict[str, Any], what: str) -> tuple[str, Lens, FloatArray]:
    try:
        lens = _lens(entry)
        columns = [np.array(entry["rotation"], float), np.array(entry["position"], float)[:, None]]
        pose = rigid(np.concatenate(columns, axis=1), "rotation and position")
        return str(entry["img_name"]), lens, pose
    except KeyError as error:
        raise ValueError(f"{what}: has no {error}") from error
    except (TypeError, ValueError, IndexError, OverflowError) as error:
        raise ValueError(f"{what}: {error}") from error


def _lens(entry: dict[str, Any]) -> Lens:
    width, height = int(entry["width"]), int(entry["height"])
    if "model" in entry:
        return Lens(str(entry["model"]), width, height, tuple(map(float, entry["params"])))
    fx, fy = float(entry["fx"]), float(entry["fy"])
    cx, cy = float(entry.get("cx", width / 2)), float(entry.get("cy", height / 2))
    return Lens("PINHOLE", width, height, (fx, fy, cx, cy))
