"""Where in space the patches lie that a model's Gaussians come from, by the true depth.

Letters: B scenes, V views, M tokens, G Gaussians per token.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from splatfactory.datasets.batch import Views
from zipsplat.model.relief import grid_of_cells


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
    z = context.depths[:, :, v.long()][..., u.long()].float()
    K, pose = context.cameras.K.float(), context.poses
    x = (u - K[..., 0, 2, None, None]) / K[..., 0, 0, None, None] * z
    y = (v[:, None] - K[..., 1, 2, None, None]) / K[..., 1, 1, None, None] * z
    points = torch.stack((x, y, z), dim=-1)
    points = torch.einsum("bvij,bvhwj->bvhwi", pose.R.float(), points) + pose.t[:, :, None, None]
    points[z <= 0] = math.nan
    # (B, V, rows of patches, cells, columns of patches, cells, 3): the cells of a patch together.
    cells = points.unflatten(2, (-1, rows)).unflatten(4, (-1, columns)).movedim(3, 4)
    cells = cells.flatten(4, 5).flatten(1, 3)
    scenes = torch.arange(len(cells), device=device)[:, None]
    chosen: Tensor = cells[scenes, tokens].flatten(1, 2)
    return chosen


def _centres(num_patches: int, cells: int, side: int, device: torch.device) -> Tensor:
    """Pixel coordinates of the centres of all cells along one side of a picture."""
    starts = torch.arange(num_patches, device=device)[:, None] * side
    return (starts + (torch.arange(cells, device=device) + 0.5) / cells * side).flatten()
