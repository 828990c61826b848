"""Killed at any moment, every writer leaves the old or the new file, and no lasting debris."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from splatfactory import config
from splatfactory.datasets.shard_output import ShardOutput
from splatfactory.datasets.shards import StoredScene
from splatfactory.datasets.store import ShardStore
from splatfactory.runtime import checkpoints
from tests.zipsplat.tiny_network import tiny_network
from zipsplat import files, weights
from zipsplat.file_records import Record
from zipsplat.gaussians import Gaussians
from zipsplat.kernel_cache import KernelFiles
from zipsplat.pose import Pose
from zipsplat.trajectories import CameraPath, load_camera_path, save_camera_path
from zipsplat.webpage import write_page

KILLS = 20
"""Kills per writer."""


@dataclass(frozen=True)
class Writer:
    """A program that replaces a file.

    Args:
        write: writes a version into a folder.
        version: which one is there; fails if it is not whole.
    """

    write: Callable[[Path, int], object]
    version: Callable[[Path], int]


def _gaussians(number: int) -> Gaussians:
    generator = torch.Generator().manual_seed(number)
    count = 500
    quats = torch.nn.functional.normalize(torch.randn(count, 4, generator=generator), dim=-1)
    scales = torch.full((count, 3), 0.1)
    sh = torch.randn(count, 1, 3, generator=generator)
    means = torch.full((count, 3), float(number % 50))
    return Gaussians.from_parameters(means, scales, quats, torch.full((count,), 0.5), sh)


def _scene(suffix: str) -> Writer:
    def version(folder: Path) -> int:
        found = Gaussians.load(folder / f"x{suffix}")
        assert len(found) == 500
        return round(float(found.means.mean()))

    return Writer(lambda folder, n: _gaussians(n).save(folder / f"x{suffix}"), version)


def _checkpoint(folder: Path, number: int) -> None:
    content = {"model": {"a": torch.full((200_000,), float(number))}, "step": number}
    checkpoints.save(content, folder / "checkpoint_00000001.tar")


def _checkpoint_version(folder: Path) -> int:
    loaded = checkpoints.load(folder / "checkpoint_00000001.tar")
    assert (loaded["model"]["a"] == loaded["step"]).all()
    return int(loaded["step"])


def _weights(folder: Path, number: int) -> None:
    weights.save(folder / "x.safetensors", tiny_network(number % 3).state_dict(), {"n": number})


def _shards(folder: Path, number: int) -> None:
    """Resumes where it was; each scene is a shard."""
    output = ShardOutput(folder / "shards", "test", one_scene_per_shard=True)
    with output:
        for scene in range(number % 8 + 1):
            if f"s{scene}" not in output.done:
                row = np.ones((3, 6), np.float32), np.ones((3, 12), np.float32)
                output.add(StoredScene(f"s{scene}", *row, (b"\xff\xd8" * 40_000,) * 3))


def _shards_version(folder: Path) -> int:
    store = ShardStore(folder / "shards")
    assert not store.damage
    for scene in range(len(store.scenes)):
        assert len(store.read(scene).images) == 3
    return len(store.scenes) - 1


def _path(folder: Path, number: int) -> None:
    matrices = torch.eye(4).repeat(2000, 1, 1)
    matrices[:, 0, 3] = number
    save_camera_path(CameraPath(Pose.from_4x4mat(matrices), 60.0), folder / "path.json")


def _record(folder: Path, number: int) -> None:
    (folder / "file.bin").write_bytes(b"x")
    Record("https://x.org/" + "y" * 5000, 1, "", revision=str(number)).write(folder / "file.bin")


WRITERS: dict[str, Writer] = {
    "ply": _scene(".ply"),
    "spz": _scene(".spz"),
    "glb": _scene(".glb"),
    "checkpoint": Writer(_checkpoint, _checkpoint_version),
    "weights": Writer(_weights, lambda folder: weights.read(folder / "x.safetensors").conf["n"]),
    "shards": Writer(_shards, _shards_version),
    "path": Writer(
        _path, lambda f: round(float(load_camera_path(f / "path.json").poses.t[:, 0].mean()))
    ),
    "yaml": Writer(
        lambda folder, n: config.save_yaml({"n": n, "x": ["y"] * 3000}, folder / "x.yaml"),
        lambda folder: config.read_yaml(folder / "x.yaml")["n"],
    ),
    "record": Writer(_record, lambda folder: _number_of(Record.read(folder / "file.bin"))),
    "page": Writer(
        lambda folder, n: write_page(folder / "x.html", _gaussians(n), title=f"page {n}"),
        lambda folder: _page(folder),
    ),
    "kernel": Writer(
        lambda folder, n: KernelFiles(folder, "k").save("key", (n, bytes(500_000))),
        lambda folder: KernelFiles(folder, "k").load("key")[0],
    ),
}


def _number_of(record: Record | None) -> int:
    assert record is not None
    return int(record.revision or 0)


def _page(folder: Path) -> int:
    text = (folder / "x.html").read_text(encoding="utf-8")
    assert text.rstrip().endswith("</html>")
    title = re.search(r"<title>page (\d+)</title>", text)
    assert title is not None
    return int(title[1])


def _killed_after(seconds: float, work: Callable[[], object]) -> None:
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_kills(name: str, tmp_path: Path) -> None:
    writer, rng = WRITERS[name], random.Random(name)
    start = time.perf_counter()
    writer.write(tmp_path, 1)
    took = time.perf_counter() - start
    at_least = writer.version(tmp_path)
    for number in range(KILLS):
        begun = 2 + number

        def work(begun: int = begun) -> None:
            for version in range(begun, begun + 1000):
                writer.write(tmp_path, version)

        _killed_after(rng.uniform(0.2, 3) * took, work)
        found = writer.version(tmp_path)  # fails unless it is complete
        assert found >= min(at_least, 1)
    files._sweep_once.cache_clear()  # the next start
    writer.write(tmp_path, 7)
    writer.version(tmp_path)
    left = [path.name for path in tmp_path.rglob("*") if ".partial" in path.name]
    assert left == []


def test_the_number_of_kills() -> None:
    assert KILLS * len(WRITERS) >= 200
