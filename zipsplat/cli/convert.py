"""`zipsplat convert`: convert a scene file; clean, reduce or transform it on request."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from zipsplat.cli.arguments import add_overwrite, check_outputs
from zipsplat.cli.carried_cameras import cameras_to_carry
from zipsplat.cli.console import Console, file_data, file_line
from zipsplat.cli.scene_output import check_scene_file, is_page, write_scene
from zipsplat.option_types import count, share

if TYPE_CHECKING:
    from zipsplat.camera_estimation.scene_cameras import SceneCameras
    from zipsplat.formats import SplatArrays
    from zipsplat.gaussians import Gaussians
    from zipsplat.pose import Pose
    from zipsplat.trajectories import CameraPath

NAME = "convert"
SUMMARY = "convert between scene formats; clean, reduce, transform"
DESCRIPTION = """\
Convert a scene to the format given by the suffix of OUT; .html is a page that shows it in any
browser. Changes are applied in the order of the options below. Cameras beside IN
(NAME.cameras.json, cameras.json) are transformed and copied along; a page starts at the first
camera and flies between them.

--transform takes a preset, or a 4×4 similarity matrix as JSON (a list of rows) or in a JSON file:
  y-up     from y down (OpenCV, most .ply files) to y up (many 3D tools)
  z-up     from y down to z up (Blender and others)
"""
EXAMPLES = """\
examples:
  zipsplat convert scene.ply scene.spz
  zipsplat convert scene.ply small.splat --prune-opacity 0.05 --max-gaussians 100000 --sh-degree 0
  zipsplat convert scene.ply turned.ply --transform y-up
  zipsplat convert scene.ply clean.ply --drop-floaters --crop 0,0,2,1.5
  zipsplat convert scene.ply phone.sog --decimate 0.25
  zipsplat convert scene.ply scene.html --title Kitchen
"""
COUNTED = ("--drop-floaters", "--crop", "--prune-opacity", "--decimate", "--max-gaussians")
CHANGES = (*COUNTED, "--sh-degree", "--transform")  # in this order
TURNTABLE, PHOTOS, OFF = "turntable", "photos", "off"
PRESETS: dict[str, list[list[float]]] = {
    "y-up": [[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]],
    "z-up": [[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]],
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("input", type=Path, metavar="IN", help="scene file")
    parser.add_argument("output", type=Path, metavar="OUT", help="scene file, or page.html")
    parser.add_argument(
        "--drop-floaters",
        action="store_true",
        help="remove isolated Gaussians, and huge, nearly transparent ones",
    )
    parser.add_argument(
        "--crop",
        type=_region,
        metavar="X0,Y0,Z0,X1,Y1,Z1",
        help="keep what lies in a box, or with X,Y,Z,RADIUS in a sphere, in IN's coordinates",
    )
    parser.add_argument(
        "--prune-opacity", type=float, metavar="MIN", help="remove Gaussians with lower opacity"
    )
    parser.add_argument(
        "--decimate",
        type=share,
        metavar="SHARE",
        help="merge neighbours until this share of the Gaussians is left, in (0, 1]",
    )
    parser.add_argument(
        "--max-gaussians",
        type=count,
        metavar="N",
        help="keep the N Gaussians that contribute most to rendered views",
    )
    parser.add_argument(
        "--sh-degree", type=int, choices=range(4), help="degree of spherical harmonics to keep"
    )
    parser.add_argument("--transform", metavar="HOW", help="rotate, move, scale; see above")
    parser.add_argument(
        "--spz-version",
        type=int,
        choices=(3, 4),
        default=3,
        help="version of a .spz; 3 (default) opens everywhere, 4 is slightly smaller",
    )
    parser.add_argument(
        "--autoplay",
        default=TURNTABLE,
        metavar="HOW",
        help=f"what a page plays until the user takes over: {TURNTABLE} (default), {PHOTOS} (flies"
        f" through the cameras beside IN), {OFF}, or a JSON camera path as for `zipsplat render"
        " --path`, in IN's coordinates",
    )
    parser.add_argument("--title", help="heading of a page (default: its file name)")
    parser.add_argument(
        "--note",
        default="",
        help="licence note, for pages and formats that store one (default: the note of IN)",
    )
    add_overwrite(parser)


def run(options: argparse.Namespace, console: Console) -> None:
    """Convert; a page needs an image, whose kernels other processes compile meanwhile."""
    if not is_page(options.output):
        _convert(options, console)
        return
    from zipsplat.cli.compiling import await_kernels, compiling_images

    with compiling_images("cpu") as kernels:
        _convert(options, console, lambda: await_kernels(kernels, console))


def _convert(
    options: argparse.Namespace, console: Console, before_writing: Callable[[], None] | None = None
) -> None:
    from zipsplat.scene_files import load_scene

    check_scene_file(options.output)
    cameras = cameras_to_carry(options.input, options.output)
    outputs = [options.output, *([] if cameras is None else [cameras.target])]
    check_outputs(outputs, may_overwrite=options.overwrite)
    photos, autoplay = _photos(options), _autoplay(options)
    if autoplay == PHOTOS and photos is None:
        raise ValueError(f"--autoplay {PHOTOS}: there are no cameras beside {options.input}")
    with console.stage("reading"):
        found = load_scene(options.input)
    if not len(found.means):
        raise ValueError(f"{options.input}: there are no Gaussians in this file")
    scene, steps = _changed(found, options, console)
    if before_writing is not None:
        before_writing()
    with console.stage("writing"):
        _write(scene, options, photos, autoplay)
        if cameras is not None:
            cameras.write(None if options.transform is None else _similarity(options.transform))
    before, after = len(found.means), len(scene.means)
    counted = [step for step in steps if step.name in COUNTED]
    console.result(
        [
            *(f"{step.name}: {step.before} → {step.after}" for step in counted),
            f"{before} → {after} Gaussians, degree {scene.sh_degree}",
            *(file_line(path) for path in outputs),
        ],
        {
            "gaussians_before": before,
            "gaussians": after,
            "steps": [{"step": s.name, "before": s.before, "after": s.after} for s in counted],
            "sh_degree": scene.sh_degree,
            "files": [file_data(path) for path in outputs],
            "seconds": console.seconds,
        },
    )


class Step(NamedTuple):
    """One change and the number of Gaussians before and after it."""

    name: str
    before: int
    after: int


def _changed(
    arrays: SplatArrays, options: argparse.Namespace, console: Console
) -> tuple[SplatArrays, list[Step]]:
    """Apply the requested changes; without any, PyTorch is not imported."""
    asked = [name for name in CHANGES if _is_given(options, name)]
    if not asked:
        return arrays, []
    from zipsplat.gaussians import Gaussians

    scene, steps = Gaussians.from_arrays(arrays), []
    changes = _changes(options)
    for name in asked:
        with console.stage(name):
            changed = changes[name](scene)
        steps.append(Step(name, scene.num_gaussians, changed.num_gaussians))
        scene = changed
        if scene.num_gaussians == 0:
            raise ValueError(f"{name} removes all {steps[-1].before} Gaussians; use a milder value")
    return replace(scene.arrays(), note=arrays.note, log=arrays.log), steps


def _is_given(options: argparse.Namespace, name: str) -> bool:
    value = getattr(options, name[2:].replace("-", "_"))
    return value is not None and value is not False


def _write(
    scene: SplatArrays,
    options: argparse.Namespace,
    photos: SceneCameras | None,
    autoplay: bool | str | CameraPath,
) -> None:
    """Write the scene file or page."""
    note = options.note or scene.note
    if is_page(options.output):
        from zipsplat.gaussians import Gaussians

        gaussians, title = Gaussians.from_arrays(scene), options.title
        write_scene(
            options.output, gaussians, note=note, title=title, photos=photos, autoplay=autoplay
        )
        return
    from zipsplat import scene_files

    is_spz4 = options.spz_version == 4 and options.output.suffix.lower() == ".spz"
    arrays = replace(scene, note=note)
    scene_files.write_scene(options.output, arrays, "spz4" if is_spz4 else None)


def _changes(options: argparse.Namespace) -> dict[str, Callable[[Gaussians], Gaussians]]:
    """The function for each of the `CHANGES`."""
    from zipsplat.cleaning import crop, decimate, drop_floaters
    from zipsplat.pruning import keep_most_important, prune_opacity

    def cut_harmonics(scene: Gaussians) -> Gaussians:
        return scene.with_sh_degree(min(options.sh_degree, scene.max_sh_degree))

    return {
        "--drop-floaters": drop_floaters,
        "--crop": lambda scene: crop(scene, options.crop),
        "--prune-opacity": lambda scene: prune_opacity(scene, options.prune_opacity),
        "--decimate": lambda scene: decimate(scene, options.decimate),
        "--max-gaussians": lambda scene: keep_most_important(scene, options.max_gaussians),
        "--sh-degree": cut_harmonics,
        "--transform": lambda scene: _transformed(scene, options.transform),
    }


def _region(text: str) -> list[float]:
    """Four numbers (sphere) or six (box)."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (4, 6):
        raise argparse.ArgumentTypeError(
            f"wanted X0,Y0,Z0,X1,Y1,Z1 (box) or X,Y,Z,RADIUS (sphere), got {text!r}"
        )
    return numbers


def _transformed(scene: Gaussians, how: str) -> Gaussians:
    pose, factor = _similarity(how)
    return scene.transform(pose.to(scene.means), scale=factor)


def _photos(options: argparse.Namespace) -> SceneCameras | None:
    """The cameras for a page, transformed like the scene."""
    if not is_page(options.output):
        return None
    from zipsplat.camera_estimation.scene_cameras import cameras_beside

    photos = cameras_beside(options.input)
    if photos is None or options.transform is None:
        return photos
    return photos.transform(*_similarity(options.transform))


def _autoplay(options: argparse.Namespace) -> bool | str | CameraPath:
    """What a page plays; a camera path is transformed like the scene."""
    how: str = options.autoplay
    if not is_page(options.output) or how in (TURNTABLE, OFF):
        return how == TURNTABLE
    if how == PHOTOS:
        return how
    from zipsplat.pose import Pose
    from zipsplat.trajectories import CameraPath, load_camera_path

    path = load_camera_path(how)
    if options.transform is None:
        return path
    motion, factor = _similarity(options.transform)
    poses = Pose(path.poses.R, path.poses.t * factor)
    return CameraPath(motion.to(poses.t).compose(poses), path.fov_deg)


def _similarity(how: str) -> tuple[Pose, float]:
    """Rigid motion (float64) and scale factor, from a preset, JSON, or a JSON file."""
    import torch

    from zipsplat.pose import Pose

    try:
        matrix = torch.tensor(_matrix(how), dtype=torch.float64)
        if matrix.shape != (4, 4):
            raise ValueError(f"its shape is {tuple(matrix.shape)}")
        volume = float(torch.linalg.det(matrix[:3, :3]))
        if not volume > 0:
            raise ValueError("it mirrors or flattens the scene")
        factor = volume ** (1 / 3)
        rigid = matrix.clone()
        rigid[:3, :3] /= factor
        pose = Pose.from_4x4mat(rigid)
    except (OSError, TypeError, ValueError) as error:
        wanted = f"{', '.join(PRESETS)}, a 4×4 similarity as JSON, or a file with one"
        raise ValueError(f"--transform takes {wanted}; got {how!r} ({error})") from error
    return pose, factor


def _matrix(how: str) -> object:
    if how in PRESETS:
        return PRESETS[how]
    from zipsplat.untrusted_files import parse_json, read_json

    return parse_json(how) if how.lstrip().startswith("[") else read_json(how)
