"""Weights written down instead of trained: the first picture as a relief in front of the camera.

Letters: D width, C colour width, G Gaussians per token, E = D + C width of the head's input.

They run every stage of the network, for demonstrations and tests without a weights file, and
their result can be judged by eye: each patch of the first view becomes Gaussians at its place in
the picture plane, in its colours, the brighter the nearer. They know nothing of the scene.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from zipsplat.harmonics import SH_C0
from zipsplat.model.architecture import BackboneConfig, ZipSplatConfig
from zipsplat.model.backbones.dav3 import DepthAnything3, MultiViewViT
from zipsplat.model.layers import Block, Mlp
from zipsplat.model.network import ZipSplatNetwork

# About a million parameters, enough for every stage to run.
TINY = ZipSplatConfig(
    BackboneConfig(
        dim=64,
        depth=4,
        num_heads=1,
        out_layers=(1, 2, 3),
        alt_start=1,
        qknorm_start=1,
        rope_start=1,
        pos_grid=18,
    ),
)

# Positions are written as cos θ, sin θ: their squares sum to one, so LayerNorm keeps them.
# At this half range, the head's exponential straightens out the sine.
HALF_ANGLE = 0.9
HALF_EXTENT = 0.52  # of the picture at distance 1: a field of view of 55 degrees
PATCHES_ACROSS = 18  # at 252 pixels
RELIEF = 0.2
VIEW_CONTRAST = 300.0

# Channels of a token: cos, sin of column and row, the same negated (zero mean), a mark in camera
# tokens (and negated), and what blocks copy of the mark to the patches.
_COLUMN, _ROW, _MARK, _VIEW = 1, 3, 8, 10
_MIN_DIM = 11


def untrained_network(config: ZipSplatConfig = TINY) -> ZipSplatNetwork:
    """A network of this architecture with the weights of `init_untrained`, in evaluation mode."""
    return init_untrained(ZipSplatNetwork(config)).eval().requires_grad_(False)


@torch.no_grad()
def init_untrained(network: ZipSplatNetwork) -> ZipSplatNetwork:
    """Overwrite all weights; see the module.

    Args:
        network: with the `dav3` backbone and a width of at least 11.

    Returns:
        The same network.
    """
    backbone = network.backbone
    D = network.config.backbone.dim
    if not isinstance(backbone, DepthAnything3) or D < _MIN_DIM:
        raise ValueError(f"needs the dav3 backbone with a width of at least {_MIN_DIM}, got {D}")
    for module in network.modules():
        if isinstance(module, nn.LayerNorm):
            module.reset_parameters()
        else:
            _silence(module)
    _write_positions(backbone.backbone)
    _tell_views_apart(backbone.backbone)
    deepest = network.downscale[0]
    assert isinstance(deepest, nn.Linear)
    deepest.weight[_VIEW, _VIEW] = VIEW_CONTRAST
    network.pre_norm_global.apply(_silence)
    cells = _write_colors(network.color_embed.proj.weight, network.config.gaussians_per_token)
    _write_head(network, cells)
    return network


def _silence(module: nn.Module) -> None:
    for parameter in module.parameters(recurse=False):
        parameter.zero_()


def _write_positions(vit: MultiViewViT) -> None:
    side = vit.config.pos_grid
    angles = HALF_ANGLE * ((torch.arange(side) + 0.5) / side * 2 - 1)
    row, column = torch.meshgrid(angles, angles, indexing="ij")
    waves = torch.stack((column.cos(), column.sin(), row.cos(), row.sin()), dim=-1).flatten(0, 1)
    length = math.sqrt(vit.config.dim) / 2  # unit variance over all channels
    vit.pos_embed[0, 1:, :8] = torch.cat((waves, -waves), dim=-1) * length


def _tell_views_apart(vit: MultiViewViT) -> None:
    """Let one block copy the sign of the camera token to the patches of its view."""
    config = vit.config
    start, last = config.alt_start, config.out_layers[-1]
    local = [index for index in range(start, last + 1) if index % 2 == 0]
    if not local:
        return
    marks = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]) * math.sqrt(config.dim / 2)
    vit.camera_token[0, :, _MARK : _MARK + 2] = marks.to(vit.camera_token)
    block = vit.blocks[local[0]]
    assert isinstance(block, Block)
    # Queries and keys are zero: the attention is the mean, to which camera tokens alone contribute.
    block.attn.qkv.weight[2 * config.dim + _MARK, _MARK] = 1
    block.attn.proj.weight[_VIEW, _MARK] = 1
    block.ls1.gamma[_VIEW] = 1


def _write_colors(kernels: Tensor, num_gaussians: int) -> tuple[int, int]:
    """Mean colours of the cells of a patch; returns how many rows and columns of cells."""
    C, _, side, _ = kernels.shape
    num_cells = max(1, min(num_gaussians, C // 3))
    rows = next(r for r in range(math.isqrt(num_cells), 0, -1) if num_cells % r == 0)
    columns = num_cells // rows
    for cell in range(num_cells if C >= 3 else 0):
        top, bottom = (round((cell // columns + k) * side / rows) for k in (0, 1))
        left, right = (round((cell % columns + k) * side / columns) for k in (0, 1))
        bottom, right = max(bottom, top + 1), max(right, left + 1)
        for channel in range(3):
            kernels[3 * cell + channel, channel, top:bottom, left:right] = 1 / (
                (bottom - top) * (right - left)
            )
    return rows, columns


def _write_head(network: ZipSplatNetwork, cells: tuple[int, int]) -> None:
    D, config = network.config.backbone.dim, network.config
    mlp, last = network.gaussian_head.gaussian_head
    assert isinstance(mlp, Mlp)
    assert isinstance(last, nn.Linear)
    E = D + config.color_dim
    identity = torch.eye(E)
    mlp.fc1.weight.copy_(torch.cat((identity, -identity), dim=0))  # GELU(x) − GELU(−x) = x
    mlp.fc2.weight.copy_(torch.cat((identity, -identity), dim=1))
    weight = last.weight.view(config.gaussians_per_token, -1, E)
    bias = last.bias.view(config.gaussians_per_token, -1)
    rows, columns = cells
    reach = math.log1p(HALF_EXTENT) / math.sin(HALF_ANGLE)
    patch = 2 * HALF_EXTENT / PATCHES_ACROSS
    amplitude = math.sqrt(D) / 4  # of the position channels, halved by the preparation
    num_cells = rows * columns
    colors = weight[:, :, D : D + 3 * num_cells]
    for g in range(config.gaussians_per_token):
        cell = g % num_cells
        weight[g, 0, _COLUMN] = weight[g, 1, _ROW] = reach / amplitude
        bias[g, 0] = ((cell % columns + 0.5) / columns - 0.5) * patch
        bias[g, 1] = ((cell // columns + 0.5) / rows - 0.5) * patch
        bias[g, 2] = math.log(2) + RELIEF / 2
        colors[g, 2] = -RELIEF / (3 * num_cells)
        for axis, extent in enumerate((patch / columns, patch / rows, patch / columns)):
            bias[g, 3 + axis] = 4 + math.log(math.expm1(0.8 * extent))
        bias[g, 6] = 1
        weight[g, 10, _VIEW], bias[g, 10] = 3, 2
        for channel in range(3):
            weight[g, 11 + channel, D + 3 * cell + channel] = 1 / SH_C0
            bias[g, 11 + channel] = -0.5 / SH_C0
