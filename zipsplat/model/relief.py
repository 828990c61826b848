"""Weights that make the network return the first image as a relief of Gaussians.

Letters: D width, C colour width, G Gaussians per token, E = D + C width of the head's input.

Used for untrained networks (`untrained`), and to initialise the training of small models.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from zipsplat.model.backbones.dav3 import MultiViewViT
from zipsplat.model.layers import Mlp
from zipsplat.model.network import ZipSplatNetwork
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
def write_positions(vit: MultiViewViT) -> None:
    """Write the position of every patch into its first eight channels.

    Their squares sum to D, so a LayerNorm keeps them if the other channels are small.

    Args:
        vit: its learned positions are changed; the patch embedding of these channels is not.
    """
    side = vit.config.pos_grid
    angles = HALF_ANGLE * ((torch.arange(side) + 0.5) / side * 2 - 1)
    row, column = torch.meshgrid(angles, angles, indexing="ij")
    waves = torch.stack((column.cos(), column.sin(), row.cos(), row.sin()), dim=-1).flatten(0, 1)
    length = math.sqrt(vit.config.dim) / 2  # unit variance over all channels
    vit.pos_embed[0, 1:, :NUM_POSITION_CHANNELS] = torch.cat((waves, -waves), dim=-1) * length


def grid_of_cells(num_gaussians: int) -> tuple[int, int]:
    """Rows and columns of the most square grid of cells, at least as wide as high."""
    rows = next(r for r in range(math.isqrt(num_gaussians), 0, -1) if num_gaussians % r == 0)
    return rows, num_gaussians // rows


@torch.no_grad()
def write_head(network: ZipSplatNetwork, patches_across: int, amplitude: float) -> None:
    """Make the Gaussians of a token tile its patch, in the patch's colours.

    They lie about one unit in front of the first camera, brighter ones nearer. Opacities and other
    unrelated weights are not changed.

    Args:
        network: with positions written by `write_positions`.
        patches_across: patches along a side of the image.
        amplitude: of the position channels in the input of the head.
    """
    D, config = network.config.backbone.dim, network.config
    G = config.gaussians_per_token
    mlp, last = network.gaussian_head.gaussian_head
    assert isinstance(mlp, Mlp)
    assert isinstance(last, nn.Linear)
    rows, columns = _write_colors(network.color_embed.proj, G)
    num_cells = rows * columns
    E = D + config.color_dim
    identity = torch.eye(E)
    mlp.fc1.weight.copy_(torch.cat((identity, -identity), dim=0))  # GELU(x) − GELU(−x) = x
    mlp.fc2.weight.copy_(torch.cat((identity, -identity), dim=1))
    for bias in (mlp.fc1.bias, mlp.fc2.bias):
        bias.zero_()
    reach = math.log1p(HALF_EXTENT) / math.sin(HALF_ANGLE)
    patch = 2 * HALF_EXTENT / patches_across
    weights, biases = last.weight.view(G, -1, E), last.bias.view(G, -1)
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
        weight[11:14, colors] += torch.eye(3)[:, : config.color_dim] / SH_C0
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
