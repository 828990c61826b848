"""Runs the benchmarks one after the other; each writes its figures as JSON when it ends.

    python scripts/bench.py                      # everything that docs/benchmarks.md shows
    python scripts/bench.py formats start        # some of it
    python scripts/bench.py --rounds 9           # more rounds than each takes by itself
    python scripts/bench.py --quality            # quality of scenes and cameras: hours

A run that is stopped keeps what it has measured; one that fails does not stop the others. Files
go to `benchmarks/results/`; those of an earlier run are replaced.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"

GROUPS: dict[str, tuple[str, ...]] = {
    "Starting": ("start.py", "first_image.py"),
    "Scene files": ("formats.py", "formats.py --num 1000000 --degree 3", "ply.py"),
    "Rendering": (
        "rasterizer.py",
        "rasterizer.py --threads 2",
        "rasterizer.py --turntable 2",
        "videos.py",
        "refinement_step.py",
    ),
    "The network": (
        "network.py",
        "network.py --dtypes vits",
        "network.py --dtypes vitb",
        "network.py --dtypes vitg",
        "network.py --loading vitb",
        "network.py --depth",
        "viewer.py",
    ),
    "Cameras and depth": ("cameras.py", "plane_sweep.py", "alignment.py"),
    "Training": ("data_loading.py", "remote_shards.py", "synthetic.py", "training.py"),
}
"""Commands by the heading under which the page shows their figures."""

QUALITY = (
    "cleaning.py",
    "network_cameras.py",
    "refinement.py assets/examples/drone.mp4",
    "refinement_scenes.py many",
    "refinement_scenes.py few",
    "refinement_scenes.py office",
)
"""Commands that print tables of quality, which stand in pages of their own."""

ONCE = ("cameras.py", "alignment.py")
"""Commands without rounds: what they measure is spread over scenes."""

IMPORTED = (
    "earlier",
    "fma_peak",
    "range_server",
    "rasterizer_scenes",
    "rasterizer_stages",
    "rasterizer_threads",
    "rasterizer_turntable",
    "records",
    "room_scene",
    "tiled_torch",
)
"""Modules of `benchmarks/` that are no commands."""

APART = {
    "real_input.py": "wants photos or a video of the user's own",
    "tiny_model.py": "wants checkpoints of `make tiny`: make tiny-scores",
}
"""Commands that run by hand only, with the reason."""


def main() -> int:
    """Run the chosen commands; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="benchmarks to run, such as `formats`")
    parser.add_argument("--rounds", type=int, help="how often each thing is measured")
    parser.add_argument("--quality", action="store_true", help="quality instead of speed")
    options = parser.parse_args()
    commands = QUALITY if options.quality else tuple(c for all_ in GROUPS.values() for c in all_)
    names = [name.removesuffix(".py") for name in options.names]
    chosen = [c for c in commands if not names or c.partition(".py")[0] in names]
    if unknown := set(names) - {command.partition(".py")[0] for command in commands}:
        parser.error(f"no such benchmark here: {', '.join(sorted(unknown))}")
    begin, failed = time.monotonic(), []
    for number, command in enumerate(chosen, 1):
        minutes = (time.monotonic() - begin) / 60
        print(f"\n== {number}/{len(chosen)} {command} (after {minutes:.1f} min)", flush=True)
        words = command.split()
        if options.rounds and words[0] not in ONCE and not options.quality:
            words += ["--rounds", str(options.rounds)]
        if not run(words, wants_figures=not options.quality):
            failed.append(command)
    minutes = (time.monotonic() - begin) / 60
    print(f"\n{len(chosen)} benchmarks in {minutes:.1f} min; failed: {', '.join(failed) or 'none'}")
    return int(bool(failed))


def run(command: Sequence[str], *, wants_figures: bool) -> bool:
    """Run one; returns whether it succeeded, which includes that it wrote its figures."""
    env = os.environ | {"BENCHMARK_RESULTS": str(RESULTS), "PYTHONPATH": str(ROOT)}
    before = written()
    script = str(ROOT / "benchmarks" / command[0])
    status = subprocess.run([sys.executable, script, *command[1:]], cwd=ROOT, env=env).returncode
    if status:
        print(f"{command[0]} failed with status {status}", flush=True)
    elif wants_figures and written() == before:
        print(f"{command[0]} wrote no figures to {RESULTS}", flush=True)
        return False
    return not status


def written() -> dict[Path, int]:
    """When each file of figures was written."""
    return {path: path.stat().st_mtime_ns for path in RESULTS.glob("*.json")}


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nstopped; the figures of the benchmarks that had ended are kept")
        sys.exit(130)
