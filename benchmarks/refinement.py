"""Quality of refined scenes over steps and CPU seconds, on held-out photos.

    python benchmarks/refinement.py PATH [PATH ...] [--hold-out 4] [--size 640] [--cap 60000]
        [--steps 1110 | --seconds 30] [--threads 1] [--start geometry] [--without PART ...]
        [--judge PATH] [--sheet DIR]

A PATH is a folder of photos, a video, or anything that `zipsplat refine --cameras` takes; cameras
are estimated once and kept in the cache folder. Prints a line per evaluation: step, CPU seconds of
this process since the first step, Gaussians, PSNR and SSIM of the held-out photos. Evaluation time
counts. --sheet writes contact sheets of held-out photos beside renders.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from zipsplat.camera_estimation import estimate_cameras, load_cameras
from zipsplat.camera_estimation.write import write_dataset
from zipsplat.figures import contact_sheet, to_pixels
from zipsplat.gaussians import Gaussians
from zipsplat.inputs import find_inputs
from zipsplat.posed_images import PosedImages
from zipsplat.refinement import RefinedScene, RefinementProgress, RefinementSettings
from zipsplat.refinement.initialization import point_gaussians
from zipsplat.refinement.loop import solve
from zipsplat.refinement.problem import Problem, make_problem
from zipsplat.render.cpu import set_num_threads

PARTS = ("growth", "dropout", "decay", "smoothness", "depth", "color")


def main() -> None:
    """Run all paths."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--hold-out", type=int, default=4)
    parser.add_argument("--size", type=int, default=640)
    parser.add_argument("--cap", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", default="geometry", help="geometry, points, or a scene file")
    parser.add_argument("--without", nargs="*", choices=PARTS, default=[])
    parser.add_argument("--cache", type=Path, help="folder for estimated cameras")
    parser.add_argument("--sheet", type=Path, help="folder for images")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    set_num_threads(options.threads)
    for path in options.paths:
        photos = posed(path, options)
        result = measured(path, photos, options)
        if options.sheet is not None:
            save_sheet(options.sheet / f"{path.stem}.png", photos.resized(options.size), result)


def posed(path: Path, options: argparse.Namespace) -> PosedImages:
    """Photos with cameras, from the cache if it has them."""
    kept = None if options.cache is None else options.cache / path.stem
    for known in (path, kept):
        if known is not None and (known / "transforms.json").exists():
            return load_cameras(known)
    find_inputs(path)
    start = time.process_time()
    estimate = estimate_cameras(path)
    spent = time.process_time() - start
    print(f"{path}: cameras in {spent:.1f} s, {len(estimate.left_out)} left out", flush=True)
    if kept is not None:
        write_dataset(kept, estimate.images)
    return estimate.images


def measured(path: Path, photos: PosedImages, options: argparse.Namespace) -> RefinedScene:
    """Refine once and print the curve."""
    steps = options.steps if options.seconds is None else None
    settings = RefinementSettings(
        seconds=options.seconds,
        steps=1110 if options.seconds is None and steps is None else steps,
        max_side=options.size,
        max_gaussians=options.cap,
        hold_out=options.hold_out,
        seed=options.seed,
    )
    begin = time.process_time()
    problem = without(make_problem(photos, start_of(photos, options), settings), options.without)
    print(f"{path}: {len(photos)} photos, start in {time.process_time() - begin:.1f} s", flush=True)
    cpu_of = {0: 0.0}

    def on_step(progress: RefinementProgress) -> None:
        now = time.process_time()
        if progress.step == 1:
            cpu_of[-1] = now
        cpu_of[progress.step] = now - cpu_of[-1]

    result = solve(problem, settings, on_step)
    print("  step   CPU s  Gaussians   PSNR    SSIM")
    for point in result.curve:
        spent, count = cpu_of[point.step], point.num_gaussians
        print(f"{point.step:6d} {spent:7.1f} {count:10d} {point.psnr:6.2f} {point.ssim:7.4f}")
    print(f"best {result.psnr:.2f} dB / {result.ssim:.4f}, {result.stopped}", flush=True)
    return result


def start_of(photos: PosedImages, options: argparse.Namespace) -> Gaussians | None:
    """The initial scene; None to initialise from the photos' geometry."""
    if options.start == "geometry":
        return None
    if options.start == "points":
        assert photos.points is not None, (
            "--start points needs sparse points, and these photos have none"
        )
        return point_gaussians(photos, torch.arange(len(photos.points)))
    return Gaussians.load(options.start)


def without(problem: Problem, parts: list[str]) -> Problem:
    """The problem with parts of the recipe removed."""
    task = problem.task
    absent = {
        "dropout": {"dropout": 0.0},
        "decay": {"opacity_factor": 1.0},
        "smoothness": {"smoothness": 0.0},
        "depth": {"depth": 0.0},
        "color": {"color": False},
    }
    recipe = task.recipe
    for part in parts:
        recipe = replace(recipe, **absent.get(part, {}))
    cap = 0 if "growth" in parts else task.cap
    evaluators = {
        name: replace(getattr(problem, name), corrects_color=recipe.color)
        for name in ("evaluator", "training_evaluator")
    }
    return replace(problem, task=replace(task, recipe=recipe, cap=cap), **evaluators)


def save_sheet(path: Path, photos: PosedImages, result: RefinedScene) -> None:
    """Save held-out photos beside renders."""
    cells = []
    for index in result.held_out:
        with torch.no_grad():
            rendered, _ = result.gaussians.render(photos.cameras[index], result.poses[index])
        cells += [to_pixels(photos.images[index]), to_pixels(rendered[0])]
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet = contact_sheet(cells, columns=2, cell_width=640)
    Image.fromarray(sheet).save(path)


if __name__ == "__main__":
    main()
