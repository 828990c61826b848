"""Near neighbours of points, found along space-filling curves.

Points that are consecutive on a Z curve (Morton, 1966) are usually near each other, and neighbours
that one curve separates are adjacent on another. So, for nearly all points, the nearest of the
candidates from several rotated curves are the true nearest neighbours: good enough for statistics
and for pairs. Curves use ranks as coordinates, so that a few far points do not matter.
"""

from __future__ import annotations

import torch
from torch import Tensor

_CURVES = 4
_REACH = 8  # points before and behind on each curve
_BITS = 10  # per axis
_SPREADS = ((16, 0x030000FF), (8, 0x0300F00F), (4, 0x030C30C3), (2, 0x09249249))


def near_neighbors(points: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """The `num` nearest other points among the candidates.

    Args:
        points: (N, 3).
        num: at most 16, and at most N − 1.

    Returns:
        distances (N, num), ascending, and indices (N, num).
    """
    best_distances = points.new_full((len(points), num), torch.inf)
    best_indices = torch.zeros(len(points), num, dtype=torch.int64, device=points.device)
    for curve in range(_CURVES):
        order = _along_curve(points, curve)
        for step in range(1, min(_REACH, len(points) - 1) + 1):
            behind, ahead = order[:-step], order[step:]
            distances = (points[behind] - points[ahead]).norm(dim=-1)
            for here, there in ((behind, ahead), (ahead, behind)):
                _insert(best_distances, best_indices, here, there, distances)
    order = best_distances.argsort(dim=1, stable=True)
    return best_distances.gather(1, order), best_indices.gather(1, order)


def _insert(
    best_distances: Tensor, best_indices: Tensor, here: Tensor, there: Tensor, distances: Tensor
) -> None:
    """Replace the farthest neighbours by nearer candidates, unless they are in the list already."""
    worst, place = best_distances[here].max(dim=1)
    is_known = (best_indices[here] == there[:, None]) & best_distances[here].isfinite()
    better = (distances < worst) & ~is_known.any(dim=1)
    best_distances[here[better], place[better]] = distances[better]
    best_indices[here[better], place[better]] = there[better]


def _along_curve(points: Tensor, curve: int) -> Tensor:
    """Indices of the points along a Z curve; each curve has its own fixed rotation."""
    generator = torch.Generator().manual_seed(curve)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator)).Q.to(points)
    turned = points if curve == 0 else points @ turn
    ranks = turned.argsort(dim=0, stable=True).argsort(dim=0, stable=True)
    cells = ranks * (1 << _BITS) // len(points)
    for shift, mask in _SPREADS:
        cells = (cells | cells << shift) & mask
    return (cells[:, 0] | cells[:, 1] << 1 | cells[:, 2] << 2).argsort(stable=True)
