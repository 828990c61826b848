"""Point maps of the patches that a model's Gaussians come from, unprojected from true depth.

Letters: B scenes, V views, M tokens, G Gaussians per token.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from splatfactory.datasets.samples import Views
from zipsplat.model.tiny.relief import grid_of_cells


@torch.no_grad()
def surface_of_tokens(context: Views, tokens: Tensor, group: int, side: int) -> Tensor:
    """Ground-truth points of the Gaussians of each token.

    A patch is split into as many cells as a token has Gaussians; each cell centre is unprojected.

    Args:
        context: (B, V) views with depth; points are in the frame of the poses.
        tokens: (B, M) patch indices, row by row and view by view.
        group: Gaussians per token, G.
        side: side of a patch in pixels.

    Returns:
        (B, M·G, 3), NaN where the depth is unknown.
    """
    rows, columns = grid_of_cells(group)
    device = context.device
    v = _centres(context.height // side, rows, side, device)
    u = _centres(context.width // side, columns, side, device)
    points, depth = seen_points(context, u, v)
    points[depth <= 0] = math.nan
    # (B, V, rows of patches, cells, columns of patches, cells, 3): regroup cells by patch.
    cells = points.unflatten(2, (-1, rows)).unflatten(4, (-1, columns)).movedim(3, 4)
    cells = cells.flatten(4, 5).flatten(1, 3)
    scenes = torch.arange(len(cells), device=device)[:, None]
    chosen: Tensor = cells[scenes, tokens].flatten(1, 2)
    return chosen


def seen_points(views: Views, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Sample the point map of each view on a grid.

    Args:
        views: (B, V) views with depth.
        u: (columns,) pixel coordinates.
        v: (rows,) pixel coordinates.

    Returns:
        Points (B, V, rows, columns, 3) in the frame of the poses, and their depth (B, V, rows,
        columns); points with depth ≤ 0 are invalid.
    """
    depth = views.depths[..., v.long()[:, None], u.long()].float()
    pixels = torch.stack(torch.meshgrid(u, v, indexing="xy"), dim=-1).flatten(0, 1)
    points = views.cameras.to(torch.float32).unproject(pixels, depth.flatten(2))
    points = views.poses.to(torch.float32).transform(points)
    return points.unflatten(2, depth.shape[2:]), depth


def _centres(num_patches: int, cells: int, side: int, device: torch.device) -> Tensor:
    """Pixel coordinates of all cell centres along one side of an image."""
    starts = torch.arange(num_patches, device=device)[:, None] * side
    return (starts + (torch.arange(cells, device=device) + 0.5) / cells * side).flatten()
