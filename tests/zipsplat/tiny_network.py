"""A network small enough for tests that need one but not its numbers."""

from __future__ import annotations

import torch

from zipsplat.model.architecture import BackboneConfig, ZipSplatConfig
from zipsplat.model.network import ZipSplatNetwork

TINY = ZipSplatConfig(
    BackboneConfig(
        dim=32,
        depth=6,
        num_heads=2,
        out_layers=(2, 3, 5),
        alt_start=2,
        qknorm_start=2,
        rope_start=2,
        pos_grid=5,
        prior_heads=4,
    ),
    gaussians_per_token=4,
    sh_degree=1,
    color_dim=16,
    num_heads=2,
    color_heads=1,
)


def tiny_network(seed: int = 0, config: ZipSplatConfig = TINY) -> ZipSplatNetwork:
    """Random weights with every path active."""
    network = ZipSplatNetwork(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if name.endswith("gamma"):
                value.copy_(0.3 + 0.1 * noise)
            elif value.ndim == 1:
                value.copy_(("norm" in name and name.endswith("weight")) + 0.1 * noise)
            else:
                value.copy_(noise * value[0].numel() ** -0.5)
    return network.eval()
