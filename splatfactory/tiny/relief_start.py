"""Initialisation of small networks as a relief; see `zipsplat.model.tiny.relief`."""

from __future__ import annotations

import math

import torch
from torch import nn

from splatfactory.schema import ModelConfig
from zipsplat.model.backbones.dav3 import DepthAnything3
from zipsplat.model.network import ZipSplatNetwork
from zipsplat.model.tiny.relief import NUM_POSITION_CHANNELS, write_head, write_positions

RELIEF_STD = 0.002
QUIET = 0.2
"""Factor on random weights, so that they do not drown the relief's positions and colours."""


@torch.no_grad()
def initialise_relief(network: ZipSplatNetwork, config: ModelConfig) -> None:
    """Initialise a network to output its images as a relief in front of the first camera.

    A small network needs thousands of steps to learn that tokens have positions and colours; this
    builds it in. Layer scales should be small, so that the blocks do not drown the positions.

    Args:
        network: freshly initialised network with a Depth Anything 3 backbone.
        config: image size and opacity bias.
    """
    backbone = network.backbone
    if not isinstance(backbone, DepthAnything3) or config.backbone.weights is not None:
        raise ValueError(
            "model.relief_init needs a randomly initialised backbone; set model.relief_init=false"
        )
    positions = slice(NUM_POSITION_CHANNELS)
    write_positions(backbone.backbone.pos_embed)
    backbone.backbone.patch_embed.proj.weight[positions] = 0
    bias = backbone.backbone.patch_embed.proj.bias
    assert bias is not None
    bias[positions] = 0
    if backbone.backbone.stem is not None:
        backbone.backbone.stem.mix.weight[positions] = 0
        backbone.backbone.stem.mix.bias[positions] = 0
    network.color_embed.proj.weight.mul_(QUIET)
    for mix in network.downscale:
        assert isinstance(mix, nn.Linear)
        mix.weight.mul_(QUIET)
        mix.bias.zero_()
    head = network.gaussian_head.gaussian_head
    last = head[-1]
    assert isinstance(last, nn.Linear)
    nn.init.normal_(last.weight, std=RELIEF_STD)
    amplitude = math.sqrt(network.config.backbone.dim) / 2
    patches_across = max(1, config.img_size // backbone.patch_size)
    write_head(
        head,
        network.color_embed.proj,
        network.config.gaussians_per_token,
        patches_across,
        amplitude,
    )
