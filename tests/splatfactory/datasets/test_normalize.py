from __future__ import annotations

import numpy as np
import pytest
import torch

from splatfactory.datasets import normalize
from splatfactory.datasets.normalize import ScaleRule
from zipsplat.camera import Camera
from zipsplat.pose import Pose
from zipsplat.rotations import matrix_from_quat


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (False, ScaleRule.DEPTH),
        (None, ScaleRule.DEPTH),
        (True, ScaleRule.START_END),
        ("start_end", ScaleRule.START_END),
        ("max_pairwise_d", ScaleRule.MAX_PAIRWISE),
        ("none", ScaleRule.NONE),
    ],
)
def test_names_of_scale_rules(value, rule):
    assert ScaleRule.parse(value) == rule


def test_unknown_scale_rules_are_explained():
    with pytest.raises(ValueError, match="max_pairwise_d or none, got 'mean'"):
        ScaleRule.parse("mean")


def test_baselines_by_hand():
    centres = np.array([[0, 0, 0], [3, 4, 0], [1, 0, 0]], np.float32)
    assert normalize.baseline(ScaleRule.START_END, centres) == 1
    assert normalize.baseline(ScaleRule.MAX_PAIRWISE, centres) == 5
    assert normalize.baseline(ScaleRule.NONE, centres) == 1
    assert normalize.baseline(ScaleRule.MAX_PAIRWISE, centres[:1]) == 1


def test_median_distance_is_that_of_unprojected_points():
    torch.manual_seed(0)
    V, H, W = 3, 40, 52
    cameras = Camera.from_focal(torch.rand(V) * 30 + 30, w=W, h=H)
    poses = Pose(matrix_from_quat(torch.randn(V, 4)), torch.randn(V, 3))
    depths = torch.rand(V, H, W) * 5 + 0.5
    depths[torch.rand(V, H, W) < 0.3] = -1
    u, v = torch.meshgrid(torch.arange(W), torch.arange(H), indexing="xy")
    pixels = torch.stack([u, v], -1).reshape(1, -1, 2).expand(V, -1, -1).float()
    points = poses.transform(cameras.unproject(pixels, depths.flatten(1)))
    known = points.norm(dim=-1)[depths.flatten(1) > 0]
    distance = normalize.median_distance(
        depths.numpy(), cameras.packed().numpy(), poses.packed().numpy()
    )
    assert distance == pytest.approx(float(known.median()), rel=1e-5)


def test_distance_needs_depth_and_stays_in_limits():
    camera = np.array([[4, 4, 4, 4, 2, 2]], np.float32)
    pose = np.array([[1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]], np.float32)
    unknown = np.full((1, 4, 4), -1, np.float32)
    assert normalize.median_distance(unknown, camera, pose) is None
    assert normalize.median_distance(-unknown * 1e6, camera, pose) == 1e3
    assert normalize.median_distance(-unknown * 1e-6, camera, pose) == 1e-3


@pytest.mark.parametrize("size", [1, 2, 7, 100, 999, 50_000])
@pytest.mark.parametrize("kind", ["normal", "equal", "sorted", "two"])
def test_lower_median_is_exact(size, kind):
    rng = np.random.default_rng(size)
    values = {
        "normal": rng.normal(size=size),
        "equal": np.ones(size),
        "sorted": np.arange(size),
        "two": rng.integers(0, 2, size),
    }[kind].astype(np.float32)
    assert normalize.lower_median(values) == float(torch.from_numpy(values).median())


def test_jumps_by_hand():
    centres = np.zeros((6, 3), np.float32)
    centres[:, 0] = [0, 1, 2, 14, 15, 16]
    assert normalize.has_jump(centres, [0, 5], 10)
    assert not normalize.has_jump(centres, [0, 5], 13)
    assert not normalize.has_jump(centres, [0, 2, 1], 10)
    assert not normalize.has_jump(centres, [2, 3], 10)
    assert not normalize.has_jump(centres, [0, 5], 0)
    assert not normalize.has_jump(np.zeros((6, 3)), [0, 5], 10)
