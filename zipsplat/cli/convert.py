"""`zipsplat convert`: one scene file to another, smaller or turned if wanted."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from zipsplat.cli.arguments import add_overwrite, check_outputs, count
from zipsplat.cli.console import Console, file_data, file_line
from zipsplat.cli.scene_files import check_scene_file, is_page, write_scene

if TYPE_CHECKING:
    from zipsplat.camera_estimation.beside import SceneCameras
    from zipsplat.gaussians import Gaussians
    from zipsplat.pose import Pose

NAME = "convert"
SUMMARY = "between scene formats; prune, turn, scale"
DESCRIPTION = """\
Write a scene in another format, which the suffix names; .html is a page that shows it in any
browser. On the way it can be pruned, its harmonics cut, and the whole be turned, moved and scaled.
A page starts at the first photo and flies from photo to photo if a cameras.json of 3DGS programs
lies beside the scene.

--transform takes a preset, a 4×4 similarity matrix as JSON (a list of rows), or a file with one:
  y-up     from y down (pictures, most .ply files) to y up (many 3D programs)
  z-up     from y down to z up (Blender and others)
"""
EXAMPLES = """\
examples:
  zipsplat convert scene.ply scene.spz
  zipsplat convert scene.ply small.splat --prune-opacity 0.05 --max-gaussians 100000 --sh-degree 0
  zipsplat convert scene.ply turned.ply --transform y-up
  zipsplat convert scene.ply scene.html --title Kitchen
"""
PRESETS: dict[str, list[list[float]]] = {
    "y-up": [[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]],
    "z-up": [[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]],
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("input", type=Path, metavar="IN", help="scene file")
    parser.add_argument("output", type=Path, metavar="OUT", help="scene file, or page.html")
    parser.add_argument(
        "--prune-opacity", type=float, metavar="LEAST", help="leave out fainter Gaussians"
    )
    parser.add_argument(
        "--max-gaussians", type=count, metavar="N", help="keep the N that can show the most"
    )
    parser.add_argument(
        "--sh-degree", type=int, choices=range(4), help="spherical harmonics to keep, 0 to 3"
    )
    parser.add_argument("--transform", metavar="HOW", help="turn, move, scale; see above")
    parser.add_argument("--title", help="heading of a page (default: its file name)")
    parser.add_argument(
        "--note",
        default="",
        help="a line about licences, for pages and files that keep it (default: that of IN)",
    )
    add_overwrite(parser)


def run(options: argparse.Namespace, console: Console) -> None:
    """Convert."""
    from zipsplat.gaussians import Gaussians

    check_scene_file(options.output)
    check_outputs([options.output], may_overwrite=options.overwrite)
    with console.stage("reading"):
        scene, note = Gaussians.load_with_note(options.input)
    before = scene.num_gaussians
    if before == 0:
        raise ValueError(f"{options.input}: there are no Gaussians in this file")
    scene = _change(scene, options)
    if scene.num_gaussians == 0:
        raise ValueError("no Gaussian is left; ask for a lower --prune-opacity")
    with console.stage("writing"):
        note, photos = options.note or note, _photos(options)
        write_scene(options.output, scene, note=note, title=options.title, photos=photos)
    console.result(
        [
            f"{before} → {scene.num_gaussians} Gaussians, degree {scene.max_sh_degree}",
            file_line(options.output),
        ],
        {
            "gaussians_before": before,
            "gaussians": scene.num_gaussians,
            "sh_degree": scene.max_sh_degree,
            "files": [file_data(options.output)],
            "seconds": console.seconds,
        },
    )


def _change(scene: Gaussians, options: argparse.Namespace) -> Gaussians:
    from zipsplat.pruning import keep_most_important, prune_opacity

    if options.prune_opacity is not None:
        scene = prune_opacity(scene, options.prune_opacity)
    if options.max_gaussians is not None:
        scene = keep_most_important(scene, options.max_gaussians)
    if options.sh_degree is not None and options.sh_degree < scene.max_sh_degree:
        scene = scene.with_sh_degree(options.sh_degree)
    if options.transform is not None:
        pose, factor = _similarity(options.transform)
        scene = scene.transform(pose.to(scene.means), scale=factor)
    return scene


def _photos(options: argparse.Namespace) -> SceneCameras | None:
    """The cameras for a page, turned as the scene is."""
    if not is_page(options.output):
        return None
    from zipsplat.camera_estimation.beside import cameras_beside

    photos = cameras_beside(options.input)
    if photos is None or options.transform is None:
        return photos
    return photos.transform(*_similarity(options.transform))


def _similarity(how: str) -> tuple[Pose, float]:
    """A preset, JSON, or a file with JSON, as a rotation with a translation, and a factor."""
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
    text = how if how.lstrip().startswith("[") else Path(how).read_text(encoding="utf-8")
    return json.loads(text)
