from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from splatfactory.data_schema import DataConfig, PreprocessingConfig
from splatfactory.datasets import scene_augment
from splatfactory.datasets.from_config import training_loader, validation_loader
from splatfactory.datasets.multiview import MultiviewDataset, SampleConfig, open_shards
from splatfactory.datasets.samplers import Split
from splatfactory.datasets.samples import Scene, Views
from zipsplat.camera import Camera
from zipsplat.pose import Pose
from zipsplat.rotations import matrix_from_quat, normalize_quat

MIRROR = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
PLAIN = SampleConfig(num_target_views=2, max_pose_jump_ratio=0)


def random_views(seed: int, V: int = 3, H: int = 5, W: int = 8) -> Views:
    """Views with principal points off the middle and poses of all directions, in float64."""
    rng = torch.Generator().manual_seed(seed)

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=rng, dtype=torch.float64)

    quats = normalize_quat(torch.randn(V, 4, generator=rng, dtype=torch.float64))
    size = torch.tensor([W, H], dtype=torch.float64)
    return Views(
        images=torch.randint(256, (V, 3, H, W), generator=rng, dtype=torch.uint8),
        cameras=Camera(size.repeat(V, 1), uniform(V, 2, low=4, high=9), uniform(V, 2) * size),
        poses=Pose(matrix_from_quat(quats), uniform(V, 3, low=-2, high=2)),
        depths=uniform(V, H, W, low=1, high=5),
        near=torch.full((V,), 0.1),
        far=torch.full((V,), 100.0),
        indices=torch.arange(V),
    )


def random_scene(seed: int) -> Scene:
    views = random_views(seed, V=5)
    return Scene("set-a", "set", views[:3], views[3:], torch.zeros(3), torch.tensor(1.0))


def world_points(views: Views) -> Tensor:
    """World points (V, H, W, 3) of all pixels."""
    V, H, W = *views.shape, views.height, views.width
    rows, columns = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    pixels = torch.stack((columns, rows), -1).reshape(-1, 2).double() + 0.5
    points = views.cameras.unproject(pixels.expand(V, -1, 2), views.depths.reshape(V, -1))
    return views.poses.transform(points).reshape(V, H, W, 3)


def assert_same(one: Views, two: Views) -> None:
    for name in ("images", "depths", "near", "far", "indices"):
        assert torch.equal(getattr(one, name), getattr(two, name)), name
    assert torch.equal(one.cameras.packed(), two.cameras.packed())
    assert torch.equal(one.poses.packed(), two.poses.packed())


def dataset(directory, split: Split = Split.TRAIN, **changes) -> MultiviewDataset:
    config = dataclasses.replace(PLAIN, **changes)
    return open_shards("set", directory, {"name": "random"}, config, split)


def shuffled_orders(plain: Views, changed: Views) -> set[tuple[int, ...]]:
    """The channel orders that make one of the other."""
    return {
        order
        for order in itertools.permutations(range(3))
        if torch.equal(plain.images[:, list(order)], changed.images)
    }


@pytest.fixture
def shards(make_shards):
    return make_shards(4, num_views=8)


@pytest.mark.parametrize("seed", range(8))
def test_mirrored_views_show_the_mirrored_points(seed):
    views = random_views(seed)
    mirrored = scene_augment.mirror(views)
    mirrored.poses.check()
    expected = (world_points(views) * MIRROR).flip(2)
    torch.testing.assert_close(world_points(mirrored), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(mirrored.images, views.images.flip(-1))


@pytest.mark.parametrize("seed", range(8))
def test_mirroring_goes_with_relative_poses(seed):
    """Poses made relative to the first view and then mirrored, or the other way round."""

    def relative(poses: Pose) -> Pose:
        return poses[0].inv().compose(poses)

    views = random_views(seed)
    first = relative(scene_augment.mirror(views).poses)
    last = scene_augment.mirror(dataclasses.replace(views, poses=relative(views.poses))).poses
    torch.testing.assert_close(first.packed(), last.packed(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_mirroring_twice_changes_nothing(seed):
    views = random_views(seed)
    twice = scene_augment.mirror(scene_augment.mirror(views))
    torch.testing.assert_close(twice.cameras.c, views.cameras.c, rtol=0, atol=1e-14)
    assert_same(dataclasses.replace(twice, cameras=views.cameras), views)


def test_channels_take_the_order_given():
    views = random_views(0)
    changed = scene_augment.reorder_channels(views, [2, 0, 1])
    for channel, source in enumerate((2, 0, 1)):
        assert torch.equal(changed.images[:, channel], views.images[:, source])
    assert_same(dataclasses.replace(changed, images=views.images), views)


@pytest.mark.parametrize("order", [[0, 1], [0, 1, 1], [1, 2, 3]])
def test_other_orders_are_refused(order):
    with pytest.raises(ValueError, match="permutation of 0, 1, 2, got"):
        scene_augment.reorder_channels(random_views(0), order)


def test_without_probability_nothing_is_rendered():
    scene, rng = random_scene(0), np.random.RandomState(0)
    assert scene_augment.vary(scene, 0.0, 0.0, rng) is scene
    assert rng.random_sample() == np.random.RandomState(0).random_sample()


def test_probabilities_are_shares_of_scenes():
    scene, rng = random_scene(0), np.random.RandomState(0)
    changed = [scene_augment.vary(scene, 0.25, 0.0, rng) is not scene for _ in range(400)]
    assert 70 < sum(changed) < 130
    changed = [scene_augment.vary(scene, 0.0, 0.75, rng) is not scene for _ in range(400)]
    assert 270 < sum(changed) < 330


def test_a_training_sample_is_mirrored_in_all_views(shards):
    plain, mirrored = dataset(shards), dataset(shards, mirror_probability=1.0)
    for seed in range(4):
        one, two = plain.load(0, 3, 1.0, seed), mirrored.load(0, 3, 1.0, seed)
        assert_same(scene_augment.mirror(one.context), two.context)
        assert_same(scene_augment.mirror(one.target), two.target)
        assert not torch.equal(one.context.images, two.context.images)


def test_the_channels_of_all_views_change_alike(shards):
    plain, shuffled = dataset(shards), dataset(shards, color_shuffle_probability=1.0)
    seen = set()
    for seed in range(40):
        one, two = plain.load(0, 3, 1.0, seed), shuffled.load(0, 3, 1.0, seed)
        orders = shuffled_orders(one.context, two.context)
        assert len(orders) == 1
        assert shuffled_orders(one.target, two.target) == orders
        seen |= orders
    assert len(seen) == 6


def test_the_seed_decides(shards):
    varied = dataset(shards, mirror_probability=0.5, color_shuffle_probability=0.5)
    for seed in range(8):
        one, two = varied.load(1, 3, 1.0, seed), varied.load(1, 3, 1.0, seed)
        assert_same(one.context, two.context)
        assert_same(one.target, two.target)


@pytest.mark.parametrize("split", [Split.VAL, Split.TEST])
def test_only_training_samples_change(shards, split):
    options = {"mirror_probability": 1.0, "color_shuffle_probability": 1.0}
    one = dataset(shards, split).load(0, 3, 1.0, 0)
    two = dataset(shards, split, **options).load(0, 3, 1.0, 0)
    assert_same(one.context, two.context)
    assert_same(one.target, two.target)


def test_the_options_of_the_configuration_reach_training_alone(shards):
    def config(**changes: float) -> DataConfig:
        return DataConfig(
            name="set",
            dataset_dir=str(shards.parent),
            train_shard_dir=shards.name,
            view_sampler={"name": "random"},
            preprocessing=PreprocessingConfig(resize=None),
            batch_size=3,
            image_num_range=[3, 3],
            num_target_views=2,
            val_scenes=1,
            num_workers=0,
            **changes,
        )

    both = config(mirror_probability=1.0, color_shuffle_probability=1.0)
    plain, varied = (list(training_loader(each)) for each in (config(), both))
    assert len(plain) == len(varied) == 3
    for one, two in zip(plain, varied, strict=True):
        mirrored = scene_augment.mirror(one.context[0])
        assert shuffled_orders(mirrored, two.context[0])
        assert torch.equal(mirrored.poses.packed(), two.context[0].poses.packed())
    for one, two in zip(validation_loader(config()), validation_loader(both), strict=True):
        assert_same(one.context, two.context)
        assert_same(one.target, two.target)


@pytest.mark.parametrize("name", ["mirror_probability", "color_shuffle_probability"])
@pytest.mark.parametrize("value", [-0.1, 1.5, math.nan])
def test_other_probabilities_are_refused(name, value):
    with pytest.raises(ValueError, match=rf"{name} must be in \[0, 1\], got {value}"):
        SampleConfig(**{name: value})
