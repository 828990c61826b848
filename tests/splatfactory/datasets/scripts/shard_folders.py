"""Shard folders for the tests of the commands that work on them, and an estimator of depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from splatfactory.datasets.shard_output import ShardOutput
from splatfactory.datasets.store import ShardStore
from tests.splatfactory.datasets.stored_scenes import ROOT, make_scene

GOLDEN = ROOT / "tests" / "golden" / "data"
SHARDS = GOLDEN / "shards" / "synth" / "90x160"


def write(directory: Path, keys: list[str], size_mb: float = 512, **kwargs) -> Path:
    with ShardOutput(directory, "test", shard_size_mb=size_mb) as output:
        for key in keys:
            output.add(make_scene(key, **kwargs))
    return directory


def scenes_of(directory: Path) -> dict[str, object]:
    store = ShardStore(directory)
    assert not store.faults
    return {info.key: store.read(number) for number, info in enumerate(store.scenes)}


def same(a, b) -> bool:
    arrays = np.array_equal(a.cameras, b.cameras) and np.array_equal(a.poses, b.poses)
    return arrays and a.images == b.images and a.depths == b.depths


class Stand:
    """A stand-in estimator: depth is the view's place on the x axis plus the column."""

    def __init__(self, fail_on: int | None = None) -> None:
        self.calls: list[int] = []
        self.fail_on = fail_on

    def estimate(self, images, K, camera_from_world):
        self.calls.append(len(images))
        if self.fail_on == len(self.calls):
            raise RuntimeError("out of memory")
        assert K.shape == (len(images), 3, 3)
        x = -camera_from_world[:, 0, 3]
        columns = np.arange(16) * 2 + 0.5
        return (2 + x[:, None, None] + columns * np.ones((12, 1))).astype(np.float32)
