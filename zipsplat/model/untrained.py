"""Weights written down instead of trained: the first picture as a relief in front of the camera.

Letters: D width, C colour width, G Gaussians per token, E = D + C width of the head's input.

They run every stage of the network, for demonstrations and tests without a weights file, and
their result can be judged by eye: each patch of the first view becomes Gaussians at its place in
the picture plane, in its colours, the brighter the nearer. They know nothing of the scene.
"""

from __future__ import annotations

import math

import torch
from torch import nn

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
NUM_POSITION_CHANNELS = 8
_MIN_DIM = 11
_OPACITY = 10  # among the numbers of a Gaussian


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
    write_positions(backbone.backbone)
    _tell_views_apart(backbone.backbone)
    deepest = network.downscale[0]
    assert isinstance(deepest, nn.Linear)
    deepest.weight[_VIEW, _VIEW] = VIEW_CONTRAST
    network.pre_norm_global.apply(_silence)  # which leaves half of what the positions were
    write_head(network, PATCHES_ACROSS, math.sqrt(D) / 4)
    last = network.gaussian_head.gaussian_head[-1]
    assert isinstance(last, nn.Linear)
    for weight, bias in zip(
        last.weight.view(network.config.gaussians_per_token, -1, last.in_features),
        last.bias.view(network.config.gaussians_per_token, -1),
        strict=True,
    ):
        weight[_OPACITY, _VIEW], bias[_OPACITY] = 3, 2
    return network


def _silence(module: nn.Module) -> None:
    for parameter in module.parameters(recurse=False):
        parameter.zero_()


@torch.no_grad()
def write_positions(vit: MultiViewViT) -> None:
    """Let the first eight channels of every patch say where it is in its picture.

    Their squares sum to D, so a LayerNorm over tokens that are small elsewhere keeps them.

    Args:
        vit: its learned positions are changed; what the patches add to the same channels is not.
    """
    side = vit.config.pos_grid
    angles = HALF_ANGLE * ((torch.arange(side) + 0.5) / side * 2 - 1)
    row, column = torch.meshgrid(angles, angles, indexing="ij")
    waves = torch.stack((column.cos(), column.sin(), row.cos(), row.sin()), dim=-1).flatten(0, 1)
    length = math.sqrt(vit.config.dim) / 2  # unit variance over all channels
    vit.pos_embed[0, 1:, :NUM_POSITION_CHANNELS] = torch.cat((waves, -waves), dim=-1) * length


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


def grid_of_cells(num_gaussians: int) -> tuple[int, int]:
    """Rows and columns of the most square grid of so many cells, at least as wide as high."""
    rows = next(r for r in range(math.isqrt(num_gaussians), 0, -1) if num_gaussians % r == 0)
    return rows, num_gaussians // rows


@torch.no_grad()
def write_head(network: ZipSplatNetwork, patches_across: int, amplitude: float) -> None:
    """Let the Gaussians of a token lie side by side in its patch, in the patch's colours.

    They stand about one unit in front of the first camera, the brighter the nearer. Opacities,
    and whatever is not needed for this, are left as they are.

    Args:
        network: with positions written by `write_positions`.
        patches_across: patches along a side of the picture.
        amplitude: of a position's channels in the tokens that reach the head.
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
    """Mean colours of the cells of a patch; returns how many rows and columns of cells."""
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
