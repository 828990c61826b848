"""The pull of Gaussians towards what their patch shows, by hand."""

from __future__ import annotations

import math

import torch

from splatfactory.datasets.samples import Views
from splatfactory.tiny.patch_points import surface_of_tokens
from splatfactory.tiny.surface_loss import surface_error
from zipsplat.camera import Camera
from zipsplat.pose import Pose


def two_views() -> Views:
    """4×8 pixels, two patches of 4 pixels each; the second camera stands one unit to the right."""
    camera = Camera.from_focal(4.0, w=8, h=4).map(lambda value: value.expand(1, 2, 2))
    R = torch.eye(3).expand(1, 2, 3, 3)
    t = torch.tensor([[[0.0, 0, 0], [1.0, 0, 0]]])
    depths = torch.stack((torch.full((4, 8), 2.0), torch.full((4, 8), 4.0)))[None]
    ones = torch.ones(1, 2)
    return Views(
        images=torch.zeros(1, 2, 3, 4, 8), cameras=camera, poses=Pose(R, t), depths=depths,
        near=ones, far=ones, indices=torch.zeros(1, 2, dtype=torch.int64),
    )  # fmt: skip


def test_cells_of_a_patch_are_unprojected_row_by_row():
    points = surface_of_tokens(two_views(), torch.tensor([[0, 3]]), 4, 4)
    # View 0, left patch: cell centres at u = 1, 3 and v = 1, 3; x = (u − 4) / 4 · 2.
    first = [[-1.5, -0.5, 2], [-0.5, -0.5, 2], [-1.5, 0.5, 2], [-0.5, 0.5, 2]]
    # View 1, right patch: u = 5, 7; x = (u − 4) / 4 · 4 + 1.
    last = [[2, -1, 4], [4, -1, 4], [2, 1, 4], [4, 1, 4]]
    torch.testing.assert_close(points, torch.tensor([first + last], dtype=torch.float32))


def test_the_points_lie_in_the_images_where_the_gaussians_come_from():
    views = two_views()
    points = surface_of_tokens(views, torch.tensor([[0, 1, 2, 3]]), 2, 4)
    seen = points[0, 4:] - views.poses.t[0, 1]
    pixels = (views.cameras.K[0, 1] @ (seen / seen[:, 2:]).T).T[:, :2]
    torch.testing.assert_close(pixels, torch.tensor([[1.0, 2], [3, 2], [5, 2], [7, 2]]))


def test_unknown_depth_teaches_nothing():
    views = two_views()
    views.depths[0, 0, :, :4] = -1
    surface = surface_of_tokens(views, torch.tensor([[0, 1]]), 1, 4)
    assert surface[0, 0].isnan().all()
    assert surface[0, 1].isfinite().all()
    assert surface[0, 1].tolist() == [1, 0, 2]
    means = torch.full((1, 2, 3), 0.5, requires_grad=True)
    error = surface_error(means, surface)
    by_hand = math.log(2 / 1.5) + math.log(1.5) + math.log(3 / 1.5)
    torch.testing.assert_close(error, torch.tensor([by_hand]))
    error.sum().backward()
    assert means.grad is not None
    assert means.grad[0, 0].tolist() == [0, 0, 0]
    assert means.grad[0, 1, 2] < 0  # towards the wall in front
    nowhere = torch.full((1, 2, 3), math.nan)
    assert surface_error(means, nowhere).tolist() == [0]
    assert surface_error(means, None).tolist() == [0]
