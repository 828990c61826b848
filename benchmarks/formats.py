"""Size, speed and loss of each scene format, on a seeded scene of 100 000 Gaussians of SH degree 1.

    python benchmarks/formats.py
    python benchmarks/formats.py --num 1000000 --degree 3   # the formats others write, too

Bytes per Gaussian, smallest CPU time to write and to read on one thread, and the PSNR of renders
after a round trip against renders of the original. gsply and plyfile, where they are installed,
read and write the same scene; with a million Gaussians, so does an earlier state of this library,
and `.spz` is written on two threads, too. Each side has a process of its own; all take turns.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))  # for room_scene, run as a script
from earlier import LABEL, ROOT, Worker, best_of, earlier_state
from records import Record, Row, version
from room_scene import FOV_DEG, camera_poses, room_of_degree

from zipsplat import Camera, Gaussians
from zipsplat.formats import FORMATS, SplatArrays

SHARED = ("ply", "spz", "compressed_ply")
"""Formats that others write, too."""
FIELDS = ("means", "scales", "quats", "opacities", "sh_coeffs")
MANY = 1_000_000
GAINS = {("spz", "write"): 3, ("spz", "read"): 3, ("compressed_ply", "write"): 6}
"""Promised ratios to the earlier state, for a million Gaussians of degree 3."""
GAIN_BY_TWO = 4
"""And of writing `.spz` on two threads to the earlier state, which used one, by the clock."""

LOAD = """
import os
import numpy as np
arrays = dict(np.load(sys.argv[1]))
folder = sys.argv[2]
"""
OURS = f"""{LOAD}
from zipsplat.formats import FORMATS, SplatArrays
label, arrays = sys.argv[3], SplatArrays(**arrays)
def work(name):
    way, kind = name.split()
    path = os.path.join(folder, label + FORMATS[kind].suffixes[0])
    with open(path, "wb" if way == "write" else "rb") as file:
        FORMATS[kind].write(file, arrays) if way == "write" else FORMATS[kind].read(file)
"""
GSPLY = f"""{LOAD}
import gsply
names = dict(ply=".ply", spz=".spz", compressed_ply=".compressed.ply")
sh = [np.ascontiguousarray(part) for part in np.split(arrays["sh_coeffs"], [1], axis=1)]
def work(name):
    way, kind = name.split()
    path = os.path.join(folder, "gsply" + names[kind])
    if way == "read":
        gsply.apply_pre_activations((gsply.read_spz if kind == "spz" else gsply.plyread)(path))
        return
    scales, opacities = arrays["scales"].copy(), arrays["opacities"].copy()  # changed in place
    data = gsply.GSData(arrays["means"], scales, arrays["quats"], opacities, sh[0][:, 0], sh[1])
    gsply.apply_pre_deactivations(data)
    if kind == "spz":
        gsply.write_spz(path, data)
    else:
        gsply.plywrite(path, data, compressed=kind == "compressed_ply")
"""
PLYFILE = f"""{LOAD}
from plyfile import PlyData, PlyElement
def work(name):
    path = os.path.join(folder, "plyfile.ply")
    if name == "read ply":
        rows = PlyData.read(path)["vertex"].data
        table = rows.view(np.float32).reshape(len(rows), -1)
        np.exp(table[:, -7:-4]), 1 / (1 + np.exp(-table[:, -8])), table[:, :-8].copy()
        return
    p = arrays["opacities"].clip(1e-6, 1 - 1e-6)
    sh = arrays["sh_coeffs"]
    columns = [arrays["means"], 0 * arrays["means"], sh[:, 0], sh[:, 1:].swapaxes(1, 2)]
    columns += [np.log(p / (1 - p)), np.log(arrays["scales"]), arrays["quats"]]
    table = np.concatenate([np.reshape(c, (len(p), -1)) for c in columns], axis=1)
    kinds = [(f"column_{{n}}", "f4") for n in range(table.shape[1])]
    PlyData([PlyElement.describe(table.view(kinds)[:, 0], "vertex")]).write(path)
"""


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, default=100_000)
    parser.add_argument("--degree", type=int, default=1, choices=range(4))
    parser.add_argument("--formats", nargs="+", choices=FORMATS.names())
    parser.add_argument("--rounds", type=int, help="5; 3 from a million Gaussians on")
    options = parser.parse_args()
    is_large = options.num >= MANY
    rounds = options.rounds or (3 if is_large else 5)
    names = options.formats or (SHARED if is_large else FORMATS.names())
    torch.set_num_threads(1)
    record = Record(
        f"formats_{options.num}_sh{options.degree}",
        f"Scene files, {options.num:,} Gaussians of SH degree {options.degree}",
        packages=("gsply", "plyfile"),
    )
    scene = room_of_degree(options.num, options.degree)
    wanted = render(scene)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        source = folder / "arrays.npz"
        arrays = scene.arrays()
        np.savez(source, **{name: getattr(arrays, name) for name in FIELDS})
        before = stack.enter_context(earlier_state()) if is_large else None
        for name in names:
            workers = workers_of(name, (str(source), str(folder)), before)
            times = best_of(workers, [f"{way} {name}" for way in ("write", "read")], rounds)
            for worker in workers.values():
                worker.close()
            add(record, name, scene.num_gaussians, times, folder)
            got = read(folder / f"ours{FORMATS[name].suffixes[0]}", name)
            add_loss(record, name, got, wanted)
        if is_large and "spz" in names:
            by_two_threads(record, (str(source), str(folder)), before, rounds)
    record.save()


def workers_of(name: str, arguments: tuple[str, str], before: Path | None) -> dict[str, Worker]:
    """Ours, and the peers that can write this format here."""
    found = {"ours": Worker(ROOT, OURS, (*arguments, "ours"))}
    if name not in SHARED:
        return found
    if version("gsply"):
        found["gsply"] = Worker(ROOT, GSPLY, arguments)
    if version("plyfile") and name == "ply":
        found["plyfile"] = Worker(ROOT, PLYFILE, arguments)
    if before is not None:
        found[LABEL] = Worker(before, OURS, (*arguments, "earlier"))
    return found


def add(
    record: Record, name: str, num: int, times: dict[tuple[str, str], float], folder: Path
) -> None:
    """Rows of size and times, one for each peer."""
    suffix = FORMATS[name].suffixes[0]
    sizes = {label: (folder / f"{label}{suffix}") for label in ("ours", "gsply")}
    bytes_each = {label: p.stat().st_size / num for label, p in sizes.items() if p.is_file()}
    peer = "gsply" if "gsply" in bytes_each else ""
    size = Row(f"`{suffix}` size", bytes_each["ours"], "bytes/Gaussian", peer)
    record.add(replace(size, peer_value=bytes_each.get("gsply")))
    peers = [label for label, work in times if label != "ours" and work.startswith("write")]
    for way in ("write", "read"):
        row = Row(f"`{suffix}` {way}", times["ours", f"{way} {name}"], "s")
        for peer in peers:
            gain = GAINS.get((name, way)) if peer == LABEL else None
            is_key = peer in (LABEL, "gsply") and num >= MANY
            key = f"{way} `{suffix}`, {record.of_what}" if is_key else ""
            value = times[peer, f"{way} {name}"]
            record.add(replace(row, peer=peer, peer_value=value, wanted=gain, key=key))
        if not peers:
            record.add(row)


def by_two_threads(
    record: Record, arguments: tuple[str, str], before: Path | None, rounds: int
) -> None:
    """Writing `.spz` on two threads, by the clock."""
    workers = {"ours": Worker(ROOT, OURS, (*arguments, "ours"), threads=2)}
    if before is not None:
        workers[LABEL] = Worker(before, OURS, (*arguments, "earlier"), threads=2)
    times = best_of(workers, ["write spz"], rounds)
    for worker in workers.values():
        worker.close()
    row = Row("`.spz` write, two threads, by the clock", times["ours", "write spz"], "s")
    peer = LABEL if before is not None else ""
    value = times.get((LABEL, "write spz"))
    key = f"write `.spz`, {record.of_what}, two threads, by the clock"
    record.add(replace(row, peer=peer, peer_value=value, wanted=GAIN_BY_TWO, key=key))


def add_loss(record: Record, name: str, got: SplatArrays, wanted: torch.Tensor) -> None:
    """Row of what a file changes in renders."""
    error = (render(Gaussians.from_arrays(got)) - wanted).square().mean().item()
    what = f"`{FORMATS[name].suffixes[0]}`, renders after a round trip (100: equal)"
    record.add(Row(what, min(100.0, -10 * math.log10(max(error, 1e-30))), "dB"))


def read(path: Path, name: str) -> SplatArrays:
    """Read a file of a format."""
    with path.open("rb") as file:
        return FORMATS[name].read(file)


def render(scene: Gaussians) -> torch.Tensor:
    """Two of the views the scene was made from, 256 × 256 pixels."""
    camera = Camera.from_fov(math.radians(FOV_DEG), w=256, h=256)
    return scene.render(camera, camera_poses()[[1, 4]])[0].clamp(0, 1)


if __name__ == "__main__":
    main()
