"""Pinhole cameras."""

from __future__ import annotations

import math

import pytest
import torch

from zipsplat import Camera


def test_one_angle_makes_square_pixels() -> None:
    camera = Camera.from_fov(math.radians(60), w=640, h=480)
    assert camera.f[0] == camera.f[1]
    assert camera.hfov.item() == pytest.approx(math.radians(60))
    assert camera.c.tolist() == [320, 240]


def test_project_unproject() -> None:
    camera = Camera.from_focal(torch.tensor([400.0, 300.0]), w=640, h=480, cx=310.5)
    pixels = torch.rand(2, 7, 2) * 400
    depth = torch.rand(2, 7) + 0.5
    points = camera.unproject(pixels, depth)
    torch.testing.assert_close(points[..., 2], depth)
    torch.testing.assert_close(camera.project(points), pixels, atol=1e-3, rtol=1e-5)


def test_project_agrees_with_K() -> None:
    camera = Camera.from_focal(400.0, 410.0, w=640, h=480, cx=310.5, cy=222.0)
    point = torch.tensor([0.3, -0.2, 2.0])
    homogeneous = camera.K @ point
    torch.testing.assert_close(camera.project(point[None])[0], homogeneous[:2] / homogeneous[2])


def test_crop_and_scale_move_pixels() -> None:
    camera = Camera.from_focal(400.0, w=640, h=480)
    points = torch.tensor([[0.1, 0.2, 1.0]])
    pixel = camera.project(points)
    left_top = torch.tensor([80.0, 40.0])
    torch.testing.assert_close(camera.crop((-160, -80)).project(points), pixel - left_top)
    torch.testing.assert_close(camera.crop_box(80, 40, 480, 400).project(points), pixel - left_top)
    torch.testing.assert_close(
        camera.scale((0.5, 0.25)).project(points), pixel * torch.tensor([0.5, 0.25])
    )


def test_double_precision_stays() -> None:
    fov = torch.tensor([1.0], dtype=torch.float64)
    assert Camera.from_fov(fov, w=4, h=4).dtype == torch.float64
    assert Camera.from_K(torch.eye(3, dtype=torch.float64), 4, 4).dtype == torch.float64


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Camera.from_fov(60.0, w=4, h=4), r"\(0, π\) radians .*got 60"),
        (lambda: Camera.from_fov(math.pi, w=4, h=4), "fov_x must be"),
        (lambda: Camera.from_fov(1.0, -0.5, w=4, h=4), "fov_y must be .*got -0.5"),
        (lambda: Camera.from_focal(-3.0, w=4, h=4), "fx must be positive.*got -3"),
        (lambda: Camera.from_focal(3.0, math.nan, w=4, h=4), "fy must be positive"),
        (lambda: Camera.from_focal(3.0, w=0, h=4), "w must be positive"),
        (lambda: Camera.from_focal(3.0, w=4, h=4, cx=math.inf), "cx must be finite"),
        (lambda: Camera.from_K(torch.eye(4), 4, 4), r"K must be \(\.\.\., 3, 3\), got \(4, 4\)"),
        (lambda: Camera.from_packed(torch.zeros(5)), r"\(\.\.\., 6\), got \(5,\)"),
        (
            lambda: Camera(torch.ones(3), torch.ones(3), torch.ones(3)),
            r"size must be \(\.\.\., 2\)",
        ),
    ],
)
def test_wrong_values(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
