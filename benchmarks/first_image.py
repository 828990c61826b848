"""How long the first image takes on a machine that has compiled no kernels yet.

    python benchmarks/first_image.py [--num 32000] [--rounds 2]

`zipsplat render SCENE -o image.png` in a process of its own, with an empty kernel cache and with
a filled one, in turns with an earlier state of this library. Seconds by the clock: the kernels of
an image are compiled by two processes, so on a busy machine these figures say little; CPU seconds
include them.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from earlier import LABEL, ROOT, earlier_state, environment
from records import Record, Row
from start import MAKE, run

WAITING_LIMIT = 4.0
COLD, WARM = "no kernels compiled yet", "kernels compiled"


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--num", type=int, default=32_000)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    title = f"The first image, {options.num:,} Gaussians"
    record = Record("first_image", title, threads=os.cpu_count() or 1)
    best: dict[tuple[str, str], tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as name, earlier_state() as before:
        scene = Path(name) / "scene.ply"
        run((sys.executable, "-c", MAKE, str(scene), str(options.num)))
        roots = {"ours": ROOT} | ({} if before is None else {LABEL: before})
        for _ in range(options.rounds):
            for label, root in roots.items():
                with tempfile.TemporaryDirectory() as cache:
                    for state in (COLD, WARM):
                        found = seconds(root, scene, cache)
                        best[label, state] = min(found, best.get((label, state), found))
    add(record, best)
    record.save()


def seconds(root: Path, scene: Path, cache: str) -> tuple[float, float]:
    """Seconds by the clock and of all processes' CPU time that one image takes."""
    image = scene.with_suffix(".png")
    image.unlink(missing_ok=True)
    env = environment(root, os.cpu_count() or 1) | {"ZIPSPLAT_KERNEL_CACHE": cache}
    command = [sys.executable, "-m", "zipsplat", "render", str(scene), "-o", str(image)]
    start, cpu = time.perf_counter(), children_seconds()
    subprocess.run(command, env=env, cwd=root, check=True, capture_output=True)
    assert image.is_file()
    return time.perf_counter() - start, children_seconds() - cpu


def children_seconds() -> float:
    """CPU seconds of all ended children of this process, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def add(record: Record, best: dict[tuple[str, str], tuple[float, float]]) -> None:
    """Rows of both states, and of the waiting for the compiler."""
    peer = LABEL if (LABEL, COLD) in best else ""
    for state in (COLD, WARM):
        for how, column in (("by the clock", 0), ("CPU time of all processes", 1)):
            theirs = best[LABEL, state][column] if peer else None
            what = f"`zipsplat render` of one image, {state}, {how}"
            record.add(Row(what, best["ours", state][column], "s", peer, theirs))
    waiting = {
        label: best[label, COLD][0] - best[label, WARM][0] for label, state in best if state == COLD
    }
    what = "waiting for the compiler at the first image, once per machine, by the clock"
    ours, theirs = waiting["ours"], waiting.get(LABEL)
    record.add(Row(what, ours, "s", peer, theirs, limit=WAITING_LIMIT, key=what))


if __name__ == "__main__":
    main()
