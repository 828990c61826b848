"""P3P, batched: poses from three points and their viewing directions.

Grunert's solution (1841) as written down by Haralick et al., "Review and Analysis of Solutions of
the Three Point Perspective Pose Estimation Problem", IJCV 1994: the ratios of the three distances
follow from a quartic, and three points in both frames give the pose.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

EPS = 1e-12


def solve_p3p(directions: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Up to four poses that see three points in three directions.

    Args:
        directions: (..., 3, 3) float64, a ray towards each point in camera coordinates, any length.
        points: (..., 3, 3) float64, world coordinates.

    Returns:
        Rotations (..., 4, 3, 3) and translations (..., 4, 3) from world to camera coordinates.
        Values are NaN where a solution does not exist, for example for collinear points.
    """
    rays = functional.normalize(directions, dim=-1)
    a2, b2, c2 = (_gap(points, i, j).square().sum(-1) for i, j in ((1, 2), (0, 2), (0, 1)))
    cos = [(rays[..., i, :] * rays[..., j, :]).sum(-1) for i, j in ((1, 2), (0, 2), (0, 1))]
    ratio = (a2 - c2) / b2
    v = _real_roots(_quartic(a2, b2, c2, *cos))
    cos_a, cos_b, cos_c = (value.unsqueeze(-1) for value in cos)
    q, b2 = ratio.unsqueeze(-1), b2.unsqueeze(-1)
    u = ((q - 1) * v.square() - 2 * q * cos_b * v + 1 + q) / (2 * (cos_c - v * cos_a))
    first = (b2 / (1 + v.square() - 2 * v * cos_b)).sqrt()
    is_real = (u > 0) & (v > 0) & first.isfinite() & u.isfinite()
    distances = torch.stack((first, u * first, v * first), dim=-1)
    distances = torch.where(is_real.unsqueeze(-1), distances, torch.nan)
    seen = distances.unsqueeze(-1) * rays.unsqueeze(-3)
    camera, world = _frame(seen), _frame(points).unsqueeze(-3)
    R = camera @ world.mT
    t = seen[..., 0, :] - (R @ points[..., 0, :, None].unsqueeze(-3)).squeeze(-1)
    return R, t


def _gap(points: Tensor, i: int, j: int) -> Tensor:
    return points[..., i, :] - points[..., j, :]


def _quartic(
    a2: Tensor, b2: Tensor, c2: Tensor, cos_a: Tensor, cos_b: Tensor, cos_c: Tensor
) -> Tensor:
    """Coefficients (..., 5) of v⁴ … v⁰, where v is the ratio of the third distance to the first."""
    q, p, c, a = (a2 - c2) / b2, (a2 + c2) / b2, c2 / b2, a2 / b2
    product = cos_a * cos_c
    return torch.stack(
        (
            (q - 1).square() - 4 * c * cos_a.square(),
            4 * (q * (1 - q) * cos_b - (1 - p) * product + 2 * c * cos_a.square() * cos_b),
            2 * (q.square() * (1 + 2 * cos_b.square()) - 1 + 2 * (1 - c) * cos_a.square()
                 - 4 * p * product * cos_b + 2 * (1 - a) * cos_c.square()),
            4 * (2 * a * cos_c.square() * cos_b - q * (1 + q) * cos_b - (1 - p) * product),
            (1 + q).square() - 4 * a * cos_c.square(),
        ),
        dim=-1,
    )  # fmt: skip


def _real_roots(coefficients: Tensor) -> Tensor:
    """Roots (..., 4) of quartics as eigenvalues of companion matrices; NaN if complex."""
    monic = -coefficients[..., 1:] / coefficients[..., :1]
    is_usable = monic.isfinite().all(-1, keepdim=True)
    companion = torch.zeros(*monic.shape[:-1], 4, 4, dtype=monic.dtype, device=monic.device)
    companion[..., 0, :] = torch.where(is_usable, monic, 0.0)
    companion[..., [1, 2, 3], [0, 1, 2]] = 1
    roots = torch.linalg.eigvals(companion)
    # Rounding splits a double root into a pair with small imaginary parts.
    is_real = is_usable & (roots.imag.abs() <= 1e-4 * (1 + roots.real.abs()))
    return torch.where(is_real, roots.real, torch.nan)


def _frame(triangle: Tensor) -> Tensor:
    """Orthonormal axes (..., 3, 3), in columns, of a triangle (..., 3, 3); NaN if collinear."""
    first, second = _gap(triangle, 1, 0), _gap(triangle, 2, 0)
    normal = torch.linalg.cross(first, second)
    is_flat = normal.norm(dim=-1) <= EPS * first.norm(dim=-1) * second.norm(dim=-1)
    x = functional.normalize(first, dim=-1)
    z = functional.normalize(normal, dim=-1)
    axes = torch.stack((x, torch.linalg.cross(z, x), z), dim=-1)
    return torch.where(is_flat[..., None, None], torch.nan, axes)
