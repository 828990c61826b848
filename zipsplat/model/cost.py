"""Expected time and memory of a forward pass on a CPU: operations are counted, speed is measured.

Letters: V views, T patches per view, N = V·T tokens, M kept tokens, D width, L output layers of the
backbone, F hidden width.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from zipsplat.float32_products import fastest, operands
from zipsplat.model.architecture import BackboneConfig, ZipSplatConfig
from zipsplat.model.compression import num_kept
from zipsplat.model.network import ZipSplatNetwork

SHARE = 0.75
"""Share of the rate of a large matrix product that networks reach; 0.62 to 0.91 were measured."""
BASE_BYTES = 300e6
"""Memory of a process that has imported PyTorch and holds a scene."""
_ROUNDS = 4


@dataclass(frozen=True)
class Work:
    """Operations and memory of a pass, which do not depend on the machine.

    Args:
        flop: twice the multiply-adds of matrix products and attention.
        parameters: number of the network's parameters.
        activations: peak number of values held at the same time.
    """

    flop: float
    parameters: int
    activations: float


@dataclass(frozen=True)
class Expectation:
    """Time and memory of a pass on this machine.

    Args:
        seconds: wall-clock time, with PyTorch's number of threads.
        memory_bytes: peak memory of the process.
        rate: FLOP/s of a matrix product in this precision.
    """

    seconds: float
    memory_bytes: float
    rate: float


def expect(
    config: ZipSplatConfig,
    num_views: int,
    size: tuple[int, int],
    dtype: torch.dtype,
    compression: float = 1.0,
) -> Expectation:
    """Time and memory of one pass on this CPU; measuring takes a few tenths of a second.

    Args:
        config: the network.
        num_views: V.
        size: (height, width) of the network's input, multiples of the patch size.
        dtype: precision of the network.
        compression: share of the tokens to keep, in (0, 1].
    """
    work, rate = work_of(config, num_views, size, compression), measured_rate(config, dtype)
    held = dtype.itemsize * (work.parameters + work.activations)
    return Expectation(work.flop / (SHARE * rate), held + BASE_BYTES, rate)


def measured_rate(
    config: ZipSplatConfig,
    dtype: torch.dtype,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """FLOP/s of a matrix product of the network's width, by the library that it would use."""
    width = config.backbone.dim
    tokens, weight = (part.to(dtype) for part in operands(width))
    seconds = []
    with torch.inference_mode(), fastest(width, torch.device("cpu")):
        for _ in range(1 + _ROUNDS):  # the first one warms up
            start = clock()
            functional.linear(tokens, weight)
            seconds.append(clock() - start)
    return 2 * tokens.shape[0] * weight.numel() / min(seconds[1:])


def work_of(
    config: ZipSplatConfig, num_views: int, size: tuple[int, int], compression: float = 1.0
) -> Work:
    """Count the operations and memory of a pass; arguments as for `expect`."""
    backbone = config.backbone
    patches = (size[0] // backbone.patch_size) * (size[1] // backbone.patch_size)
    tokens = num_views * patches
    kept = num_kept(tokens, compression)
    products = _backbone(backbone, num_views, patches) + _decoder(config, tokens, kept)
    num_depths = len(backbone.out_layers)
    per_token = (3 * num_depths + 5) * backbone.dim + 3 * backbone.ffn_hidden
    gaussians = kept * config.gaussians_per_token * config.parameters_per_gaussian
    return Work(2.0 * products, num_parameters(config), float(tokens * per_token + 4 * gaussians))


def num_parameters(config: ZipSplatConfig) -> int:
    """Number of a network's parameters, without allocating them."""
    with torch.device("meta"):
        return sum(value.numel() for value in ZipSplatNetwork(config).parameters())


def _backbone(config: BackboneConfig, num_views: int, patches: int) -> float:
    """Multiply-adds of patch embedding, blocks, and the merging of the outputs' halves."""
    dim, length = config.dim, patches + 1  # with the camera token
    matrices = 3 if config.ffn == "swiglu" else 2
    linear = 4 * dim**2 + matrices * dim * config.ffn_hidden
    is_global = [
        config.is_multiview and index >= config.alt_start and index % 2 == 1
        for index in range(config.depth)
    ]
    seen = sum(num_views * length if shared else length for shared in is_global)
    blocks = length * (config.depth * linear + 2 * dim * seen)
    embedded = 3 * config.patch_size**2 * dim
    joined = 2 * dim**2 * len(config.out_layers)
    return float(num_views * (blocks + patches * (embedded + joined)))


def _decoder(config: ZipSplatConfig, tokens: int, kept: int) -> float:
    """Multiply-adds of k-means, fusion, colours and the Gaussian head."""
    dim, color = config.backbone.dim, config.color_dim
    hidden = round(config.mlp_ratio * dim)
    kmeans = 0 if kept == tokens else 6 * tokens * kept * dim
    cross = 2 * tokens * dim**2 + kept * (2 * dim**2 + 2 * dim * (tokens + hidden))
    within = kept * (4 * dim**2 + 2 * dim * (kept + hidden))
    colors = tokens * (3 * config.backbone.patch_size**2 * color + 2 * color**2)
    colors += kept * (4 * color**2 + 2 * color * tokens)
    width = dim + color
    numbers = config.gaussians_per_token * config.parameters_per_gaussian
    head = kept * (4 * width**2 + width * numbers)
    return float(kmeans + len(config.backbone.out_layers) * (cross + within) + colors + head)
