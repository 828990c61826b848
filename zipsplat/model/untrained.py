"""Hand-written weights: the first image as a relief in front of the camera.

Letters: D width, C colour width, G Gaussians per token, E = D + C width of the head's input.

They exercise every stage of the network, for demonstrations and tests without a weights file, and
their result can be checked by eye: each patch of the first view becomes Gaussians at its position
in the image plane, in its colours, brighter ones nearer. They do not know the geometry.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from zipsplat.model.architecture import BackboneConfig, ZipSplatConfig
from zipsplat.model.backbones.dav3 import DepthAnything3, MultiViewViT
from zipsplat.model.layers import Block
from zipsplat.model.network import ZipSplatNetwork
from zipsplat.model.tiny.relief import write_head, write_positions

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


PATCHES_ACROSS = 18  # at 252 pixels
VIEW_CONTRAST = 300.0

# Channels of a token after its position: a mark in camera tokens (and its negative), and the copy
# of the mark in patches.
_MARK, _VIEW = 8, 10
_MIN_DIM = 11
_OPACITY = 10  # index among the parameters of a Gaussian


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
    write_positions(backbone.backbone.pos_embed)
    _tell_views_apart(backbone.backbone)
    deepest = network.downscale[0]
    assert isinstance(deepest, nn.Linear)
    deepest.weight[_VIEW, _VIEW] = VIEW_CONTRAST
    network.pre_norm_global.apply(_silence)  # halves the positions
    write_head(
        network.gaussian_head.gaussian_head,
        network.color_embed.proj,
        network.config.gaussians_per_token,
        PATCHES_ACROSS,
        math.sqrt(D) / 4,
    )
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
