"""Size, speed and loss of each scene format, on a seeded scene of 100 000 Gaussians of SH degree 1.

    python benchmarks/formats.py [--num 100000] [--degree 1]

Bytes per Gaussian, smallest CPU time to write and to read on one thread, and the PSNR of renders
after a round trip against renders of the original. gsply, where it is installed, reads and writes
the same scene in turns with ours.
"""

from __future__ import annotations

import argparse
import functools
import math
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numba
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))  # for room_scene, run as a script
from records import Record, Row, in_turns, optional
from room_scene import FOV_DEG, camera_poses, room_scene

from zipsplat import Camera, Gaussians
from zipsplat.formats import FORMATS, SplatArrays
from zipsplat.sh_constants import num_coeffs

ROUNDS = 5
gsply = optional("gsply")


def render(scene: Gaussians) -> torch.Tensor:
    """Two of the views the scene was made from, 256 × 256 pixels."""
    camera = Camera.from_fov(math.radians(FOV_DEG), w=256, h=256)
    return scene.render(camera, camera_poses()[[1, 4]])[0].clamp(0, 1)


def scene_of(num: int, degree: int) -> Gaussians:
    """The room, with weak random harmonics above its own of degree 1."""
    scene = room_scene(num)
    if degree <= 1:
        return scene.with_sh_degree(degree)
    generator = torch.Generator().manual_seed(1)
    more = 0.03 * torch.randn(num, num_coeffs(degree) - 4, 3, generator=generator)
    return replace(scene, sh_coeffs=torch.cat((scene.sh_coeffs, more), dim=1))


def by_gsply(name: str, arrays: SplatArrays, folder: Path) -> dict[str, Callable[[], object]]:
    """What gsply does to write and to read the same values; empty if it is not there or cannot."""
    path = folder / f"gsply{FORMATS[name].suffixes[0]}"
    if gsply is None or name not in ("ply", "spz", "compressed_ply"):
        return {}
    sh0, shN = (np.ascontiguousarray(part) for part in np.split(arrays.sh_coeffs, [1], axis=1))

    def write() -> None:
        scales, opacities = arrays.scales.copy(), arrays.opacities.copy()  # changed in their places
        data = gsply.GSData(arrays.means, scales, arrays.quats, opacities, sh0[:, 0], shN)
        gsply.apply_pre_deactivations(data)
        if name == "spz":
            gsply.write_spz(path, data)
        else:
            gsply.plywrite(path, data, compressed=name == "compressed_ply")

    def read() -> None:
        gsply.apply_pre_activations((gsply.read_spz if name == "spz" else gsply.plyread)(path))

    return {"gsply write": write, "gsply read": read}


def measure(name: str, scene: Gaussians, wanted: torch.Tensor, record: Record) -> None:
    """Rows of one format."""
    chosen, arrays = FORMATS[name], scene.arrays()
    suffix = chosen.suffixes[0]
    with tempfile.TemporaryDirectory() as name_of_folder:
        folder = Path(name_of_folder)
        path = folder / f"ours{suffix}"
        ways = {
            "write": functools.partial(write, path, name, arrays),
            "read": functools.partial(read, path, name),
            **by_gsply(name, arrays, folder),
        }
        times = in_turns(ways, ROUNDS)
        sizes = {
            p.name.partition(".")[0]: p.stat().st_size / scene.num_gaussians
            for p in folder.iterdir()
        }
        got = read(path, name)
    peer = {"peer": "gsply"} if "gsply" in sizes else {}
    record.add(
        Row(
            f"`{suffix}` size",
            sizes["ours"],
            "bytes/Gaussian",
            **peer,
            peer_value=sizes.get("gsply"),
        )
    )
    for way in ("write", "read"):
        other = times.get(f"gsply {way}")
        record.add(Row(f"`{suffix}` {way}", times[way], "s", **peer, peer_value=other))
    error = (render(Gaussians.from_arrays(got)) - wanted).square().mean().item()
    record.add(Row(f"`{suffix}` PSNR after", min(100.0, -10 * math.log10(max(error, 1e-30))), "dB"))


def write(path: Path, name: str, arrays: SplatArrays) -> None:
    """Write a file of a format."""
    with path.open("wb") as file:
        FORMATS[name].write(file, arrays)


def read(path: Path, name: str) -> SplatArrays:
    """Read it."""
    with path.open("rb") as file:
        return FORMATS[name].read(file)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, default=100_000)
    parser.add_argument("--degree", type=int, default=1, choices=range(4))
    parser.add_argument("--formats", nargs="+", choices=FORMATS.names(), default=FORMATS.names())
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    numba.set_num_threads(1)  # of gsply
    scene = scene_of(options.num, options.degree)
    wanted = render(scene)
    record = Record(
        f"formats_{options.num}_sh{options.degree}",
        f"Scene files, {options.num:,} Gaussians of SH degree {options.degree}",
        f"benchmarks/formats.py --num {options.num} --degree {options.degree}",
        packages=("gsply",),
    )
    for name in options.formats:
        measure(name, scene, wanted, record)
    record.save()


if __name__ == "__main__":
    main()
