"""Data that the tests of this folder share."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from splatfactory.datasets import depth_codec
from splatfactory.datasets.shard_output import ShardOutput
from splatfactory.datasets.shards import StoredScene

GOLDEN = Path(__file__).parents[2] / "golden" / "data"

MakeScene = Callable[..., StoredScene]
MakeShards = Callable[..., Path]


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPLATFACTORY_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def golden() -> Path:
    return GOLDEN


@pytest.fixture
def golden_shards(tmp_path: Path) -> Path:
    """A private copy of the golden shards, as indices are written beside them."""
    return Path(shutil.copytree(GOLDEN / "shards" / "synth" / "90x160", tmp_path / "golden"))


def make_scene(
    key: str, num_views: int = 6, height: int = 24, width: int = 32, has_depth: bool = True
) -> StoredScene:
    """A small scene whose contents are a function of its key."""
    rng = np.random.default_rng(list(key.encode()))
    images, depths = [], []
    for _ in range(num_views):
        pixels = rng.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).resize((width, height)).save(buffer, "PNG")
        images.append(buffer.getvalue())
        depths.append(depth_codec.encode(rng.uniform(1, 4, (height, width))))
    poses = np.tile(np.array([1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0], np.float32), (num_views, 1))
    poses[:, 9] = np.arange(num_views) * 0.1
    camera = [width, height, width, width, width / 2, height / 2]
    cameras = np.tile(np.array(camera, np.float32), (num_views, 1))
    return StoredScene(key, cameras, poses, tuple(images), tuple(depths) if has_depth else None)


@pytest.fixture(name="make_scene")
def make_scene_fixture() -> MakeScene:
    return make_scene


@pytest.fixture
def make_shards(tmp_path: Path) -> MakeShards:
    """Write scenes `<prefix>0`, `<prefix>1`, … into shards, so many to each."""

    def make(*scenes_per_shard: int, prefix: str = "s", **kwargs: int) -> Path:
        directory = tmp_path / f"{prefix}-scenes"
        number = 0
        with ShardOutput(directory, "test") as output:
            for count in scenes_per_shard:
                for _ in range(count):
                    output.add(make_scene(f"{prefix}{number}", **kwargs))
                    number += 1
                output._finish_shard()
        return directory

    return make
