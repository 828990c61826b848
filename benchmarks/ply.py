"""Saving and loading a .ply against one Python tuple per Gaussian.

    python benchmarks/ply.py [--num 250000] [--rounds 3]

CPU seconds of both ways, measured in turns in one run, and their ratios.
"""

from __future__ import annotations

import argparse
import io
import math
import struct
import tempfile
from pathlib import Path

import torch
from records import Record, Row, in_turns

from zipsplat import Gaussians
from zipsplat.formats.ply import property_names


def make_scene(num: int) -> Gaussians:
    """Random Gaussians with plausible value ranges."""
    generator = torch.Generator().manual_seed(0)
    packed = torch.rand(num, 23, generator=generator)
    return Gaussians.from_packed(packed)


def save_by_tuples(scene: Gaussians, path: Path) -> None:
    """The straightforward way: one tuple of numbers per Gaussian, packed one by one."""
    names = property_names(4)
    record = struct.Struct(f"<{len(names)}f")
    header = "\n".join(
        ["ply", "format binary_little_endian 1.0", f"element vertex {scene.num_gaussians}"]
        + [f"property float {name}" for name in names]
        + ["end_header\n"]
    )
    rest = scene.shN.transpose(-1, -2).flatten(-2).tolist()
    rows = zip(
        scene.means.tolist(), scene.sh0[:, 0].tolist(), rest, scene.opacities.logit(1e-6).tolist(),
        scene.scales.clamp_min(1e-6).log().tolist(), scene.quats.tolist(), strict=True,
    )  # fmt: skip
    with path.open("wb") as file:
        file.write(header.encode())
        for mean, dc, more, opacity, scale, quat in rows:
            file.write(record.pack(*mean, 0.0, 0.0, 0.0, *dc, *more, opacity, *scale, *quat))


def load_by_tuples(path: Path) -> Gaussians:
    """Read the file back one tuple at a time."""
    data = path.read_bytes()
    body = data[data.index(b"end_header\n") + 11 :]
    rows = []
    for row in struct.Struct("<26f").iter_unpack(body):
        opacity = 1 / (1 + math.exp(-row[18]))
        scale = tuple(math.exp(value) for value in row[19:22])
        rest = tuple(row[9 + 3 * c + k] for k in range(3) for c in range(3))
        rows.append((*row[:3], *scale, *row[22:26], opacity, *row[6:9], *rest))
    return Gaussians.from_packed(torch.tensor(rows))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, default=250_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    num = options.num
    torch.set_num_threads(1)
    scene = make_scene(num)
    record = Record("ply", f"`.ply` beside plain Python, {num:,} Gaussians of SH degree 1")
    with tempfile.TemporaryDirectory() as folder:
        ours, plain = Path(folder, "ours.ply"), Path(folder, "plain.ply")
        times = in_turns(
            {
                "save": lambda: scene.save_ply(ours),
                "save plainly": lambda: save_by_tuples(scene, plain),
                "load": lambda: Gaussians.load(ours),
                "load plainly": lambda: load_by_tuples(plain),
            },
            rounds=options.rounds,
        )
        assert len(io.FileIO(ours).readall()) == len(io.FileIO(plain).readall())
        difference = (Gaussians.load(ours).packed() - load_by_tuples(plain).packed()).abs().max()
    assert difference < 1e-6, difference
    for name in ("save", "load"):
        peer = "one Python tuple per Gaussian"
        record.add(Row(name, times[name], "s", peer=peer, peer_value=times[f"{name} plainly"]))
    record.save()


if __name__ == "__main__":
    main()
