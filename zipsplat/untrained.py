"""A small network with weights made by a rule, to try every step where no weights are at hand.

Its scenes mean nothing: they only have the shapes, ranges and sizes of real ones. The weights
follow from their names, so they are the same on every machine and with every version of PyTorch.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch
from torch import Tensor

from zipsplat.model.architecture import BackboneConfig, ZipSplatConfig
from zipsplat.model.network import ZipSplatNetwork

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
    color_dim=32,
)


def untrained_network(config: ZipSplatConfig = TINY, seed: int = 0) -> ZipSplatNetwork:
    """A network whose weights are made up.

    Args:
        config: the architecture; about a million parameters if not given.
        seed: another one gives other weights.

    Returns:
        The network in float32 and evaluation mode.
    """
    with torch.device("meta"):
        network = ZipSplatNetwork(config)
    state = {
        name: _made_up(name, tuple(value.shape), seed)
        for name, value in network.state_dict().items()
    }
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def _made_up(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """Normal numbers of the size that keeps activations, and the scene, in range."""
    generator = np.random.default_rng(zlib.crc32(name.encode()) + seed)
    noise = generator.standard_normal(shape, dtype=np.float32)
    if name.endswith(".bias"):
        noise *= 0.02
    elif len(shape) == 1:  # norms and layer scales
        noise = 1 + np.float32(0.1) * noise
    elif name.endswith("token") or name.endswith("pos_embed"):
        noise *= 0.2
    elif name.startswith("gaussian_head.gaussian_head.1"):
        noise *= np.float32(0.25 / math.sqrt(shape[1]))
    else:
        noise *= np.float32(1 / math.sqrt(math.prod(shape[1:])))
    return torch.from_numpy(noise)
