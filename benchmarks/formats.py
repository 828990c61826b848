"""Size, speed and loss of each scene format, on a seeded scene of 100 000 Gaussians of SH degree 1.

    python benchmarks/formats.py [--num 100000]

Prints a table in Markdown: bytes per Gaussian, smallest CPU time to write and to read, interleaved
in one run on one thread, and the PSNR of renders after a round trip against renders of the
original.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))  # for room_scene, run as a script
from room_scene import FOV_DEG, camera_poses, room_scene

from zipsplat import Camera, Gaussians
from zipsplat.formats import FORMATS

REPEATS = 5


def render(scene: Gaussians) -> torch.Tensor:
    """Two of the views the scene was made from, 256 × 256 pixels."""
    camera = Camera.from_fov(math.radians(FOV_DEG), w=256, h=256)
    return scene.render(camera, camera_poses()[[1, 4]])[0].clamp(0, 1)


def measure(name: str, scene: Gaussians, wanted: torch.Tensor) -> str:
    """One row of the table."""
    chosen, arrays = FORMATS[name], scene.arrays()
    write_times, read_times = [], []
    for _ in range(REPEATS):
        file = io.BytesIO()
        start = time.process_time()
        chosen.write(file, arrays)
        middle = time.process_time()
        file.seek(0)
        got = chosen.read(file)
        write_times.append(middle - start)
        read_times.append(time.process_time() - middle)
    size = len(file.getvalue()) / scene.num_gaussians
    error = (render(Gaussians.from_arrays(got)) - wanted).square().mean().item()
    psnr = f"{-10 * math.log10(error):.1f}" if error > 1e-10 else "> 100"
    return (
        f"| {chosen.suffixes[0]} | {size:.2f} | {min(write_times):.3f} | {min(read_times):.3f}"
        f" | {psnr} |"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, default=100_000)
    num = parser.parse_args().num
    torch.set_num_threads(1)
    scene = room_scene(num)
    wanted = render(scene)
    print(f"{num} Gaussians, SH degree 1, one thread, CPU time, best of {REPEATS}\n")
    print("| format | bytes per Gaussian | write, s | read, s | PSNR after, dB |")
    print("|---|---|---|---|---|")
    for name in FORMATS.names():
        print(measure(name, scene, wanted))


if __name__ == "__main__":
    main()
