"""What cleaning costs a refined scene, in PSNR of held-out views.

    python benchmarks/cleaning.py [--scenes 0 1 7] [--steps 800] [PHOTOS_OR_VIDEO …]

Generated scenes (16 views of 504×378, true cameras, true sparse points) and captures (cameras by
structure from motion) are refined at 320 px with every fourth view held out; then floaters are
dropped, at the default strength and twice that, and neighbours merged. PSNR is the mean over the
held-out views; CPU time is that of this process on one thread.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))  # for plane_sweep, run as a script
from plane_sweep import render_scene

from zipsplat import Gaussians, estimate_cameras
from zipsplat.cleaning import decimate, drop_floaters
from zipsplat.posed_images import PosedImages
from zipsplat.refinement import RefinementSettings, refine
from zipsplat.refinement.evaluation import psnr
from zipsplat.render.cpu import set_num_threads

CLEANINGS: dict[str, Callable[[Gaussians], Gaussians]] = {
    "--drop-floaters": drop_floaters,
    "twice as strong": partial(drop_floaters, strength=2.0),
    "--decimate 0.5": partial(decimate, share=0.5),
    "--decimate 0.25": partial(decimate, share=0.25),
}


def measure(name: str, photos: PosedImages, steps: int) -> None:
    """Refine once and print one row per cleaning method."""
    settings = RefinementSettings(seconds=None, steps=steps, max_side=320, hold_out=4)
    posed = photos.resized(settings.max_side)
    result = refine(None, posed.images, posed.cameras, posed.poses, posed.points, settings)
    held_out = posed.select(result.held_out)
    whole = score(result.gaussians, held_out)
    for how, clean in CLEANINGS.items():
        begin = time.process_time()
        cleaned = clean(result.gaussians)
        seconds = time.process_time() - begin
        after = score(cleaned, held_out)
        print(
            f"| {name} | {how} | {result.gaussians.num_gaussians} | {cleaned.num_gaussians} |"
            f" {whole:.2f} | {after:.2f} | {after - whole:+.2f} | {seconds:.2f} |",
            flush=True,
        )


@torch.no_grad()
def score(scene: Gaussians, views: PosedImages) -> float:
    """Mean PSNR, dB."""
    values = []
    for view, image in enumerate(views.images):
        rendered, _ = scene.render(views.cameras[view], views.poses[view])
        values.append(psnr(image, rendered[0].clamp(0, 1)))
    return sum(values) / len(values)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("captures", nargs="*", type=Path)
    parser.add_argument("--scenes", type=int, nargs="*", default=[0, 1, 7])
    parser.add_argument("--steps", type=int, default=800)
    options = parser.parse_args()
    torch.set_num_threads(1)
    set_num_threads(1)
    print("| scene | cleaning | Gaussians | left | PSNR | after, dB | change | CPU s |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for index in options.scenes:
        measure(f"gen{index}", render_scene(index, 16).photos, options.steps)
    for path in options.captures:
        measure(path.stem, estimate_cameras(path, num_threads=1).images, options.steps)


if __name__ == "__main__":
    main()
