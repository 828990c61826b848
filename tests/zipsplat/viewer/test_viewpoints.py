from __future__ import annotations

import math

import pytest
import torch

from zipsplat.gaussians import Gaussians
from zipsplat.pose import Pose
from zipsplat.viewer.viewpoints import (
    UP_AXES,
    VIEW_FOV_DEG,
    BrowserCamera,
    first_view,
    overview,
    turned,
    upright_rotation,
)


def ball(center: tuple[float, float, float], radius: float = 1.0) -> Gaussians:
    generator = torch.Generator().manual_seed(0)
    points = torch.nn.functional.normalize(torch.randn(200, 3, generator=generator), dim=-1)
    return Gaussians(
        means=points * radius + torch.tensor(center),
        scales=torch.full((200, 3), 0.01),
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(200, 1),
        opacities=torch.ones(200),
        sh_coeffs=torch.zeros(200, 1, 3),
    )


def test_browser_camera() -> None:
    quarter = math.sqrt(0.5)  # turned by 90 degrees about the vertical: forward is +x
    browser = BrowserCamera((quarter, 0, quarter, 0), (1.0, 2.0, 3.0), math.pi / 2, 200, 100)
    pose, camera = browser.pose(), browser.camera(10**6)
    torch.testing.assert_close(pose.R[:, 2], torch.tensor([1.0, 0, 0]))
    assert pose.t.tolist() == [1, 2, 3]
    assert camera.f.tolist() == [50, 50]
    assert camera.size.tolist() == [200, 100]
    assert browser.hfov_deg == pytest.approx(math.degrees(2 * math.atan(2)))
    small = browser.camera(100 * 50)
    assert small.size.tolist() == [100, 50]
    assert float(small.vfov) == pytest.approx(math.pi / 2)


def test_first_view_is_the_first_camera() -> None:
    start = first_view(ball((0.5, 0.0, 4.0)))
    assert start.position == (0, 0, 0)
    assert start.target == pytest.approx((0, 0, 4), abs=0.2)
    assert first_view(ball((0, 0, -4))).target[2] > 0
    empty = ball((0, 0, 0)).select(torch.zeros(200, dtype=torch.bool))
    assert first_view(empty).target == (0, 0, 1)
    assert overview(empty, "-y").position != overview(empty, "-y").target


def test_scenes_around_the_first_camera_are_seen_from_there() -> None:
    around = ball((0.0, 0.0, 1.2))
    assert overview(around, "-y").position == (0, 0, 0)
    assert overview(around, "-y").target[:2] == (0, 0)
    assert overview(around, "+z").position != (0, 0, 0)  # no world of ours


def test_narrow_windows_need_more_distance() -> None:
    scene = ball((0.0, 0.0, 8.0))
    wide, narrow = (overview(scene, "-y", fov_deg).position for fov_deg in (60.0, 30.0))
    assert math.dist(narrow, (0, 0, 8)) > 1.8 * math.dist(wide, (0, 0, 8))


@pytest.mark.parametrize("axis", UP_AXES)
def test_overview_sees_everything_and_is_above(axis: str) -> None:
    scene = ball((3.0, -2.0, 5.0))
    start = overview(scene, axis)
    offset = torch.tensor(start.position) - torch.tensor(start.target)
    up = torch.tensor(UP_AXES[axis])
    assert float(offset @ up) > 0.1 * float(offset.norm())
    reach = math.asin(1.0 / float(offset.norm()))
    assert reach < math.radians(VIEW_FOV_DEG) / 2


@pytest.mark.parametrize("axis", UP_AXES)
def test_worlds_with_another_axis_up(axis: str) -> None:
    rotation = upright_rotation(axis)
    rotation.check()
    up = torch.tensor(UP_AXES[axis])
    torch.testing.assert_close(rotation.transform(torch.tensor([0.0, -1.0, 0.0])), up)
    orbit = turned(Pose.orbit(torch.zeros(3), 2.0, [0, 90, 200]), axis)
    torch.testing.assert_close(-orbit.R[..., 1], up.expand(3, 3))
    torch.testing.assert_close((orbit.t @ up).abs().max(), torch.tensor(0.0))
    if axis == "-y":
        torch.testing.assert_close(rotation.R, torch.eye(3))
