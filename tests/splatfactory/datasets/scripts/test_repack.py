"""Repacking shards."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from splatfactory.datasets import offsets
from splatfactory.datasets.scripts import repack
from splatfactory.datasets.shard_output import Manifest, ShardOutput, record_of
from tests.splatfactory.datasets.scripts.shard_folders import (
    GOLDEN,
    SHARDS,
    same,
    scenes_of,
    write,
)
from tests.splatfactory.datasets.stored_scenes import ROOT, make_scene
from zipsplat.files import LOCK


def test_repacking_gives_the_golden_shard(tmp_path):
    directory = Path(shutil.copytree(SHARDS / "test-scenes", tmp_path / "a"))
    shutil.copy(GOLDEN / "shards" / "empty-trailing-shard.tar", directory / "shard-000002.tar")
    assert repack.main([str(directory)]) == 0
    expected = GOLDEN / "tools_expected" / "repack"
    made = (directory / "shard-000000.tar").read_bytes()
    assert made == (expected / "shard-000000.tar").read_bytes()
    index = json.loads((directory / "index.json").read_text())
    assert index == json.loads((expected / "index.json").read_text())
    assert sorted(path.name for path in directory.glob("*.tar")) == ["shard-000000.tar"]
    manifest = Manifest.load(directory)
    assert manifest.shards == {"shard-000000.tar": record_of(directory / "shard-000000.tar")}


def test_repacking_splits_and_keeps_everything(tmp_path):
    directory = write(tmp_path / "a", [f"k{i}" for i in range(7)])
    before = scenes_of(directory)
    assert repack.main([str(directory), "--target-size-mb", "0.05"]) == 0
    assert len(list(directory.glob("shard-*.tar"))) == 4
    after = scenes_of(directory)
    assert list(after) == list(before)
    assert all(same(after[key], before[key]) for key in before)


def test_repacking_keeps_members_it_does_not_know(tmp_path):
    import io

    directory = write(tmp_path / "a", ["k0", "k1"], num_views=3)
    shard = directory / "shard-000000.tar"
    with tarfile.open(shard) as source:
        members = [(header.name, source.extractfile(header).read()) for header in source]
    members = [m for m in members if m[0] != "k1.dep1.webp"] + [("k1.notes.txt", b"kept")]
    with tarfile.open(shard, "w") as target:
        for name, data in members:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            target.addfile(header, io.BytesIO(data))
    assert repack.main([str(directory)]) == 0
    with tarfile.open(shard) as tar:
        assert [(header.name, tar.extractfile(header).read()) for header in tar] == members


@pytest.mark.parametrize("num_workers", [1, 3])
def test_repacking_in_threads_gives_the_same_files(tmp_path, num_workers):
    made = []
    for name, options in (("a", []), ("b", ["--num-workers", str(num_workers)])):
        directory = write(tmp_path / name, [f"k{i}" for i in range(7)], size_mb=0.02)
        assert repack.main([str(directory), "--target-size-mb", "0.05", *options]) == 0
        files = [p for p in sorted(directory.iterdir()) if p.suffix != ".npz" and p.name != LOCK]
        made.append({path.name: path.read_bytes() for path in files})
    assert len(made[0]) == 6  # four shards, index, manifest
    assert made[0] == made[1]


KILLED_REPACK = """
import os, sys
from pathlib import Path
from splatfactory.datasets.scripts import repack
from splatfactory.datasets.shards import ShardWriter
add, count = ShardWriter.add_members, [0]
def add_and_die(self, key, content):
    add(self, key, content)
    count[0] += 1
    if count[0] == {after}:
        os.kill(os.getpid(), 9)
ShardWriter.add_members = add_and_die
repack.main([{directory!r}, "--target-size-mb", "0.05"])
"""


@pytest.mark.parametrize("after", [1, 4, 6])
def test_a_killed_repack_loses_nothing_and_continues(tmp_path, after):
    directory = write(tmp_path / "a", [f"k{i}" for i in range(6)], size_mb=0.02)
    before = scenes_of(directory)
    code = KILLED_REPACK.format(after=after, directory=str(directory))
    process = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert process.returncode == -signal.SIGKILL
    kept = {key for path in directory.glob("*.tar") for key in offsets.scan(path).keys}
    assert kept == before.keys()
    assert repack.main([str(directory), "--target-size-mb", "0.05"]) == 0
    after_all = scenes_of(directory)
    assert all(same(after_all[key], before[key]) for key in before)
    assert len(after_all) == 6
    assert not list(directory.glob("*.partial")) + list(directory.glob("_new*"))


def test_damaged_and_one_scene_directories_are_not_repacked(tmp_path, capsys):
    directory = write(tmp_path / "a", ["k0", "k1"])
    shard = directory / "shard-000000.tar"
    content = shard.read_bytes()
    shard.write_bytes(content[:40_000])
    assert repack.main([str(directory)]) == 1
    assert "is damaged" in capsys.readouterr().err
    assert shard.read_bytes() == content[:40_000]
    with ShardOutput(tmp_path / "b", "test", one_scene_per_shard=True) as output:
        output.add(make_scene("bicycle"))
        output.add(make_scene("bonsai"))
    assert repack.main([str(tmp_path / "b")]) == 1
    assert "one scene per shard" in capsys.readouterr().err
