"""Cleaner and smaller scenes: floaters left out, a part cut out, Gaussians merged.

`pruning` leaves out what is hardly seen; here it is what should not be there, and what can be told
with fewer Gaussians.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from zipsplat.gaussians import Gaussians
from zipsplat.neighbors import near_neighbors
from zipsplat.rotations import matrix_from_quat, quat_from_matrix

_NEIGHBORS = 8
_ISOLATED, _HUGE = 3.5, 4.0  # robust standard deviations of logarithms
_GAP = 3.0  # times its own size, beyond which a Gaussian touches no neighbour
_FAINT = 0.1  # opacity below which a huge Gaussian is taken for haze
_CANDIDATES = 4  # neighbours that a Gaussian may be merged with


def drop_floaters(g: Gaussians, strength: float = 1.0) -> Gaussians:
    """Leave out Gaussians that hang alone, and huge ones that are hardly more than haze.

    Alone is what is unusually far from its neighbours for its size, and farther than that bridges:
    skies of large Gaussians and far, sparse surfaces stay. The limits are 3.5 (alone) and 4 (huge)
    robust standard deviations of the logarithms, by the median of absolute deviations. With
    distances instead of their ratios to the sizes, 72 and 31 Gaussians less cost two refined scenes
    0.15 and 0.11 dB of held-out PSNR; with the ratios, 68 and 28 less cost nothing.

    Args:
        g: one scene (N,).
        strength: the limits are divided by it; 0 drops nothing.

    Raises:
        ValueError: if the strength is negative.
    """
    if not strength >= 0:
        raise ValueError(f"the strength must not be negative, got {strength}")
    if g.num_gaussians <= _NEIGHBORS:
        return g
    distances, _ = near_neighbors(g.means.detach(), _NEIGHBORS)
    gap = distances.mean(dim=1)
    size = g.scales.detach().amax(dim=1)
    ratio = gap / size.clamp_min(1e-12)
    alone = (strength * _deviation(ratio) > _ISOLATED) & (ratio > _GAP)
    haze = (strength * _deviation(size) > _HUGE) & (g.opacities < _FAINT)
    return g.select(~(alone | haze))


def crop(g: Gaussians, region: Sequence[float]) -> Gaussians:
    """Keep the Gaussians whose centres lie in a box or a sphere.

    Args:
        g: one scene (N,).
        region: x, y, z of two opposite corners, or x, y, z of a centre and the radius.

    Raises:
        ValueError: if these are neither six nor four finite numbers, or the radius is not positive.
    """
    numbers = g.means.new_tensor(list(region))
    if len(numbers) not in (4, 6) or not bool(numbers.isfinite().all()):
        raise ValueError(f"a region has 6 numbers (box) or 4 (sphere), got {list(region)}")
    if len(numbers) == 4:
        if numbers[3] <= 0:
            raise ValueError(f"the radius of a sphere is positive, got {region[3]:g}")
        return g.select((g.means - numbers[:3]).norm(dim=-1) <= numbers[3])
    corners = numbers.reshape(2, 3)
    low, high = corners.amin(dim=0), corners.amax(dim=0)
    return g.select(((g.means >= low) & (g.means <= high)).all(dim=-1))


def decimate(g: Gaussians, share: float) -> Gaussians:
    """Merge neighbours until a share of the Gaussians is left.

    In each round every Gaussian looks for the neighbour that it can be merged with at the least
    cost, and the cheapest pairs that chose each other are merged: mean and covariance are those of
    the pair as a mixture weighted by what each can cover, colours are averaged, and the opacity
    makes the merged one cover as much as both.

    Args:
        g: one scene (N,).
        share: in (0, 1].

    Raises:
        ValueError: if the share is outside.
    """
    if not 0 < share <= 1:
        raise ValueError(f"the share that is kept is in (0, 1], got {share}")
    wanted = max(1, round(share * g.num_gaussians))
    while g.num_gaussians > wanted:
        pairs = _cheapest_pairs(g)[: g.num_gaussians - wanted]
        rest = torch.ones(g.num_gaussians, dtype=torch.bool, device=g.device)
        rest[pairs.flatten()] = False
        merged = _merged(g.select(pairs[:, 0]), g.select(pairs[:, 1]))
        g = torch.cat([g.select(rest), merged])  # type: ignore[assignment, list-item]
    return g


def _deviation(values: Tensor) -> Tensor:
    """How many robust standard deviations the logarithm of each value is above the median."""
    logs = values.clamp_min(1e-12).log()
    centred = logs - logs.median()
    return centred / (1.4826 * centred.abs().median()).clamp_min(1e-6)


def _coverage(g: Gaussians) -> Tensor:
    """Opacity times the product of the two longer axes, (N,)."""
    return g.opacities * g.scales.topk(2, dim=-1).values.prod(dim=-1)


def _cheapest_pairs(g: Gaussians) -> Tensor:
    """Pairs (P, 2), cheapest first, none of which shares a Gaussian with another."""
    num = min(_CANDIDATES, g.num_gaussians - 1)
    distances, others = near_neighbors(g.means, num)
    costs = torch.where(distances.isfinite(), _costs(g, others), torch.inf)
    cost, place = costs.min(dim=1)
    chosen = others.gather(1, place[:, None])[:, 0]
    index = torch.arange(g.num_gaussians, device=g.device)
    mutual = (chosen[chosen] == index) & (index < chosen)
    first = index[mutual]
    if not len(first):  # circles of equal costs: the cheapest alone
        first = cost.argmin()[None]
    first = first[cost[first].argsort(stable=True)]
    return torch.stack((first, chosen[first]), dim=1)


def _costs(g: Gaussians, others: Tensor) -> Tensor:
    """What merging each Gaussian with each of its neighbours (N, K) costs.

    How far apart they are in units of their sizes, and how different in colour and size, times the
    smaller coverage of the two, which is about what of the image changes.
    """
    size = g.scales.norm(dim=-1)
    coverage = _coverage(g)
    shift = (g.means[:, None] - g.means[others]).square().sum(dim=-1)
    spread = size.square()[:, None] + size.square()[others]
    color = (g.rgb[:, None] - g.rgb[others]).square().sum(dim=-1)
    ratio = (size[:, None] / size[others].clamp_min(1e-12)).clamp_min(1e-12).log().square()
    weight = torch.minimum(coverage[:, None], coverage[others])
    unlike: Tensor = shift / spread.clamp_min(1e-24) + 3 * color + 0.1 * ratio
    return weight * unlike


def _merged(a: Gaussians, b: Gaussians) -> Gaussians:
    """One Gaussian for each pair."""
    covered = torch.stack((_coverage(a), _coverage(b))).clamp_min(1e-24)
    weight_a, weight_b = covered / covered.sum(dim=0)
    means = _mixed(weight_a, a.means, weight_b, b.means)
    covariances = _mixed(
        weight_a, _covariance_around(a, means), weight_b, _covariance_around(b, means)
    )
    variances, axes = torch.linalg.eigh(covariances.double())
    axes = torch.where(torch.linalg.det(axes)[:, None, None] < 0, -axes, axes)
    scales = variances.clamp_min(0).sqrt().to(a.scales)
    merged = replace(
        a,
        means=means,
        scales=scales,
        quats=quat_from_matrix(axes).to(a.quats),
        sh_coeffs=_mixed(weight_a, a.sh_coeffs, weight_b, b.sh_coeffs),
    )
    area = scales.topk(2, dim=-1).values.prod(dim=-1).clamp_min(1e-24)
    return replace(merged, opacities=(covered.sum(dim=0) / area).clamp_max(1))


def _mixed(weight_a: Tensor, a: Tensor, weight_b: Tensor, b: Tensor) -> Tensor:
    shape = (-1, *[1] * (a.ndim - 1))
    return weight_a.reshape(shape) * a + weight_b.reshape(shape) * b


def _covariance_around(g: Gaussians, points: Tensor) -> Tensor:
    axes = matrix_from_quat(g.quats) * g.scales.unsqueeze(-2)
    offset = (g.means - points).unsqueeze(-1)
    return axes @ axes.mT + offset @ offset.mT
