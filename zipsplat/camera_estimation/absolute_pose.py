"""Robust poses and a common focal length from 2D-3D correspondences.

Letters: V views, T points of a view, F focal lengths, H hypotheses. Image points are relative to
the principal point, in units of the photos' longer side, so a point (x, y, z) in camera coordinates
projects to f·(x, y) / z with a focal length f in the same unit. Everything is float64 on the CPU.

RANSAC over P3P (Fischler and Bolles, 1981) with the truncated cost of MSAC (Torr and Zisserman,
2000) finds a pose of each view for each focal length tried; Gauss-Newton steps then move all poses
and the focal length together, first with Huber weights, which limit outliers, then with Tukey
weights, which ignore them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from zipsplat.alignment import rotation_from_vector
from zipsplat.camera_estimation.p3p import solve_p3p
from zipsplat.pose import Pose

FOCALS = 13
FOCAL_RANGE = (0.4, 2.5)
NUM_SAMPLES = 48
HUBER_STEPS, TUKEY_STEPS = 10, 8
TUKEY_REACH = 3.0  # in tolerances; residuals beyond it have no weight
DAMPING = 1e-4
MIN_DEPTH = 1e-6


@dataclass(frozen=True)
class Correspondences:
    """2D-3D correspondences; each view has its own points.

    Args:
        points: (V, T, 3) world coordinates.
        image_points: (V, T, 2) where the view sees them.
        weights: (V, T) non-negative weights.
        tolerance: (V,) largest reprojection error of an inlier.
    """

    points: Tensor
    image_points: Tensor
    weights: Tensor
    tolerance: Tensor


@dataclass(frozen=True)
class Views:
    """A common focal length and the poses of all views; the first view is the world frame.

    Args:
        focal: (...) focal length.
        R: (..., V, 3, 3) rotations from world to camera coordinates.
        t: (..., V, 3) translations from world to camera coordinates.
    """

    focal: Tensor
    R: Tensor
    t: Tensor

    def poses(self) -> Pose:
        """Camera-to-world poses (..., V)."""
        return Pose(self.R, self.t).inv()


def estimate_views(correspondences: Correspondences, seed: int = 0) -> tuple[Views, Tensor]:
    """Estimate the common focal length and the pose of each view from correspondences.

    Args:
        correspondences: of V views; the points are in the camera frame of the first.
        seed: of the random samples.

    Returns:
        The views, and their inlier shares (V,) by weight.
    """
    low, high = FOCAL_RANGE
    focals = torch.logspace(0, 1, FOCALS, base=high / low, dtype=torch.float64) * low
    start = _hypotheses(correspondences, focals, seed)
    refined = _refined(correspondences, start)
    costs = _truncated_costs(correspondences, refined).sum(dim=-1)
    best = int(costs.argmin())
    views = Views(refined.focal[best], refined.R[best], refined.t[best])
    return views, inlier_shares(correspondences, views)


def inlier_shares(correspondences: Correspondences, views: Views) -> Tensor:
    """Inlier share (V,) of each view's points, by weight."""
    errors = _residuals(correspondences, views)[0].norm(dim=-1)
    is_near = errors <= correspondences.tolerance[:, None]
    return _weighted_mean(is_near, correspondences.weights)


def _hypotheses(correspondences: Correspondences, focals: Tensor, seed: int) -> Views:
    """The best P3P solution of random triples for each focal length and view, (F, V)."""
    V, T = correspondences.weights.shape
    generator = torch.Generator().manual_seed(seed)
    chances = correspondences.weights.clamp_min(MIN_DEPTH)[:, None].expand(V, NUM_SAMPLES, T)
    triples = torch.multinomial(chances.flatten(0, 1), 3, generator=generator)
    triples = triples.unflatten(0, (V, NUM_SAMPLES))
    points = _taken(correspondences.points, triples)
    image_points = _taken(correspondences.image_points, triples)
    rays = torch.cat((image_points, torch.ones_like(image_points[..., :1])), dim=-1).expand(
        len(focals), *image_points.shape[:-1], 3
    )
    scale = torch.ones(len(focals), 3, dtype=focals.dtype)
    scale[:, 2] = focals
    R, t = solve_p3p(rays * scale[:, None, None, None], points.expand_as(rays))
    R, t = R.flatten(2, 3), t.flatten(2, 3)  # (F, V, H, …)
    kept_R = torch.eye(3, dtype=R.dtype).repeat(len(focals), V, 1, 1)
    kept_t = torch.zeros(len(focals), V, 3, dtype=t.dtype)
    for view in range(1, V):  # the first is the identity
        one = _of_view(correspondences, view)
        candidates = Views(focals[:, None], R[:, view, :, None], t[:, view, :, None])
        costs = _truncated_costs(one, candidates)[..., 0]
        best = costs.nan_to_num(torch.inf).argmin(dim=1)
        rows = torch.arange(len(focals))
        kept_R[:, view], kept_t[:, view] = R[rows, view, best], t[rows, view, best]
    is_usable = kept_t.isfinite().all(-1) & kept_R.isfinite().flatten(-2).all(-1)
    kept_R = torch.where(is_usable[..., None, None], kept_R, torch.eye(3, dtype=R.dtype))
    return Views(focals, kept_R, torch.where(is_usable[..., None], kept_t, 0.0))


def _of_view(correspondences: Correspondences, view: int) -> Correspondences:
    which = slice(view, view + 1)
    return Correspondences(
        correspondences.points[which],
        correspondences.image_points[which],
        correspondences.weights[which],
        correspondences.tolerance[which],
    )


def _taken(values: Tensor, indices: Tensor) -> Tensor:
    """Rows (V, S, 3, C) of (V, T, C) at (V, S, 3)."""
    flat = indices.flatten(1).unsqueeze(-1).expand(-1, -1, values.shape[-1])
    taken: Tensor = values.gather(1, flat).unflatten(1, indices.shape[1:])
    return taken


def _residuals(correspondences: Correspondences, views: Views) -> tuple[Tensor, Tensor]:
    """Reprojection errors (..., V, T, 2), and points in camera coordinates."""
    seen = correspondences.points @ views.R.mT + views.t.unsqueeze(-2)
    depth = seen[..., 2:]
    place = views.focal[..., None, None, None] * seen[..., :2] / depth
    is_behind = depth < MIN_DEPTH
    return torch.where(is_behind, 1e3, place - correspondences.image_points), seen


def _truncated_costs(correspondences: Correspondences, views: Views) -> Tensor:
    """Weighted mean of squared errors in tolerances, each clamped to 1: (..., V)."""
    errors = _residuals(correspondences, views)[0].square().sum(-1)
    errors = (errors / correspondences.tolerance[:, None].square()).clamp_max(1.0)
    return _weighted_mean(errors, correspondences.weights)


def _weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    mean: Tensor = (weights * values).sum(-1) / weights.sum(-1).clamp_min(MIN_DEPTH)
    return mean


def _refined(correspondences: Correspondences, views: Views) -> Views:
    """Gauss-Newton on the focal length and all poses except the first, for each start."""
    low, high = FOCAL_RANGE
    for step in range(HUBER_STEPS + TUKEY_STEPS):
        residuals, seen = _residuals(correspondences, views)
        errors = residuals.norm(dim=-1) / correspondences.tolerance[:, None]
        if step < HUBER_STEPS:
            trust = (1 / errors.clamp_min(MIN_DEPTH)).clamp_max(1.0)
        else:
            trust = (1 - (errors / TUKEY_REACH).square()).clamp_min(0).square()
        weights = correspondences.weights * trust * (seen[..., 2] >= MIN_DEPTH)
        moves, log_focal = _step(residuals, seen, weights, views.focal)
        turn = rotation_from_vector(moves[..., :3])
        focal = (views.focal * log_focal.clamp(-0.2, 0.2).exp()).clamp(0.8 * low, 1.25 * high)
        views = replace(
            views,
            focal=focal,
            R=turn @ views.R,
            t=(turn @ views.t.unsqueeze(-1)).squeeze(-1) + moves[..., 3:],
        )
    return views


def _step(residuals: Tensor, seen: Tensor, weights: Tensor, focal: Tensor) -> tuple[Tensor, Tensor]:
    """Steps (..., V, 6) of the poses, rotation first, and of the log focal length (...).

    The poses are eliminated by the Schur complement, view by view.
    """
    to_pose, to_focal = _jacobians(seen, focal)
    weighted = weights.unsqueeze(-1).unsqueeze(-1) * to_pose
    A = (weighted.mT @ to_pose).sum(-3)
    A = A + DAMPING * torch.diag_embed(A.diagonal(dim1=-2, dim2=-1) + MIN_DEPTH)
    b = -(weighted.mT @ residuals.unsqueeze(-1)).sum(-3)
    c = (weighted.mT @ to_focal.unsqueeze(-1)).sum(-3)
    mixed, own = torch.linalg.solve(A, c), torch.linalg.solve(A, b)
    is_free = torch.ones_like(A[..., 0, 0])
    is_free[..., 0] = 0  # the first view stays
    d = (weights * to_focal.square().sum(-1)).sum(-1)
    g = -(weights * (to_focal * residuals).sum(-1)).sum(-1)
    d = (d - is_free * (c * mixed).sum((-1, -2))).sum(-1)
    g = (g - is_free * (c * own).sum((-1, -2))).sum(-1)
    log_focal = g / d.clamp_min(MIN_DEPTH)
    moves = own - mixed * log_focal[..., None, None, None]
    return is_free.unsqueeze(-1) * moves.squeeze(-1), log_focal


def _jacobians(seen: Tensor, focal: Tensor) -> tuple[Tensor, Tensor]:
    """Jacobians of image points by a left pose step (..., T, 2, 6) and the log focal (..., 2)."""
    x, y, z = seen.unbind(-1)
    z = z.clamp_min(MIN_DEPTH)
    zero = torch.zeros_like(z)
    f = focal[..., None, None]
    by_point = torch.stack(
        (f / z, zero, -f * x / z.square(), zero, f / z, -f * y / z.square()), dim=-1
    ).unflatten(-1, (2, 3))
    turned = torch.stack((zero, z, -y, -z, zero, x, y, -x, zero), dim=-1).unflatten(-1, (3, 3))
    return torch.cat((by_point @ turned, by_point), dim=-1), f.unsqueeze(-1) * seen[
        ..., :2
    ] / z.unsqueeze(-1)
