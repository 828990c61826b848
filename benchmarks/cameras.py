"""Estimated cameras against ground truth: accuracy, warnings and CPU time on generated scenes.

    python benchmarks/cameras.py [--photos 6] [--first 0] [--scenes 6]   # cameras.md has all 20
    python benchmarks/cameras.py --video clip.mp4 [--frames 24]

Scenes are `test-0-i` of the generated collection, 504×378 pixels; the photos are evenly spaced
among 16 along the camera path. Errors are measured after the best similarity between estimated and
true cameras. Times are CPU seconds of this process with one thread, so other load matters little.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from records import Record, Row

from splatscenes.scene import GeneratedScene, generate_scene
from zipsplat.camera_estimation import CameraEstimate, CamerasNotFoundError, estimate_cameras

SIZE = (378, 504)
VIEWS = 16
COLUMNS = (
    "placed | rotation median, max ° | position median % | focal % | error px | points | CPU s"
)


@dataclass(frozen=True)
class Result:
    """Errors of one scene's cameras; NaN where the estimation failed."""

    num_registered: int
    rotations_deg: np.ndarray
    positions: np.ndarray
    focal: float
    seconds: float
    warnings: tuple[str, ...]
    row: str

    @property
    def rotation_deg(self) -> float:
        """Median over the photos."""
        return float(np.median(self.rotations_deg))


def photos_of(scene: GeneratedScene, views: list[int]) -> list[torch.Tensor]:
    """Some views as tensors (3, H, W)."""
    pixels = [torch.from_numpy(scene.render(view)[0]) for view in views]
    return [image.permute(2, 0, 1).float() / 255 for image in pixels]


def errors(estimate: CameraEstimate, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation errors in degrees and position errors / extent after the best similarity."""
    R = estimate.images.poses.R.double().numpy()
    t = estimate.images.poses.t.double().numpy()
    S, s = truth[:, :3, :3], truth[:, :3, 3]
    u, _, v = np.linalg.svd(np.einsum("nij,nkj->ik", S, R))
    turn = u @ np.diag([1, 1, np.linalg.det(u @ v)]) @ v
    cosines = (np.einsum("nji,nji->n", turn @ R, S) - 1) / 2
    moved, centered = (t - t.mean(0)) @ turn.T, s - s.mean(0)
    scale = (moved * centered).sum() / (moved**2).sum()
    extent = np.linalg.norm(centered, axis=1).max()
    gaps = np.linalg.norm(scale * moved - centered, axis=1) / extent
    return np.degrees(np.arccos(cosines.clip(-1, 1))), gaps


def measure(index: int, num_photos: int) -> Result:
    """Estimate the cameras of one scene."""
    scene = generate_scene("test", 0, index, VIEWS, SIZE)
    views = [int(view) for view in np.linspace(0, VIEWS - 1, num_photos).round()]
    photos = photos_of(scene, views)
    start = time.process_time()
    try:
        estimate = estimate_cameras(photos, num_threads=1)
    except CamerasNotFoundError as error:
        seconds = time.process_time() - start
        none = np.array([math.nan])
        row = f"{index} {scene.place} | 0 | – | – | – | – | – | {seconds:.1f} | {error}"
        return Result(0, none, none, math.nan, seconds, (str(error),), row)
    seconds = time.process_time() - start
    placed = [int(name[:6]) for name in estimate.images.names]
    rotations, positions = errors(estimate, scene.shot.world_from_camera[np.array(views)[placed]])
    focal = estimate.lenses[0].packed[0] / float(scene.shot.K[0, 0]) - 1
    points = estimate.images.points
    row = (
        f"{index} {scene.place} | {len(placed)} | {np.median(rotations):.3f}, {rotations.max():.3f}"
        f" | {100 * np.median(positions):.2f} | {100 * focal:+.2f}"
        f" | {estimate.reprojection_error:.2f} | {0 if points is None else len(points)}"
        f" | {seconds:.1f} | {'; '.join(estimate.warnings)}"
    )
    return Result(len(placed), rotations, positions, focal, seconds, estimate.warnings, row)


def summary(results: list[Result], num_photos: int) -> str:
    """One line over all scenes."""
    whole = [r for r in results if r.num_registered == num_photos]
    wrong = [r for r in results if r.num_registered and r.rotations_deg.max() > 2]
    return (
        f"{len(whole)} of {len(results)} scenes complete; medians over scenes: rotation"
        f" {np.nanmedian([r.rotation_deg for r in results]):.3f}°, position"
        f" {100 * np.nanmedian([np.median(r.positions) for r in results]):.2f} %, focal"
        f" {100 * np.nanmedian([abs(r.focal) for r in results]):.2f} %;"
        f" {sum(r.rotation_deg <= 0.5 for r in whole)} complete within 0.5°;"
        f" {len(wrong)} more than 2°"
        f" off, {sum(not r.warnings for r in wrong)} of them without a warning;"
        f" {sum(bool(r.warnings) for r in results)} with a warning;"
        f" CPU median {np.median([r.seconds for r in results]):.1f} s"
    )


def add(record: Record, results: list[Result], num_photos: int) -> None:
    """Rows over all scenes."""
    which = f"scenes {results[0].row.split()[0]} to {results[-1].row.split()[0]}"
    whole = sum(r.num_registered == num_photos for r in results)
    what = f"{which}, with all photos placed"
    record.add(Row(what, whole, "scenes", "all", len(results), more_is_better=True))
    figures = {
        "rotation error": (np.nanmedian([r.rotation_deg for r in results]), "°"),
        "position error, of the extent": (
            100 * np.nanmedian([np.median(r.positions) for r in results]),
            "%",
        ),
        "focal length error": (100 * np.nanmedian([abs(r.focal) for r in results]), "%"),
        "CPU time of a scene": (np.median([r.seconds for r in results]), "s"),
    }
    for name, (value, unit) in figures.items():
        record.add(Row(f"{which}, median {name}", float(value), unit))


def video(path: Path, num_frames: int) -> str:
    """Time and focal length of a real video, without ground truth."""
    start, stages = time.process_time(), {}

    def begin(stage: str) -> None:
        stages[stage] = time.process_time() - start

    estimate = estimate_cameras(path, num_frames=num_frames, num_threads=1, on_stage=begin)
    ends = [*list(stages.values())[1:], time.process_time() - start]
    parts = ", ".join(
        f"{name} {end - begun:.1f}" for (name, begun), end in zip(stages.items(), ends, strict=True)
    )
    points = estimate.images.points
    return (
        f"{path.name}: {len(estimate.images)} of {num_frames} placed by the {estimate.mapper}"
        f" mapper, focal {estimate.lenses[0].focal_factor:.3f} of the width,"
        f" {estimate.reprojection_error:.2f} px, {0 if points is None else len(points)} points,"
        f" {ends[-1]:.1f} CPU s ({parts}); {'; '.join(estimate.warnings) or 'no warnings'}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=6)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--scenes", type=int, default=6)
    parser.add_argument("--video", type=Path)
    parser.add_argument("--frames", type=int, default=24)
    options = parser.parse_args()
    if options.video is not None:
        print(video(options.video, options.frames))
        return
    print(f"scene | {COLUMNS} | warnings")
    results = []
    for index in range(options.first, options.first + options.scenes):
        results.append(measure(index, options.photos))
        print(results[-1].row, flush=True)
    print(summary(results, options.photos))
    title = f"Estimated cameras, {options.photos} photos of 504 × 378"
    record = Record(f"cameras_{options.photos}", title, packages=("pycolmap",))
    add(record, results, options.photos)
    record.save()


if __name__ == "__main__":
    main()
