"""Every stage of stereo against plain PyTorch and loops, and laws of the whole."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.zipsplat.refinement.textured_wall import DEPTH, SIZE, wall_photos
from zipsplat.camera import Camera
from zipsplat.pose import Pose
from zipsplat.posed_images import PosedImages
from zipsplat.refinement import plane_sweep, semi_global, sweep_costs
from zipsplat.refinement.plane_sweep import (
    DepthMap,
    agreement,
    estimate_depth,
    has_support,
    inverse_depths,
    make_sweep,
    make_volume,
)
from zipsplat.render.cpu import set_num_threads
from zipsplat.render.cpu.layout import FloatArray

H, W = SIZE


@pytest.fixture(autouse=True)
def _default_threads() -> Iterator[None]:
    yield
    set_num_threads(None)


def gray(image: Tensor) -> Tensor:
    return torch.einsum("chw,c->hw", image, torch.tensor([0.299, 0.587, 0.114]))


def warp(photos: PosedImages, view: int, source: int, inverse: float) -> tuple[Tensor, Tensor]:
    """The source seen through a plane, and where it is seen: through world coordinates, float64."""
    reference, other = (photos.cameras[each].to(torch.float64) for each in (view, source))
    poses = Pose(photos.poses.R.double(), photos.poses.t.double())
    rows, columns = (int(side) for side in reference.size.flip(0))
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    pixels = torch.stack((x, y), -1).reshape(-1, 2).double() + 0.5
    z = torch.full((rows * columns,), 1 / inverse, dtype=torch.float64)
    there = poses[source].inv().transform(poses[view].transform(reference.unproject(pixels, z)))
    at = other.project(there)
    size = other.size
    seen = ((at >= 0) & (at <= size)).all(-1) & (there[:, 2] > 0)
    grid = (at / size * 2 - 1).view(1, rows, columns, 2)
    photo = gray(photos.images[source]).double()[None, None]
    seen_through = functional.grid_sample(photo, grid, padding_mode="border", align_corners=False)
    return seen_through[0, 0], seen.view(rows, columns)


def means(image: Tensor) -> Tensor:
    """Of 7 × 7 windows, repeating the border."""
    padded = functional.pad(image[None, None], (3, 3, 3, 3), mode="replicate")
    return functional.avg_pool2d(padded, 7, stride=1)[0, 0]


def plain_costs(photos: PosedImages, view: int, sources: list[int], inverse: float) -> Tensor:
    image = gray(photos.images[view]).double()
    variance = means(image**2) - means(image) ** 2 + 4e-6
    costs = []
    for source in sources:
        other, seen = warp(photos, view, source, inverse)
        covariance = means(image * other) - means(image) * means(other)
        other_variance = means(other**2) - means(other) ** 2 + 4e-6
        correlation = covariance / (variance * other_variance).sqrt()
        costs.append(torch.where(seen, 1 - correlation.clamp(0, 1), 0.65))
    return torch.stack(costs).sort(dim=0).values[:2].mean(dim=0)


def kernel_costs(photos: PosedImages, view: int, sources: list[int], depths: Tensor) -> Tensor:
    gray_photos = [np.ascontiguousarray(gray(image).numpy() - 0.5) for image in photos.images]
    sweep = make_sweep(photos, gray_photos, view, sources, depths)
    planes = np.full(len(depths) * sweep.height * sweep.stride, np.nan, np.float32)
    rows = sweep_costs.working_rows(sweep)
    sweep_costs.sweep_planes(0, len(depths), sweep, rows, planes)
    volume = torch.from_numpy(planes).view(len(depths), sweep.height, sweep.stride)
    return volume[:, :, sweep_costs.MARGIN : sweep_costs.MARGIN + sweep.width]


@pytest.mark.parametrize("sources", [[1, 2, 3, 0][:n] for n in (1, 2, 4)])
def test_costs_against_warping_with_grid_sample(sources: list[int]) -> None:
    photos = wall_photos(5)
    depths = torch.tensor([3.0, 0.8, 0.5, 0.45, 0.1])  # at 3 the sources see little
    ours = kernel_costs(photos, 4, sources, depths)
    for plane, inverse in enumerate(depths.tolist()):
        expected = plain_costs(photos, 4, sources, inverse)
        # Where a rounded coordinate falls on the other side of the border, seen differs.
        differs = (ours[plane] - expected).abs() > 2e-3
        assert float(differs.float().mean()) < 2e-3


def test_costs_of_sources_of_another_size() -> None:
    photos = wall_photos(3)
    smaller = photos.resized(50)
    mixed = PosedImages(
        (photos.images[0], *smaller.images[1:]),
        Camera(*(torch.cat((a[:1], b[1:])) for a, b in zip(
            (photos.cameras.size, photos.cameras.f, photos.cameras.c),
            (smaller.cameras.size, smaller.cameras.f, smaller.cameras.c), strict=True))),
        photos.poses, photos.names,
    )  # fmt: skip
    ours = kernel_costs(mixed, 0, [1, 2], torch.tensor([0.5]))[0]
    differs = (ours - plain_costs(mixed, 0, [1, 2], 0.5)).abs() > 2e-3
    assert float(differs.float().mean()) < 2e-3


def test_points_behind_a_source_are_not_seen() -> None:
    photos = wall_photos(2)
    turned = Pose(photos.poses.R.clone(), photos.poses.t)
    turned.R[1] = turned.R[1] @ torch.diag(torch.tensor([-1.0, 1.0, -1.0]))
    away = PosedImages(photos.images, photos.cameras, turned, photos.names)
    assert (kernel_costs(away, 0, [1], torch.tensor([0.5])) == np.float32(0.65)).all()


def plain_path(costs: FloatArray, steps: FloatArray) -> FloatArray:
    """Aggregated costs (n, D) along one path; steps[i] is P2 between i − 1 and i."""
    path = np.zeros_like(costs)
    for i, cost in enumerate(costs):
        before = path[i - 1] if i else np.zeros(costs.shape[1])
        for d in range(len(cost)):
            reached = [before[d], before.min() + (steps[i] if i else 0)]
            reached += [before[k] + 0.06 for k in (d - 1, d + 1) if 0 <= k < len(cost)]
            path[i, d] = cost[d] + min(reached) - before.min()
    return path


def plain_aggregation(costs: FloatArray, photo: FloatArray) -> FloatArray:
    """Sum over the four paths, (H, W, D)."""
    total = np.zeros(costs.shape)
    for flips in itertools.product((False, True), repeat=2):
        transposed, reversed_ = flips
        c, g = (costs.swapaxes(0, 1), photo.T) if transposed else (costs, photo)
        c, g = (c[:, ::-1], g[:, ::-1]) if reversed_ else (c, g)
        steps = 2.0 * np.exp(-15 * np.abs(np.diff(g, axis=1, prepend=0)))
        paths = np.stack([plain_path(*line) for line in zip(c, steps, strict=True)])
        paths = paths[:, ::-1] if reversed_ else paths
        total += paths.swapaxes(0, 1) if transposed else paths
    return total


def test_aggregation_against_loops() -> None:
    rng = np.random.default_rng(0)
    height, width, D = 6, 21, 32
    costs = rng.uniform(size=(height, width, D)).astype(np.float32)
    photo = rng.uniform(-0.5, 0.5, (height, width)).astype(np.float32).round(1)
    volume = filled_volume(costs, photo)
    path = np.empty(2 * (D + 2 * semi_global.BORDER), np.float32)
    semi_global.aggregate_rows(0, height, volume, path)
    semi_global.aggregate_columns(0, width, volume, path)
    ours = volume.sums.reshape(height, -1, D)[:, :width]
    np.testing.assert_allclose(ours, plain_aggregation(costs, photo), atol=2e-5)


def filled_volume(costs: FloatArray, photo: FloatArray) -> semi_global.Volume:
    """Costs (H, W, D) as the aggregation takes them; NaN where nothing may be read."""
    height, width, D = costs.shape
    pitch = -(-width // 16) * 16
    planes = np.full((D, height, pitch + 32), np.nan, np.float32)
    planes[:, :, 16 : 16 + width] = np.moveaxis(costs, 2, 0)
    sweep = sweep_costs.Sweep(
        width, height, pitch + 32, *[np.empty(0, np.float32)] * 4, np.empty(0, np.int32),
        np.empty(0, np.float32), np.zeros(D, np.float32),
    )  # fmt: skip
    return make_volume(sweep, planes.ravel(), photo)


def test_best_plane_lies_between_planes() -> None:
    """The lowest point of costs (d − 7.3)² is found exactly; at the end there is no parabola."""
    D = 16
    volume = filled_volume(np.zeros((1, 2, D), np.float32), np.zeros((1, 2), np.float32))
    d = np.arange(D)
    volume.sums[: 2 * D] = np.concatenate([(d - 7.3) ** 2, d])
    volume.costs[: 2 * D] = np.concatenate([np.full(D, 0.25), np.full(D, 0.5)])
    volume.sums[2 * D :] = 0
    volume.costs[2 * D :] = 0
    places, correlations = np.zeros((2, 16), np.float32)
    semi_global.pick_planes(0, 1, volume, places, correlations)
    np.testing.assert_allclose(places[:2], [7.3, 0], atol=1e-5)
    np.testing.assert_allclose(correlations[:2], [0.75, 0.5])


def true_inverse(photos: PosedImages, view: int) -> Tensor:
    """Inverse depth (H, W) of the wall."""
    rays = photos.cameras[view].unproject(plane_sweep.pixel_corners(H, W) + 0.5, torch.ones(H * W))
    pose = photos.poses[view]
    return ((rays @ pose.R.T)[:, 2] / (DEPTH - pose.t[2])).view(H, W)


def seen_elsewhere(photos: PosedImages, view: int) -> Tensor:
    """Which pixels (H, W) show a part of the wall that another photo shows too."""
    pixels = plane_sweep.pixel_corners(H, W) + 0.5
    points = photos.cameras[view].unproject(pixels, 1 / true_inverse(photos, view).flatten())
    world = photos.poses[view].transform(points)
    seen = torch.zeros(H * W, dtype=torch.bool)
    for other in set(range(len(photos))) - {view}:
        at = photos.cameras[other].project(photos.poses[other].inv().transform(world))
        seen |= ((at >= 0) & (at < torch.tensor([W, H]))).all(dim=-1)
    return seen.view(H, W)


def test_a_wall_is_found_between_the_planes() -> None:
    photos = wall_photos()
    step = float(inverse_depths(photos, 0, 96).diff().abs().mean())
    for view, found in enumerate(estimate_depth(photos)):
        error = ((1 / found.depth - true_inverse(photos, view)).abs() / step)[found.is_consistent]
        seen = seen_elsewhere(photos, view)
        assert float(found.is_consistent[seen].float().mean()) > 0.9
        assert float(error.median()) < 0.2
        assert float(error.quantile(0.95)) < 1


def test_scaling_the_world_scales_the_depth() -> None:
    for plain, scaled in zip(
        estimate_depth(wall_photos(3)), estimate_depth(wall_photos(3, scale=5.0)), strict=True
    ):
        same = ((scaled.depth / plain.depth / 5 - 1).abs() < 1e-3).float().mean()
        assert float(same) > 0.99


def test_without_points_the_cameras_give_the_range() -> None:
    photos = wall_photos(with_points=False)
    planes = inverse_depths(photos, 0, 96)
    spread = torch.pdist(photos.poses.t).median()
    torch.testing.assert_close(planes[[0, -1]], 1 / torch.stack((0.3 * spread, 30 * spread)))
    depth = estimate_depth(photos)[1]
    assert depth.depth[depth.is_consistent].median() == pytest.approx(DEPTH - 0.03, rel=0.03)


def test_threads_do_not_change_a_bit() -> None:
    results = []
    for count in (1, 3):
        set_num_threads(count)
        results.append(estimate_depth(wall_photos()))
    for one, three in zip(*results, strict=True):
        assert torch.equal(one.depth, three.depth)
        assert torch.equal(one.is_consistent, three.is_consistent)
        assert torch.equal(one.correlation, three.correlation)


def test_agreement_needs_another_view_with_the_same_surface() -> None:
    photos = wall_photos(3)
    flat = [true_inverse(photos, view) for view in range(3)]
    assert torch.equal(agreement(photos, 0, [1, 2], flat), seen_elsewhere(photos, 0))
    wrong = [flat[0], flat[1] * 1.1, flat[2] * 1.1]
    assert not agreement(photos, 0, [1, 2], wrong).any()
    one_right = agreement(photos, 0, [1, 2], [flat[0], flat[1] * 1.1, flat[2]])
    assert torch.equal(one_right, agreement(photos, 0, [2], flat))


def test_lonely_speckles_have_no_support() -> None:
    inverse = torch.ones(20, 20)
    known = torch.zeros(20, 20, dtype=torch.bool)
    known[:, :14] = True
    known[10, 18] = True  # alone among unknown ones
    inverse[5, 5] = 1.2  # another depth than all around
    kept = has_support(inverse, known)
    assert not kept[10, 18]
    assert not kept[5, 5]
    assert kept[10, 6]
    assert not (kept & ~known).any()


def test_targets_are_zero_where_photos_disagree() -> None:
    known = torch.tensor([[True, False], [True, True]])
    depth = torch.tensor([[2.0, 9.0], [4.0, 5.0]])
    camera = Camera.from_focal(2.0, w=2, h=2)
    target = DepthMap(depth, known, torch.ones(2, 2), camera).inverse_target(4, 6)
    rows = [[0.5] * 3 + [0.0] * 3, [0.25] * 3 + [0.2] * 3]
    torch.testing.assert_close(target, torch.tensor([rows[0], rows[0], rows[1], rows[1]]))


def test_a_single_view_has_no_depth() -> None:
    with pytest.raises(ValueError, match="at least 2 views, got 1"):
        estimate_depth(wall_photos().select([0]))
    with pytest.raises(ValueError, match="at least 2 in width and height"):
        estimate_depth(wall_photos(2), max_side=1)
    with pytest.raises(ValueError, match="multiple of 16, got 20"):
        estimate_depth(wall_photos(), num_planes=20)
