"""Rendering and encoding a video, beside an earlier state, larger batches and another preset.

    python benchmarks/videos.py [SCENE] [--frames 180] [--rounds 2]

Without a scene: the room of `room_scene.py` with 100 000 Gaussians of SH degree 3. Whole commands
`zipsplat render` of this and of an earlier state take turns; then, in this process, two ways of
rendering: frames in batches as now with x264's preset as now, and 16 at once with "medium". One
thread, CPU time.
"""

from __future__ import annotations

import argparse
import functools
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parent))  # for room_scene, run as a script
from earlier import LABEL, ROOT, earlier_state, environment
from records import Record, Row, in_turns
from room_scene import room_of_degree

from zipsplat import Gaussians, video, viz
from zipsplat.render.cpu import set_num_threads

WAYS = {"now": (None, video._X264["preset"]), "plain": (16, "medium")}  # batch and preset
GAIN, MOST_MEMORY = 1.5, 700  # MB


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scene", type=Path, nargs="?")
    parser.add_argument("--frames", type=int, default=180)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    set_num_threads(1)
    scene = room_of_degree(100_000, 3) if options.scene is None else Gaussians.load(options.scene)
    title = f"Videos, {scene.num_gaussians:,} Gaussians, {options.frames} frames of 512 × 512"
    record = Record("videos", title, packages=("av",))
    with tempfile.TemporaryDirectory() as name:
        commands(record, scene, options.frames, options.rounds, Path(name))
        ways(record, scene, options.frames, options.rounds, Path(name))
    record.save()


def commands(record: Record, scene: Gaussians, num_frames: int, rounds: int, folder: Path) -> None:
    """Rows of the whole command, kernels compiled."""
    path = folder / "scene.ply"
    scene.save(path)
    best: dict[str, tuple[float, float]] = {}
    with earlier_state() as before:
        roots = {"ours": ROOT} | ({} if before is None else {LABEL: before})
        for root in roots.values():
            command(root, path, 2)
        for _ in range(rounds):
            for label, root in roots.items():
                seconds, megabytes = command(root, path, num_frames)
                least, most = best.get(label, (seconds, megabytes))
                best[label] = min(least, seconds), max(most, megabytes)
    (seconds, megabytes), theirs = best["ours"], best.get(LABEL, (None, None))
    peer = LABEL if LABEL in best else ""
    what = "`zipsplat render`"
    time = Row(f"{what}, CPU time", seconds, "s", peer, theirs[0], wanted=GAIN)
    record.add(replace(time, key=f"{what} of a video, {record.of_what}, CPU time"))
    memory = Row(f"{what}, peak memory", megabytes, "MB", peer, theirs[1], limit=MOST_MEMORY)
    record.add(replace(memory, key=f"{what} of a video, {record.of_what}, peak memory"))


def command(root: Path, scene: Path, num_frames: int) -> tuple[float, float]:
    """CPU seconds and peak megabytes of `zipsplat render` in a state of the library."""
    options = ["-o", str(scene.with_suffix(".mp4")), "--frames", str(num_frames)]
    process = subprocess.Popen(
        [sys.executable, "-m", "zipsplat", "render", str(scene), *options, "--overwrite"],
        env=environment(root),
        cwd=root,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if status:
        raise SystemExit(f"`zipsplat render` in {root} failed with status {process.returncode}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6


def ways(record: Record, scene: Gaussians, num_frames: int, rounds: int, folder: Path) -> None:
    """Rows of batch and preset."""
    actions = {
        way: functools.partial(render, scene, num_frames, *how, folder / f"{way}.mp4")
        for way, how in WAYS.items()
    }
    times = in_turns(actions, rounds)
    sizes = {way: (folder / f"{way}.mp4").stat().st_size / 1e6 for way in WAYS}
    peer = "16 frames at once, preset medium"
    what = "rendered and encoded, without starting"
    record.add(Row(what, times["now"], "s", peer, times["plain"]))
    record.add(Row("size of the file", sizes["now"], "MB", peer, sizes["plain"]))


def render(scene: Gaussians, num_frames: int, chunk: int | None, preset: str, path: Path) -> None:
    """Make the video in one way."""
    with mock.patch.dict(video._X264, {"preset": preset}):
        look = viz.Look(chunk=chunk)
        viz.save_video(viz.turntable_frames(scene, num_frames=num_frames, look=look), path)


if __name__ == "__main__":
    main()
