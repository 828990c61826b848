"""`zipsplat depth`: predict depth maps and cameras of images or a video."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from zipsplat.cli.arguments import (
    add_device,
    add_num_frames,
    add_overwrite,
    add_photos,
    check_outputs,
)
from zipsplat.cli.console import Console
from zipsplat.command_line import add_dtype
from zipsplat.option_types import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

NAME = "depth"
SUMMARY = "predict depth maps and cameras"
DESCRIPTION = """\
Predict depth, confidence and cameras of images with Depth Anything 3.

For each image the folder gets NAME.depth.png (16 bits; depth = value x depth_scale of
cameras.json), NAME.depth.npz (float32: depth, confidence, K, world_from_camera) and NAME.color.png
(near is bright). cameras.json also works with `zipsplat render --path`. All depth maps share one
arbitrary scale; with --weights da3nested-giant-large depth is in metres. da3-small and da3-base
are under Apache-2.0, the larger weights for non-commercial use only.
"""
EXAMPLES = """\
examples:
  zipsplat depth photos/ -o depth/
  zipsplat depth clip.mp4 -o depth/ --num-frames 8 --weights da3-base --points
"""
_READ_FACTOR = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_photos(parser)
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="DIR", help="folder to write to"
    )
    add_num_frames(parser)
    parser.add_argument(
        "--weights",
        default="da3-small",
        help="name, file, URL or Hugging Face 'organisation/repository' (default da3-small)",
    )
    parser.add_argument(
        "--long-side",
        type=count,
        default=504,
        metavar="PIXELS",
        help="longer side of the network's input, a multiple of 14 (default 504)",
    )
    parser.add_argument(
        "--points", action="store_true", help="also write a point cloud, points.ply"
    )
    add_device(parser)
    add_dtype(parser)
    add_overwrite(parser)


def run(options: argparse.Namespace, console: Console) -> None:
    """Predict depth."""
    from zipsplat.depth.export import POINTS_NAME, map_names, write_depth, write_points
    from zipsplat.depth.predictor import DepthAnything
    from zipsplat.weights import licence_note

    folder: Path = options.output
    names = _names(options)
    files = [folder / name for name in map_names(names, options.points)]
    check_outputs(files, may_overwrite=options.overwrite)
    views = _read(options, console)
    names = names[: len(views)]  # a video with a damaged end gives fewer frames
    with console.stage("loading weights"):
        model = DepthAnything(options.weights, options.device, options.dtype, options.long_side)
    with console.stage("predicting depth"):
        depth = model(views)
    note = licence_note(options.weights)
    points = None
    if options.points:
        from zipsplat.depth.unprojection import points_of

        points = points_of(depth)  # may fail, so before anything is written
    with console.stage("writing"):
        write_depth(folder, depth, names, note)
        if points is not None:
            write_points(folder / POINTS_NAME, points, note)
    height, width = depth.depth.shape[-2:]
    lines = [f"{len(views)} depth maps of {width}x{height} pixels in {folder}"]
    console.result(
        [*lines, *([note] if note else [])],
        {
            "views": len(views),
            "width": width,
            "height": height,
            "points": None if points is None else len(points.positions),
            "files": [str(file) for file in files],
            "note": note or None,
            "seconds": console.seconds,
        },
    )


def _names(options: argparse.Namespace) -> list[str]:
    """A unique name for each image used."""
    from zipsplat.inputs import DEFAULT_VIDEO_FRAMES, find_inputs
    from zipsplat.video import frame_indices, video_info

    files = find_inputs(options.inputs)
    if files.video is not None:
        total = video_info(files.video).num_frames
        indices = frame_indices(total, options.num_frames or DEFAULT_VIDEO_FRAMES)
        return [f"{files.video.stem}-{number:03d}" for number in range(len(indices))]
    total = len(files.images)
    chosen = [files.images[i] for i in frame_indices(total, options.num_frames or total)]
    return _distinct([path.stem for path in chosen])


def _distinct(stems: Sequence[str]) -> list[str]:
    if len(set(stems)) == len(stems):
        return list(stems)
    return [f"{number:03d}-{stem}" for number, stem in enumerate(stems)]


def _read(options: argparse.Namespace, console: Console) -> list[Tensor]:
    from zipsplat.inputs import load_views

    with console.stage("reading images", "frame") as report:
        return load_views(
            options.inputs,
            num_frames=options.num_frames,
            max_side=_READ_FACTOR * options.long_side,
            report=report,
        )
