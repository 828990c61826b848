from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from splatfactory.data_schema import PreprocessingConfig
from splatfactory.datasets import depth_codec
from splatfactory.datasets.frames import EncodedFrame, FrameError
from splatfactory.datasets.multiview import (
    MultiviewDataset,
    SampleConfig,
    held_out,
    open_shards,
)
from splatfactory.datasets.samplers import Choice, Split
from splatfactory.datasets.scripts.describe import describe
from splatfactory.datasets.shard_output import ShardOutput
from splatfactory.datasets.store import SceneError, ShardStore

EXPECTED = Path(__file__).parents[2] / "golden" / "data" / "expected"
SAMPLES = json.loads((EXPECTED / "samples.json").read_text())
SIZE = PreprocessingConfig(56, 14)
RANDOM = {"name": "random"}


class Fixed:
    """Chooses the given frames."""

    min_views = 0
    keys = None
    is_fixed = True

    def __init__(self, choice: Choice) -> None:
        self.choice = choice

    def sample(self, *_: object) -> Choice:
        return self.choice


@pytest.fixture(scope="module")
def expected():
    with np.load(EXPECTED / "samples.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize(
    "case", SAMPLES, ids=lambda case: f"{case['scene'][-3:]}-{case['variant']}"
)
def test_samples_are_the_golden_ones(golden_shards, expected, case):
    stores = [ShardStore(golden_shards / split) for split in ("train-scenes", "test-scenes")]
    store = next(s for s in stores if case["scene"] in {info.key for info in s.scenes})
    config = SampleConfig(
        preprocessing=SIZE, random_reference_view=False, max_pose_jump_ratio=0, **case["overrides"]
    )
    choice = Choice(tuple(case["context"]), tuple(case["target"]), tuple(case["overlap"]))
    dataset = MultiviewDataset("synth", store, Fixed(choice), config, only=[case["scene"]])
    scene = dataset.load(0, len(case["context"]), 1.0, seed=0)
    prefix = f"{case['scene']}/{case['variant']}"
    assert scene.name == case["name"]
    assert scene.overlaps.tolist() == case["overlap"]
    assert float(scene.scale) == pytest.approx(float(expected[f"{prefix}/scale"]), rel=1e-4)
    for part in ("context", "target"):
        views = getattr(scene, part)
        wanted = {k.rsplit("/", 1)[1]: v for k, v in expected.items() if f"{prefix}/{part}/" in k}
        error = np.abs(views.images.numpy().astype(int) - wanted["image_u8"])
        assert error.max() <= 2
        assert error.mean() <= 0.6
        np.testing.assert_allclose(views.poses.packed(), wanted["pose"], atol=1e-5)
        np.testing.assert_allclose(views.cameras.packed(), wanted["camera"], atol=1e-3)
        np.testing.assert_array_equal(views.depths > 0, wanted["depth_mask"])
        np.testing.assert_allclose(views.depths, wanted["depth"], rtol=1e-5)
        np.testing.assert_allclose(views.near, wanted["near"], rtol=1e-5)
        np.testing.assert_allclose(views.far, wanted["far"], rtol=1e-5)
        np.testing.assert_array_equal(views.indices, wanted["index"].reshape(-1))


def test_the_golden_evaluation_delivers_every_indexed_scene(golden, golden_shards):
    """The reference loses the 5-view scene to a rule that has no meaning here."""
    sampler = {"name": "eval_sampler", "indices_file": str(EXPECTED / "eval_index.json")}
    config = SampleConfig(
        num_target_views=2, preprocessing=PreprocessingConfig(56), max_pose_jump_ratio=0
    )
    dataset = open_shards("synth", golden_shards / "test-scenes", sampler, config, Split.TEST)
    recorded = json.loads((EXPECTED / "loader_order.json").read_text())
    assert recorded["eval_len"] == len(dataset) == 3
    assert len(recorded["eval"]) == 2
    scenes = {s.name: s for s in (dataset.load(i, 2, 1.0, seed=i) for i in range(3))}
    with np.load(EXPECTED / "eval_batches.npz") as arrays:
        batches = dict(arrays)
    for batch in recorded["eval"]:
        scene = scenes[batch["scene"][0]]
        assert scene.context.indices.tolist() == batch["context"]
        assert scene.target.indices.tolist() == batch["target"]
        assert scene.overlaps.tolist() == [-1.0] * 4
        images = batches[f"{scene.name}/target_image_u8"]
        assert np.abs(scene.target.images.numpy().astype(int) - images).max() <= 2
        cameras = batches[f"{scene.name}/target_camera"]
        np.testing.assert_allclose(scene.target.cameras.packed(), cameras, atol=1e-3)
        poses = batches[f"{scene.name}/context_pose"]
        np.testing.assert_allclose(scene.context.poses.packed(), poses, atol=1e-5)
    extra = scenes.keys() - {batch["scene"][0] for batch in recorded["eval"]}
    assert extra == {"synth-000000000000041c"}


def test_evaluation_fails_when_an_indexed_scene_cannot_be_used(golden_shards, tmp_path):
    index = json.loads((EXPECTED / "eval_index.json").read_text())
    del index["ffffffffffffffff"]
    sampler = {"name": "eval_sampler", "indices_file": str(tmp_path / "index.json")}
    for key, reason in (("absent", "1 × not in the shards"), ("000000000000041d", "no depth")):
        entry = {"context": [0, 1], "target": [2]}
        (tmp_path / "index.json").write_text(json.dumps(index | {key: entry}))
        with pytest.raises(ValueError, match=f"1 of 4 indexed scenes.*{reason}.*{key}"):
            open_shards("synth", golden_shards / "test-scenes", sampler, SampleConfig(), Split.TEST)


def test_missing_depth_names_both_ways_out(make_scene, tmp_path):
    with ShardOutput(tmp_path / "a", "test") as output:
        output.add(make_scene("a", num_views=8, has_depth=False))
    with pytest.raises(ValueError, match=r"extract_depth.*normalize_baseline=max_pairwise_d"):
        open_shards("set", tmp_path / "a", RANDOM, SampleConfig(preprocessing=SIZE))
    config = SampleConfig(preprocessing=SIZE, normalize_baseline="max_pairwise_d")
    scene = open_shards("set", tmp_path / "a", RANDOM, config).load(0, 3, 1.0, 0)
    assert not (scene.context.depths > 0).any()
    assert (scene.context.depths == -1).all()
    centres = scene.context.poses.t
    assert float(torch.cdist(centres, centres).max()) == pytest.approx(1.0)


def test_a_sample_is_a_function_of_its_seed(make_shards):
    dataset = open_shards("set", make_shards(1, num_views=20), RANDOM, SampleConfig())
    first, again, other = (dataset.load(0, 4, 1.0, seed) for seed in (1, 1, 2))
    assert torch.equal(first.context.images, again.context.images)
    assert first.context.indices.tolist() == again.context.indices.tolist()
    assert first.context.indices.tolist() != other.context.indices.tolist()


def test_the_reference_is_any_context_view_in_training_only(make_shards):
    directory = make_shards(1, num_views=20)
    train = open_shards("set", directory, RANDOM, SampleConfig())
    firsts = {
        int(scene.context.indices.argmin())
        for scene in (train.load(0, 4, 1.0, seed) for seed in range(30))
    }
    assert firsts == {0, 1, 2, 3}
    test = open_shards("set", directory, RANDOM, SampleConfig(), Split.TEST)
    for seed in range(5):
        scene = test.load(0, 4, 1.0, seed)
        assert scene.context.indices.tolist() == sorted(scene.context.indices.tolist())
    assert torch.equal(scene.context.poses.R[0], torch.eye(3))
    assert torch.equal(scene.context.poses.t[0], torch.zeros(3))


def test_views_that_are_context_and_target_are_decoded_once(make_shards, monkeypatch):
    store = ShardStore(make_shards(1, num_views=8))
    dataset = MultiviewDataset(
        "set", store, Fixed(Choice((4, 2), (2, 2, 5), (1.0, 1.0))), SampleConfig(), Split.TEST
    )
    asked = []
    frames = store.frames
    monkeypatch.setattr(store, "frames", lambda s, views: asked.extend(views) or frames(s, views))
    scene = dataset.load(0, 2, 1.0, 0)
    assert sorted(asked) == [2, 4, 5]
    assert scene.target.indices.tolist() == [2, 2, 5]
    assert torch.equal(scene.context.images[1], scene.target.images[0])


def test_camera_jumps_drop_a_sample(golden_shards):
    """Scene 41b of the golden data jumps at frame 6."""
    choice = Choice((0, 11), (3,), (0.5, 0.5))
    store = ShardStore(golden_shards / "test-scenes")
    key = "000000000000041b"
    dataset = MultiviewDataset("s", store, Fixed(choice), SampleConfig(), only=[key])
    with pytest.raises(SceneError, match="pose jump"):
        dataset.load(0, 2, 1.0, 0)
    lenient = dataclasses.replace(dataset.config, max_pose_jump_ratio=0.0)
    MultiviewDataset("s", store, Fixed(choice), lenient, only=[key]).load(0, 2, 1.0, 0)


def test_damage_is_a_scene_error_with_a_countable_reason(make_scene, tmp_path):
    good = make_scene("a", num_views=4)
    nothing = depth_codec.encode(np.full((24, 32), -1.0))
    cases = {
        "corrupt image": dataclasses.replace(good, images=(b"\x89PNG nonsense",) * 4),
        "no valid depth": dataclasses.replace(good, depths=(nothing,) * 4),
    }
    for reason, scene in cases.items():
        directory = tmp_path / reason.replace(" ", "-")
        with ShardOutput(directory, "test") as output:
            output.add(scene)
        config = SampleConfig(num_target_views=1)
        with pytest.raises(SceneError) as caught:
            open_shards("set", directory, RANDOM, config).load(0, 2, 1.0, 0)
        assert caught.value.reason == reason


def test_a_camera_path_without_length_is_named(make_scene, tmp_path):
    good = make_scene("a", num_views=4)
    still = dataclasses.replace(good, poses=np.repeat(good.poses[:1], 4, axis=0))
    with ShardOutput(tmp_path / "a", "test") as output:
        output.add(still)
    config = SampleConfig(num_target_views=1, normalize_baseline=True)
    with pytest.raises(SceneError, match="no baseline"):
        open_shards("set", tmp_path / "a", RANDOM, config).load(0, 2, 1.0, 0)


@pytest.mark.parametrize("rule", ["true", "max_pairwise_d"])
def test_cameras_that_hardly_move_are_no_unit(make_scene, tmp_path, rule):
    good = make_scene("a", num_views=4)
    poses = good.poses.copy()
    poses[:, 9:] *= 1e-6 / np.abs(poses[:, 9:]).max()
    with ShardOutput(tmp_path / "a", "test") as output:
        output.add(dataclasses.replace(good, poses=poses))
    config = SampleConfig(num_target_views=1, normalize_baseline=rule)
    with pytest.raises(SceneError, match="no baseline"):
        open_shards("set", tmp_path / "a", RANDOM, config).load(0, 2, 1.0, 0)


def _with(values: np.ndarray, place: tuple[slice, int], value: float) -> np.ndarray:
    changed = values.copy()
    changed[place] = value
    return changed


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: {"cameras": _with(s.cameras, np.s_[:, 2], 0.0)}, "bad camera"),
        (lambda s: {"poses": _with(s.poses, np.s_[:, 0], 0.0)}, "bad pose"),
        (lambda s: {"cameras": s.cameras * np.float32(2)}, "camera of another size"),
    ],
    ids=["focal-0", "singular", "size"],
)
def test_unusable_cameras_and_poses_are_drops_with_a_reason(make_scene, tmp_path, change, reason):
    scene = make_scene("a", num_views=5)
    with ShardOutput(tmp_path / "a", "test") as output:
        output.add(dataclasses.replace(scene, **change(scene)))
    config = SampleConfig(num_target_views=1, preprocessing=SIZE)
    with pytest.raises(SceneError) as caught:
        open_shards("set", tmp_path / "a", RANDOM, config).load(0, 2, 1.0, 0)
    assert caught.value.reason == reason
    broken = describe(ShardStore(tmp_path / "a"), check_all=True).broken
    assert broken["a"].startswith(reason)


@pytest.mark.parametrize("limits", [(0.1, 1e30), (0.1, float("nan")), (2.0, 1.0)])
def test_depth_that_cannot_be_meant_is_a_drop(limits):
    depth = depth_codec.encode(np.full((8, 8), 2.0, np.float32))
    broken = dataclasses.replace(depth, near=limits[0], far=limits[1])
    frame = EncodedFrame(b"", broken)
    with pytest.raises(FrameError, match="reaches from"):
        frame.sample_depth(np.arange(8), np.arange(8))


def test_short_clips_are_excluded_by_name(make_scene, tmp_path):
    with ShardOutput(tmp_path / "a", "test") as output:
        output.add(make_scene("short", num_views=5))
        output.add(make_scene("long", num_views=12))
    sampler = {"name": "bounded", "min_distance_between_context_views": 8}
    dataset = open_shards("set", tmp_path / "a", sampler, SampleConfig())
    assert [dataset.key(i) for i in range(len(dataset))] == ["long"]
    assert [(key, error.reason) for key, error in dataset.excluded] == [("short", "too few views")]
    with pytest.raises(ValueError, match=r"1 × too few views \(short\); .* need 9 views"):
        open_shards("set", tmp_path / "a", sampler, SampleConfig(), only=["short"])


def test_held_out_scenes_are_fixed_and_disjoint():
    keys = [f"{i:04d}" for i in range(100)]
    chosen = held_out(keys, 10)
    assert len(chosen) == 10
    assert chosen == held_out(list(reversed(keys)), 10)
    assert len(chosen & held_out(keys[:90], 10)) >= 8
    assert len(held_out(keys[:3], 10)) == 1


def test_strong_augmentation_is_for_training(make_shards):
    pytest.importorskip("cv2")
    directory = make_shards(1, num_views=8)
    choice = Choice((0, 1), (2,), (0.5, 0.5))
    images = []
    for augmentations, split in (("strong", Split.TRAIN), ("strong", Split.TEST)):
        config = SampleConfig(augmentations=augmentations, random_reference_view=False)
        dataset = MultiviewDataset("s", ShardStore(directory), Fixed(choice), config, split)
        images.append(dataset.load(0, 2, 1.0, 3).context.images)
    plain = SampleConfig(random_reference_view=False)
    dataset = MultiviewDataset("s", ShardStore(directory), Fixed(choice), plain)
    images.append(dataset.load(0, 2, 1.0, 3).context.images)
    assert not torch.equal(images[0], images[2])
    assert torch.equal(images[1], images[2])


def test_scenes_of_different_image_sizes_need_resizing(make_scene, tmp_path):
    one, two = make_scene("a", num_views=3), make_scene("a", num_views=3, height=48, width=64)
    mixed = dataclasses.replace(
        one, images=(*one.images[:2], two.images[2]), depths=(*one.depths[:2], two.depths[2])
    )
    with ShardOutput(tmp_path / "a", "test") as output:
        output.add(mixed)
    config = SampleConfig(num_target_views=1)
    with pytest.raises(SceneError, match=r"mixed sizes: set preprocessing\.resize"):
        open_shards("set", tmp_path / "a", RANDOM, config).load(0, 2, 1.0, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_target_views": 0}, "num_target_views must be positive"),
        ({"near": 2.0, "far": 1.0}, "0 < near < far"),
        ({"normalize_baseline": "mean"}, "normalize_baseline must be"),
    ],
)
def test_wrong_options_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        SampleConfig(**options)
