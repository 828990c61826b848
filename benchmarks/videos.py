"""Rendering and encoding a video, beside larger batches of frames and x264's preset "medium".

    python benchmarks/videos.py [SCENE] [--frames 180] [--threads 1]

Without a scene: the room of `room_scene.py` with 100 000 Gaussians. The ways take turns in one
process; then `zipsplat render` makes the same video in a process of its own, for its memory.
"""

from __future__ import annotations

import argparse
import functools
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parent))  # for room_scene, run as a script
from records import Record, Row, in_turns
from room_scene import room_scene

from zipsplat import Gaussians, video, viz
from zipsplat.render.cpu import set_num_threads

ROUNDS = 3
WAYS = {"now": (None, video._X264["preset"]), "plain": (16, "medium")}  # batch and preset


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scene", type=Path, nargs="?")
    parser.add_argument("--frames", type=int, default=180)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    set_num_threads(options.threads)
    scene = room_scene() if options.scene is None else Gaussians.load(options.scene)
    record = Record(
        "videos",
        f"Videos: {scene.num_gaussians:,} Gaussians, {options.frames} frames of 512 × 512",
        "benchmarks/videos.py",
        options.threads,
        ("av",),
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        times = in_turns(
            {
                way: functools.partial(render, scene, options.frames, *how, folder / f"{way}.mp4")
                for way, how in WAYS.items()
            },
            ROUNDS,
        )
        sizes = {way: (folder / f"{way}.mp4").stat().st_size / 1e6 for way in WAYS}
        peer = "16 frames at once, preset medium"
        record.add(
            Row("rendered and encoded", times["now"], "s", peer=peer, peer_value=times["plain"])
        )
        record.add(
            Row("size of the file", sizes["now"], "MB", peer=peer, peer_value=sizes["plain"])
        )
        seconds, megabytes = command(scene, options.frames, folder)
    record.add(Row("`zipsplat render`, whole command", seconds, "s"))
    record.add(Row("`zipsplat render`, peak memory", megabytes, "MB"))
    record.save()


def render(scene: Gaussians, num_frames: int, chunk: int | None, preset: str, path: Path) -> None:
    """Make the video in one way."""
    with mock.patch.dict(video._X264, {"preset": preset}):
        look = viz.Look(chunk=chunk)
        viz.save_video(viz.turntable_frames(scene, num_frames=num_frames, look=look), path)


def command(scene: Gaussians, num_frames: int, folder: Path) -> tuple[float, float]:
    """CPU seconds and peak megabytes of `zipsplat render`, kernels compiled."""
    path = folder / "scene.ply"
    scene.save(path)
    options = ["-o", str(path.with_suffix(".mp4")), "--frames", str(num_frames)]
    subprocess.run([sys.executable, "-m", "zipsplat", "render", str(path), *options], check=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


if __name__ == "__main__":
    main()
