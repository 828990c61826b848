"""The whole path on the example pictures: `make demo`.

    python scripts/demo.py [INPUT …] [--output outputs/demo] [--weights NAME]

Reconstructs the drawn office (or INPUT: pictures, a folder, a video), writes the scene in two
formats and as a page, films it, and draws a contact sheet: inputs, new views, their depth, and
the same views with fewer Gaussians. The weights came with the package: a small model, trained on
generated scenes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from zipsplat import Camera, Gaussians, ZipSplat, viz
from zipsplat.figures import to_pixels
from zipsplat.framing import camera_orbit
from zipsplat.images import to_square
from zipsplat.inputs import load_views
from zipsplat.progress import progress_bar
from zipsplat.webpage import write_page
from zipsplat.weights import licence_note

ROOT = Path(__file__).parents[1]
COMPRESSIONS = (1.0, 0.5, 0.25)
COLUMNS = 6
FILM_SIZE = 384


def main(argv: list[str] | None = None) -> int:
    """Run the demo; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("inputs", nargs="*", help="default: the drawn office")
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "demo")
    parser.add_argument("--weights", default="zipsplat-tiny", help="name or file")
    parser.add_argument("--frames", type=int, default=60, help="length of the film")
    options = parser.parse_args(argv)

    views = load_views(options.inputs or [ROOT / "assets/examples/office"])
    print(f"read {len(views)} views")
    scenes = reconstruct(options.weights, views)
    note = licence_note(options.weights)
    written = write_all(scenes[COMPRESSIONS[0]], options.output, options.frames, note)
    sheet = options.output / "contact_sheet.webp"
    viz.save_picture(contact_sheet(scenes, views), sheet)
    written[sheet] = "inputs, new views, depth, and fewer Gaussians"
    print("\nwritten:")
    for path, what in written.items():
        print(f"  {shown(path)}  {path.stat().st_size / 1e6:.2f} MB  {what}")
    return 0


def reconstruct(weights: str, views: list[Tensor]) -> dict[float, Gaussians]:
    """One scene for each compression; the transformer runs once. Prints sizes and times."""
    model = ZipSplat(weights)
    start = time.perf_counter()
    features = model.encode(views)
    print(f"encoded in {time.perf_counter() - start:.2f} s with {weights}")
    scenes = {}
    for compression in COMPRESSIONS:
        start = time.perf_counter()
        scenes[compression] = model.decode(features, compression)[0].cpu()
        print(
            f"compression {compression:4g}: {scenes[compression].num_gaussians:6d} Gaussians, "
            f"decoded in {time.perf_counter() - start:.2f} s"
        )
    return scenes


def write_all(scene: Gaussians, folder: Path, num_frames: int, note: str) -> dict[Path, str]:
    """Write scene files, page and film; returns what each file is."""
    plain, small = folder / "scene.ply", folder / "scene.spz"
    scene.save(plain, note=note)
    scene.save(small)
    page, film = folder / "scene.html", folder / "orbit.mp4"
    write_page(page, scene, title="ZipSplat demo", note=note)
    with progress_bar("filming", "frame") as report:
        viz.turntable(
            scene, film, sweep_deg=None, render_size=FILM_SIZE, num_frames=num_frames, report=report
        )
    return {
        plain: "the scene, for any 3D Gaussian viewer",
        small: "the same, compressed",
        page: "the same as a page: open it in a browser",
        film: "a film of it from a moving camera",
    }


def contact_sheet(scenes: Mapping[float, Gaussians], views: list[Tensor]) -> np.ndarray:
    """A row of inputs, a row of new views for each compression, and a row of depth."""
    dense = scenes[COMPRESSIONS[0]]
    poses = camera_orbit(dense, COLUMNS + 1, fov_deg=viz.FOV_DEG, sweep_deg=None)[:COLUMNS]
    camera = Camera.from_fov(np.radians(viz.FOV_DEG), w=FILM_SIZE, h=FILM_SIZE)
    pictures = [to_pixels(to_square(view)) for view in views[:COLUMNS]]
    labels = [f"input {i + 1}" for i in range(len(pictures))]
    while len(pictures) < COLUMNS:  # keep the rows apart
        pictures.append(np.full_like(pictures[0], 255))
        labels.append("")
    for compression, scene in scenes.items():
        pictures += viz.render_frames(scene, camera, poses)
        labels += [f"c = {compression:g}: {scene.num_gaussians} Gaussians"] * COLUMNS
    pictures += viz.render_frames(dense, camera, poses, viz.Look(mode="depth"))
    labels += ["depth"] * COLUMNS
    return viz.contact_sheet(pictures, labels, columns=COLUMNS)


def shown(path: Path) -> Path:
    """The path as one would type it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


if __name__ == "__main__":
    sys.exit(main())
