"""Resizing shards."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np

from splatfactory.datasets import depth_codec
from splatfactory.datasets.frames import decode_pixels
from splatfactory.datasets.scripts import resize
from splatfactory.datasets.shard_output import Manifest, ShardOutput
from tests.splatfactory.datasets.scripts.shard_folders import (
    GOLDEN,
    SHARDS,
    scenes_of,
)
from tests.splatfactory.datasets.stored_scenes import make_scene


def test_resizing_gives_the_golden_views(tmp_path):
    source = shutil.copytree(SHARDS / "train-scenes", tmp_path / "source")
    made = tmp_path / "made"
    assert resize.main([str(source), "--output", str(made), "--size", "56"]) == 0
    folder = shutil.copytree(
        GOLDEN / "tools_expected" / "resize56" / "train-scenes", tmp_path / "expected"
    )
    expected, ours = scenes_of(folder), scenes_of(made)
    assert expected.keys() == ours.keys()
    for key, a in expected.items():
        b = ours[key]
        np.testing.assert_allclose(b.cameras, a.cameras, atol=1e-3)
        np.testing.assert_array_equal(b.poses, a.poses)
        for x, y in zip(a.images, b.images, strict=True):
            error = np.abs(decode_pixels(x).astype(int) - decode_pixels(y))
            assert error.max() <= 2
            assert error.mean() <= 0.6
        for x, y in zip(a.depths, b.depths, strict=True):
            np.testing.assert_allclose(depth_codec.decode(y), depth_codec.decode(x), rtol=1e-5)


def test_resizing_records_what_it_could_not_do(tmp_path, capsys):
    source = tmp_path / "source"
    broken = dataclasses.replace(make_scene("bad"), images=(b"\x89PNG nonsense",) * 6)
    with ShardOutput(source, "test") as output:
        output.add(make_scene("good"))
        output.add(broken)
    made = tmp_path / "made"
    assert resize.main([str(source), "--output", str(made), "--size", "16"]) == 1
    assert scenes_of(made).keys() == {"good"}
    assert Manifest.load(made).failures == {"corrupt image": ["bad"]}
    assert resize.main([str(source), "--output", str(source)]) == 1
    assert "must differ from the input folder" in capsys.readouterr().err
