"""Where in space the patches lie that a model's Gaussians come from, by the true depth.

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
    """Points in space that the Gaussians of each token should lie on.

    A patch is cut into as many cells as a token has Gaussians; the centre of each is unprojected.

    Args:
        context: (B, V) views with depth; the frame of the points is that of the poses.
        tokens: (B, M) patches, counted row by row and view by view.
        group: G.
        side: of a patch in pixels.

    Returns:
        (B, M·G, 3), NaN where the depth is unknown.
    """
    rows, columns = grid_of_cells(group)
    device = context.device
    v = _centres(context.height // side, rows, side, device)
    u = _centres(context.width // side, columns, side, device)
    points, depth = seen_points(context, u, v)
    points[depth <= 0] = math.nan
    # (B, V, rows of patches, cells, columns of patches, cells, 3): the cells of a patch together.
    cells = points.unflatten(2, (-1, rows)).unflatten(4, (-1, columns)).movedim(3, 4)
    cells = cells.flatten(4, 5).flatten(1, 3)
    scenes = torch.arange(len(cells), device=device)[:, None]
    chosen: Tensor = cells[scenes, tokens].flatten(1, 2)
    return chosen


def seen_points(views: Views, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """What pictures show at a grid of places.

    Args:
        views: (B, V) views with depth.
        u: (columns,) pixel coordinates.
        v: (rows,) pixel coordinates.

    Returns:
        Points (B, V, rows, columns, 3) in the frame of the poses, and their depth (B, V, rows,
        columns); a point means nothing where the depth is not positive.
    """
    depth = views.depths[..., v.long()[:, None], u.long()].float()
    pixels = torch.stack(torch.meshgrid(u, v, indexing="xy"), dim=-1).flatten(0, 1)
    points = views.cameras.to(torch.float32).unproject(pixels, depth.flatten(2))
    points = views.poses.to(torch.float32).transform(points)
    return points.unflatten(2, depth.shape[2:]), depth


def _centres(num_patches: int, cells: int, side: int, device: torch.device) -> Tensor:
    """Pixel coordinates of the centres of all cells along one side of a picture."""
    starts = torch.arange(num_patches, device=device)[:, None] * side
    return (starts + (torch.arange(cells, device=device) + 0.5) / cells * side).flatten()
