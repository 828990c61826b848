"""Floaters, crops and merges: by hand, and in images."""

from __future__ import annotations

import math

import pytest
import torch

from zipsplat import Camera, Gaussians, Pose
from zipsplat.cleaning import crop, decimate, drop_floaters
from zipsplat.harmonics import dc_from_rgb
from zipsplat.neighbors import near_neighbors

EXACT = "donot_use_mm_for_euclid_dist"


def surface(num: int = 1500, seed: int = 0) -> Gaussians:
    """A wavy wall of overlapping Gaussians with smooth colours, 4 in front of the origin."""
    generator = torch.Generator().manual_seed(seed)
    xy = 2 * torch.rand(num, 2, generator=generator) - 1
    z = 4 + 0.2 * torch.sin(3 * xy[:, 0])
    colors = torch.stack((0.5 + 0.4 * xy[:, 0], 0.5 + 0.4 * xy[:, 1], torch.full_like(z, 0.4)), 1)
    return Gaussians(
        torch.cat((xy, z[:, None]), dim=1),
        0.05 + 0.02 * torch.rand(num, 3, generator=generator),
        torch.randn(num, 4, generator=generator),
        torch.full((num,), 0.7),
        dc_from_rgb(colors)[:, None],
    )


def image(g: Gaussians) -> torch.Tensor:
    camera = Camera.from_fov(math.radians(40), w=64, h=64)
    return g.render(camera, Pose.identity(), renderer="reference")[0]


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * torch.log10((a - b).square().mean()))


def test_near_neighbors_are_nearly_the_nearest():
    points = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0))
    distances, indices = near_neighbors(points, 8)
    torch.testing.assert_close((points[:, None] - points[indices]).norm(dim=-1), distances)
    true = torch.cdist(points, points, compute_mode=EXACT).topk(9, largest=False).values[:, 1:]
    assert (distances >= true - 1e-6).all()
    assert (distances.mean() / true.mean()) < 1.1
    assert all(len(set(row)) == 8 for row in indices.tolist())


def test_near_neighbors_of_few_points():
    distances, indices = near_neighbors(torch.tensor([[0.0, 0, 0], [1, 0, 0], [3, 0, 0]]), 2)
    assert indices.tolist() == [[1, 2], [0, 2], [1, 0]]
    assert distances.tolist() == [[1, 3], [1, 2], [2, 3]]


def test_floaters_go_and_the_rest_stays():
    wall = surface()
    small, haze, sky = torch.full((1, 3), 0.03), torch.full((1, 3), 2.0), torch.full((1, 3), 20.0)
    others = Gaussians(
        torch.tensor([[0.0, 0, 1], [0, 0, 4], [0, 0, 60]]),
        torch.cat((small, haze, sky)),
        torch.eye(4)[[0, 0, 0]],
        torch.tensor([0.9, 0.03, 0.9]),
        torch.zeros(3, 1, 3),
    )
    cleaned = drop_floaters(torch.cat([wall, others]))
    assert cleaned.num_gaussians == wall.num_gaussians + 1
    assert cleaned.means[-1].tolist() == [0, 0, 60]  # large enough to belong where it is
    assert psnr(image(drop_floaters(wall)), image(wall)) > 60


def test_a_box_and_a_sphere_are_cut_out():
    wall = surface()
    box = crop(wall, (0.5, 0.5, 5, -0.5, -0.5, 3))
    assert 0 < box.num_gaussians < wall.num_gaussians
    assert (box.means[:, :2].abs() <= 0.5).all()
    ball = crop(wall, (0, 0, 4, 0.5))
    assert ((ball.means - torch.tensor([0.0, 0, 4])).norm(dim=-1) <= 0.5).all()
    inside = ((wall.means - torch.tensor([0.0, 0, 4])).norm(dim=-1) <= 0.5).sum()
    assert ball.num_gaussians == inside
    for wrong in ((1, 2, 3), (0, 0, 0, -1), (0, 0, 0, math.nan)):
        with pytest.raises(ValueError, match=r"region must have|radius"):
            crop(wall, wrong)


def test_two_equal_gaussians_merge_into_one_of_both():
    """Side by side along x: the variance there grows by the square of half their distance."""
    pair = Gaussians(
        torch.tensor([[-0.1, 0, 4], [0.1, 0, 4]]),
        torch.full((2, 3), 0.1),
        torch.eye(4)[[0, 0]],
        torch.tensor([0.4, 0.4]),
        torch.tensor([[[1.0, 0, 0]], [[0, 1.0, 0]]]),
    )
    merged = decimate(pair, 0.5)
    assert merged.num_gaussians == 1
    torch.testing.assert_close(merged.means[0], torch.tensor([0.0, 0, 4]))
    torch.testing.assert_close(merged.scales[0].sort().values, torch.tensor([0.1, 0.1, 0.02**0.5]))
    torch.testing.assert_close(merged.sh_coeffs[0, 0], torch.tensor([0.5, 0.5, 0]))
    torch.testing.assert_close(merged.opacities[0], torch.tensor(0.8 / 2**0.5))


def test_merging_is_nearer_to_the_scene_than_leaving_out():
    wall = surface()
    whole = image(wall)
    merged = decimate(wall, 0.25)
    assert merged.num_gaussians == 375
    merged.check()
    thinned = wall.select(torch.arange(0, wall.num_gaussians, 4))
    assert psnr(image(merged), whole) > psnr(image(thinned), whole) + 6
    assert psnr(image(merged), whole) > 25


@pytest.mark.parametrize("num", [1, 2, 3, 17])
def test_any_share_of_any_number_is_met(num):
    for share in (1.0, 0.5, 0.01):
        assert decimate(surface(num), share).num_gaussians == max(1, round(share * num))
    with pytest.raises(ValueError, match="share"):
        decimate(surface(num), 0)
