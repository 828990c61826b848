"""Ground-truth matches: cells of context views that show the same point, from depth and poses.

Letters: B scenes, V views, R references of each view, N cells of a view.
"""

from __future__ import annotations

import torch
from torch import Tensor

from splatfactory.datasets.samples import Views
from splatfactory.protocols import TrueMatches
from splatfactory.tiny.patch_points import seen_points
from zipsplat.model.tiny.matcher import Matches

MAX_DEPTH_ERROR = 0.1  # relative; a point whose depth differs by more is occluded
NEAREST = 1e-3


@torch.no_grad()
def true_matches(context: Views, matches: Matches) -> TrueMatches:
    """Project cell centres into the reference views.

    Args:
        context: (B, V) views with depth.
        matches: the network's matches; only references and grid are used.
    """
    rows, columns = matches.grid
    height, width = context.height / rows, context.width / columns
    device = context.device
    v = (torch.arange(rows, device=device) + 0.5) * height
    u = (torch.arange(columns, device=device) + 0.5) * width
    points, own_depth = seen_points(context, u, v)
    own_depth = own_depth.flatten(2)

    other = matches.references.clamp(min=0)
    cameras = context.cameras[:, other].to(torch.float32)
    poses = context.poses[:, other].to(torch.float32)
    points = poses.inv().transform(points.flatten(2, 3)[:, :, None])  # (B, V, R, N, 3)
    depth = points[..., 2]
    points = torch.cat((points[..., :2], depth[..., None].clamp(min=NEAREST)), dim=-1)
    # In units of cells, integers at their centres.
    column, row = (cameras.project(points) / points.new_tensor([width, height]) - 0.5).unbind(-1)
    is_inside = (depth > NEAREST) & (column > -0.5) & (column < columns - 0.5)
    is_inside &= (row > -0.5) & (row < rows - 0.5)
    cells, shares = _around(row, column, rows, columns)

    nearest = cells.gather(-1, shares.argmax(dim=-1, keepdim=True)).squeeze(-1)
    seen = own_depth[:, other].gather(-1, nearest)
    is_seen = is_inside & ((depth - seen).abs() < MAX_DEPTH_ERROR * seen)
    is_known = (matches.references >= 0)[..., None] & (own_depth > 0)[:, :, None]
    is_known = is_known & (is_seen | ~is_inside)
    unmatched = torch.full_like(cells, rows * columns)
    return TrueMatches(
        torch.where(is_seen[..., None], cells, unmatched),
        torch.where(is_seen[..., None], shares, 0.25) * is_known[..., None],
    )


def _around(row: Tensor, column: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """The four cells (…, 4) around points (…), and their bilinear weights."""
    cells, shares = [], []
    for top in (row.floor(), row.floor() + 1):
        for left in (column.floor(), column.floor() + 1):
            shares.append((1 - (row - top).abs()) * (1 - (column - left).abs()))
            r, c = top.clamp(0, rows - 1).long(), left.clamp(0, columns - 1).long()
            cells.append(r * columns + c)
    return torch.stack(cells, dim=-1), torch.stack(shares, dim=-1)
