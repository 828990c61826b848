"""The peer of `rasterizer.py`: the lists and blending of one view in plain PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from records import least_ms
from torch import Tensor

from zipsplat.render.cpu.layout import TILE

if TYPE_CHECKING:
    from rasterizer_stages import Stages


def plain_torch(parts: Stages, runs: int) -> tuple[float, float]:
    """The baseline: the same ellipses sorted, listed by tile and blended by plain PyTorch.

    Each tile evaluates all its Gaussians at all 256 pixels and takes cumulative products. Gaussians
    of all tiles are gathered at once: a gather per tile would make gradients as large as the scene
    each time. Projection, harmonics and their gradients are not counted.
    """
    records = parts.slots.records.reshape(-1, 16)
    used = np.concatenate(
        [np.arange(c * 4096, c * 4096 + n) for c, n in enumerate(parts.slots.chunk_count)]
    )
    table = torch.from_numpy(records[used].copy())
    weights = torch.from_numpy(parts.v_image.features).reshape(3, parts.height, parts.width)

    def forward(values: Tensor) -> Tensor:
        order = values[:, 10].argsort(stable=True)
        tiles, owners = _tile_pairs(values[order].detach(), parts)
        assert abs(len(tiles) - parts.num_intersections) <= 1e-3 * parts.num_intersections, (
            "other lists"
        )
        by_tile = tiles.argsort(stable=True)
        owners = order[owners[by_tile]]
        counts = torch.bincount(tiles, minlength=parts.num_tiles).tolist()
        image = torch.zeros(3, parts.tiles_y * TILE, parts.tiles_x * TILE)
        squares = []
        for tile, members in enumerate(values[owners].split(counts)):
            corner = (tile % parts.tiles_x * TILE, tile // parts.tiles_x * TILE)
            squares.append(_blend_tile(members, *corner))
        grid = torch.stack(squares).reshape(parts.tiles_y, parts.tiles_x, 3, TILE, TILE)
        image = grid.permute(2, 0, 3, 1, 4).reshape(image.shape)
        return image[:, : parts.height, : parts.width]

    def only_forward() -> None:
        with torch.no_grad():
            forward(table)

    def both() -> None:
        leaf = table.clone().requires_grad_()
        forward(leaf).mul(weights).sum().backward()

    difference = (
        forward(table) - torch.from_numpy(parts.buffers.features).reshape(weights.shape)
    ).abs()
    assert difference.quantile(0.99) < 1e-3, "the baseline renders a different image"
    return least_ms(only_forward, runs), least_ms(both, runs)


def _tile_pairs(values: Tensor, parts: Stages) -> tuple[Tensor, Tensor]:
    """Tile and Gaussian of each intersection: the ellipse touches a tile of its bounding box."""
    x, y, half_y = values[:, 0], values[:, 1], values[:, 11]
    half_x = half_y * (values[:, 4] / values[:, 2]).sqrt()
    low_x = ((x - half_x) / TILE).floor().clamp(0, parts.tiles_x - 1).long()
    high_x = ((x + half_x) / TILE).floor().clamp(0, parts.tiles_x - 1).long()
    low_y = ((y - half_y) / TILE).floor().clamp(0, parts.tiles_y - 1).long()
    high_y = ((y + half_y) / TILE).floor().clamp(0, parts.tiles_y - 1).long()
    columns, rows = high_x - low_x + 1, high_y - low_y + 1
    owners = torch.repeat_interleave(torch.arange(len(values)), columns * rows)
    starts = (columns * rows).cumsum(0) - columns * rows
    within = torch.arange(len(owners)) - starts[owners]
    row, column = within // columns[owners], within % columns[owners]
    row, column = low_y[owners] + row, low_x[owners] + column
    touched = _touches(values[owners], row, column)
    return (row * parts.tiles_x + column)[touched], owners[touched]


def _touches(values: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Whether any pixel centre of a tile lies in the ellipse; see `zipsplat.render.cpu.ellipse`."""
    x, y = values[:, 0], values[:, 1]
    half_y, slope, steepest_y, half_width = values[:, 11:15].unbind(1)
    top = row * TILE + 0.5 - y
    low, high = torch.maximum(top, -half_y), torch.minimum(top + (TILE - 1), half_y)
    ends = []
    for sign in (-1, 1):
        height = torch.minimum(torch.maximum(sign * steepest_y, low), high)
        reach = half_width * (1 - (height / half_y).square()).clamp_min(0).sqrt()
        ends.append(x + slope * height + sign * reach - 0.5)
    first, last = ends[0].ceil(), ends[1].floor()
    inside = (last >= column * TILE) & (first <= column * TILE + (TILE - 1))
    return inside & (first <= last) & (low <= high)


def _blend_tile(values: Tensor, left: int, top: int) -> Tensor:
    """(3, 16, 16) colours of a tile."""
    pixel = torch.arange(TILE) + 0.5
    dx = (left + pixel).repeat(TILE) - values[:, :1]
    dy = (top + pixel).repeat_interleave(TILE) - values[:, 1:2]
    a, b, c = values[:, 2:3], values[:, 3:4], values[:, 4:5]
    power = values[:, 5:6] + a * dx * dx + b * dx * dy + c * dy * dy
    alpha = torch.exp2(power).clamp_max(0.999)
    alpha = torch.where(alpha >= 1 / 255, alpha, 0.0)
    after = torch.cumprod(1 - alpha, dim=0)
    before = torch.cat((torch.ones_like(after[:1]), after[:-1]))
    weight = torch.where(after > 1e-4, alpha * before, 0.0)
    return (values[:, 6:9].T @ weight).reshape(3, TILE, TILE)
