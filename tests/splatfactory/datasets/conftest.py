"""Data that the tests of this folder share."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from splatfactory.datasets.shard_output import ShardOutput
from splatfactory.datasets.shards import StoredScene
from tests.splatfactory.datasets.stored_scenes import ROOT, make_scene

GOLDEN = ROOT / "tests" / "golden" / "data"

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


@pytest.fixture(name="make_scene")
def make_scene_fixture() -> MakeScene:
    return make_scene


@pytest.fixture
def make_shards(tmp_path: Path) -> MakeShards:
    """Write scenes `<prefix>0`, `<prefix>1`, … into shards, `scenes_per_shard` of them to each."""

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
