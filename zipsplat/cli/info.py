"""`zipsplat info`: describe a scene, checkpoint, image, video or cameras file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zipsplat.cli.console import Console, readable_bytes, table

if TYPE_CHECKING:
    import numpy as np

    from zipsplat.formats import Array
    from zipsplat.weights import Checkpoint

NAME = "info"
SUMMARY = "describe a scene, checkpoint, image, video or cameras file"
DESCRIPTION = """\
Describe a scene (number of Gaussians, extent, unusable values), a checkpoint (architecture,
parameters), an image (size, orientation), a video (frames, rotation), or cameras (COLMAP folder,
transforms.json, cameras.json). For a scene, the cameras beside it are described as well. Nothing
in the file is executed.
"""
EXAMPLES = """\
examples:
  zipsplat info scene.ply
  zipsplat info clip.mp4 --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", type=Path, metavar="FILE", help="file, or folder with cameras")


def run(options: argparse.Namespace, console: Console) -> None:
    """Describe the file."""
    path: Path = options.file
    if path.is_dir():
        data = {"file": str(path), **_cameras(path)}
    else:
        data = {"file": str(path), "bytes": path.stat().st_size, **_describe(path, console)}
    shown = {name: _readable(name, value) for name, value in data.items()}
    console.result(table(shown), data)


def _describe(path: Path, console: Console) -> dict[str, Any]:
    """Describe the file; its kind follows from its content, or else from its suffix."""
    from zipsplat.media_kinds import CHECKPOINT_SUFFIXES, IMAGE, VIDEO, kind_of
    from zipsplat.scene_files import is_scene_file

    if path.suffix.lower() == ".json":
        return _cameras(path)
    if is_scene_file(path):
        return _scene(path)
    if path.suffix.lower() in CHECKPOINT_SUFFIXES:
        return _checkpoint(path)
    kind = kind_of(path)
    if kind == VIDEO:
        return _video(path, console)
    if kind == IMAGE:
        return _image(path)
    raise ValueError(f"{path}: cannot be read as an image, a video, a scene or a checkpoint")


def _scene(path: Path) -> dict[str, Any]:
    from zipsplat.scene_files import read_scene

    found = read_scene(path)
    arrays = found.arrays
    means, count = arrays.means, len(arrays.means)
    return {
        "kind": "scene",
        "format": found.format.name,
        "gaussians": count,
        "sh_degree": arrays.sh_degree,
        "antialiased": arrays.antialiased,
        "left_out": found.left_out,
        "center": _numbers(_median(means)) if count else None,
        "low": _numbers(means.min(axis=0)) if len(means) else None,
        "high": _numbers(means.max(axis=0)) if len(means) else None,
        "median_scale": _number(_median(arrays.scales.ravel())) if count else None,
        "median_opacity": _number(_median(arrays.opacities)) if count else None,
        "bytes_per_gaussian": round(path.stat().st_size / count, 1) if count else None,
        "note": arrays.note or None,
        **_cameras_beside(path),
        "remarks": list(arrays.remarks),
    }


def _median(values: Array) -> Any:
    """Medians of the columns, without `np.median`, which imports numpy.ma."""
    import numpy as np

    middle = [(len(values) - 1) // 2, len(values) // 2]
    return np.partition(values, middle, axis=0)[middle].mean(axis=0)


def _cameras_beside(scene: Path) -> dict[str, Any]:
    """Describe the cameras beside a scene, if there are any."""
    from zipsplat.camera_estimation.beside import file_beside

    file = file_beside(scene)
    if file is None:
        return {}
    try:
        found = _cameras(file)
    except ValueError as error:
        return {"cameras_file": str(file), "cameras": str(error)}
    return {"cameras_file": str(file)} | {name: found[name] for name in ("cameras", "views")}


def _cameras(path: Path) -> dict[str, Any]:
    """Describe views and camera positions; the photos need not exist."""
    from zipsplat.camera_estimation.load import list_cameras

    kind, capture = list_cameras(path)
    lenses = list(dict.fromkeys(photo.lens for photo in capture.photos))
    return {
        "kind": kind,
        "views": len(capture.photos),
        "points": None if capture.points is None else len(capture.points),
        "lenses": [
            f"{lens.model} {lens.width}x{lens.height}, focal {lens.packed[0]:.1f} pixels"
            for lens in lenses
        ],
        "cameras": [
            f"{photo.path.name} at {_place(photo.world_from_camera[:3, 3] + capture.origin)}"
            for photo in capture.photos
        ],
    }


def _place(center: np.ndarray) -> str:
    return "(" + ", ".join(f"{_number(value):g}" for value in center) + ")"


def _checkpoint(path: Path) -> dict[str, Any]:
    from zipsplat import weights
    from zipsplat.model.checkpoint_layout import read_architecture
    from zipsplat.model.depth_layout import holds_depth_network

    checkpoint = weights.read(path)
    data: dict[str, Any] = {
        "kind": "checkpoint",
        "tensors": len(checkpoint.tensors),
        "parameters": sum(value.numel() for value in checkpoint.tensors.values()),
        "dtypes": sorted(
            {str(v.dtype).removeprefix("torch.") for v in checkpoint.tensors.values()}
        ),
        "also_holds": sorted(map(str, checkpoint.extras)),
    }
    if holds_depth_network(checkpoint.tensors):
        return data | _depth_network(checkpoint)
    try:
        config = read_architecture(checkpoint.tensors, checkpoint.conf)
    except ValueError as error:
        return data | {"network": None, "reason": f"not a ZipSplat network: {error}"}
    backbone = config.backbone
    return data | {
        "network": backbone.vit_name or f"width {backbone.dim}, depth {backbone.depth}",
        "out_layers": list(backbone.out_layers),
        "starts": [backbone.alt_start, backbone.qknorm_start, backbone.rope_start],
        "gaussians_per_token": config.gaussians_per_token,
        "sh_degree": config.sh_degree,
    }


def _depth_network(checkpoint: Checkpoint) -> dict[str, Any]:
    from zipsplat.model.depth_layout import depth_network_from_tensors
    from zipsplat.model.depth_network import NestedDepthNetwork

    try:
        network = depth_network_from_tensors(checkpoint.tensors, checkpoint.conf)
    except ValueError as error:
        return {"network": None, "reason": f"not a whole Depth Anything 3 network: {error}"}
    parts = (
        (network.da3, network.da3_metric) if isinstance(network, NestedDepthNetwork) else (network,)
    )
    backbones = [part.config.backbone for part in parts]
    return {
        "network": "Depth Anything 3, "
        + " with ".join(b.vit_name or f"width {b.dim}, depth {b.depth}" for b in backbones),
        "out_layers": list(backbones[0].out_layers),
        "predicts_cameras": network.has_cameras,
    }


def _image(path: Path) -> dict[str, Any]:
    from zipsplat.images import image_info

    found = image_info(path)
    return {
        "kind": "image",
        "format": found.format,
        "width": found.width,
        "height": found.height,
        "mode": found.mode,
        "orientation": found.orientation,
        "frames": found.num_frames,
    }


def _video(path: Path, console: Console) -> dict[str, Any]:
    from zipsplat.video import video_info

    with console.stage("counting frames", "frame") as report:
        found = video_info(path, report)
    return {
        "kind": "video",
        "codec": found.codec,
        "width": found.width,
        "height": found.height,
        "frames": found.num_frames,
        "seconds": found.duration_s,
        "rotation_deg": found.rotation_deg,
        "mirrored": found.is_mirrored,
        "hdr": found.hdr or "no",
    }


def _number(value: np.floating[Any]) -> float:
    return float(f"{float(value):.6g}")


def _numbers(values: np.ndarray) -> list[float]:
    return [_number(value) for value in values]


def _readable(name: str, value: object) -> object:
    if name == "bytes":
        return readable_bytes(int(str(value)))
    if name == "cameras" and isinstance(value, list):
        return "\n  ".join(["", *value])
    if isinstance(value, dict):
        return ", ".join(f"{number} with {what}" for what, number in value.items()) or "nothing"
    if isinstance(value, list):
        return ("; " if name == "remarks" else ", ").join(map(str, value)) or "nothing"
    return "unknown" if value is None else value
