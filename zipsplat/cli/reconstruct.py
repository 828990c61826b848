"""`zipsplat reconstruct`: pictures or a video to scene files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from zipsplat.cli.arguments import (
    FILM_SUFFIXES,
    add_device,
    add_overwrite,
    check_outputs,
    check_suffix,
    color,
    count,
    pixel_size,
    share,
)
from zipsplat.cli.console import Console, file_data, file_line
from zipsplat.cli.scene_files import check_scene_file, write_scene

if TYPE_CHECKING:
    from torch import Tensor

    from zipsplat.gaussians import Gaussians

NAME = "reconstruct"
SUMMARY = "pictures or a video to a 3D scene"
DESCRIPTION = """\
Reconstruct a scene of 3D Gaussians from pictures or a video, without knowing any cameras.

The scene is in the frame of the first picture's camera: x right, y down, z forward. Its scale is
arbitrary. The released weights (fetched on first use, 5.8 GB) are for non-commercial use only.
"""
EXAMPLES = """\
examples:
  zipsplat reconstruct photos/ -o scene.ply
  zipsplat reconstruct 'photos/IMG_2*.jpg' -o scene.ply -o scene.spz --compression 0.25
  zipsplat reconstruct clip.mp4 -o scene.ply --num-frames 12 --turntable orbit.mp4
"""
KEEP = "keep"
# Pictures are read at a few times the network's size; more would not be seen.
_READ_FACTOR = 4
_LEAST_FACTOR = 2  # of the shorter side, whatever the shape


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="pictures, a folder, a quoted pattern, or one video",
    )
    parser.add_argument(
        "-o",
        "--output",
        action="append",
        required=True,
        type=Path,
        metavar="FILE",
        help="scene file or page.html, the suffix is the format; may be repeated",
    )
    parser.add_argument(
        "--compression",
        type=share,
        default=1.0,
        metavar="SHARE",
        help="share of the tokens to keep, in (0, 1]; fewer tokens, fewer Gaussians (default 1)",
    )
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--num-frames",
        type=count,
        metavar="N",
        help="use N frames, evenly spaced (default: 24 of a video, all of pictures)",
    )
    choice.add_argument("--stride", type=count, metavar="N", help="use every N-th frame")
    parser.add_argument(
        "--weights",
        default="zipsplat",
        help="name, file, http(s) address or Hugging Face 'organisation/repository'",
    )
    add_device(parser)
    parser.add_argument(
        "--image-size",
        type=_image_size,
        metavar="SIZE",
        help="what the network sees: the side of a square crop (default: what the weights were "
        "trained at, 252 for the released ones), WIDTHxHEIGHT in multiples of 14,"
        f" or '{KEEP}' (the first picture's shape, shorter side 252)",
    )
    parser.add_argument(
        "--background",
        type=color,
        default=(1.0, 1.0, 1.0),
        metavar="COLOR",
        help="what shows through transparent pictures (default white)",
    )
    parser.add_argument("--skip-bad", action="store_true", help="leave out unreadable pictures")
    parser.add_argument(
        "--turntable",
        type=Path,
        metavar="FILE.mp4",
        help="film the result: around it, or a wiggle if it surrounds the first camera as rooms do",
    )
    add_overwrite(parser)


def run(options: argparse.Namespace, console: Console) -> None:
    """Reconstruct."""
    from zipsplat.inputs import find_inputs
    from zipsplat.predictor import choose_device
    from zipsplat.weights import licence_note

    outputs = list(options.output)
    for path in outputs:
        check_scene_file(path)
    if options.turntable is not None:
        check_suffix(options.turntable, FILM_SUFFIXES)
        outputs.append(options.turntable)
    check_outputs(outputs, may_overwrite=options.overwrite)
    find_inputs(options.inputs)  # mistakes show before anything heavy is loaded
    choose_device(options.device)
    views = _read(options, console)
    gaussians = _reconstruct(options, console, views)
    with console.stage("writing"):
        for path in options.output:
            write_scene(path, gaussians, note=licence_note(options.weights))
    if options.turntable is not None:
        from zipsplat import viz
        from zipsplat.framing import best_sweep

        with console.stage("filming", "frame") as report:
            sweep = best_sweep(gaussians, viz.FOV_DEG)
            viz.turntable(gaussians, options.turntable, sweep_deg=sweep, report=report)
    console.result(
        [
            f"{len(views)} views, {gaussians.num_gaussians} Gaussians",
            *(file_line(path) for path in outputs),
        ],
        {
            "views": len(views),
            "gaussians": gaussians.num_gaussians,
            "compression": options.compression,
            "files": [file_data(path) for path in outputs],
            "seconds": console.seconds,
        },
    )


def _read(options: argparse.Namespace, console: Console) -> list[Tensor]:
    from zipsplat.inputs import load_views

    has_size = options.image_size not in (None, KEEP)
    longest = max(options.image_size) if has_size else 252
    with console.stage("reading pictures", "frame") as report:
        return load_views(
            options.inputs,
            num_frames=options.num_frames,
            stride=options.stride,
            max_side=_READ_FACTOR * longest,
            min_side=_LEAST_FACTOR * longest,
            background=options.background,
            skip_bad=options.skip_bad,
            report=report,
        )


def _reconstruct(options: argparse.Namespace, console: Console, views: list[Tensor]) -> Gaussians:
    from zipsplat.images import aspect_size
    from zipsplat.predictor import ZipSplat

    size = options.image_size
    if size == KEEP:
        size = aspect_size(views[0].shape[-2], views[0].shape[-1])
    with console.stage("loading weights"):
        model = ZipSplat(weights=options.weights, device=options.device, image_size=size)
    with console.stage("reconstructing"):
        scenes: Gaussians = model(views, compression=options.compression)
        return scenes[0].cpu()


def _image_size(text: str) -> tuple[int, int] | str:
    return KEEP if text == KEEP else pixel_size(text)
