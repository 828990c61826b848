"""`zipsplat reconstruct`: pictures or a video to scene files."""

from __future__ import annotations

import argparse
import functools
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zipsplat.cli.arguments import (
    FILM_SUFFIXES,
    add_device,
    add_masks,
    add_num_frames,
    add_overwrite,
    add_pictures,
    add_scene_outputs,
    check_outputs,
    check_suffix,
    color,
    count,
    mask_source,
    pixel_size,
    share,
)
from zipsplat.cli.compiling import await_kernels, compiling_images
from zipsplat.cli.console import Console, Stages, file_data, file_line
from zipsplat.cli.depth_start import (
    depth_start,
    load_depth_anything,
    reconstruct_from_depth,
)
from zipsplat.cli.posed_pictures import PosedPictures, cameras_or_none, on_device
from zipsplat.cli.refining import (
    DEFAULT_AMOUNT,
    add_refinement,
    amount,
    camera_file,
    compiling_meanwhile,
    refinement_data,
    refinement_lines,
    run_refinement,
    settings_of,
)
from zipsplat.cli.scene_files import BLACK, check_scene_file, is_page, write_scene

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from torch import Tensor

    from zipsplat.depth.predictor import DepthAnything
    from zipsplat.gaussians import Gaussians
    from zipsplat.inputs import MaskedViews
    from zipsplat.predictor import ZipSplat
    from zipsplat.refinement import RefinedScene
    from zipsplat.render.cpu.ahead import KernelsAhead

NAME = "reconstruct"
SUMMARY = "turn pictures or a video into a scene"
DESCRIPTION = """\
Reconstruct a scene of 3D Gaussians from pictures or a video with unknown cameras.

The scene is in the frame of the first picture's camera: x right, y down, z forward. Its scale is
arbitrary. The released weights (fetched on first use, 5.8 GB) are for non-commercial use only.
With --weights da3-small (137 MB, Apache-2.0) depth maps of Depth Anything 3 become the scene.

With --refine the scene is optimised until renderings match the pictures, on a CPU or a GPU. Cameras
are estimated by structure from motion, or read with --cameras. Gaussians are initialized from
stereo depth; with fewer than 8 pictures to train with, the scene of a network is added: that of the
bundled zipsplat-tiny, so nothing is fetched, or of --weights. Weights of Depth Anything 3 estimate
the cameras where structure from motion fails, and initialize the scene. Without any cameras you get
the network's scene as it is, with a warning. Ctrl-C keeps the best so far.
"""
EXAMPLES = """\
examples:
  zipsplat reconstruct photos/ -o scene.ply
  zipsplat reconstruct 'photos/IMG_2*.jpg' -o scene.ply -o scene.spz --compression 0.25
  zipsplat reconstruct clip.mp4 -o scene.ply --num-frames 12 --turntable orbit.mp4
  zipsplat reconstruct clip.mp4 -o scene.ply --refine
  zipsplat reconstruct photos/ -o scene.ply --refine 1500steps --hold-out 4
"""
KEEP = "keep"
RELEASED, SMALL = "zipsplat", "zipsplat-tiny"
# Pictures are read at a few times the network's size; more would not be seen.
_READ_FACTOR = 4
_LEAST_FACTOR = 2  # of the shorter side, whatever the shape


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_pictures(parser)
    add_scene_outputs(parser)
    parser.add_argument(
        "--compression",
        type=share,
        default=1.0,
        metavar="SHARE",
        help="share of the tokens to keep, in (0, 1]; fewer tokens, fewer Gaussians (default 1);"
        " with --refine, share of the default cap on Gaussians",
    )
    choice = parser.add_mutually_exclusive_group()
    add_num_frames(choice)
    choice.add_argument("--stride", type=count, metavar="N", help="use every N-th frame")
    parser.add_argument(
        "--weights",
        help="name, file, URL or Hugging Face 'organisation/repository' (default:"
        f" {RELEASED}; with --refine {SMALL}, which comes with this package)",
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
    add_masks(parser)
    parser.add_argument(
        "--turntable",
        type=Path,
        metavar="FILE.mp4",
        help="film the result: a turntable, or a wiggle if it surrounds the first camera as rooms"
        " do",
    )
    add_overwrite(parser)
    parser.add_argument(
        "--refine",
        type=amount,
        nargs="?",
        const=amount(DEFAULT_AMOUNT),
        metavar="AMOUNT",
        help=f"refine for this many seconds (default {DEFAULT_AMOUNT}) or steps (1500steps), which"
        " is reproducible bit for bit",
    )
    add_refinement(parser)


def run(options: argparse.Namespace, console: Console) -> None:
    """Reconstruct."""
    from zipsplat.devices import choose_device
    from zipsplat.inputs import find_inputs
    from zipsplat.masks import check_has_photos

    outputs = list(options.output)
    for path in outputs:
        check_scene_file(path)
    if options.turntable is not None:
        check_suffix(options.turntable, FILM_SUFFIXES)
        outputs.append(options.turntable)
    cameras = camera_file(options, outputs[0])
    may_write = outputs if options.refine is None else [*outputs, cameras]
    check_outputs(may_write, may_overwrite=options.overwrite)
    with _compiling(options) as kernels:
        found = find_inputs(options.inputs)  # mistakes show before anything heavy is loaded
        if mask_source(options) is not None:
            check_has_photos(found.video)
        choose_device(options.device)
        options.weights = options.weights or (RELEASED if options.refine is None else SMALL)
        made = _make(options, console)
        await_kernels(kernels, console)
    images = None if made.pictures is None else made.pictures.images
    with console.stage("writing"):
        for path in options.output:
            write_scene(path, made.gaussians, note=made.note, photos=images)
        if made.pictures is not None:
            made.pictures.write(cameras)
            outputs.append(cameras)
    if options.turntable is not None:
        _film(options, console, made)
    _report(options, console, made, outputs)


def _compiling(options: argparse.Namespace) -> AbstractContextManager[KernelsAhead | None]:
    """Kernels compiled meanwhile, if the scene will be rendered; refinement compiles its own."""
    renders = options.turntable is not None or any(is_page(path) for path in options.output)
    if options.refine is not None or not renders:
        return nullcontext()
    return compiling_images(options.device)


@dataclass(frozen=True)
class _Made:
    """What came out.

    Args:
        gaussians: (N,) the scene, on the CPU.
        num_views: pictures that it was made of.
        note: about the licence of the weights that took part.
        pictures: with their cameras, where these are known.
        refined: what a refinement told.
    """

    gaussians: Gaussians
    num_views: int
    note: str
    pictures: PosedPictures | None = None
    refined: RefinedScene | None = None


def _make(options: argparse.Namespace, console: Console) -> _Made:
    """The scene, refined if that was asked for and is possible."""
    from zipsplat.devices import choose_device
    from zipsplat.refinement.informed_start import informed_start
    from zipsplat.weights import licence_note

    depth_model = load_depth_anything(options, console)
    pictures = None
    if options.refine is not None:
        with compiling_meanwhile(options, options.inputs, console):
            pictures = cameras_or_none(options, console, depth_model)
    if pictures is None:
        views = _read(options, console)
        scene = _reconstruct(options, console, views, depth_model)
        return _Made(scene, len(views.images), licence_note(options.weights))
    photos = pictures.images
    settings = settings_of(options, options.refine, photos, options.compression)
    device = choose_device(options.device)
    if depth_model is not None:
        start = depth_start(depth_model, photos, settings, console)
    else:
        load = functools.partial(_load_network, options)
        with Stages(console) as stages:
            start = informed_start(load, photos, settings, stages.begin)
    note = "" if start is None else licence_note(options.weights)
    start = None if start is None else start.to(device)
    result = run_refinement(start, on_device(photos, device), settings, console)
    refined = pictures.refined(result)
    return _Made(result.gaussians.cpu(), len(photos), note, refined, result)


def _film(options: argparse.Namespace, console: Console, made: _Made) -> None:
    from zipsplat import viz
    from zipsplat.framing import best_sweep

    scene, background = made.gaussians, viz.WHITE if made.refined is None else BLACK
    with console.stage("filming", "frame") as report:
        sweep = best_sweep(scene, viz.FOV_DEG)
        look = viz.Look(bg=background)
        frames = viz.turntable_frames(scene, sweep_deg=sweep, look=look, report=report)
        viz.save_video(frames, options.turntable)


def _report(
    options: argparse.Namespace, console: Console, made: _Made, outputs: list[Path]
) -> None:
    """Print what came out."""
    lines = [f"{made.num_views} views, {made.gaussians.num_gaussians} Gaussians"]
    data = {
        "views": made.num_views,
        "gaussians": made.gaussians.num_gaussians,
        "compression": options.compression,
        "files": [file_data(path) for path in outputs],
        "seconds": console.seconds,
    }
    if made.refined is not None:
        lines += refinement_lines(made.refined)
        data["refinement"] = refinement_data(made.refined)
    console.result([*lines, *(file_line(path) for path in outputs)], data)


def _read(options: argparse.Namespace, console: Console) -> MaskedViews:
    from zipsplat.inputs import load_masked_views

    has_size = options.image_size not in (None, KEEP)
    longest = max(options.image_size) if has_size else 252
    with console.stage("reading pictures", "frame") as report:
        return load_masked_views(
            options.inputs,
            mask_source(options),
            num_frames=options.num_frames,
            stride=options.stride,
            max_side=_READ_FACTOR * longest,
            min_side=_LEAST_FACTOR * longest,
            background=options.background,
            skip_bad=options.skip_bad,
            report=report,
        )


def _load_network(options: argparse.Namespace, first: Tensor) -> ZipSplat:
    """The network, for pictures of the first one's shape."""
    from zipsplat.images import aspect_size
    from zipsplat.predictor import ZipSplat

    size = options.image_size
    if size == KEEP:
        size = aspect_size(first.shape[-2], first.shape[-1])
    return ZipSplat(weights=options.weights, device=options.device, image_size=size)


def _reconstruct(
    options: argparse.Namespace,
    console: Console,
    views: MaskedViews,
    depth_model: DepthAnything | None,
) -> Gaussians:
    if depth_model is not None:
        return reconstruct_from_depth(depth_model, views, options.compression, console)
    with console.stage("loading weights"):
        model = _load_network(options, views.images[0])
    with console.stage("reconstructing"):
        scenes: Gaussians = model(views.images, compression=options.compression, masks=views.masks)
        return scenes[0].cpu()


def _image_size(text: str) -> tuple[int, int] | str:
    return KEEP if text == KEEP else pixel_size(text)
