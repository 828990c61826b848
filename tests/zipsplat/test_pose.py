"""Rigid transforms obey the laws of a group."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zipsplat import Pose
from zipsplat.rotations import matrix_from_quat


def random_poses(seed: int, *shape: int) -> Pose:
    generator = torch.Generator().manual_seed(seed)
    quat = torch.randn(*shape, 4, generator=generator, dtype=torch.float64)
    t = torch.randn(*shape, 3, generator=generator, dtype=torch.float64)
    return Pose.from_Rt(matrix_from_quat(quat), t)


def assert_same(first: Pose, second: Pose) -> None:
    torch.testing.assert_close(first.R, second.R)
    torch.testing.assert_close(first.t, second.t)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_group_laws(seed: int) -> None:
    a, b, c = (random_poses(seed + i, 3) for i in range(3))
    identity = Pose.identity((3,), dtype=torch.float64)
    assert_same((a @ b) @ c, a @ (b @ c))
    assert_same(a @ identity, a)
    assert_same(a @ a.inv(), identity)
    assert_same((a @ b).inv(), b.inv() @ a.inv())
    points = torch.randn(3, 5, 3, dtype=torch.float64)
    torch.testing.assert_close((a @ b) @ points, a @ (b @ points))
    torch.testing.assert_close(a.Rt @ a.Rt_inv, torch.eye(4, dtype=torch.float64).expand(3, 4, 4))
    assert_same(Pose.from_4x4mat(a.Rt), a)
    assert_same(Pose.from_packed(a.packed()), a)
    torch.testing.assert_close(matrix_from_quat(a.quat), a.R)


def test_one_point_stays_one_point() -> None:
    pose = random_poses(0, 2)
    point = torch.randn(3, dtype=torch.float64)
    assert tuple(pose.transform(point).shape) == (2, 3)
    assert tuple(pose[0].transform(point).shape) == (3,)


def test_broadcasting_and_dtype() -> None:
    pose = Pose.from_Rt(torch.eye(3), torch.zeros(5, 3))
    assert tuple(pose.shape) == (5,)
    assert pose.dtype == torch.float32
    assert Pose.identity(dtype=torch.float64).dtype == torch.float64
    assert Pose.from_Rt(torch.eye(3, dtype=torch.float64), torch.zeros(3)).dtype == torch.float64
    assert tuple((random_poses(1, 4, 1) @ random_poses(2, 3)).shape) == (4, 3)


def test_orbit_by_hand() -> None:
    pose = Pose.orbit(torch.zeros(3), 2.0, [0.0, 90.0], 0.0)
    torch.testing.assert_close(
        pose.t, torch.tensor([[0.0, 0.0, -2.0], [2.0, 0.0, 0.0]]), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(pose[0].R, torch.eye(3))
    above = Pose.orbit(torch.zeros(3), 1.0, [0.0], [30.0])
    assert above.t[0, 1].item() == pytest.approx(-0.5)


REFLECTION = torch.diag(torch.tensor([1.0, 1.0, -1.0]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Pose.from_Rt(1.01 * torch.eye(3), torch.zeros(3)), "orthonormal.*got 0.02"),
        (lambda: Pose.from_Rt(REFLECTION, torch.zeros(3)), "reflection"),
        (lambda: Pose.from_Rt(torch.eye(3), torch.tensor([0.0, math.nan, 0.0])), "finite"),
        (lambda: Pose.from_Rt(torch.eye(4), torch.zeros(3)), r"got \(4, 4\) and \(3,\)"),
        (lambda: Pose.from_4x4mat(torch.ones(4, 4)), "last row"),
        (lambda: Pose.from_4x4mat(torch.eye(3)), r"\(\.\.\., 4, 4\), got \(3, 3\)"),
        (lambda: Pose.from_packed(torch.zeros(13)), r"\(\.\.\., 12\), got \(13,\)"),
        (lambda: Pose(torch.zeros(2, 2), torch.zeros(3)), r"R \(\.\.\., 3, 3\)"),
        (lambda: Pose.orbit(torch.zeros(3), 0.0, [0.0]), "radius must be positive"),
        (lambda: Pose.orbit(torch.zeros(3), 1.0, [0.0], [91.0]), r"\[-90, 90\]"),
    ],
)
def test_wrong_values(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
