"""P3P and the joint fit of poses and focal length on points that are seen exactly."""

import pytest
import torch
from torch import Tensor

from zipsplat.alignment import rotation_from_vector
from zipsplat.camera_estimation.absolute_pose import Correspondences, estimate_views, inlier_shares
from zipsplat.camera_estimation.p3p import solve_p3p


def random(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_one_solution_of_p3p_is_the_pose():
    R, t = rotation_from_vector(random(0, 200, 3)), random(1, 200, 3)
    seen = random(2, 200, 3, 3)
    seen[..., 2] = 1 + 2 * seen[..., 2].abs()
    points = (seen - t[:, None]) @ R
    found_R, found_t = solve_p3p(seen * (0.5 + random(3, 200, 3, 1).abs()), points)
    errors = (found_R - R[:, None]).abs().amax((-1, -2)) + (found_t - t[:, None]).abs().amax(-1)
    assert float(errors.nan_to_num(1.0).amin(dim=1).max()) < 1e-6


def test_p3p_of_points_on_a_line_is_nan():
    points = torch.tensor([[0.0, 0, 2], [1, 0, 2], [2, 0, 2]], dtype=torch.float64)
    assert bool(solve_p3p(points, points)[0].isnan().all())


def seen_by_three(focal: float, seed: int) -> tuple[Correspondences, Tensor]:
    """Points of random depths before three views, each at its exact place, and rotations."""
    image_points = (
        torch.rand(3, 60, 2, generator=torch.Generator().manual_seed(seed)).double() - 0.5
    )
    depth = 2 + random(seed, 3, 60, 1).abs()
    seen = torch.cat((image_points / focal, torch.ones_like(image_points[..., :1])), dim=-1) * depth
    turns = torch.tensor([[0.0, 0, 0], [0.1, -0.4, 0.05], [-0.2, 0.7, -0.1]], dtype=torch.float64)
    R = rotation_from_vector(turns)
    t = torch.tensor([[0.0, 0, 0], [0.6, 0.1, -0.2], [-1.0, 0.2, 0.4]], dtype=torch.float64)
    points = (seen - t[:, None]) @ R
    weights, tolerance = torch.ones(3, 60).double(), torch.full((3,), 0.05).double()
    return Correspondences(points, image_points, weights, tolerance), R


def angles(R: Tensor, true: Tensor) -> Tensor:
    cosines = ((R.mT @ true).diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    return cosines.clamp(-1, 1).acos().rad2deg()


@pytest.mark.parametrize("focal", [0.45, 0.8, 1.3, 2.2])
def test_exact_places_give_exact_poses_and_focal_length(focal: float):
    correspondences, R = seen_by_three(focal, seed=0)
    views, shares = estimate_views(correspondences)
    assert float(views.focal) == pytest.approx(focal, rel=1e-4)
    assert float(angles(views.R, R).max()) < 1e-3
    assert shares.tolist() == [1, 1, 1]


def test_a_quarter_of_wrong_points_does_not_matter():
    correspondences, R = seen_by_three(0.8, seed=1)
    correspondences.points[:, ::4] += 2 * random(5, 3, 15, 3)
    views, shares = estimate_views(correspondences)
    assert float(views.focal) == pytest.approx(0.8, rel=0.01)
    assert float(angles(views.R, R).max()) < 1  # some wrong points lie near by chance
    assert float(shares.min()) > 0.7
    assert float(shares.max()) < 0.9


def test_the_fit_repeats_for_a_seed_and_shares_fall_with_the_wrong_poses():
    correspondences, _ = seen_by_three(0.8, seed=2)
    first, second = (
        estimate_views(correspondences, seed=3)[0],
        estimate_views(correspondences, seed=3)[0],
    )
    assert torch.equal(first.R, second.R)
    assert torch.equal(first.focal, second.focal)
    first.t[1] += 1.0
    assert float(inlier_shares(correspondences, first)[1]) < 0.5
