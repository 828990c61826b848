"""Adding depth to shards."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from splatfactory.datasets import depth_codec
from splatfactory.datasets.frames import decode_pixels
from splatfactory.datasets.scripts import extract_depth
from splatfactory.datasets.scripts.extract_depth import Options
from splatfactory.datasets.scripts.sharing import Share
from splatfactory.datasets.shard_output import Manifest, ShardOutput, record_of
from tests.splatfactory.datasets.scripts.shard_folders import (
    Stand,
    same,
    scenes_of,
    write,
)
from tests.splatfactory.datasets.stored_scenes import ROOT, make_scene


def check_depth(scene) -> None:
    for view, stored in enumerate(scene.depths):
        depth = depth_codec.decode(stored)
        known = depth > 0
        assert known.mean() > 0.9
        expected = 2 + view * 0.1 + np.clip(np.arange(32), 0.5, 30.5)
        error = np.abs(depth / expected - 1)[known]
        assert error.max() < 0.02


def test_depth_is_added_in_place(tmp_path):
    directory = write(tmp_path / "a", ["k0", "k1", "k2"], size_mb=0.01, has_depth=False)
    before = scenes_of(directory)
    estimator = Stand()
    outcome = extract_depth.extract(directory, estimator, Options())
    assert (outcome.extracted, outcome.kept, outcome.failures) == (3, 0, {})
    for key, scene in scenes_of(directory).items():
        check_depth(scene)
        assert same(dataclasses.replace(scene, depths=None), before[key])
    manifest = Manifest.load(directory)
    assert manifest.shards.keys() == {path.name for path in directory.glob("*.tar")}
    for name, record in manifest.shards.items():
        assert record == record_of(directory / name)
    again = extract_depth.extract(directory, Stand(fail_on=1), Options())
    assert (again.extracted, again.kept) == (0, 3)
    write_more = ShardOutput(directory, "test", shard_size_mb=0.01)
    assert write_more.done == before.keys()


def test_long_scenes_are_shown_in_parts_that_span_the_path(tmp_path):
    scene = make_scene("a", num_views=7, has_depth=False)
    estimator = Stand()
    images = [decode_pixels(data) for data in scene.images]
    depths = extract_depth.estimate_scene(scene, images, estimator, max_views=3)
    assert estimator.calls == [3, 2, 2]
    encoded = tuple(depth_codec.encode(depth) for depth in depths)
    check_depth(dataclasses.replace(scene, depths=encoded))


class Random:
    """An estimator that uses random numbers, like diffusion models."""

    def estimate(self, images, K, camera_from_world):
        return 1 + torch.rand(len(images), 12, 16).numpy() + np.random.rand()


def test_jobs_share_the_shards_and_write_what_one_would(tmp_path):
    one, two = (
        write(tmp_path / name, [f"k{i}" for i in range(5)], size_mb=0.01, has_depth=False)
        for name in ("one", "two")
    )
    extract_depth.extract(one, Random(), Options())
    for index, count in ((1, 2), (0, 3), (1, 0)):
        options = Options(share=Share(index, 2))
        assert extract_depth.extract(two, Random(), options).extracted == count
    assert all(scene.depths for scene in scenes_of(two).values())
    for name in ("manifest.json", "index.json", *(path.name for path in one.glob("*.tar"))):
        assert (two / name).read_bytes() == (one / name).read_bytes()


def test_a_shard_that_another_process_works_on_is_left_alone(tmp_path, capsys):
    directory = write(tmp_path / "a", ["k0", "k1"], size_mb=0.01, has_depth=False)
    counts = []

    class Twice(Stand):
        """While it works on a shard, the command is started again."""

        def estimate(self, *arguments):
            if not self.calls:
                self.calls.append(0)
                again = extract_depth.extract(directory, Stand(), Options())
                counts.append(again.extracted)
            return super().estimate(*arguments)

    outcome = extract_depth.extract(directory, Twice(), Options())
    assert counts == [1]
    assert (outcome.extracted, outcome.kept, outcome.failures) == (1, 1, {})
    assert "shard-000000.tar skipped: another process" in capsys.readouterr().err
    assert all(scene.depths for scene in scenes_of(directory).values())


def test_failures_keep_what_was_there(tmp_path):
    directory = write(tmp_path / "a", ["k0", "k1"])
    before = scenes_of(directory)
    outcome = extract_depth.extract(directory, Stand(fail_on=2), Options(overwrite=True))
    assert outcome.extracted == 1
    assert outcome.failures == {"k1": "RuntimeError: out of memory"}
    after = scenes_of(directory)
    check_depth(after["k0"])
    assert same(after["k1"], before["k1"])


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_workers_change_no_shard(tmp_path, num_workers):
    """Scenes with and without depth, one that fails, a damaged image: all as without workers."""
    made = []
    for name, workers in (("a", 0), ("b", num_workers)):
        directory = tmp_path / name
        with ShardOutput(directory, "test") as output:
            for number in range(6):
                scene = make_scene(f"k{number}", has_depth=number == 1)
                if number == 4:
                    scene = dataclasses.replace(scene, images=(b"no image", *scene.images[1:]))
                output.add(scene)
        estimator = Stand(fail_on=3)
        outcome = extract_depth.extract(directory, estimator, Options(num_workers=workers))
        assert (outcome.extracted, outcome.kept) == (3, 1)
        assert outcome.failures["k3"] == "RuntimeError: out of memory"
        assert "image cannot be decoded" in outcome.failures["k4"]
        made.append((directory / "shard-000000.tar").read_bytes())
    assert made[0] == made[1]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_next_scene_is_decoded_while_the_estimator_works(tmp_path, monkeypatch, num_workers):
    directory = write(tmp_path / "a", ["k0", "k1"], has_depth=False)
    decoded, is_ahead = threading.Event(), []
    last = scenes_of(directory)["k1"].images[-1]

    def decode(data):
        pixels = decode_pixels(data)
        if data == last:
            decoded.set()
        return pixels

    class Waiting(Stand):
        def estimate(self, *arguments):
            is_ahead.append(decoded.wait(timeout=20 if num_workers else 0))
            return super().estimate(*arguments)

    monkeypatch.setattr(extract_depth, "decode_pixels", decode)
    extract_depth.extract(directory, Waiting(), Options(num_workers=num_workers))
    assert is_ahead == [num_workers > 0, True]


class Killing(Stand):
    def estimate(self, *arguments):
        if len(self.calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().estimate(*arguments)


KILLED_DEPTH = """
from pathlib import Path
from tests.splatfactory.datasets.scripts.test_extract_depth import Killing, Options, extract_depth
extract_depth.extract(Path({directory!r}), Killing(), Options())
"""


def test_a_killed_extraction_continues_after_the_last_scene(tmp_path):
    # Scenes larger than the buffers between a process and its file.
    directory = write(
        tmp_path / "a", [f"k{i}" for i in range(4)], has_depth=False, height=96, width=128
    )
    shard = directory / "shard-000000.tar"
    before = shard.read_bytes()
    code = KILLED_DEPTH.format(directory=str(directory))
    process = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert process.returncode == -signal.SIGKILL
    assert shard.read_bytes() == before
    estimator = Stand()
    outcome = extract_depth.extract(directory, estimator, Options())
    assert outcome.kept >= 1
    assert outcome.extracted == len(estimator.calls) == 4 - outcome.kept
    assert all(scene.depths for scene in scenes_of(directory).values())
    assert sorted(path.name for path in directory.iterdir() if ".resume" in path.name) == []


def test_the_command_runs_any_estimator(tmp_path, capsys, monkeypatch):
    directory = write(tmp_path / "a", ["k0"], has_depth=False)
    assert extract_depth.main([str(directory), "--estimator", "nowhere:nothing"]) == 1
    assert "module:function" in capsys.readouterr().err
    module = type(sys)("stand_in")
    module.create = lambda _: Stand()
    monkeypatch.setitem(sys.modules, "stand_in", module)
    assert extract_depth.main([str(directory), "--estimator", "stand_in:create"]) == 0
    check_depth(scenes_of(directory)["k0"])
    module.create = lambda _: Stand(fail_on=1)
    options = ["--estimator", "stand_in:create", "--overwrite"]
    assert extract_depth.main([str(directory), *options]) == 1
    assert "failed: k0" in capsys.readouterr().err


def test_damaged_shards_are_not_rewritten(tmp_path):
    directory = write(tmp_path / "a", ["k0", "k1"], has_depth=False)
    shard = directory / "shard-000000.tar"
    shard.write_bytes(shard.read_bytes()[:15_000])
    outcome = extract_depth.extract(directory, Stand(), Options())
    assert "shard-000000.tar" in outcome.failures
    assert shard.stat().st_size == 15_000
