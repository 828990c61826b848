"""What a forward pass on a CPU takes, told beforehand: work is counted, speed is measured.

Letters: V views, T patches per view, N = V·T tokens, M kept tokens, D width, L depths that leave
the backbone, F hidden width.
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
"""Of the rate of a large matrix product that the network reaches: 0.62 to 0.91 where measured."""
BASE_BYTES = 300e6
"""Of a process that has imported PyTorch and made a scene."""
_ROUNDS = 4


@dataclass(frozen=True)
class Work:
    """What does not depend on the machine.

    Args:
        flop: twice the multiply-adds of products and attention.
        parameters: numbers of the network.
        activations: numbers that are held at once, at most.
    """

    flop: float
    parameters: int
    activations: float


@dataclass(frozen=True)
class Expectation:
    """What a pass will take here.

    Args:
        seconds: by the clock, with PyTorch's number of threads.
        memory_bytes: of the process at most.
        rate: of a matrix product in this precision, FLOP/s.
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
    """Time and memory of one pass on this CPU; measuring takes some tenths of a second.

    Args:
        config: the network.
        num_views: V.
        size: (height, width) of what the network sees, multiples of the patch size.
        dtype: it computes in.
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
    """FLOP/s of a product of the network's width, by the path that the network would take."""
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
    """Count what a pass takes; arguments as for `expect`."""
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
    """Numbers of a network; none of them is made."""
    with torch.device("meta"):
        return sum(value.numel() for value in ZipSplatNetwork(config).parameters())


def _backbone(config: BackboneConfig, num_views: int, patches: int) -> float:
    """Multiply-adds of all blocks, of the patches, and of joining the halves of the outputs."""
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
