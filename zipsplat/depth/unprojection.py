"""Scenes from depth maps: unproject confident pixels, and merge them where views agree.

Letters: V views, H W pixels of the maps, N cells of all views together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike, fspath

import torch
from torch import Tensor
from torch.nn import functional

from zipsplat import weights as weights_files
from zipsplat.camera import Camera
from zipsplat.depth.predictor import Depth
from zipsplat.gaussians import Gaussians
from zipsplat.model.compression import check_compression
from zipsplat.model.depth_layout import holds_depth_network
from zipsplat.model.metric_depth import SKY, quantile
from zipsplat.pose import Pose
from zipsplat.releases import RELEASES
from zipsplat.sh_constants import SH_C0

LEAST_SURE = 0.1
"""Share of the pixels, the least confident ones, that are left out."""
AGREEMENT = 0.03
"""Views agree if their depths of a point differ by at most this relative amount."""
EDGE = 0.15
"""A pixel farther than one neighbour and nearer than another, both by this share, is dropped."""
FOOTPRINT = 0.5
"""Standard deviation of a Gaussian in cells, such that neighbours overlap without gaps."""
OPACITY = 0.9


@dataclass(frozen=True)
class ScenePoints:
    """Points unprojected from depth maps.

    Args:
        positions: (P, 3) in the frame of the poses.
        colors: (P, 3) RGB in [0, 1].
        spacing: (P,) distance to neighbours of the same view, world units.
    """

    positions: Tensor
    colors: Tensor
    spacing: Tensor


def is_depth_anything(weights: str | PathLike[str]) -> bool:
    """Whether weights are of Depth Anything 3 rather than of ZipSplat.

    Raises:
        OSError: if they cannot be found or downloaded.
        ValueError: if they cannot be read.
    """
    name = fspath(weights)
    if name in RELEASES:
        return RELEASES[name].file.repository.startswith("depth-anything/")
    return holds_depth_network(weights_files.load(weights).tensors)


def scene_of(
    depth: Depth, compression: float = 1.0, masks: Sequence[Tensor] | None = None
) -> Gaussians:
    """Make a scene from depth maps: one Gaussian for each point of `points_of`.

    Args:
        depth: with cameras and poses.
        compression: share of the pixels to unproject, in (0, 1].
        masks: V of (H, W) bool at the size of the input images; masked pixels are left out.

    Returns:
        (N,) Gaussians with SH degree 0, in the frame of the poses.

    Raises:
        ValueError: if there are no cameras, or no pixel is usable.
    """
    points = points_of(depth, compression, masks)
    scales = (FOOTPRINT * points.spacing)[:, None].expand(-1, 3)
    quats = torch.zeros_like(points.spacing)[:, None].repeat(1, 4)
    quats[:, 0] = 1
    return Gaussians(
        means=points.positions,
        scales=scales.contiguous(),
        quats=quats,
        opacities=torch.full_like(points.spacing, OPACITY),
        sh_coeffs=((points.colors - 0.5) / SH_C0).unsqueeze(1),
    )


def points_of(
    depth: Depth, compression: float = 1.0, masks: Sequence[Tensor] | None = None
) -> ScenePoints:
    """Unproject depth maps, and merge points seen in several views.

    Maps are sampled in about `compression` · V·H·W cells, without sky, the least confident tenth of
    the pixels, and pixels at depth discontinuities that belong to neither surface. A point that an
    earlier view shows at the same depth is merged into that view's point: positions and colours
    are averaged by confidence.

    Args:
        depth: with cameras and poses.
        compression: share of the pixels to unproject, in (0, 1].
        masks: V of (H, W) bool at the size of the input images; masked pixels are left out.

    Raises:
        ValueError: if there are no cameras, or no pixel is usable.
    """
    check_compression(compression)
    if depth.cameras is None or depth.poses is None:
        raise ValueError(
            "a scene needs cameras, and these weights predict depth only; use weights that predict "
            "cameras too, such as da3-small, or give cameras and poses"
        )
    cells = _Cells.of(depth, depth.cameras, compression, _usable(depth, masks))
    if not bool(cells.is_kept.any()):
        raise ValueError("no pixel of the depth maps is usable: all are sky, uncertain or masked")
    owner = _owners(cells, depth.cameras, depth.poses)
    kept = cells.is_kept.flatten()
    weight = torch.where(kept, cells.weight.flatten(), 0.0)
    total = torch.zeros_like(weight).index_add_(0, owner, weight)
    own = kept & (owner == torch.arange(len(owner), device=owner.device))

    def merged(values: Tensor) -> Tensor:
        flat = values.flatten(0, 1)
        sums = torch.zeros_like(flat).index_add_(0, owner, flat * weight[:, None])
        return sums[own] / total[own, None]

    return ScenePoints(
        merged(cells.world), merged(cells.colors), merged(cells.spacing.unsqueeze(-1)).squeeze(-1)
    )


@dataclass(frozen=True)
class _Cells:
    """Depth maps sampled in C cells per view, row by row.

    Args:
        grid: rows and columns.
        depth: (V, C).
        world: (V, C, 3) world positions.
        colors: (V, C, 3) RGB in [0, 1].
        spacing: (V, C) extent of a cell, world units.
        weight: (V, C) of a cell when merging, above 0.
        is_kept: (V, C).
    """

    grid: tuple[int, int]
    depth: Tensor
    world: Tensor
    colors: Tensor
    spacing: Tensor
    weight: Tensor
    is_kept: Tensor

    @classmethod
    def of(cls, maps: Depth, cameras: Camera, compression: float, usable: Tensor) -> _Cells:
        H, W = maps.depth.shape[-2:]
        side = compression**0.5
        rows, columns = (max(1, round(extent * side)) for extent in (H, W))
        # The centre pixel of each cell; interpolating depth between pixels would be a guess.
        y, x = (
            ((torch.arange(count, device=maps.depth.device) + 0.5) * (extent / count)).floor() + 0.5
            for extent, count in ((H, rows), (W, columns))
        )
        pixels = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)
        place = (y.long()[:, None] * W + x.long()).flatten()
        depth, usable = maps.depth.flatten(1)[:, place], usable.flatten(1)[:, place]
        confidence = torch.ones_like(maps.depth) if maps.confidence is None else maps.confidence
        colors = functional.adaptive_avg_pool2d(maps.images, (rows, columns)).flatten(2).mT
        assert maps.poses is not None
        world = maps.poses.transform(cameras.unproject(pixels.expand(len(depth), -1, 2), depth))
        spacing = depth * (W / columns) / cameras.f[:, :1]
        weight = confidence.flatten(1)[:, place]
        return cls((rows, columns), depth, world, colors, spacing, weight, usable)


def _usable(maps: Depth, masks: Sequence[Tensor] | None) -> Tensor:
    """Usable pixels (V, H, W): confident, not sky and not masked."""
    depth = maps.depth
    usable = depth.isfinite() & (depth > 0)
    if maps.sky is not None:
        usable &= maps.sky < SKY
    if maps.confidence is not None:
        usable &= maps.confidence >= quantile(maps.confidence.flatten(), LEAST_SURE)
    log = depth.clamp_min(1e-12).log()
    for axis in (-2, -1):
        step = log.diff(dim=axis)
        before, after = (
            step.narrow(axis, 0, step.shape[axis] - 1),
            step.narrow(axis, 1, step.shape[axis] - 1),
        )
        is_between = (torch.minimum(before, after) > EDGE) | (torch.maximum(before, after) < -EDGE)
        usable.narrow(axis, 1, is_between.shape[axis]).logical_and_(~is_between)
    return usable if masks is None else usable & _counting(maps, masks)


def _counting(maps: Depth, masks: Sequence[Tensor]) -> Tensor:
    """Pixels (V, H, W) whose centres are not masked in the input images."""
    if maps.cameras is None or maps.input_cameras is None:
        raise ValueError("masks need depth maps with cameras and input_cameras")
    H, W = maps.depth.shape[-2:]
    y, x = torch.meshgrid(torch.arange(H) + 0.5, torch.arange(W) + 0.5, indexing="ij")
    found = []
    for view, mask in enumerate(masks):
        seen, given = maps.cameras[view], maps.input_cameras[view]
        scale = (given.f / seen.f).cpu()
        place = (torch.stack((x, y), dim=-1) - seen.c.cpu()) * scale + given.c.cpu()
        column, row = place.floor().long().unbind(-1)
        height, width = mask.shape
        found.append(mask.cpu()[row.clamp(0, height - 1), column.clamp(0, width - 1)])
    return torch.stack(found).to(maps.depth.device)


def _owners(cells: _Cells, cameras: Camera, poses: Pose) -> Tensor:
    """For each cell (N,), the cell of the earliest view that shows the same point."""
    V, C = cells.depth.shape
    owner = torch.arange(V * C, device=cells.depth.device)
    for view in range(1, V):
        mine = owner[view * C : (view + 1) * C]
        free = cells.is_kept[view].clone()
        for earlier in range(view):
            found, is_same = _same_point(cells, cameras, poses, view, earlier)
            is_new = free & is_same
            mine[is_new] = owner[earlier * C + found[is_new]]
            free &= ~is_new
    return owner


def _same_point(
    cells: _Cells, cameras: Camera, poses: Pose, view: int, earlier: int
) -> tuple[Tensor, Tensor]:
    """Cells (C,) of an earlier view that a view's points project to, and whether they agree."""
    local = poses[earlier].inv().transform(cells.world[view])
    z = local[:, 2]
    size = cameras.size[earlier]
    place = cameras[earlier].project(torch.cat((local[:, :2], z[:, None].clamp_min(1e-12)), -1))
    is_inside = (z > 0) & (place >= 0).all(-1) & (place < size).all(-1)
    limits = place.new_tensor([cells.grid[1], cells.grid[0]])
    column, row = (place / size * limits).nan_to_num().floor().clamp_min(0).unbind(-1)
    column, row = column.clamp_max(cells.grid[1] - 1), row.clamp_max(cells.grid[0] - 1)
    found = (row * cells.grid[1] + column).long()
    there = cells.depth[earlier][found]
    agrees = (z - there).abs() <= AGREEMENT * there
    return found, is_inside & agrees & cells.is_kept[earlier][found]
