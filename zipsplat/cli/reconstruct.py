"""`zipsplat reconstruct`: scene files from images or a video."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zipsplat.cli.arguments import (
    MOVING_SUFFIXES,
    add_device,
    add_num_frames,
    add_overwrite,
    add_photos,
    add_scene_outputs,
    check_outputs,
    check_suffix,
    color,
)
from zipsplat.cli.compiling import await_kernels, compiling_images
from zipsplat.cli.console import Console, Stages, file_data, file_line, readable_bytes
from zipsplat.cli.depth_start import (
    depth_start,
    load_depth_anything,
    reconstruct_from_depth,
)
from zipsplat.cli.expectation import (
    ANNOUNCED_FROM_S,
    download_bytes,
    expected,
    expected_line,
    release_config,
)
from zipsplat.cli.posed_photos import PosedPhotos, cameras_or_none, on_device
from zipsplat.cli.scene_output import BLACK, check_scene_file, is_page, write_scene
from zipsplat.cli.shared_refinement import (
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
from zipsplat.command_line import add_dtype
from zipsplat.mask_options import add_masks, mask_source
from zipsplat.option_types import count, pixel_size, share

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
SUMMARY = "turn images or a video into a scene"
DESCRIPTION = """\
Reconstruct a scene of 3D Gaussians from images or a video with unknown cameras.

The scene is in the frame of the first image's camera: x right, y down, z forward. Its scale is
arbitrary. The released weights (fetched on first use, 5.8 GB) are for non-commercial use only.
With --weights da3-small (137 MB, Apache-2.0) the scene is unprojected from the depth maps of
Depth Anything 3.

With --refine the scene is optimised until it renders like the images, on a CPU or a GPU. Cameras
come from structure from motion or --cameras. Gaussians are initialized from stereo depth; with
fewer than 8 training images the scene of a network is added: of the bundled zipsplat-tiny, which
needs no download, or of --weights. Depth Anything 3 also estimates the cameras where structure
from motion fails. Without cameras you get the network's scene unrefined, with a warning. Ctrl-C
keeps the best scene so far.
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
# Images are read at a few times the network's size; it resizes them anyway.
_READ_FACTOR = 4
_LEAST_FACTOR = 2  # of the shorter side, for any aspect ratio


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_photos(parser)
    add_scene_outputs(parser)
    parser.add_argument(
        "--compression",
        type=share,
        default=1.0,
        metavar="SHARE",
        help="share of tokens to keep, in (0, 1]; fewer tokens give fewer Gaussians (default 1);"
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
    add_dtype(parser)
    parser.add_argument(
        "--image-size",
        type=_image_size,
        metavar="SIZE",
        help="input size of the network: side of a square crop (default: the training size of the"
        " weights, 252 for the released ones), WIDTHxHEIGHT in multiples of 14,"
        f" or '{KEEP}' (aspect ratio of the first image, shorter side 252)",
    )
    parser.add_argument(
        "--background",
        type=color,
        default=(1.0, 1.0, 1.0),
        metavar="COLOR",
        help="colour behind transparent images (default white)",
    )
    parser.add_argument("--skip-bad", action="store_true", help="leave out unreadable images")
    add_masks(parser)
    parser.add_argument(
        "--turntable",
        type=Path,
        metavar="FILE.mp4",
        help="also write a video: a turntable, or a wiggle if the scene surrounds the first camera,"
        " as rooms do",
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
        check_suffix(options.turntable, MOVING_SUFFIXES)
        outputs.append(options.turntable)
    cameras = camera_file(options, outputs[0])
    may_write = outputs if options.refine is None else [*outputs, cameras]
    check_outputs(may_write, may_overwrite=options.overwrite)
    with _compiling(options) as kernels:
        found = find_inputs(options.inputs)  # errors show before anything heavy is loaded
        if mask_source(options) is not None:
            check_has_photos(found.video)
        choose_device(options.device)
        options.weights = options.weights or (RELEASED if options.refine is None else SMALL)
        made = _make(options, console)
        await_kernels(kernels, console)
    images = None if made.posed is None else made.posed.images
    with console.stage("writing"):
        for path in options.output:
            write_scene(path, made.gaussians, note=made.note, photos=images)
        if made.posed is not None:
            made.posed.write(cameras)
            outputs.append(cameras)
    if options.turntable is not None:
        _record(options, console, made)
    _report(options, console, made, outputs)


def _compiling(options: argparse.Namespace) -> AbstractContextManager[KernelsAhead | None]:
    """Kernels compiled meanwhile, if the scene will be rendered; refinement compiles its own."""
    renders = options.turntable is not None or any(is_page(path) for path in options.output)
    if options.refine is not None or not renders:
        return nullcontext()
    return compiling_images(options.device)


@dataclass(frozen=True)
class _Reconstructed:
    """The result of a reconstruction.

    Args:
        gaussians: (N,) the scene, on the CPU.
        num_views: number of images used.
        note: licence note of the weights used.
        posed: the photos with their cameras, if known.
        refined: the result of the refinement, if there was one.
    """

    gaussians: Gaussians
    num_views: int
    note: str
    posed: PosedPhotos | None = None
    refined: RefinedScene | None = None


def _make(options: argparse.Namespace, console: Console) -> _Reconstructed:
    """Make the scene; refine it if asked to and possible."""
    from zipsplat.devices import choose_device
    from zipsplat.refinement.informed_start import informed_start
    from zipsplat.weights import licence_note

    depth_model = load_depth_anything(options, console)
    posed = None
    if options.refine is not None:
        with compiling_meanwhile(options, options.inputs, console):
            posed = cameras_or_none(options, console, depth_model)
    if posed is None:
        views = _read(options, console)
        scene = _reconstruct(options, console, views, depth_model)
        return _Reconstructed(scene, len(views.images), licence_note(options.weights))
    photos = posed.images
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
    refined = posed.refined(result)
    return _Reconstructed(result.gaussians.cpu(), len(photos), note, refined, result)


def _record(options: argparse.Namespace, console: Console, made: _Reconstructed) -> None:
    from zipsplat import viz
    from zipsplat.framing import best_sweep, video_camera

    scene, background = made.gaussians, viz.WHITE if made.refined is None else BLACK
    with console.stage("filming", "frame") as report:
        sweep = best_sweep(scene, viz.FOV_DEG)
        look = viz.Look(bg=background)
        camera = None
        if sweep is None and made.posed is not None:
            camera = video_camera(made.posed.images.cameras[0])
        frames = viz.turntable_frames(
            scene, sweep_deg=sweep, camera=camera, look=look, report=report
        )
        viz.save_video(frames, options.turntable)


def _report(
    options: argparse.Namespace, console: Console, made: _Reconstructed, outputs: list[Path]
) -> None:
    """Print the result."""
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
    with console.stage("reading images", "frame") as report:
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
    """Load the network for images of the shape of the first."""
    from zipsplat.images import aspect_size
    from zipsplat.predictor import ZipSplat

    size = options.image_size
    if size == KEEP:
        size = aspect_size(first.shape[-2], first.shape[-1])
    return ZipSplat(options.weights, options.device, options.dtype, size)


def _reconstruct(
    options: argparse.Namespace,
    console: Console,
    views: MaskedViews,
    depth_model: DepthAnything | None,
) -> Gaussians:
    if depth_model is not None:
        return reconstruct_from_depth(depth_model, views, options.compression, console)
    is_announced = _announce_release(options, console, views.images)
    with console.stage("loading weights"):
        model = _load_network(options, views.images[0])
    if not is_announced:
        _announce_network(options, console, model, views.images)
    with console.stage("reconstructing"):
        scenes: Gaussians = model(views.images, compression=options.compression, masks=views.masks)
        return scenes[0].cpu()


def _announce_release(
    options: argparse.Namespace, console: Console, images: Sequence[Tensor]
) -> bool:
    """Print what a network will take before it is fetched; False if it is not a release."""
    from zipsplat.devices import choose_device
    from zipsplat.releases import RELEASES

    release = RELEASES.get(options.weights)
    config = None if release is None else release_config(release)
    if release is None or config is None:
        return False
    if not release.is_fetched:
        console.say(f"{options.weights}: {readable_bytes(download_bytes(config))} to download")
    if choose_device(options.device).type != "cpu":
        return True
    height, width = images[0].shape[-2:]
    size = release.size.for_image(height, width, config.backbone.patch_size)
    if isinstance(options.image_size, tuple):
        size = options.image_size
    found = expected(config, len(images), size, options.dtype, options.compression)
    console.say(expected_line(found))
    return True


def _announce_network(
    options: argparse.Namespace, console: Console, model: ZipSplat, images: Sequence[Tensor]
) -> None:
    """Print what other weights will take, once they are read, if that is long."""
    if model.device.type != "cpu":
        return
    fitted = model.preprocessor.fitted(images[0])
    size = (fitted.height, fitted.width)
    found = expected(model.model.config, len(images), size, options.dtype, options.compression)
    if found["seconds"] >= ANNOUNCED_FROM_S:
        console.say(expected_line(found))


def _image_size(text: str) -> tuple[int, int] | str:
    return KEEP if text == KEEP else pixel_size(text)
