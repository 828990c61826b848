from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from splatfactory.data_schema import PreprocessingConfig
from splatfactory.datasets.loader import DataLossError, LoaderConfig, SceneLoader
from splatfactory.datasets.mixture import Member
from splatfactory.datasets.multiview import SampleConfig, open_shards
from splatfactory.datasets.samplers import Split
from splatfactory.datasets.samples import Batch
from splatfactory.datasets.shard_output import ShardOutput
from tests.splatfactory.datasets.stored_scenes import ROOT

SAMPLE = SampleConfig(num_target_views=2, max_pose_jump_ratio=0)
CONFIG = LoaderConfig(batch_size=8, image_num_range=(2, 4), seed=3)


def open_loader(directory: Path, rank: int = 0, world_size: int = 1, **changes) -> SceneLoader:
    dataset = open_shards("set", directory, {"name": "random"}, SAMPLE)
    config = dataclasses.replace(CONFIG, **changes)
    return SceneLoader([Member(dataset)], config, rank, world_size)


def describe(batch: Batch) -> list:
    """Enough of a batch to tell it from any other, in terms that JSON keeps."""
    return [
        list(batch.names),
        batch.context.indices.tolist(),
        batch.target.indices.tolist(),
        int(batch.context.images.long().sum()),
        round(float(batch.context.depths.double().sum()), 3),
    ]


@pytest.fixture
def shards(make_shards) -> Path:
    return make_shards(5, 1, 3, num_views=8)


def test_batches_have_the_schema_of_the_reference(golden, golden_shards):
    """Its training batches, in `loader_order.json`: names, shapes and types of the fields."""
    recorded = json.loads((golden / "expected" / "loader_order.json").read_text())
    schema = recorded["batch_schema"]
    sample = dataclasses.replace(SAMPLE, preprocessing=PreprocessingConfig(56))
    directory = golden_shards / "train-scenes"
    dataset = open_shards("synth", directory, {"name": "random"}, sample)
    config = LoaderConfig(batch_size=6, image_num_range=(2, 2))
    batch = next(iter(SceneLoader([Member(dataset)], config))).to("cpu")
    for part in ("context", "target"):
        views = getattr(batch, part)
        tensors = {"image": views.images, "depth": views.depths, "depth_mask": views.depths > 0}
        for name, tensor in {**tensors, "near": views.near, "far": views.far}.items():
            assert [list(tensor.shape), str(tensor.dtype)] == schema[part][name]
        assert [*views.cameras.packed().shape] == schema[part]["camera"][1]
        assert [*views.poses.packed().shape] == schema[part]["pose"][1]
        assert [*views.indices.shape, 1] == schema[part]["index"][0]
    assert [*batch.overlaps.T.shape] == [len(schema["overlap"]), len(schema["overlap"][0])]
    assert set(batch.names) <= {name for b in recorded["train_epoch0"] for name in b["scenes"]}


# More workers than this machine has cores are what is to be tried.
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_the_sequence_does_not_depend_on_the_workers(shards):
    expected = None
    for num_workers in (0, 1, 3):
        loader = open_loader(shards, num_workers=num_workers)
        epochs = [[describe(batch) for batch in loader] for _ in range(2)]
        expected = expected or epochs
        assert epochs == expected
    assert expected[0] != expected[1]
    for epoch in expected:
        assert sorted(name for batch in epoch for name in batch[0]) == [
            f"set-s{i}" for i in range(9)
        ]


def test_the_bound_of_the_views_acts_on_the_next_batch_whatever_is_prefetched(shards):
    sequences = []
    for num_workers in (0, 2):
        loader = open_loader(shards, num_workers=num_workers, batch_size=2)
        views = []
        loader.set_max_views(2)
        for step, batch in enumerate(loader):
            views.append(batch.context.shape[1])
            loader.set_max_views(4 if step >= 3 else 2)
        sequences.append(views)
    assert sequences[0] == sequences[1]
    assert set(sequences[0][:4]) == {2}
    assert max(sequences[0][4:]) > 2


RESUMED = """
import json
from pathlib import Path
from tests.splatfactory.datasets.test_loader import describe, open_loader
if __name__ == "__main__":
    loader = open_loader(Path({directory!r}), batch_size=4)
    loader.load_state_dict(json.loads({state!r}))
    rest = [describe(batch) for batch in loader]
    print(json.dumps([rest, [describe(batch) for batch in loader]]))
"""


def test_a_new_process_continues_after_any_batch(shards):
    loader = open_loader(shards, batch_size=4)
    whole, states = [], []
    for batch in loader:
        whole.append(describe(batch))
        states.append(json.loads(json.dumps(loader.state_dict())))
    following = [describe(batch) for batch in loader]
    assert len(whole) > 3
    for done, state in enumerate(states, start=1):
        resumed = open_loader(shards, batch_size=4)
        resumed.load_state_dict(state)
        assert [describe(batch) for batch in resumed] == whole[done:]
        assert [describe(batch) for batch in resumed] == following
    code = RESUMED.format(directory=str(shards), state=json.dumps(states[1]))
    output = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
    )
    assert json.loads(output.stdout) == [whole[2:], following]


def test_leaving_a_loop_and_coming_back_continues(shards):
    whole = [describe(batch) for batch in open_loader(shards, batch_size=4)]
    loader = open_loader(shards, batch_size=4)
    seen = []
    for batch in loader:
        seen.append(describe(batch))
        if len(seen) == 2:
            break
    seen += [describe(batch) for batch in loader]
    assert seen == whole
    assert len(open_loader(shards, batch_size=4)) == len(whole)


def test_positions_of_other_data_or_seeds_are_refused(shards, make_shards):
    state = open_loader(shards).state_dict()
    with pytest.raises(ValueError, match="saved position has seed 3, these data have 4"):
        open_loader(shards, seed=4).load_state_dict(state)
    other = make_shards(9, prefix="t", num_views=8)
    with pytest.raises(ValueError, match="saved position has data"):
        open_loader(other).load_state_dict(state)


RANK = """
import json
from pathlib import Path
import torch, torch.distributed as dist
from tests.splatfactory.datasets.test_loader import describe, open_loader
if __name__ == "__main__":
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    loader = open_loader(Path({directory!r}), rank, world, num_workers=rank)
    result = []
    for epoch in range(2):
        names, steps = [], 0
        for batch in loader:
            # A rank that runs dry would leave the other one waiting here.
            views = torch.tensor([batch.context.shape[1]])
            same = views.clone()
            dist.broadcast(same, 0)
            assert int(same) == int(views)
            names += batch.names
            steps += 1
        result.append([steps, names])
    Path({out!r}).joinpath(f"{{rank}}.json").write_text(json.dumps(result))
    dist.destroy_process_group()
"""


def test_two_ranks_take_equal_steps_and_share_the_epoch(shards, tmp_path):
    """Nine scenes in shards of five, one and three."""
    code = RANK.format(tests=str(Path(__file__).parent), directory=str(shards), out=str(tmp_path))
    script = tmp_path / "rank.py"
    script.write_text(code)
    open_loader(shards)
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(20_000 + os.getpid() % 20_000),
    }
    processes = [
        subprocess.Popen([sys.executable, str(script)], env=environment | {"RANK": str(rank)})
        for rank in range(2)
    ]
    assert [process.wait(120) for process in processes] == [0, 0]
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    for first, second in zip(*ranks, strict=True):
        assert first[0] == second[0] > 0
        assert sorted(first[1] + second[1]) == [f"set-s{i}" for i in range(9)]


def test_another_number_of_ranks_continues_with_the_unseen_scenes(shards):
    loader = open_loader(shards, batch_size=4)
    seen = []
    for batch in loader:
        seen += batch.names
        if len(seen) >= 3:
            break
    state = loader.state_dict()
    for rank in range(2):
        other = open_loader(shards, rank, 2, batch_size=4)
        other.load_state_dict(state)
        seen += [name for batch in other for name in batch.names]
    assert sorted(seen) == [f"set-s{i}" for i in range(9)]


def break_scenes(directory: Path, make_scene, broken: set[int], count: int) -> Path:
    with ShardOutput(directory, "test") as output:
        for number in range(count):
            scene = make_scene(f"s{number}", num_views=8)
            if number in broken:
                scene = dataclasses.replace(scene, images=(b"\x89PNG nonsense",) * 8)
            output.add(scene)
    return directory


def test_dropped_scenes_are_counted_and_steps_stay(make_scene, tmp_path):
    directory = break_scenes(tmp_path / "a", make_scene, {1, 5, 6}, 12)
    counts = []
    for num_workers in (0, 1):
        loader = open_loader(directory, num_workers=num_workers, max_drop_rate=0.5, batch_size=2)
        names = [name for batch in loader for name in batch.names]
        # With one scene per batch another one steps in, so that no rank misses a step.
        assert len(names) == len(loader)
        assert set(names) == {f"set-s{i}" for i in range(12) if i not in (1, 5, 6)}
        assert loader.drops["corrupt image"] >= 3
        counts.append((names, loader.drops))
    assert counts[0] == counts[1]


def test_too_many_drops_are_an_error(make_scene, tmp_path):
    directory = break_scenes(tmp_path / "a", make_scene, {1, 5, 6}, 12)
    with pytest.raises(DataLossError, match=r"were dropped.*max_drop_rate=0.1.*corrupt image"):
        list(open_loader(directory))
    everything = break_scenes(tmp_path / "b", make_scene, set(range(4)), 4)
    with pytest.raises(DataLossError, match=r"scenes in a row are unusable.*corrupt image"):
        list(open_loader(everything, max_drop_rate=1.0))


def test_scenes_lost_with_their_shard_are_counted(make_shards):
    directory = make_shards(4, 2, num_views=8)
    shard = directory / "shard-000001.tar"
    shard.write_bytes(shard.read_bytes()[:9_000])
    loader = open_loader(directory, max_drop_rate=0.5)
    assert loader.num_scenes == 4
    assert loader.drops == {"truncated shard": 1, "missing from shard": 1}
    with pytest.raises(DataLossError, match="2 of 6 scenes were dropped"):
        open_loader(directory)


def test_a_damaged_scene_stops_an_evaluation(make_scene, tmp_path):
    directory = break_scenes(tmp_path / "a", make_scene, {1}, 3)
    index = {f"s{i}": {"context": [0, 2], "target": [1, 3]} for i in range(3)}
    (tmp_path / "index.json").write_text(json.dumps(index))
    sampler = {"name": "eval_sampler", "indices_file": str(tmp_path / "index.json")}
    dataset = open_shards("set", directory, sampler, SAMPLE, Split.TEST)
    config = LoaderConfig(batch_size=1, max_drop_rate=1.0)
    with pytest.raises(DataLossError, match="indexed scene set-s1 is unusable: corrupt image"):
        list(SceneLoader([Member(dataset)], config, shuffle=False))


def test_evaluation_shows_every_scene_once_in_order_every_time(make_shards, tmp_path):
    directory = make_shards(3, num_views=8)
    index = {f"s{i}": {"context": [0, 2], "target": [1, 3]} for i in (2, 0, 1)}
    (tmp_path / "index.json").write_text(json.dumps(index))
    sampler = {"name": "eval_sampler", "indices_file": str(tmp_path / "index.json")}
    dataset = open_shards("set", directory, sampler, SAMPLE, Split.TEST)
    loader = SceneLoader([Member(dataset)], LoaderConfig(), shuffle=False)
    for _ in range(2):
        assert [batch.names for batch in loader] == [("set-s0",), ("set-s1",), ("set-s2",)]
        assert loader.epoch == 0
    limited = SceneLoader([Member(dataset)], LoaderConfig(max_samples=2), shuffle=False)
    assert [batch.names for batch in limited] == [("set-s0",), ("set-s1",)]


def test_mixtures_keep_their_proportion_within_batches(make_shards):
    many = make_shards(12, prefix="m", num_views=8)
    few = make_shards(3, prefix="f", num_views=8)
    members = [
        Member(open_shards(name, path, {"name": "random"}, SAMPLE), weight)
        for name, path, weight in (("many", many, 0.5), ("few", few, 0.5))
    ]
    loader = SceneLoader(members, dataclasses.replace(CONFIG, batch_size=8))
    names = []
    for batch in loader:
        assert abs(batch.datasets.count("many") - batch.datasets.count("few")) <= 1
        names += batch.names
    assert len(names) == 24
    assert {f"many-m{i}" for i in range(12)} <= set(names)
    assert [names.count(f"few-f{i}") for i in range(3)] == [4, 4, 4]


def test_loading_leaves_global_randomness_and_threads_alone(shards):
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(open_loader(shards))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"num_workers": -1}, "must not be negative"),
        ({"max_samples": 0}, "max_samples must be positive"),
        ({"max_drop_rate": 1.5}, r"max_drop_rate must be in \[0, 1\]"),
    ],
)
def test_wrong_options_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        LoaderConfig(**options)


def test_impossible_requests_are_explained(make_shards):
    directory = make_shards(2, num_views=8)
    with pytest.raises(ValueError, match="2 scenes are too few for 3 ranks"):
        open_loader(directory, 0, 3)
    with pytest.raises(ValueError, match="no clip has 7 context views and 2 targets"):
        open_loader(directory, image_num_range=(7, 9))
    with pytest.raises(ValueError, match=r"max_views must be in \[2, 4\]"):
        open_loader(directory).set_max_views(9)
