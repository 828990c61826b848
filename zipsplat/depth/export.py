"""Write depth maps: 16-bit PNG, arrays, colour images, cameras, point clouds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt

from zipsplat.depth.predictor import Depth
from zipsplat.figures import color_depth, depth_legend, to_pixels
from zipsplat.files import write_atomically, write_bytes
from zipsplat.formats._ply_elements import note_lines
from zipsplat.model.metric_depth import SKY, quantile

if TYPE_CHECKING:
    from zipsplat.depth.unprojection import ScenePoints

LEVELS = 65535
SHOWN = (0.02, 0.98)
"""Quantiles of the depth of all views at the ends of the colour range."""
CAMERAS_NAME, POINTS_NAME = "cameras.json", "points.ply"


def map_names(names: Sequence[str], has_points: bool) -> list[str]:
    """Names of all files that `write_depth` writes for images with these names."""
    maps = [
        name + suffix for name in names for suffix in (".depth.png", ".depth.npz", ".color.png")
    ]
    return [*maps, CAMERAS_NAME, *([POINTS_NAME] if has_points else [])]


def write_depth(folder: Path, depth: Depth, names: Sequence[str], note: str = "") -> None:
    """Write depth maps and, if known, cameras.

    For each view `NAME.depth.png` (16 bits; 0 is unknown, depth = value · `depth_scale` of
    `cameras.json`), `NAME.depth.npz` (float32 arrays `depth`, and where known `confidence`, `sky`,
    `K`, `world_from_camera`) and `NAME.color.png` (near is bright, with a legend). `cameras.json`
    is a camera path that `zipsplat render --path` reads, with the intrinsics beside it.

    Args:
        folder: created if it does not exist.
        depth: of V views.
        names: V unique file names without suffix.
        note: licence note of the weights; stored in `cameras.json` and the arrays.
    """
    maps: npt.NDArray[np.float32] = depth.depth.float().cpu().numpy()
    scale = float(maps.max()) / LEVELS
    near, far = (float(quantile(depth.depth.flatten().float(), share)) for share in SHOWN)
    for view, name in enumerate(names):
        _write_npz(folder / f"{name}.depth.npz", _arrays(depth, view, note))
        levels = np.rint(maps[view] / scale).clip(1, LEVELS).astype(np.uint16)
        _write_png(folder / f"{name}.depth.png", levels)
        _write_png(folder / f"{name}.color.png", _colored(depth, view, near, far))
    text = json.dumps(_cameras(depth, names, scale, note), indent=1, ensure_ascii=False)
    write_bytes(folder / CAMERAS_NAME, text.encode("utf-8"))


def write_points(path: Path, points: ScenePoints, note: str = "") -> None:
    """Write a coloured point cloud as a binary little-endian `.ply`."""
    fields = [*((axis, "<f4") for axis in "xyz"), *((c, "u1") for c in ("red", "green", "blue"))]
    table = np.zeros(len(points.positions), np.dtype(fields))
    positions = points.positions.float().cpu().numpy()
    colors = np.rint(points.colors.float().cpu().numpy().clip(0, 1) * 255)
    for index, (axis, channel) in enumerate(zip("xyz", ("red", "green", "blue"), strict=True)):
        table[axis], table[channel] = positions[:, index], colors[:, index]
    lines = [
        "ply",
        "format binary_little_endian 1.0",
        *note_lines(note),
        f"element vertex {len(table)}",
        *(f"property float {axis}" for axis in "xyz"),
        *(f"property uchar {channel}" for channel in ("red", "green", "blue")),
        "end_header\n",
    ]
    write_bytes(path, "\n".join(lines).encode("ascii") + table.tobytes())


def _arrays(depth: Depth, view: int, note: str) -> dict[str, npt.NDArray[np.generic]]:
    known = {"depth": depth.depth, "confidence": depth.confidence, "sky": depth.sky}
    if depth.cameras is not None and depth.poses is not None:
        known |= {"K": depth.cameras.K, "world_from_camera": depth.poses.Rt}
    arrays = {
        name: value[view].float().cpu().numpy()
        for name, value in known.items()
        if value is not None
    }
    return arrays | ({"note": np.array(note)} if note else {})


def _write_npz(path: Path, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
    def write(file: BinaryIO) -> None:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    write_atomically(path, write)


def _write_png(path: Path, pixels: npt.NDArray[np.generic]) -> None:
    from PIL import Image

    image = Image.fromarray(pixels)
    write_atomically(path, lambda file: image.save(file, "PNG"))


def _colored(depth: Depth, view: int, near: float, far: float) -> npt.NDArray[np.uint8]:
    """A depth map in colour, with white sky and the legend below."""
    alpha = None if depth.sky is None else (depth.sky[view] < SKY).float()
    far = far if near < far else near + 1e-6
    image = to_pixels(color_depth(depth.depth[view].float(), near, far, alpha))
    return np.concatenate((image, depth_legend(near, far, image.shape[1])))


def _cameras(depth: Depth, names: Sequence[str], scale: float, note: str) -> dict[str, object]:
    content: dict[str, object] = {"names": list(names), "depth_scale": scale}
    if note:
        content["note"] = note
    if depth.cameras is None or depth.poses is None:
        return content
    given = depth.input_cameras
    assert given is not None
    return content | {
        "world_from_camera": depth.poses.Rt.tolist(),
        "fov_deg": float(depth.cameras.hfov.median().rad2deg()),
        "K": given.K.tolist(),
        "size": given.size.tolist(),
        "depth_K": depth.cameras.K.tolist(),
        "depth_size": depth.cameras.size.tolist(),
    }
