"""`zipsplat refine`: optimise a scene against its photos, or build one from photos alone."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from zipsplat.cli.arguments import (
    add_device,
    add_num_frames,
    add_overwrite,
    add_scene_outputs,
    check_outputs,
)
from zipsplat.cli.console import Console, file_data, file_line
from zipsplat.cli.posed_photos import (
    AUTO,
    PosedPhotos,
    found_cameras,
    known_cameras,
    on_device,
)
from zipsplat.cli.scene_output import check_scene_file, write_scene
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
from zipsplat.mask_options import add_masks, mask_source

if TYPE_CHECKING:
    from zipsplat.gaussians import Gaussians

NAME = "refine"
SUMMARY = "optimise a scene against its photos"
DESCRIPTION = """\
Optimise a scene until it renders like its photos, or make a scene from photos alone.

A scene file needs the cameras of the photos in the scene's coordinates: --cameras, or
NAME.cameras.json or cameras.json beside the scene, as `zipsplat reconstruct --refine` and
`zipsplat refine` write them. Without a scene file, cameras come from structure from motion or
--cameras, and Gaussians are initialized from stereo depth.

The result is never worse than the start, by PSNR on the held-out photos or, without them, on the
training photos. Ctrl-C keeps the best scene so far. No network and no weights are needed.
"""
EXAMPLES = """\
examples:
  zipsplat refine photos/ -o scene.ply
  zipsplat refine clip.mp4 -o scene.ply --time 60 --refine-size 848
  zipsplat refine scene.ply photos/ -o better.ply   # cameras of scene.cameras.json
  zipsplat refine --cameras colmap_project/ -o scene.ply --time 1500steps
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="[SCENE] INPUT",
        help="a scene file to start from, then images, a folder, a quoted pattern, or one video",
    )
    add_scene_outputs(parser)
    parser.add_argument(
        "--time",
        type=amount,
        default=amount(DEFAULT_AMOUNT),
        metavar="AMOUNT",
        help=f"seconds (default {DEFAULT_AMOUNT}), or a number of steps (1500steps), which gives"
        " bit-identical results",
    )
    add_num_frames(parser)
    add_refinement(parser)
    add_masks(parser)
    add_device(parser)
    add_overwrite(parser)


def run(options: argparse.Namespace, console: Console) -> None:
    """Refine."""
    from zipsplat.predictor import choose_device

    scene_file, inputs = _scene_and_photos(options.inputs)
    outputs = list(options.output)
    for path in outputs:
        check_scene_file(path)
    cameras = camera_file(options, outputs[0])
    check_outputs([*outputs, cameras], may_overwrite=options.overwrite)
    _check_cameras(options, scene_file, inputs)
    _check_masks(options, inputs)
    scene, note = _read_scene(options, scene_file)
    with compiling_meanwhile(options, inputs, console):
        posed = _photos(options, inputs, console)
    photos = posed.images
    settings = settings_of(options, options.time, photos)
    there = on_device(photos, choose_device(options.device))
    result = run_refinement(scene, there, settings, console)
    with console.stage("writing"):
        refined = posed.refined(result)
        for path in options.output:
            write_scene(path, result.gaussians.cpu(), note=note, photos=refined.images)
        refined.write(cameras)
    console.result(
        [*refinement_lines(result), *(file_line(path) for path in [*outputs, cameras])],
        {
            "views": len(photos),
            "gaussians": result.gaussians.num_gaussians,
            "refinement": refinement_data(result),
            "files": [file_data(path) for path in [*outputs, cameras]],
            "seconds": console.seconds,
        },
    )


def _scene_and_photos(inputs: list[str]) -> tuple[Path | None, list[str]]:
    """Split the inputs into the scene file, if the first one is, and the photos."""
    from zipsplat.formats import by_suffix

    if inputs:
        first = Path(inputs[0])
        try:
            by_suffix(first)
        except ValueError:
            return None, inputs
        return first, inputs[1:]
    return None, inputs


def _check_cameras(options: argparse.Namespace, scene_file: Path | None, inputs: list[str]) -> None:
    """Reject photos without cameras, before any work is done.

    Cameras beside a scene are used unless others are named.

    Raises:
        ValueError: the message names what is missing.
    """
    from zipsplat.inputs import find_inputs

    if inputs:
        find_inputs(inputs)
    if options.cameras != AUTO:
        return
    if scene_file is not None:
        from zipsplat.camera_estimation.beside import file_beside

        beside = file_beside(scene_file)
        if beside is not None:
            options.cameras = str(beside)
            return
        raise ValueError(
            f"{scene_file}: needs the cameras of its photos in its own frame: --cameras"
            f" FILE, such as the {scene_file.stem}.cameras.json that `zipsplat reconstruct"
            " --refine` writes"
        )
    if not inputs:
        raise ValueError("no photos given; name images, a folder or a video, or give --cameras")


def _check_masks(options: argparse.Namespace, inputs: list[str]) -> None:
    """Reject masks that do not exist, and masks for a video."""
    from zipsplat.inputs import find_inputs
    from zipsplat.masks import check_has_photos

    if mask_source(options) is not None and inputs:
        check_has_photos(find_inputs(inputs).video)


def _read_scene(
    options: argparse.Namespace, scene_file: Path | None
) -> tuple[Gaussians | None, str]:
    """Read the scene to start from, and its note."""
    from zipsplat.gaussians import Gaussians
    from zipsplat.predictor import choose_device

    if scene_file is None:
        return None, ""
    scene, note = Gaussians.load_with_note(scene_file)
    return scene.to(choose_device(options.device)), note


def _photos(options: argparse.Namespace, inputs: list[str], console: Console) -> PosedPhotos:
    """The photos with their cameras."""
    if options.cameras != AUTO:
        return known_cameras(options, inputs, console)
    return found_cameras(options, inputs, console)
