"""CPU seconds and memory of whole commands on small work, beside the import of PyTorch.

    python benchmarks/start.py [--num 100000] [--rounds 5]

Each command runs in a process of its own, in turns with the others. gsply, if it is installed,
reads the same `.ply` and writes the same kind of file.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from records import Record, Row, version

INFO = "`zipsplat info scene.ply`"
CONVERT = "`zipsplat convert scene.ply scene.spz`"
LIMITS = {INFO: 0.2, CONVERT: 0.35}  # s of CPU time
MOST_MEMORY = 100  # MB
# This process imports little: Linux counts its memory as that of its children, too.
MAKE = """
import sys
import numpy as np
from zipsplat.formats import SplatArrays
from zipsplat.scene_files import write_scene
num, random = int(sys.argv[2]), np.random.default_rng(0)
shapes = [(num, 3), (num, 3), (num, 4), (num,), (num, 1, 3)]
means, scales, quats, opacities, colors = (random.random(s, np.float32) + 0.01 for s in shapes)
write_scene(sys.argv[1], SplatArrays(means, scales / 50, quats, opacities / 2, colors))
"""
GSPLY = "import gsply, sys; gsply.write_spz(sys.argv[2], gsply.plyread(sys.argv[1]))"


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--num", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    title = f"Whole commands, {options.num:,} Gaussians of SH degree 0"
    record = Record("start", title, packages=("gsply",))
    with tempfile.TemporaryDirectory() as folder:
        spent = measure(commands(Path(folder), options.num), options.rounds)
    add(record, spent)
    record.save()


def add(record: Record, spent: dict[str, tuple[float, float]]) -> None:
    """Rows of time and memory."""
    torch_s, torch_mb = spent.pop("import torch")
    peers, torch = {CONVERT: spent.pop("gsply", None)}, "`import torch` alone"
    for name, (seconds, megabytes) in spent.items():
        limit, is_key = LIMITS.get(name), name in LIMITS
        if found := peers.get(name):
            row = Row(name, seconds, "s", "gsply", found[0], limit=limit)
            record.add(replace(row, key=f"{name}, {record.of_what}"))
            record.add(Row(f"{name}, peak memory", megabytes, "MB", "gsply", found[1]))
        row = Row(name, seconds, "s", torch, torch_s, limit=limit)
        record.add(replace(row, key=f"{name}, {record.of_what}" if is_key else ""))
        memory = f"{name}, peak memory"
        row = Row(memory, megabytes, "MB", torch, torch_mb, limit=MOST_MEMORY if is_key else None)
        record.add(replace(row, key=f"{memory}, {record.of_what}" if is_key else ""))


def commands(folder: Path, num: int) -> dict[str, Sequence[str]]:
    """What is run, by name."""
    source, spz = str(folder / "scene.ply"), str(folder / "scene.spz")
    run((sys.executable, "-c", MAKE, source, str(num)))
    zipsplat = (sys.executable, "-m", "zipsplat")
    found: dict[str, Sequence[str]] = {
        "`zipsplat --help`": (*zipsplat, "--help"),
        INFO: (*zipsplat, "info", source),
        CONVERT: (*zipsplat, "convert", "--overwrite", source, spz),
        "`zipsplat convert scene.spz scene.ply`": (
            *zipsplat,
            "convert",
            "--overwrite",
            spz,
            f"{spz}.ply",
        ),
        "import torch": (sys.executable, "-c", "import torch"),
    }
    if version("gsply"):
        found["gsply"] = (sys.executable, "-c", GSPLY, source, str(folder / "peer.spz"))
    return found


def measure(given: dict[str, Sequence[str]], rounds: int) -> dict[str, tuple[float, float]]:
    """Least CPU seconds, and most megabytes, of each command; the first round warms up."""
    spent = {name: [run(command)] for name, command in given.items()}
    for _ in range(rounds):
        for name, command in given.items():
            spent[name].append(run(command))
    return {
        name: (min(t[0] for t in all_), max(t[1] for t in all_)) for name, all_ in spent.items()
    }


def run(command: Sequence[str]) -> tuple[float, float]:
    """CPU seconds and peak megabytes of a process on one thread, its modules compiled."""
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed with status {status}")
    process.returncode = 0
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    main()
