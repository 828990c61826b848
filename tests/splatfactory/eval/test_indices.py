from __future__ import annotations

import random

import numpy as np
import pytest

from splatfactory.datasets.samplers.eval_sampler import load_index
from splatfactory.eval import indices
from splatfactory.eval.indices import ContextRule, IndexRules, TargetRule


def test_farthest_points_by_hand():
    line = np.zeros((11, 3))
    line[:, 0] = np.arange(11)
    assert indices.farthest_points(line, 2) == [0, 10]
    assert indices.farthest_points(line, 3) == [0, 5, 10]
    assert indices.farthest_points(np.zeros((4, 3)), 3) == [0, 1, 2]


def test_spread_by_hand():
    assert indices.spread(list(range(44)), 8) == [0, 5, 10, 15, 20, 25, 30, 35]


@pytest.mark.parametrize("context", list(ContextRule))
@pytest.mark.parametrize("target", list(TargetRule))
@pytest.mark.parametrize("num_frames", [14, 15, 50])
def test_targets_never_leak_unless_asked(context, target, num_frames):
    rng = np.random.default_rng(num_frames)
    centres = rng.normal(size=(num_frames, 3)).cumsum(axis=0)
    rules = IndexRules(6, 8, context=context, target=target)
    entry = indices.choose_views(centres, rules, random.Random(0))
    assert len(set(entry["context"])) == 6
    assert len(set(entry["target"])) == 8
    assert not set(entry["context"]) & set(entry["target"])
    assert entry["context"] == sorted(entry["context"])
    assert entry["target"] == sorted(entry["target"])
    leaky = IndexRules(6, 8, context=context, target=TargetRule.RANDOM, allow_leak=True)
    entries = [indices.choose_views(centres, leaky, random.Random(s)) for s in range(10)]
    assert any(set(entry["context"]) & set(entry["target"]) for entry in entries)


def test_making_an_index_leaves_out_short_clips_and_says_so(tmp_path, capsys):
    from splatfactory.datasets.shard_output import ShardOutput
    from splatfactory.datasets.shards import StoredScene

    with ShardOutput(tmp_path / "shards", "test") as output:
        for key, num_views in (("long", 20), ("short", 9)):
            poses = np.zeros((num_views, 12), np.float32)
            poses[:, 9] = np.arange(num_views)
            cameras = np.ones((num_views, 6), np.float32)
            output.add(StoredScene(key, cameras, poses, (b"\xff\xd8",) * num_views))
    path = tmp_path / "index.json"
    options = ["--num-context", "4", "--num-target", "6", "--output", str(path)]
    assert indices.main(["make", str(tmp_path / "shards"), *options]) == 0
    assert "skipped: short: has only 9 frames" in capsys.readouterr().err
    index = load_index(path)
    assert index.keys() == {"long"}
    assert index["long"].context[0] == 0
    assert index["long"].context[-1] == 19
    options[1] = "40"
    assert indices.main(["make", str(tmp_path / "shards"), *options]) == 1
    assert "2 were skipped, the first is long: has only 20 frames" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_context": 0, "num_target": 1}, "at least one"),
        ({"num_context": 6, "num_target": 8, "window": 13}, "window of 13 frames is too small"),
    ],
)
def test_wrong_rules_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        IndexRules(**options)
