"""`zipsplat cameras`: estimate the cameras of photos or a video, as files for other tools."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zipsplat.cli.arguments import add_num_frames, add_overwrite, add_photos, check_outputs
from zipsplat.cli.console import Console, Stages, file_data, file_line
from zipsplat.command_line import add_dtype
from zipsplat.option_types import count, positive

if TYPE_CHECKING:
    from zipsplat.camera_estimation import CameraEstimate
    from zipsplat.depth.predictor import DepthAnything
    from zipsplat.predictor import ZipSplat

NAME = "cameras"
SUMMARY = "estimate cameras; write COLMAP, nerfstudio and 3DGS files"
DESCRIPTION = """\
Estimate the cameras of photos or a video by structure from motion (on the CPU) or by a network.

-o takes
  a folder          images/ (undistorted), sparse/0 (COLMAP), transforms.json (nerfstudio),
                    cameras.json (3DGS viewers) and points.ply, the layout that trainers expect
  transforms.json   nerfstudio, refers to the original photos; points.ply is written beside it
  NAME.json         the cameras.json of 3DGS viewers

The first camera is at the origin; the median depth of the points is 1. Structure from motion needs
the extra zipsplat[cameras].
"""
EXAMPLES = """\
examples:
  zipsplat cameras photos/ -o house/
  zipsplat cameras clip.mp4 -o house/ --num-frames 40
  zipsplat cameras photos/ -o cameras.json --focal-35mm 26
  zipsplat cameras two_photos/ -o cameras.json --method da3   # 137 MB, Apache-2.0
"""
NETWORKS = {"da3": "da3-small", "network": "zipsplat-tiny"}
"""Methods that use a network, with their default weights."""
_TRANSFORMS = "transforms.json"
_FULL_FRAME_WIDTH_MM = 36.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_photos(parser)
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="OUT", help="folder or .json; see above"
    )
    parser.add_argument(
        "--method",
        choices=("auto", "sfm", *NETWORKS),
        default="auto",
        help="sfm: structure from motion; da3: Depth Anything 3; network: from the geometry that"
        " ZipSplat predicts, if it passes checks; auto (default): sfm, then the network of"
        " --weights if sfm fails",
    )
    parser.add_argument(
        "--weights",
        help="weights of the network: name, file, URL or Hugging Face repository (default:"
        f" {NETWORKS['da3']} with --method da3, {NETWORKS['network']} with --method network)",
    )
    parser.add_argument(
        "--focal-35mm",
        type=positive,
        metavar="MM",
        help="fix the focal length, as 35 mm equivalent (phones about 26, drones about 24)",
    )
    add_num_frames(parser)
    parser.add_argument(
        "--max-side",
        type=count,
        default=960,
        metavar="PIXELS",
        help="longer side of the written images (default 960)",
    )
    parser.add_argument(
        "--order",
        choices=("any", "sequence"),
        default="any",
        help="sequence: photos in the order of a walk or flight; with more than 24 photos only"
        " nearby pairs are matched",
    )
    parser.add_argument(
        "--threads", type=count, metavar="N", help="CPU threads (default: all processors)"
    )
    add_dtype(parser)
    add_overwrite(parser)


def run(options: argparse.Namespace, console: Console) -> None:
    """Estimate and write cameras."""
    from zipsplat.camera_estimation import estimate_cameras
    from zipsplat.inputs import find_inputs

    found = find_inputs(options.inputs)
    files = found.images or (None,)
    _check_output(options, [file for file in files if file is not None], found.video is not None)
    weights = options.weights or NETWORKS.get(options.method)
    model = None if weights is None else load_network(weights, options.dtype, console)
    with Stages(console) as stages:
        estimate = estimate_cameras(
            options.inputs,
            method="network" if options.method in NETWORKS else options.method,
            model=model,
            order=options.order,
            focal_35mm=options.focal_35mm,
            num_frames=options.num_frames,
            max_side=options.max_side,
            num_threads=options.threads,
            on_stage=stages.begin,
        )
        stages.begin("writing")
        written = _write(options.output, estimate)
    console.result(
        [*_lines(estimate), *map(_output_line, written)], _data(estimate, written, console)
    )


def load_network(weights: str, dtype: str, console: Console) -> ZipSplat | DepthAnything:
    """Load ZipSplat or Depth Anything 3, whichever the weights belong to."""
    from zipsplat.depth.predictor import DepthAnything
    from zipsplat.depth.unprojection import is_depth_anything
    from zipsplat.predictor import ZipSplat

    with console.stage("loading weights"):
        kind = DepthAnything if is_depth_anything(weights) else ZipSplat
        return kind(weights, dtype=dtype)


def _check_output(options: argparse.Namespace, photos: list[Path], is_video: bool) -> None:
    """Reject outputs that cannot or should not be written, before any work is done.

    Raises:
        ValueError: as `check_outputs`, or if the folder is not empty.
    """
    from zipsplat.camera_estimation.write import POINTS, check_transforms

    output: Path = options.output
    if output.suffix.lower() == ".json" and not output.is_dir():
        names = [output]
        if output.name == _TRANSFORMS:
            check_transforms([None] if is_video else photos)
            names.append(output.with_name(POINTS))
        check_outputs(names, may_overwrite=options.overwrite)
        return
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output}: is neither a folder nor named .json")
    if any(output.resolve() in photo.resolve().parents for photo in photos):
        raise ValueError(f"{output}: contains the input photos; give another folder")
    if output.is_dir() and any(output.iterdir()) and not options.overwrite:
        raise ValueError(f"{output}: is not empty; --overwrite replaces files of this command")
    check_outputs([output / _TRANSFORMS], may_overwrite=True)


def _write(output: Path, estimate: CameraEstimate) -> list[Path]:
    """Write the cameras and return the paths written."""
    from zipsplat.camera_estimation.write import (
        POINTS,
        write_cameras_json,
        write_dataset,
        write_transforms,
    )

    if output.suffix.lower() != ".json" or output.is_dir():
        write_dataset(output, estimate.images)
        return [output]
    if output.name == _TRANSFORMS:
        write_transforms(output, estimate)
        return [output, output.with_name(POINTS)]
    write_cameras_json(output, estimate.images, estimate.lenses)
    return [output]


def _lines(estimate: CameraEstimate) -> list[str]:
    placed, total = len(estimate.images), len(estimate.images) + len(estimate.left_out)
    points = estimate.images.points
    factors = sorted({lens.focal_factor for lens in estimate.lenses})
    error = estimate.reprojection_error
    solved = (
        "by the network"
        if error is None
        else (
            f"{0 if points is None else len(points)} points, mean reprojection error {error:.2f} px"
        )
    )
    return [
        f"{placed} of {total} photos registered, {solved}",
        *(
            f"field of view {_fov_deg(factor):.0f} degrees along the longer side,"
            f" {factor * _FULL_FRAME_WIDTH_MM:.1f} mm (35 mm equivalent)"
            for factor in factors
        ),
        *(f"left out {photo.name}: {photo.reason}" for photo in estimate.left_out),
        *(f"warning: {warning}" for warning in estimate.warnings),
    ]


def _data(estimate: CameraEstimate, written: list[Path], console: Console) -> dict[str, Any]:
    points = estimate.images.points
    return {
        "placed": list(estimate.images.names),
        "left_out": {photo.name: photo.reason for photo in estimate.left_out},
        "points": 0 if points is None else len(points),
        "reprojection_error_px": estimate.reprojection_error,
        "focal_35mm": [lens.focal_factor * _FULL_FRAME_WIDTH_MM for lens in estimate.lenses],
        "method": estimate.method,
        "mapper": estimate.mapper,
        "warnings": list(estimate.warnings),
        "files": [{"path": str(path)} if path.is_dir() else file_data(path) for path in written],
        "seconds": console.seconds,
    }


def _fov_deg(focal_factor: float) -> float:
    return math.degrees(2 * math.atan(0.5 / focal_factor))


def _output_line(path: Path) -> str:
    return f"{path}/" if path.is_dir() else file_line(path)
