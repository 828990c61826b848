"""`zipsplat render`: render a scene file to a video or an image."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from zipsplat.cli.arguments import (
    MOVING_SUFFIXES,
    STILL_SUFFIXES,
    add_device,
    add_overwrite,
    check_outputs,
    check_suffix,
    color,
)
from zipsplat.cli.compiling import await_kernels, compiling_images
from zipsplat.cli.console import Console, file_data, file_line
from zipsplat.option_types import count, pixel_size, positive

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from zipsplat.camera import Camera
    from zipsplat.gaussians import Gaussians
    from zipsplat.pose import Pose
    from zipsplat.progress import Report
    from zipsplat.render.cpu.ahead import KernelsAhead

NAME = "render"
SUMMARY = "render a video of a scene"
DESCRIPTION = """\
Render a scene file to an H.264 video, an animation, or one image.

A camera path is a JSON file {"world_from_camera": [4×4, …], "fov_deg": 60} with rigid matrices as
lists of rows, in OpenCV axes (x right, y down, z forward). Each of its cameras is one frame; with
--frames the path is interpolated smoothly to that length.
"""
EXAMPLES = """\
examples:
  zipsplat render scene.ply -o orbit.mp4
  zipsplat render scene.ply -o wiggle.mp4 --path wiggle --size 640x360
  zipsplat render scene.ply -o depth.mp4 --mode depth --frames 60
  zipsplat render scene.ply -o still.png --elevation 20
"""
AUTO, TURNTABLE, WIGGLE = "auto", "turntable", "wiggle"
DEFAULT_FRAMES = 180
DEFAULT_FOV_DEG = 55.0  # as in `viz.turntable`


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("scene", type=Path, metavar="SCENE", help="scene file")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="video (.mp4, …), animation (.gif, or .webp with --frames), or the first frame as an"
        " image (.png, …)",
    )
    parser.add_argument(
        "--path",
        default=AUTO,
        help=f"{TURNTABLE}, {WIGGLE}, a JSON file, or {AUTO} (default): a wiggle if the scene"
        " surrounds the first camera, as rooms do, else a turntable",
    )
    parser.add_argument(
        "--size", type=pixel_size, default=(512, 512), help="pixels: 512 (default) or WIDTHxHEIGHT"
    )
    parser.add_argument("--frames", type=count, help=f"number of frames (default {DEFAULT_FRAMES})")
    parser.add_argument("--fps", type=positive, default=30.0, help="frames per second (default 30)")
    parser.add_argument(
        "--fov",
        type=_fov,
        metavar="DEGREES",
        help=f"horizontal field of view (default {DEFAULT_FOV_DEG:g})",
    )
    parser.add_argument(
        "--elevation", type=float, default=0.0, metavar="DEGREES", help="elevation (default 0)"
    )
    parser.add_argument(
        "--mode", choices=("rgb", "depth"), default="rgb", help="colours (default) or depth"
    )
    parser.add_argument(
        "--background", type=color, default=(1.0, 1.0, 1.0), metavar="COLOR", help="default: white"
    )
    parser.add_argument(
        "--color-by-group",
        type=count,
        metavar="SIZE",
        help="one colour for each run of SIZE Gaussians; 32 shows the tokens",
    )
    parser.add_argument("--renderer", default="auto", help="auto (default), cuda, cpu, reference")
    add_device(parser)
    add_overwrite(parser)


def run(options: argparse.Namespace, console: Console) -> None:
    """Render."""
    check_suffix(options.output, (*MOVING_SUFFIXES, *STILL_SUFFIXES))
    check_outputs([options.output], may_overwrite=options.overwrite)
    with compiling_images(options.device, options.renderer) as kernels:
        _render(options, console, kernels)


def _render(options: argparse.Namespace, console: Console, kernels: KernelsAhead | None) -> None:
    from zipsplat import viz
    from zipsplat.gaussians import Gaussians
    from zipsplat.predictor import choose_device

    suffix = options.output.suffix.lower()
    is_still = suffix in STILL_SUFFIXES and not (suffix == ".webp" and options.frames)
    with console.stage("reading"):
        scene = Gaussians.load(options.scene).to(choose_device(options.device))
    if options.color_by_group is not None:
        scene = scene.color_by_group(options.color_by_group)
    camera, poses = _views(options, scene)
    poses = poses[:1] if is_still else poses
    await_kernels(kernels, console)
    with console.stage("filming", "frame") as report:
        frames = _frames(options, scene, camera, poses, report)
        if is_still:
            viz.save_image(next(frames), options.output)
        else:
            viz.save_video(frames, options.output, options.fps)
    console.result(
        [f"{scene.num_gaussians} Gaussians, {len(poses)} frames", file_line(options.output)],
        {
            "gaussians": scene.num_gaussians,
            "frames": len(poses),
            "files": [file_data(options.output)],
            "seconds": console.seconds,
        },
    )


def _views(options: argparse.Namespace, scene: Gaussians) -> tuple[Camera, Pose]:
    """The camera and its poses."""
    from zipsplat import viz
    from zipsplat.camera import Camera
    from zipsplat.framing import best_sweep
    from zipsplat.trajectories import interpolate_poses, load_camera_path

    fov_deg, poses = options.fov, None
    if options.path not in (AUTO, TURNTABLE, WIGGLE):
        path = load_camera_path(options.path)
        poses, fov_deg = path.poses, fov_deg or path.fov_deg
        if options.frames is not None:
            poses = interpolate_poses(poses, options.frames)
    height, width = options.size
    camera = Camera.from_fov(math.radians(fov_deg or DEFAULT_FOV_DEG), w=width, h=height)
    if poses is None:
        narrower_deg = math.degrees(min(float(camera.hfov), float(camera.vfov)))
        turns = {TURNTABLE: 360.0, WIGGLE: None, AUTO: best_sweep(scene, narrower_deg)}
        poses = viz.camera_orbit(
            scene,
            options.frames or DEFAULT_FRAMES,
            fov_deg=narrower_deg,
            sweep_deg=turns[options.path],
            elevation_deg=options.elevation,
        )
    return camera, poses


def _frames(
    options: argparse.Namespace, scene: Gaussians, camera: Camera, poses: Pose, report: Report
) -> Iterator[np.ndarray]:
    """The frames; in depth mode each has a legend below."""
    import numpy as np

    from zipsplat import viz

    nearest_farthest = viz.depth_range(scene, poses)
    look = viz.Look(
        mode=options.mode,
        bg=options.background,
        renderer=options.renderer,
        depth_range=nearest_farthest,
    )
    frames = viz.render_frames(scene, camera, poses, look, report)
    if options.mode == "rgb":
        return frames
    legend = viz.depth_legend(*nearest_farthest, width=options.size[1])
    return (np.concatenate([frame, legend]) for frame in frames)


def _fov(text: str) -> float:
    value = positive(text)
    if value >= 180:
        raise argparse.ArgumentTypeError(f"wanted degrees below 180, got {text!r}")
    return value
