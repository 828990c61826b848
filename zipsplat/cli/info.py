"""`zipsplat info`: what is in a scene, checkpoint, picture or video."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zipsplat.cli.console import Console, readable_bytes, table

if TYPE_CHECKING:
    import numpy as np

    from zipsplat.weights import Checkpoint

NAME = "info"
SUMMARY = "what is in a scene, checkpoint, picture or video"
DESCRIPTION = """\
Show what is in a file: a scene (number of Gaussians, extent, values that are not finite), a
checkpoint (architecture, parameters), a picture (size, orientation) or a video (frames, rotation).
Nothing in the file is executed.
"""
EXAMPLES = """\
examples:
  zipsplat info scene.ply
  zipsplat info clip.mp4 --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", type=Path, metavar="FILE")


def run(options: argparse.Namespace, console: Console) -> None:
    """Look at the file."""
    path: Path = options.file
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; give a file")
    data = {"file": str(path), "bytes": path.stat().st_size, **_describe(path, console)}
    shown = {name: _readable(name, value) for name, value in data.items()}
    console.result(table(shown), data)


def _describe(path: Path, console: Console) -> dict[str, Any]:
    """What is in the file; its kind is told by the suffix, pictures by their content."""
    from zipsplat.formats import by_suffix
    from zipsplat.images import is_image_file
    from zipsplat.video import is_video_file
    from zipsplat.weights import SUFFIXES

    if is_video_file(path):
        return _video(path, console)
    if path.suffix.lower() in SUFFIXES:
        return _checkpoint(path)
    try:
        by_suffix(path)
    except ValueError as no_scene:
        try:
            return _picture(path)
        except ValueError as no_picture:
            if is_image_file(path):
                raise
            raise ValueError(f"{no_picture}; {no_scene}") from no_picture
    return _scene(path)


def _scene(path: Path) -> dict[str, Any]:
    import numpy as np

    from zipsplat.formats import by_suffix

    scene_format = by_suffix(path)
    with path.open("rb") as file:
        try:
            arrays = scene_format.read(file)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    every = [arrays.means, arrays.scales, arrays.quats, arrays.opacities, arrays.sh_coeffs]
    finite = np.isfinite(arrays.means).all(axis=1)
    means, count = arrays.means[finite], len(arrays.means)
    return {
        "kind": "scene",
        "format": scene_format.name,
        "gaussians": count,
        "sh_degree": arrays.sh_degree,
        "not_finite": int(sum((~np.isfinite(values)).sum() for values in every)),
        "center": _numbers(np.median(means, axis=0)) if len(means) else None,
        "low": _numbers(means.min(axis=0)) if len(means) else None,
        "high": _numbers(means.max(axis=0)) if len(means) else None,
        "median_scale": _number(np.median(arrays.scales)) if count else None,
        "median_opacity": _number(np.median(arrays.opacities)) if count else None,
        "bytes_per_gaussian": round(path.stat().st_size / count, 1) if count else None,
        "note": arrays.note or None,
    }


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
    except (ValueError, KeyError, IndexError, TypeError) as error:
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


def _picture(path: Path) -> dict[str, Any]:
    from zipsplat.images import image_info

    found = image_info(path)
    return {
        "kind": "picture",
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
    }


def _number(value: np.floating[Any]) -> float:
    return float(f"{float(value):.6g}")


def _numbers(values: np.ndarray) -> list[float]:
    return [_number(value) for value in values]


def _readable(name: str, value: object) -> object:
    if name == "bytes":
        return readable_bytes(int(str(value)))
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "nothing"
    return "unknown" if value is None else value
