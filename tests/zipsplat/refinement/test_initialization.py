"""The start of a refinement: where Gaussians are put, how large, and which."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.zipsplat.refinement.textured_wall import DEPTH, wall_photos
from zipsplat.gaussians import Gaussians
from zipsplat.posed_images import PosedImages, SparsePoints
from zipsplat.refinement.initialization import (
    initial_gaussians,
    neighbor_distances,
    point_gaussians,
    points_without_depth,
    sample_surfaces,
)
from zipsplat.refinement.plane_sweep import DepthMap, estimate_depth


def flat_maps(photos: PosedImages, depth: float = 2.0) -> list[DepthMap]:
    """Maps of half the size of the photos, known everywhere."""
    size = photos.images[0].shape[1] // 2, photos.images[0].shape[2] // 2
    return [
        DepthMap(
            torch.full(size, depth),
            torch.ones(size, dtype=torch.bool),
            torch.ones(size),
            photos.cameras[view].scale(0.5),
        )
        for view in range(len(photos))
    ]


def without_points(photos: PosedImages) -> PosedImages:
    return replace(photos, points=None)


def one_point(view: int, pixel: tuple[float, float], photos: PosedImages) -> PosedImages:
    points = SparsePoints(
        np.float32([[0, 0, 2], [0, 1, 2], [3, 0, 2], [0, 0, 5], [9, 9, 9]]),
        np.full((5, 3), 0.25, np.float32),
        np.zeros(5, np.float32),
        np.array([0, 1, 1, 1, 1, 1]),
        np.array([view]),
        np.float32([pixel]),
    )
    return replace(photos, points=points)


def test_the_start_lies_on_the_wall_and_looks_like_the_photos() -> None:
    photos = wall_photos()
    scene = initial_gaussians(photos, 3000)
    assert scene.max_sh_degree == 1
    scene.check()
    assert scene.shape == (3000,)
    surfaces = scene.means[scene.opacities == 0.5]
    assert len(surfaces) == 2400
    off = (surfaces[:, 2] - DEPTH).abs()
    assert float(off.quantile(0.9)) < 0.02 * DEPTH
    rendered, info = scene.render(photos.cameras[1], photos.poses[1], renderer="reference")
    covered = info["alphas"][0, 0] > 0.5
    error = (rendered[0].clamp(0, 1) - photos.images[1]).abs().mean(dim=0)
    grey = (photos.images[1] - photos.images[1].mean()).abs().mean(dim=0)
    assert float(covered.float().mean()) > 0.7
    assert float(error[covered].mean()) < 0.5 * float(grey[covered].mean())


def test_gaussians_see_the_color_of_their_pixel() -> None:
    photos = without_points(wall_photos(2))
    maps = flat_maps(photos)
    maps[1] = replace(maps[1], is_consistent=torch.zeros_like(maps[1].is_consistent))
    scene = sample_surfaces(photos, maps, 50, torch.Generator().manual_seed(0))
    assert scene.shape == (50,)
    there = photos.poses[0].inv().transform(scene.means)
    torch.testing.assert_close(there[:, 2], torch.full((50,), 2.0))
    at = photos.cameras[0].project(there)
    column, row = at.floor().long().unbind(-1)
    torch.testing.assert_close(scene.rgb, photos.images[0][:, row, column].T)


def test_half_the_spacing_is_the_scale() -> None:
    """An image without detail: n Gaussians share its pixels evenly."""
    photos = without_points(wall_photos(2))
    H, W = photos.images[0].shape[1:]
    photos = replace(photos, images=(torch.full((3, H, W), 0.5),) * 2)
    scene = sample_surfaces(photos, flat_maps(photos), 200, torch.Generator().manual_seed(0))
    spacing = (2 * H * W / 200) ** 0.5
    expected = torch.full((200, 3), 0.5 * spacing * 2.0 / float(photos.cameras.f[0, 0]))
    torch.testing.assert_close(scene.scales, expected)
    dense = sample_surfaces(photos, flat_maps(photos), 1728, torch.Generator().manual_seed(0))
    few = sample_surfaces(photos, flat_maps(photos), 4, torch.Generator().manual_seed(0))
    pixel = 2.0 / float(photos.cameras.f[0, 0])
    assert float(dense.scales.min()) >= 0.5 * pixel
    torch.testing.assert_close(few.scales, torch.full((4, 3), 12 * pixel))


@pytest.mark.parametrize(("num_views", "share"), [(2, 1.0), (4, 1.0), (16, 0.5)])
def test_gaussians_are_smaller_where_many_photos_show_one_surface(num_views: int, share: float):
    """As many Gaussians a photo; of 16 photos as if four showed the same: half the distance."""
    generator = torch.Generator().manual_seed(0)
    photos = without_points(wall_photos(num_views))
    flat = replace(photos, images=tuple(torch.full_like(i, 0.5) for i in photos.images))
    scene = sample_surfaces(flat, flat_maps(flat), 25 * num_views, generator)
    H, W = flat.images[0].shape[1:]
    spacing = (H * W / 25) ** 0.5 * 2.0 / float(flat.cameras.f[0, 0])
    torch.testing.assert_close(
        scene.scales[:, 0].median(), torch.tensor(0.5 * share * spacing), rtol=0.05, atol=0
    )


def test_detail_attracts_gaussians() -> None:
    photos = without_points(wall_photos(2))
    images = tuple(image.clone() for image in photos.images)
    for image in images:
        image[:, :, : image.shape[2] // 2] = 0.5  # the left half is flat
    photos = replace(photos, images=images)
    maps = flat_maps(photos)
    maps[1] = replace(maps[1], is_consistent=torch.zeros_like(maps[1].is_consistent))
    scene = sample_surfaces(photos, maps, 300, torch.Generator().manual_seed(0))
    x = photos.cameras[0].project(photos.poses[0].inv().transform(scene.means))[:, 0]
    left = float((x < photos.images[0].shape[2] / 3).float().mean())
    assert 0.05 < left < 0.16  # a tenth of the probability is there


def test_equal_seeds_give_equal_starts() -> None:
    photos = wall_photos(3)
    maps = estimate_depth(photos)
    starts = [initial_gaussians(photos, 500, depth=maps, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(starts[0].packed(), starts[1].packed())
    assert not torch.equal(starts[0].means, starts[2].means)


def test_points_are_added_where_no_depth_is_known() -> None:
    photos = one_point(0, (10.5, 20.5), wall_photos(2))
    maps = flat_maps(photos)
    assert points_without_depth(photos, maps).tolist() == [1, 2, 3, 4]
    is_known = torch.ones_like(maps[0].is_consistent)
    is_known[10, 5] = False  # at half size
    maps[0] = replace(maps[0], is_consistent=is_known)
    assert points_without_depth(photos, maps).tolist() == [0, 1, 2, 3, 4]
    scene = initial_gaussians(photos, 100, depth=maps)
    assert scene.shape == (105,)
    torch.testing.assert_close(scene.opacities[100:], torch.full((5,), 0.1))
    torch.testing.assert_close(scene.rgb[100:], torch.full((5, 3), 0.25))


def test_points_are_as_large_as_the_way_to_their_neighbors() -> None:
    photos = one_point(0, (10.5, 20.5), wall_photos(2))
    points = torch.tensor([[0.0, 0, 2], [0, 1, 2], [3, 0, 2], [0, 0, 5], [9, 9, 9]])
    distance = torch.cdist(points, points).sort(dim=1).values[:, 1:4].square().mean(dim=1).sqrt()
    torch.testing.assert_close(neighbor_distances(points, points), distance)
    scene = point_gaussians(photos, torch.arange(5))
    limit = distance.quantile(0.95)
    assert limit < distance.max()
    torch.testing.assert_close(scene.scales[:, 0], distance.clamp_max(limit))


def test_distances_do_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    points = torch.rand(70, 3, generator=torch.Generator().manual_seed(0))
    whole = neighbor_distances(points, points)
    monkeypatch.setattr("zipsplat.refinement.initialization._CHUNK", 16)
    assert torch.equal(neighbor_distances(points, points), whole)


def test_a_feed_forward_scene_helps_few_photos() -> None:
    scene = Gaussians(
        torch.full((7, 3), 9.0), torch.ones(7, 3), torch.ones(7, 4), torch.ones(7),
        torch.zeros(7, 16, 3),
    )  # fmt: skip

    def count(num_views: int) -> int:
        photos = without_points(wall_photos(num_views))
        start = initial_gaussians(photos, 50, depth=flat_maps(photos), feed_forward=scene)
        return int((start.means == 9).all(dim=1).sum())

    assert count(7) == 7
    assert count(8) == 0


@pytest.mark.parametrize(("num_views", "num_faint"), [(2, 20), (7, 20), (8, 40)])
def test_holes_get_faint_gaussians(num_views: int, num_faint: int) -> None:
    photos = without_points(wall_photos(num_views))
    maps = flat_maps(photos)
    is_known = torch.ones_like(maps[0].is_consistent)
    is_known[:, :10] = False  # 20 pixels of the photo
    maps[0] = replace(maps[0], is_consistent=is_known)
    scene = initial_gaussians(photos, 100, depth=maps)
    faint = scene[scene.opacities < 0.2]
    assert faint.shape == (num_faint,)
    torch.testing.assert_close(faint.opacities, torch.full((num_faint,), 0.1))
    at = photos.cameras[0].project(photos.poses[0].inv().transform(faint.means))
    assert float(at[:, 0].max()) <= 20.001


def test_nothing_known_and_nothing_wanted() -> None:
    photos = without_points(wall_photos(2))
    maps = [
        replace(each, is_consistent=torch.zeros_like(each.is_consistent))
        for each in flat_maps(photos)
    ]
    with pytest.raises(ValueError, match="no depth is consistent"):
        initial_gaussians(photos, 10, depth=maps)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        initial_gaussians(photos, 0)
