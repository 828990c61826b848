"""Time to render and encode a video, by frames per batch and x264 preset, interleaved in one run.

python benchmarks/videos.py SCENE [--frames 90] [--threads 2]
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from pathlib import Path
from unittest import mock

from zipsplat import Gaussians, video, viz
from zipsplat.render.cpu import set_num_threads

CHUNKS, PRESETS, ROUNDS = (16, 4), ("medium", "veryfast"), 3


def main() -> None:
    """Print one row per combination."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scene", type=Path)
    parser.add_argument("--frames", type=int, default=90)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    set_num_threads(options.threads)
    scene = Gaussians.load(options.scene)
    ways = list(itertools.product(CHUNKS, PRESETS))
    render_video(scene, 8, *ways[-1])  # compiles
    found = [[render_video(scene, options.frames, *way) for way in ways] for _ in range(ROUNDS)]
    print(
        f"{scene.num_gaussians} Gaussians, {options.frames} frames of 512 x 512, best of {ROUNDS}"
    )
    print("| frames per batch | preset | CPU s | wall s | bytes |\n|---|---|---|---|---|")
    for (chunk, preset), rounds in zip(ways, zip(*found, strict=True), strict=True):
        cpu, wall, size = (min(values) for values in zip(*rounds, strict=True))
        print(f"| {chunk} | {preset} | {cpu:.2f} | {wall:.2f} | {size} |")


def render_video(
    scene: Gaussians, num_frames: int, chunk: int, preset: str
) -> tuple[float, float, int]:
    """CPU seconds, wall-clock seconds, and file size in bytes."""
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(video._X264, {"preset": preset}),
    ):
        path = Path(folder) / "video.mp4"
        cpu, wall = time.process_time(), time.perf_counter()
        frames = viz.turntable_frames(scene, num_frames=num_frames, look=viz.Look(chunk=chunk))
        viz.save_video(frames, path)
        spent = time.process_time() - cpu, time.perf_counter() - wall
        return *spent, path.stat().st_size


if __name__ == "__main__":
    main()
