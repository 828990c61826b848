"""The whole path on the example pictures: `make demo`.

    python scripts/demo.py [INPUT …] [--output outputs/demo] [--weights NAME]

Reconstructs the drawn office (or INPUT: pictures, a folder, a video), writes the scene in two
formats and as a page, films it, and draws a contact sheet of inputs and renderings. Without
weights a small untrained network takes their place; it shows the first picture as a relief.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from torch import Tensor

from zipsplat import Gaussians, ZipSplat, viz
from zipsplat.figures import to_pixels
from zipsplat.images import to_square
from zipsplat.inputs import load_views
from zipsplat.model.untrained import untrained_network
from zipsplat.progress import progress_bar
from zipsplat.webpage import write_page
from zipsplat.weights import licence_note

ROOT = Path(__file__).parents[1]
UNTRAINED = (
    "The weights are UNTRAINED, written down by hand: they show the first picture as a relief, to "
    "prove that every step works. They know nothing of the scene"
)


def main(argv: list[str] | None = None) -> int:
    """Run the demo; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("inputs", nargs="*", help="default: the drawn office")
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "demo")
    parser.add_argument("--weights", help="default: a small untrained network")
    parser.add_argument("--frames", type=int, default=60, help="length of the film")
    options = parser.parse_args(argv)

    views = load_views(options.inputs or [ROOT / "assets/examples/office"])
    print(f"read {len(views)} views")
    start = time.perf_counter()
    if options.weights is None:
        model = ZipSplat.from_network(untrained_network())
    else:
        model = ZipSplat(options.weights)
    gaussians = model(views)[0].cpu()
    seconds = time.perf_counter() - start
    print(f"reconstructed {gaussians.num_gaussians} Gaussians in {seconds:.1f} s")
    note = UNTRAINED if options.weights is None else licence_note(options.weights)
    written = write_all(gaussians, views, options.output, options.frames, note)
    print("\nwritten:")
    for path, what in written.items():
        print(f"  {shown(path)}  {path.stat().st_size / 1e6:.2f} MB  {what}")
    if options.weights is None:
        print(f"\n{UNTRAINED}.")
    return 0


def write_all(
    gaussians: Gaussians, views: list[Tensor], folder: Path, num_frames: int, note: str
) -> dict[Path, str]:
    """Write scene files, film and contact sheet; returns what each file is."""
    scene, small = folder / "scene.ply", folder / "scene.spz"
    gaussians.save(scene, note=note)
    gaussians.save(small)
    page = folder / "scene.html"
    write_page(page, gaussians, title="ZipSplat demo", note=note)
    film, sheet = folder / "orbit.mp4", folder / "contact_sheet.png"
    with progress_bar("filming", "frame") as report:
        frames = viz.turntable(
            gaussians, film, sweep_deg=None, render_size=384, num_frames=num_frames, report=report
        )
    inputs = [to_pixels(to_square(view)) for view in views[:6]]
    chosen = frames[np.linspace(0, len(frames), 6, endpoint=False).astype(int)]
    labels = [f"input {i + 1}" for i in range(len(inputs))]
    labels += [f"rendering {i + 1}" for i in range(len(chosen))]
    pictures = viz.contact_sheet([*inputs, *chosen], labels, columns=6)
    viz.save_picture(pictures, sheet)
    return {
        scene: "the scene, for any 3D Gaussian viewer",
        small: "the same, compressed",
        page: "the same as a page: open it in a browser",
        film: "a film of it from a moving camera",
        sheet: "inputs and renderings side by side",
    }


def shown(path: Path) -> Path:
    """The path as one would type it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


if __name__ == "__main__":
    sys.exit(main())
