"""Weights that make the network return the first image as a relief of Gaussians.

Letters: D width, C colour width, G Gaussians per token, E = D + C width of the head's input.

Used for untrained networks (`untrained`), and to initialise the training of small models.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from zipsplat.model.layers import Mlp
from zipsplat.sh_constants import SH_C0

# Positions are written as cos θ, sin θ: their squares sum to one, so LayerNorm keeps them.
# At this half range, the head's exponential makes the sine nearly linear.
HALF_ANGLE = 0.9
HALF_EXTENT = 0.52  # of the image at distance 1: a field of view of 55 degrees
RELIEF = 0.2

# Channels of a token: cos, sin of column and row, then the same negated (zero mean).
_COLUMN, _ROW = 1, 3
NUM_POSITION_CHANNELS = 8


@torch.no_grad()
def write_positions(pos_embed: Tensor) -> None:
    """Write the position of every patch into its first eight channels.

    Their squares sum to D, so a LayerNorm keeps them if the other channels are small.

    Args:
        pos_embed: (1, 1 + side², D) learned positions of a square of patches, after that of the
            special token; changed in place. The patch embedding of these channels is not changed.
    """
    side, dim = math.isqrt(pos_embed.shape[1] - 1), pos_embed.shape[2]
    angles = HALF_ANGLE * ((torch.arange(side) + 0.5) / side * 2 - 1)
    row, column = torch.meshgrid(angles, angles, indexing="ij")
    waves = torch.stack((column.cos(), column.sin(), row.cos(), row.sin()), dim=-1).flatten(0, 1)
    length = math.sqrt(dim) / 2  # unit variance over all channels
    pos_embed[0, 1:, :NUM_POSITION_CHANNELS] = torch.cat((waves, -waves), dim=-1) * length


def grid_of_cells(num_gaussians: int) -> tuple[int, int]:
    """Rows and columns of the most square grid of cells, at least as wide as high."""
    rows = next(r for r in range(math.isqrt(num_gaussians), 0, -1) if num_gaussians % r == 0)
    return rows, num_gaussians // rows


@torch.no_grad()
def write_head(
    head: nn.Sequential,
    color_embedding: nn.Conv2d,
    num_gaussians: int,
    patches_across: int,
    amplitude: float,
) -> None:
    """Make the Gaussians of a token tile its patch, in the patch's colours.

    They lie about one unit in front of the first camera, brighter ones nearer. Opacities and other
    unrelated weights are not changed.

    Args:
        head: of the Gaussians: from E channels of a token, with positions of `write_positions`
            first, to the parameters of its Gaussians.
        color_embedding: from patches to colours, the last C channels of a token.
        num_gaussians: G.
        patches_across: patches along a side of the image.
        amplitude: of the position channels in the input of the head.
    """
    mlp, last = head
    assert isinstance(mlp, Mlp)
    assert isinstance(last, nn.Linear)
    rows, columns = _write_colors(color_embedding, num_gaussians)
    num_cells = rows * columns
    E, C = last.in_features, color_embedding.out_channels
    D = E - C
    identity = torch.eye(E)
    mlp.fc1.weight.copy_(torch.cat((identity, -identity), dim=0))  # GELU(x) − GELU(−x) = x
    mlp.fc2.weight.copy_(torch.cat((identity, -identity), dim=1))
    for bias in (mlp.fc1.bias, mlp.fc2.bias):
        bias.zero_()
    reach = math.log1p(HALF_EXTENT) / math.sin(HALF_ANGLE)
    patch = 2 * HALF_EXTENT / patches_across
    weights = last.weight.view(num_gaussians, -1, E)
    biases = last.bias.view(num_gaussians, -1)
    for g, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        row, column = divmod(g % num_cells, columns)
        colors = slice(D + 3 * (g % num_cells), D + 3 * (g % num_cells) + 3)
        weight[0, _COLUMN] = weight[1, _ROW] = reach / amplitude
        weight[2, D : D + 3 * num_cells] -= RELIEF / (3 * num_cells)
        bias[0] = ((column + 0.5) / columns - 0.5) * patch
        bias[1] = ((row + 0.5) / rows - 0.5) * patch
        bias[2] = math.log(2) + RELIEF / 2
        for axis, extent in enumerate((patch / columns, patch / rows, patch / columns)):
            bias[3 + axis] = 4 + math.log(math.expm1(0.8 * extent))
        bias[6:10] = torch.tensor([1.0, 0.0, 0.0, 0.0])
        weight[11:14, colors] += torch.eye(3)[:, :C] / SH_C0
        bias[11:14] = -0.5 / SH_C0


def _write_colors(embedding: nn.Conv2d, num_gaussians: int) -> tuple[int, int]:
    """Embed the mean colours of the cells of a patch; returns rows and columns of cells."""
    kernels = embedding.weight
    C, _, side, _ = kernels.shape
    rows, columns = grid_of_cells(max(1, min(num_gaussians, C // 3)))
    if C < 3:
        return rows, columns
    kernels[: 3 * rows * columns] = 0
    if embedding.bias is not None:
        embedding.bias[: 3 * rows * columns] = 0
    for cell in range(rows * columns):
        top, bottom = (round((cell // columns + k) * side / rows) for k in (0, 1))
        left, right = (round((cell % columns + k) * side / columns) for k in (0, 1))
        bottom, right = max(bottom, top + 1), max(right, left + 1)
        for channel in range(3):
            kernels[3 * cell + channel, channel, top:bottom, left:right] = 1 / (
                (bottom - top) * (right - left)
            )
    return rows, columns
