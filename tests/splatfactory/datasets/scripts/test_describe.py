"""Describing shards."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np

from splatfactory.datasets.scripts import describe
from splatfactory.datasets.shard_output import ShardOutput
from splatfactory.datasets.store import ShardStore
from tests.splatfactory.datasets.scripts.shard_folders import SHARDS
from tests.splatfactory.datasets.stored_scenes import make_scene


def test_describing_the_golden_shards(tmp_path, capsys):
    directory = shutil.copytree(SHARDS / "test-scenes", tmp_path / "a")
    image = tmp_path / "sheet.png"
    assert describe.main([str(directory), "--check", "--json", "--sheet", str(image)]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["scenes"] == 4
    assert content["views"] == 41
    assert content["views_per_scene"] == [5, 12, 12]
    assert content["scenes_with_depth"] == 3
    assert content["sizes"] == {"90x160": 4}
    assert content["formats"] == {"webp": 2, "png": 1, "jpg": 1}
    assert image.stat().st_size > 10_000
    assert describe.main([str(directory)]) == 0
    assert "4 scenes, 41 views in 2 shards" in capsys.readouterr().out


def test_the_sheet_shows_no_view_twice(tmp_path):
    with ShardOutput(tmp_path / "a", "test") as output:
        output.add(make_scene("a", num_views=3, has_depth=False))
    sheet = np.asarray(describe.contact_sheet(ShardStore(tmp_path / "a"), 1))
    assert sheet.shape[1] == 7 * 160
    columns = [sheet[16:, 160 * n : 160 * (n + 1)] for n in range(7)]
    assert [bool((column < 255).any()) for column in columns] == [True] * 3 + [False] * 4


def test_describing_names_what_is_damaged(tmp_path, capsys):
    directory = tmp_path / "a"
    scene = make_scene("bad")
    with ShardOutput(directory, "test") as output:
        output.add(make_scene("good"))
        output.add(dataclasses.replace(scene, images=(*scene.images[:5], b"\x89PNG nonsense")))
    assert describe.main([str(directory)]) == 0
    assert describe.main([str(directory), "--check", "--num-workers", "0"]) == 1
    assert "broken: bad: the image cannot be decoded" in capsys.readouterr().out
    shard = directory / "shard-000000.tar"
    content = bytearray(shard.read_bytes())
    content[-3] ^= 1
    shard.write_bytes(content)
    assert describe.main([str(directory), "--check"]) == 1
    assert "differs from the manifest" in capsys.readouterr().out
